"""From an image, a mask and a strength to what each stage begins with, and back into the image."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import parse_background
from open_imagen.cascade.canvas import (
    Canvas,
    Crop,
    base_size,
    check_extension,
    crop_box,
    make_canvas,
)
from open_imagen.cascade.masks import OWN_ALPHA, Mask, has_transparency, own_alpha, read_mask
from open_imagen.cascade.requests import StageStart
from open_imagen.cascade.sizes import size_unit
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.values import real_number, whole_number
from open_imagen.data.images import MAX_PIXELS
from open_imagen.data.original import ImageSource, Original, read_original
from open_imagen.diffusion.editing import KNOWN
from open_imagen.errors import ConfigError, UnknownName

STRENGTH = 0.6
"""The default of image to image."""
MASKED_STRENGTH = 1.0
"""The default of inpainting and outpainting: nothing of the old content remains in the mask."""
RESAMPLE = 1
MAX_RESAMPLE = 100
Strength = float | Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """How an image is edited, beside prompt, seed and sampling settings."""

    strength: Strength = None
    """The share of a stage's steps that run, 0 to 1: 0 changes nothing, 1 starts from noise. One
    for all stages, or one for each by name; None: 0.6, and 1 with a mask or an extension."""
    extend: Sequence[int] | None = None
    """Pixels to add left, above, right and below (outpainting)."""
    resample: int = RESAMPLE
    """With a mask: how often each step is repeated (RePaint), which harmonises the regenerated and
    the known pixels. Sampling takes so many times as long."""
    known: str = "renoised"
    """With a mask: how the network sees the known pixels: renoised, or clean, as in DeepFloyd IF's
    own inpainting."""
    feather: int | None = None
    """With a mask: the width of the blend inside it, in pixels; None: 1/32 of the crop."""
    context: int | None = None
    """With a mask: how many pixels around its box the model sees, and the prompt describes; None:
    the whole image, unless it is larger than four of the model's."""

    def __post_init__(self) -> None:
        whole_number(self.resample, "resample")
        if not 1 <= self.resample <= MAX_RESAMPLE:
            raise ConfigError(
                f"resample = {self.resample} must be 1 (off) to {MAX_RESAMPLE}.", "Try 4."
            )
        if self.known not in KNOWN:
            raise UnknownName("known", self.known, KNOWN)
        if self.feather is not None and whole_number(self.feather, "feather") < 0:
            raise ConfigError(f"feather = {self.feather} must be at least 0 pixels.")
        if self.context is not None and whole_number(self.context, "context") < 0:
            raise ConfigError(f"context = {self.context} must be at least 0 pixels.")

    def strengths(self, stages: Sequence[str], masked: bool) -> dict[str, float]:
        """The strength of each stage.

        Raises:
            UnknownName: a strength for a stage that does not run.
            ConfigError: one is not from 0 to 1, or the last stage would undo the others.
        """
        usual = MASKED_STRENGTH if masked else STRENGTH
        given = self.strength
        if isinstance(given, Mapping):
            for name in given:
                if name not in stages:
                    raise UnknownName("stage", name, stages)
            found = {name: given.get(name, usual) for name in stages}
        else:
            found = dict.fromkeys(stages, usual if given is None else given)
        found = {name: real_number(value, "strength") for name, value in found.items()}
        for name, value in found.items():
            if not 0 <= value <= 1:
                raise ConfigError(
                    f"strength = {value} ({name}) must be between 0 and 1.",
                    "0 changes nothing, 0.3 to 0.7 keep what is where, 1 begins anew.",
                )
        if found[stages[-1]] == 0 and any(found.values()):
            raise ConfigError(
                f"strength = 0 of {stages[-1]}, the last stage, would undo what the others change."
            )
        return found


@dataclass(frozen=True)
class EditRequest:
    """An image to edit, what to regenerate of it, and how."""

    image: ImageSource
    mask: ImageSource | None
    options: EditOptions
    max_pixels: int = MAX_PIXELS
    repeat: Mapping[str, Any] | None = None
    """The record of an earlier edit that had the same image and mask."""

    def plan(self, stages: Sequence[Stage]) -> "EditPlan":
        """The inputs of these stages; see plan_edit.

        Raises:
            DataError: an image cannot be read, or has too many pixels.
            ConfigError: the mask does not fit, an option is out of range, or the inputs are not
                those of the record.
        """
        plan = plan_edit(self.image, self.mask, stages, self.options, self.max_pixels)
        if self.repeat is not None:
            check_inputs(self.repeat, plan)
        return plan


@dataclass(frozen=True)
class EditPlan:
    """An edit that is ready to be sampled."""

    crop: Crop
    size: tuple[int, int]
    """Width and height of the first stage's images."""
    starts: dict[str, StageStart]
    """By stage: what it begins with."""
    options: EditOptions
    record: dict[str, Any]
    """The edit's entry in an image's record."""

    @property
    def changes_nothing(self) -> bool:
        """Whether every strength is 0, so that the result is the image itself."""
        return not any(start.strength for start in self.starts.values())

    def result(self, made: Tensor, background: str | None = None) -> Image.Image:
        """The edited image: as large as the canvas, equal to it outside the mask.

        Args:
            made: the last stage's image, uint8 [C, H, W].
            background: behind what a model with alpha leaves transparent: "transparent", or a
                colour; None: transparent if the original is so somewhere, white otherwise.
        """
        canvas = self.crop.canvas
        color = parse_background(background)
        transparent = has_transparency(canvas.original.image) if background is None else not color
        if self.changes_nothing:
            image = canvas.original.image.copy()
        else:
            keep_alpha = made.shape[0] == 4 and transparent
            image = self.crop.pasted(made, color, keep_alpha, self.options.feather)
        if canvas.original.profile is not None:
            image.info["icc_profile"] = canvas.original.profile
        return image


def plan_edit(
    image: ImageSource,
    mask: ImageSource | None,
    stages: Sequence[Stage],
    options: EditOptions,
    max_pixels: int = MAX_PIXELS,
) -> EditPlan:
    """Read and check an image and its mask, and lay out what the stages begin with.

    Args:
        mask: of the image's size: transparent, or else white, where the image is made anew;
            "alpha": where the image itself is transparent.
        max_pixels: larger images are refused.

    Raises:
        DataError: an image cannot be read, or has too many pixels.
        ConfigError: the mask does not fit, or an option is out of range.
    """
    original = read_original(image, "image", max_pixels)
    extend = check_extension(options.extend, original.image.size, max_pixels)
    marked = _mask_of(original, mask)
    canvas = make_canvas(original, marked, extend)
    names = [stage.config.name for stage in stages]
    strengths = options.strengths(names, masked=canvas.mask is not None)
    if canvas.extended and not any(strengths.values()):
        raise ConfigError("strength = 0 would leave what extend adds empty.", "Leave it out.")
    crop = Crop(canvas, crop_box(canvas, stages[-1].config.resolution, options.context))
    left, top, right, bottom = crop.box
    first = stages[0].config.resolution
    size = base_size(right - left, bottom - top, first, size_unit(stages))
    starts = {
        stage.config.name: _start(crop, stage, size, first, strengths, options) for stage in stages
    }
    record = {
        "inputs": {"image": image_sha256(original.image)}
        | ({} if marked is None else {"mask": mask_sha256(marked)}),
        "strength": strengths,
        **({"extend": list(extend)} if canvas.extended else {}),
        **_mask_record(options, canvas),
    }
    return EditPlan(crop, size, starts, options, record)


def _mask_of(original: Original, mask: ImageSource | None) -> Mask | None:
    if mask is None:
        return None
    if isinstance(mask, str) and mask == OWN_ALPHA:
        return own_alpha(original.image)
    return read_mask(mask, original.image.size)


def _mask_record(options: EditOptions, canvas: Canvas) -> dict[str, Any]:
    if canvas.mask is None:
        return {"resample": options.resample} if options.resample > 1 else {}
    chosen = {"feather": options.feather, "context": options.context}
    return {
        "resample": options.resample,
        "known": options.known,
        **{name: value for name, value in chosen.items() if value is not None},
    }


def _start(
    crop: Crop,
    stage: Stage,
    size: tuple[int, int],
    first: int,
    strengths: Mapping[str, float],
    options: EditOptions,
) -> StageStart:
    scale = stage.config.resolution // first
    here = (size[0] * scale, size[1] * scale)
    return StageStart(
        crop.image_at(here, stage.channels),
        strengths[stage.config.name],
        crop.mask_at(here),
        options.resample,
        options.known,
    )


def image_sha256(image: Image.Image) -> str:
    """Of the upright pixels: the same for a file, its copy without metadata, and an array."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def mask_sha256(mask: Mask) -> str:
    """Of which pixels are marked."""
    digest = hashlib.sha256(f"mask {mask.shape[1]}x{mask.shape[0]}\n".encode())
    digest.update(np.packbits(mask).tobytes())
    return digest.hexdigest()


def check_inputs(record: Mapping[str, Any], plan: EditPlan) -> None:
    """Whether an edit is repeated with the images that its record names.

    Raises:
        ConfigError: an image or mask is another, missing, or one too many.
    """
    recorded, given = record["edit"]["inputs"], plan.record["inputs"]
    for name in ("image", "mask"):
        then, now = recorded.get(name), given.get(name)
        if then == now:
            continue
        if now is None:
            raise ConfigError(f"The edit had a {name}; give it again.")
        if then is None:
            raise ConfigError(f"The edit had no {name}.", "Leave it out.")
        raise ConfigError(
            f"The {name} is not the one that was edited: its pixels have SHA-256 {now[:12]}..., "
            f"the record {then[:12]}...."
        )
