"""From the fields of an edit or a variation to images that can be drawn."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.checks import check_base
from open_imagen.cascade.edit import EditOptions, EditPlan, plan_edit
from open_imagen.cascade.masks import OWN_ALPHA, Mask, has_transparency, read_mask
from open_imagen.cascade.stage import Stage
from open_imagen.data.original import Original
from open_imagen.errors import ConfigError, DataError
from open_imagen.server.errors import RequestError
from open_imagen.server.requests import (
    GenerationRequest,
    chosen_model,
    holding,
    image_requests,
    parse_size,
    sampling_settings,
)
from open_imagen.server.schema import MAX_IMAGES, MAX_STEPS, EditBody
from open_imagen.server.service import Service
from open_imagen.server.sizes import MAX_SIDE, covering
from open_imagen.server.uploads import MAX_UPLOAD_PIXELS, Upload, reserve, unreadable, uploads

WHITE = "white"
"""What "opaque" puts behind transparency."""
PARAMS = {
    "strength": "strength",
    "stage": "strength",
    "extend": "extend",
    "resample": "resample",
    "known": "known",
    "feather": "feather",
    "context": "context",
    "mask": "mask",
}
"""Words of errors of `plan_edit` -> the field that they are about."""


def edit_request(service: Service, body: EditBody, owner: str) -> GenerationRequest:
    """Images that are to be edited, read and checked.

    Raises:
        RequestError: something of it is wrong.
    """
    return holding(lambda held: _edit(service, body, owner, held))


def _edit(service: Service, body: EditBody, owner: str, held: ExitStack) -> GenerationRequest:
    name, cascade = chosen_model(service, body, held)
    stages = base_stages(cascade, body.stages)
    size = _size(service, body)
    if (body.image is None) == (body.images is None):
        raise RequestError(
            400, "Send the image to edit as image (or as images, not both).", "image",
            "missing_required_parameter" if body.image is None else "invalid_value",
        )  # fmt: skip
    own_alpha = body.mask == OWN_ALPHA
    sent = uploads(service, "image", body.image if body.images is None else body.images, owner)
    masks = [] if own_alpha else uploads(service, "mask", body.mask, owner)
    _check_numbers(body, len(sent), len(masks))
    settings = sampling_settings(cascade, body, stages)
    if any(one.steps * (body.resample or 1) > MAX_STEPS for one in settings.values()):
        raise RequestError(
            400, f"resample = {body.resample} times the steps must be at most {MAX_STEPS:,}.",
            "resample", "invalid_value",
        )  # fmt: skip
    added = sum(_added_pixels(one, body.extend or []) for one in sent)
    reserve(service, [*sent, *masks], held, added)
    options = _options(body)
    each: list[EditPlan] = []
    for k, one in enumerate(sent):
        mask = OWN_ALPHA if own_alpha else masks[k] if masks else None
        each.append(plan_upload(one, mask, stages, options, size))
    number = body.n or 1
    return GenerationRequest(
        name,
        cascade,
        image_requests(body, body.prompt, number * len(sent)),
        stages,
        settings,
        background=_background(cascade, body, each),
        plans=[plan for plan in each for _ in range(number)],
        events="image_edit",
    )


def plan_upload(
    sent: Upload,
    mask: Upload | str | None,
    stages: Sequence[Stage],
    options: EditOptions,
    size: tuple[int, int] | None,
) -> EditPlan:
    """What the stages begin with for an image and its mask.

    Args:
        size: width and height that both are scaled and cut to; None for their own.

    Raises:
        RequestError: an image cannot be read, or the mask or an option is out of range.
    """
    original = sent.original()
    try:
        marked: Mask | str | None = mask if isinstance(mask, str) else None
        if isinstance(mask, Upload):
            marked = read_mask(mask.data, original.image.size)
        plain_size = original.image.size
        if size is not None and size != plain_size:
            original, marked = _fitted(original, marked, size)
        # Pillow's image and a mask in black and white: both are decoded already.
        source = original.image
        if original.profile is not None:
            source.info["icc_profile"] = original.profile
        shown = np.uint8(255) * marked if isinstance(marked, np.ndarray) else marked
        plan = plan_edit(source, shown, stages, options, MAX_UPLOAD_PIXELS)
    except DataError as error:
        raise unreadable("mask" if "mask" in str(error) else "image", error) from error
    except ConfigError as error:
        text = str(error)
        places = {text.find(word): field for word, field in PARAMS.items() if word in text}
        param = places[min(places)] if places else "image"
        raise RequestError(400, f"{error} {error.hint}".strip(), param, "invalid_value") from error
    if max(plan.crop.canvas.size) > MAX_SIDE:
        raise RequestError(
            400, f"extend makes a side longer than {MAX_SIDE:,} pixels.", "extend", "invalid_value"
        )
    if original.image.size == plain_size:
        return plan
    fitted = {"fitted_from": f"{plain_size[0]}x{plain_size[1]}"}
    return replace(plan, record={**plan.record, **fitted})


def _fitted(
    original: Original, mask: Mask | str | None, size: tuple[int, int]
) -> tuple[Original, Mask | str | None]:
    """An image and its mask, scaled to cover a size and cut around the centre."""
    image = original.image
    box = covering(image.size, size)
    mode = image.mode
    if mode == "RGBA":  # weighed by alpha, so that hidden colours do not show
        image = image.convert("RGBa")
    image = image.resize(size, Image.Resampling.BICUBIC, box, reducing_gap=3).convert(mode)
    if isinstance(mask, np.ndarray):
        left, top, right, bottom = box
        columns = left + (np.arange(size[0]) + 0.5) * (right - left) / size[0]
        rows = top + (np.arange(size[1]) + 0.5) * (bottom - top) / size[1]
        mask = mask[rows.astype(int)][:, columns.astype(int)]
    return Original(image, original.profile), mask


def base_stages(cascade: Cascade, number: int | None) -> list[Stage]:
    """The first stages of a model that makes images from text.

    Raises:
        RequestError: it has not as many, or only enlarges images.
    """
    try:
        stages = cascade.chosen(number)
    except ConfigError as error:
        raise RequestError(
            400, f"{error} {error.hint}".strip(), "stages", "invalid_value"
        ) from error
    try:
        check_base(stages, cascade.name)
    except ConfigError as error:
        raise RequestError(400, f"{error} {error.hint}", "model", "invalid_value") from error
    return stages


def _size(service: Service, body: EditBody) -> tuple[int, int] | None:
    try:
        size = parse_size(service, body.size)
    except ConfigError as error:
        raise RequestError(400, str(error), "size", "invalid_value") from error
    if size is not None and min(size) < 16:
        raise RequestError(
            400, f"size = {body.size}: sides must be at least 16.", "size", "invalid_value"
        )
    return size


def _added_pixels(sent: Upload, extend: Sequence[int]) -> int:
    """Pixels that an extension adds; what is no extension is refused later."""
    left, top, right, bottom = (max(0, side) for side in [*extend, 0, 0, 0, 0][:4])
    width, height = sent.size
    return (width + left + right) * (height + top + bottom) - sent.pixels


def _check_numbers(body: EditBody, images: int, masks: int) -> None:
    number = (body.n or 1) * images
    if number > MAX_IMAGES:
        raise RequestError(
            400, f"{images} images, each edited {body.n or 1} times, are more than {MAX_IMAGES}. "
            "Each image is edited on its own.", "n", "invalid_value",
        )  # fmt: skip
    if masks not in (0, images):
        raise RequestError(
            400, f"There are {masks} masks for {images} images: send one mask for each, or edit "
            "one image at a time.", "mask", "invalid_value",
        )  # fmt: skip


def _options(body: EditBody) -> EditOptions:
    given: dict[str, Any] = {
        name: getattr(body, name)
        for name in ("strength", "extend", "resample", "known", "feather", "context")
        if getattr(body, name) is not None
    }
    return EditOptions(**given)


def _background(cascade: Cascade, body: EditBody, plans: Sequence[EditPlan]) -> str | None:
    """What is behind transparency; None keeps that of the image.

    Raises:
        RequestError: transparency is asked for, and neither the model nor the image has any.
    """
    originals = [plan.crop.canvas.original.image for plan in plans]
    if body.background != "transparent":
        see_through = cascade.has_alpha or any(map(has_transparency, originals))
        return WHITE if body.background == "opaque" and see_through else None
    if body.output_format == "jpeg":
        message = "JPEG has no transparency: use output_format png or webp."
        raise RequestError(400, message, "background", "invalid_value")
    if cascade.has_alpha:
        return "transparent"
    if all(map(has_transparency, originals)):
        return None
    raise RequestError(
        400, f"The images of {cascade.name} have no transparency, and the image has none to keep.",
        "background", "invalid_value",
    )  # fmt: skip
