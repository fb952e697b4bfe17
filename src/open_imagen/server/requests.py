"""From a request's fields to images that can be drawn; all that is wrong is said here."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.edit import EditPlan
from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.sampling import ResolvedSampling, parse_sampling
from open_imagen.cascade.stage import Stage
from open_imagen.errors import ConfigError
from open_imagen.server.adapters import AdaptersBusy
from open_imagen.server.errors import RequestError
from open_imagen.server.schema import GenerationBody, RequestBody, UpscaleBody
from open_imagen.server.service import Service
from open_imagen.server.sizes import MAX_SIDE, next_size
from open_imagen.server.uploads import reserve, upload

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
    plans: Sequence[EditPlan] = ()
    """Of edits: what each image begins with."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further headers of the reply."""
    events: str = "image_generation"
    """What the events of a stream are called."""
    release: Callable[[], None] = lambda: None
    """Called when nobody needs the request any more; perhaps twice."""

    @property
    def prompt(self) -> str:
        """The prompt of its images."""
        return self.images[0].prompt


Make = Callable[[ExitStack], GenerationRequest]


def holding(make: Make) -> GenerationRequest:
    """A request that holds what ``make`` puts on the stack until it is released."""
    with ExitStack() as held:
        return replace(make(held), release=held.pop_all().close)


def chosen_model(
    service: Service, body: RequestBody, held: ExitStack, name: str | None = None
) -> tuple[str, Cascade]:
    """The model of a request, with the adapters that it asks for.

    Args:
        name: of the model, where the request does not say.

    Raises:
        RequestError: there is no such model or adapter, or no room for it.
    """
    name, cascade = service.cascade(body.model or name)
    try:
        return name, service.adapters.take(cascade, body.adapters, held)
    except ConfigError as error:
        raise RequestError(
            400, f"{error} {error.hint}".strip(), "adapters", "invalid_value"
        ) from error
    except AdaptersBusy as error:
        raise RequestError(
            503, str(error), "adapters", kind="server_error", retry_after=10
        ) from error


def generation_request(service: Service, body: GenerationBody) -> GenerationRequest:
    """A request for new images, checked in everything that can be checked before drawing.

    Raises:
        RequestError: something of it is wrong.
    """
    return holding(lambda held: _generation(service, body, held))


def _generation(service: Service, body: GenerationBody, held: ExitStack) -> GenerationRequest:
    name, cascade = chosen_model(service, body, held)
    try:
        size = parse_size(service, body.size)
        stages, first_size, crop = _plan(service, cascade, body.stages, size)
        if stages[0].config.lowres:
            raise ConfigError("This model upscales images; it makes none from text alone.")
    except ConfigError as error:
        param = "stages" if "stages" in str(error) else "size"
        raise RequestError(400, f"{error} {error.hint}".strip(), param, "invalid_value") from error
    return GenerationRequest(
        name,
        cascade,
        image_requests(body, body.prompt, body.n or 1),
        stages,
        sampling_settings(cascade, body, stages),
        first_size,
        crop,
        background=check_background(cascade, body),
    )


def upscale_request(service: Service, body: UpscaleBody, owner: str) -> GenerationRequest:
    """An image that is to be upscaled.

    Raises:
        RequestError: it cannot be read, or no stage upscales it.
    """
    return holding(lambda held: _upscaling(service, body, owner, held))


def _upscaling(
    service: Service, body: UpscaleBody, owner: str, held: ExitStack
) -> GenerationRequest:
    sent = upload(service, "image", body.image, owner)
    reserve(service, [sent], held)
    name, cascade = chosen_model(service, body, held)
    try:
        stages, lowres = cascade.start_of(sent.original().srgb)
        _check_upscaled(service, stages, lowres)
    except ConfigError as error:
        raise RequestError(400, str(error), "image", "invalid_value") from error
    return GenerationRequest(
        name,
        cascade,
        image_requests(body, body.prompt, 1),
        stages,
        sampling_settings(cascade, body, stages),
        lowres=lowres,
        background=check_background(cascade, body),
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


def image_requests(body: RequestBody, prompt: str, number: int) -> list[ImageRequest]:
    """So many images of a prompt, with seeds that follow each other."""
    seed = body.seed if body.seed is not None and body.seed >= 0 else secrets.randbelow(2**32)
    weights = bool(body.prompt_weights)
    return [
        ImageRequest(prompt, seed + k, body.against, prompt_weights=weights) for k in range(number)
    ]


def parse_size(service: Service, text: str | None) -> tuple[int, int] | None:
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
    if max(width, height) > MAX_SIDE:
        raise ConfigError(f"size = {text}: a side may have {MAX_SIDE:,} pixels at most.")
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


def check_background(cascade: Cascade, body: RequestBody) -> str | None:
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


def sampling_settings(
    cascade: Cascade, body: RequestBody, stages: list[Stage]
) -> dict[str, ResolvedSampling]:
    """The settings of each stage.

    Raises:
        RequestError: one is unknown or out of range.
    """
    names = [stage.config.name for stage in stages]
    try:
        plain = body.by_stage(names)
        given = {name: parse_sampling(values, name) for name, values in plain.items()}
        return cascade.complete_settings(stages, given, body.against)
    except KeyError as error:
        raise RequestError(
            400, f"There is no stage {error} in this request; there are: {', '.join(names)}.",
            "settings", "invalid_value",
        ) from error  # fmt: skip
    except (ConfigError, TypeError, ValueError) as error:
        hint = getattr(error, "hint", "")
        raise RequestError(400, f"{error} {hint}".strip(), "settings", "invalid_value") from error
