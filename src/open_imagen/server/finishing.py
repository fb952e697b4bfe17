"""From the pixels of a job's last stage to the image that is answered, and its record."""

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import WHITE, over, parse_background, premultiplied, to_image
from open_imagen.cascade.canvas import Canvas, Crop
from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.edit import EditPlan
from open_imagen.cascade.vary import crop_centre
from open_imagen.data.original import Original
from open_imagen.server.jobs import Job

PREVIEW_SIDE = 1024
"""Longer side of a partial image of an edit at most."""


def finish(
    job: Job, index: int, pixels: Tensor, cascade: Cascade
) -> tuple[Image.Image, dict[str, Any]]:
    """An image of a job and its record.

    Args:
        pixels: of the last stage, uint8 [C, H, W].
    """
    plan = job.plan(index)
    full = shown(job, pixels, plan)
    image = crop_centre(full, job.crop)
    record = cascade.record(
        job.images[index],
        job.settings,
        image.size,
        job.made_by,
        job.background if cascade.has_alpha else None,
        None if plan is None else plan.record,
    )
    if image.size != full.size:
        record["cropped_from"] = f"{full.width}x{full.height}"
    return image, record


def shown(job: Job, pixels: Tensor, plan: EditPlan | None) -> Image.Image:
    """Pixels of a stage as an image; those of an edit in their place."""
    if plan is None:
        return to_image(pixels, parse_background(job.background))
    image = plan.result(pixels, job.background)
    color = None if job.background is None else parse_background(job.background)
    return image if color is None else flattened(image, color)


def flattened(image: Image.Image, color: tuple[int, int, int] = WHITE) -> Image.Image:
    """An image without transparency."""
    if image.mode != "RGBA":
        return image
    pixels = over(premultiplied(image), color)
    flat = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    flat.info = dict(image.info)
    return flat


def preview_plan(plan: EditPlan) -> EditPlan:
    """An edit on a smaller canvas, so that its partial images cost little however large it is."""
    canvas = plan.crop.canvas
    scale = PREVIEW_SIDE / max(canvas.size)
    if scale >= 1:
        return plan
    width, height = (max(1, round(side * scale)) for side in canvas.size)
    image = canvas.original.image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2)
    mask = canvas.mask
    if mask is not None:
        rows = np.arange(height) * mask.shape[0] // height
        columns = np.arange(width) * mask.shape[1] // width
        mask = mask[rows][:, columns]
    left, top, right, bottom = (round(edge * scale) for edge in plan.crop.box)
    box = (left, top, min(max(right, left + 1), width), min(max(bottom, top + 1), height))
    small = Canvas(Original(image, canvas.original.profile), mask, canvas.extended)
    return replace(plan, crop=Crop(small, box), options=replace(plan.options, feather=0))
