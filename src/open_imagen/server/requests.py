"""From a request's fields to images that can be drawn; all that is wrong is said here."""

import base64
import binascii
import secrets
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.sampling import ResolvedSampling, parse_sampling
from open_imagen.cascade.stage import Stage
from open_imagen.data.original import read_original
from open_imagen.errors import ConfigError, DataError
from open_imagen.server.errors import RequestError
from open_imagen.server.gallery_files import ID
from open_imagen.server.schema import GenerationBody, RequestBody, UpscaleBody
from open_imagen.server.service import Service
from open_imagen.server.sizes import next_size

MAX_UPLOAD_PIXELS = 16 * 1024 * 1024
UPSCALED = 8
"""An upscaled image may have so many times the pixels of a new one."""


@dataclass(frozen=True)
class GenerationRequest:
    """Images, the stages they go through, and with which settings."""

    model: str
    cascade: Cascade
    images: list[ImageRequest]
    stages: list[Stage]
    settings: dict[str, ResolvedSampling]
    size: tuple[int, int] | None = None
    """Width and height of the first stage's images."""
    crop: tuple[int, int] | None = None
    """Width and height to which the finished images are cropped."""
    lowres: Tensor | None = None
    """The image to upscale, uint8 [1, C, h, w]."""
    background: str | None = None
    """"transparent", or None for an opaque one."""


def generation_request(service: Service, body: GenerationBody) -> GenerationRequest:
    """A request for new images, checked in everything that can be checked before drawing.

    Raises:
        RequestError: something of it is wrong.
    """
    name, cascade = service.cascade(body.model)
    try:
        size = _size(service, body.size)
        stages, first_size, crop = _plan(service, cascade, body.stages, size)
        if stages[0].config.lowres:
            raise ConfigError("This model upscales images; it makes none from text alone.")
    except ConfigError as error:
        param = "stages" if "stages" in str(error) else "size"
        raise RequestError(400, f"{error} {error.hint}".strip(), param, "invalid_value") from error
    seed, negative = _seed(body), body.negative_prompt or ""
    return GenerationRequest(
        name,
        cascade,
        [ImageRequest(body.prompt, seed + k, negative) for k in range(body.n or 1)],
        stages,
        _settings(cascade, body, stages),
        first_size,
        crop,
        background=_background(cascade, body),
    )


def upscale_request(service: Service, body: UpscaleBody, owner: str) -> GenerationRequest:
    """An image that is to be upscaled.

    Raises:
        RequestError: it cannot be read, or no stage upscales it.
    """
    name, cascade = service.cascade(body.model)
    image = _sent_or_saved(service, body.image, owner)
    try:
        stages, lowres = cascade.start_of(image)
        _check_upscaled(service, stages, lowres)
    except ConfigError as error:
        raise RequestError(400, str(error), "image", "invalid_value") from error
    return GenerationRequest(
        name,
        cascade,
        [ImageRequest(body.prompt, _seed(body), body.negative_prompt or "")],
        stages,
        _settings(cascade, body, stages),
        lowres=lowres,
        background=_background(cascade, body),
    )


def _check_upscaled(service: Service, stages: list[Stage], lowres: Tensor) -> None:
    """Raises ConfigError if an upscaled image is too large for this server."""
    scale = stages[-1].config.resolution // stages[0].config.lowres
    height, width = (scale * side for side in lowres.shape[2:])
    limit = UPSCALED * service.max_pixels
    if width * height > limit:
        raise ConfigError(
            f"The upscaled image would be {width}x{height}, more than {limit:,} pixels, this "
            f"server's limit ({UPSCALED} times --max-pixels)."
        )


def _size(service: Service, text: str | None) -> tuple[int, int] | None:
    """The size that is asked for; None: the model's own.

    Raises:
        ConfigError: it is too large.
    """
    if text in (None, "auto"):
        return None
    assert text is not None
    width, height = (int(side) for side in text.split("x"))
    if width * height > service.max_pixels:
        raise ConfigError(
            f"size = {text} has more than {service.max_pixels:,} pixels, this server's limit "
            "(--max-pixels)."
        )
    return width, height


def _plan(
    service: Service, cascade: Cascade, number: int | None, size: tuple[int, int] | None
) -> tuple[list[Stage], tuple[int, int] | None, tuple[int, int] | None]:
    """The stages to run, the size of the first one's images, and that to which images are cropped.

    A size that the stages cannot make is cropped from the next larger one that they can.
    """
    try:
        return *cascade.plan(number, size), None
    except ConfigError:
        if size is None or min(size) < 16:
            raise
        larger = next_size(size)
        if larger == size:
            raise
        return *cascade.plan(number, larger), size


def _background(cascade: Cascade, body: RequestBody) -> str | None:
    """The background that a request asks for; of the API's values only "transparent" needs alpha.

    Raises:
        RequestError: the model, or the format of the output, has no transparency.
    """
    if body.background != "transparent":
        return None
    if not cascade.has_alpha:
        message = f"The images of {cascade.name} have no transparency."
    elif body.output_format == "jpeg":
        message = "JPEG has no transparency: use output_format png or webp."
    else:
        return body.background
    raise RequestError(400, message, "background", "invalid_value")


def _settings(
    cascade: Cascade, body: RequestBody, stages: list[Stage]
) -> dict[str, ResolvedSampling]:
    names = [stage.config.name for stage in stages]
    try:
        plain = body.by_stage(names)
        given = {name: parse_sampling(values, name) for name, values in plain.items()}
        return cascade.complete_settings(stages, given, body.negative_prompt)
    except KeyError as error:
        raise RequestError(
            400, f"There is no stage {error} in this request; there are: {', '.join(names)}.",
            "settings", "invalid_value",
        ) from error  # fmt: skip
    except (ConfigError, TypeError, ValueError) as error:
        hint = getattr(error, "hint", "")
        raise RequestError(400, f"{error} {hint}".strip(), "settings", "invalid_value") from error


def _sent_or_saved(service: Service, text: str, owner: str) -> Image.Image:
    if ID.fullmatch(text):
        image = service.gallery.get(text)
        data = service.gallery.data(image) if image is not None and image.owner == owner else None
        if data is None:
            raise RequestError(404, "There is no such image in the gallery.", "image", "not_found")
    else:
        try:
            data = base64.b64decode(text.partition("base64,")[2] or text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(
                400, "image is neither the id of an image nor base64.", "image", "invalid_value"
            ) from error
    try:
        return read_original(data, "image", MAX_UPLOAD_PIXELS).srgb
    except DataError as error:
        raise RequestError(
            400, f"image cannot be read: {error}.", "image", "invalid_value"
        ) from error


def _seed(body: RequestBody) -> int:
    return body.seed if body.seed is not None and body.seed >= 0 else secrets.randbelow(2**32)
