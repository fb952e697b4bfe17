"""From what a client asks for to pictures that can be drawn; all that is wrong is said here."""

import base64
import binascii
import secrets
from dataclasses import dataclass
from typing import Any

from PIL import Image

from open_imagen.cascade.pipeline import Cascade
from open_imagen.cascade.sampling import Sampling, parse_sampling
from open_imagen.cascade.stage import Stage
from open_imagen.data.images import SkippedExample, decode
from open_imagen.errors import ConfigError
from open_imagen.server.errors import Refusal
from open_imagen.server.gallery_files import ID
from open_imagen.server.schema import Ask, Generation, Upscaling
from open_imagen.server.service import Service
from open_imagen.server.worker import Picture


@dataclass
class GenerationRequest:
    """Pictures, the stages they go through, and with which settings."""

    model: str
    cascade: Cascade
    pictures: list[Picture]
    stages: list[Stage]
    settings: dict[str, Sampling]
    size: tuple[int, int] | None
    start: Any = None
    background: str | None = None
    """"transparent", or None for an opaque one."""


def background_of(cascade: Cascade, body: Ask) -> str | None:
    """The background that a request asks for; of the API's values only "transparent" needs alpha.

    Raises:
        Refusal: the model, or the format of the output, has no transparency.
    """
    if body.background != "transparent":
        return None
    if not cascade.has_alpha:
        message = f"The images of {cascade.name} have no transparency."
    elif body.output_format == "jpeg":
        message = "JPEG has no transparency: use output_format png or webp."
    else:
        return body.background
    raise Refusal(400, message, "background", "invalid_value")


def _settings(cascade: Cascade, body: Ask, stages: list[Stage]) -> dict[str, Sampling]:
    names = [stage.config.name for stage in stages]
    try:
        plain = body.by_stage(names)
        given = {name: parse_sampling(values, name) for name, values in plain.items()}
        return cascade.complete_settings(stages, given, body.negative_prompt)
    except KeyError as error:
        raise Refusal(
            400, f"There is no stage {error} at work; there are {', '.join(names)}.", "settings",
            "invalid_value",
        ) from error  # fmt: skip
    except (ConfigError, TypeError, ValueError) as error:
        hint = getattr(error, "hint", "")
        raise Refusal(400, f"{error} {hint}".strip(), "settings", "invalid_value") from error


def generation_request(service: Service, body: Generation) -> GenerationRequest:
    """A request for new pictures, checked in everything that can be checked before drawing.

    Raises:
        Refusal: something of it is wrong.
    """
    name, cascade = service.cascade(body.model)
    try:
        asked = None
        if body.size not in (None, "auto"):
            assert body.size is not None
            width, height = (int(one) for one in body.size.split("x"))
            if width * height > service.most_pixels:
                raise ConfigError(
                    f"size = {body.size} has more than {service.most_pixels:,} pixels."
                )
            asked = (width, height)
        chosen, size = cascade.plan(body.stages, asked)
        if chosen[0].config.lowres:
            raise ConfigError("This model enlarges pictures; it makes none from text alone.")
    except ConfigError as error:
        param = "stages" if "stages" in str(error) else "size"
        raise Refusal(400, f"{error} {error.hint}".strip(), param, "invalid_value") from error
    seed = _seed(body)
    pictures = [
        Picture(body.prompt, body.negative_prompt or "", seed + k) for k in range(body.n or 1)
    ]
    settings = _settings(cascade, body, chosen)
    background = background_of(cascade, body)
    return GenerationRequest(name, cascade, pictures, chosen, settings, size, background=background)


def upscaling_request(service: Service, body: Upscaling, who: str) -> GenerationRequest:
    """A picture that is to be enlarged.

    Raises:
        Refusal: it cannot be read, or no stage enlarges it.
    """
    name, cascade = service.cascade(body.model)
    image = _sent_or_kept(service, body.image, who)
    try:
        stages, start = cascade.start_of(image)
    except ConfigError as error:
        raise Refusal(400, str(error), "image", "invalid_value") from error
    seed = _seed(body)
    picture = Picture(body.prompt, body.negative_prompt or "", seed)
    settings = _settings(cascade, body, stages)
    background = background_of(cascade, body)
    return GenerationRequest(name, cascade, [picture], stages, settings, None, start, background)


def _sent_or_kept(service: Service, text: str, who: str) -> Image.Image:
    if ID.fullmatch(text):
        kept = service.gallery.get(text)
        data = service.gallery.data(kept) if kept is not None and kept.owner == who else None
        if data is None:
            raise Refusal(404, "There is no such picture in the gallery.", "image", "not_found")
    else:
        try:
            data = base64.b64decode(text.partition("base64,")[2] or text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refusal(
                400, "image is neither the id of a picture nor base64.", "image", "invalid_value"
            ) from error
    try:
        return decode(data, max_pixels=16 * 1024 * 1024)
    except SkippedExample as error:
        raise Refusal(400, f"image cannot be read: {error}.", "image", "invalid_value") from error


def _seed(body: Ask) -> int:
    return body.seed if body.seed is not None and body.seed >= 0 else secrets.randbelow(2**32)
