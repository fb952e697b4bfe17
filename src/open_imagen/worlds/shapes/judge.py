"""The judge of the shapes world: images of its suite, by the checker. Are they right and clean?"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from open_imagen.errors import DataError
from open_imagen.evaluation.judges.judge import JUDGES, Verdict
from open_imagen.worlds.shapes.checker import SIDE, Detections, detect
from open_imagen.worlds.shapes.render import render
from open_imagen.worlds.shapes.scenes import BACKGROUNDS, Kind, Layout, Placed, Scene
from open_imagen.worlds.shapes.suite import WORLD, is_right


def scene_of(metadata: Mapping[str, Any]) -> Scene:
    """The scene that a row of the suite asks for.

    Raises:
        DataError: the row is of another suite.
    """
    row = metadata.get("scene")
    if not isinstance(row, dict):
        raise DataError(
            f"{metadata.get('prompt')!r} is not a prompt of the shapes world: the checker knows "
            "coloured shapes only.",
            f"Make the images with --suite {WORLD}, or measure clip instead.",
        )
    kinds = tuple(Kind(*kind) for kind in row["kinds"])
    return Scene(kinds, row["count"], row["relation"], row["background"], row.get("sign", ""))


@JUDGES.register(WORLD)
class ShapesJudge:
    """A Judge: verdicts by the checker."""

    def __call__(
        self, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """Judge images uint8 [3, H, W] by their metadata; a verdict each."""
        return [_verdict(image, row) for image, row in zip(images, metadata, strict=True)]


def _verdict(image: Tensor, metadata: Mapping[str, Any]) -> Verdict:
    scene = scene_of(metadata)
    seen = detect(image, bool(scene.sign))
    right = is_right(metadata["tag"], scene, seen)
    return Verdict(metadata["tag"], right, reconstruction_rmse(image, seen))


def reconstruction_rmse(image: Tensor, seen: Detections) -> float:
    """How far an image uint8 [3, H, W] is from an exact drawing of what is detected in it.

    The root mean square difference, 0 to 255, at the checker's resolution: noise, wavy edges, wrong
    shades and things that are no shape at all count; what the prompt asked for does not.
    """
    side = image.shape[-1]
    pixels = image[None].float()
    if side != SIDE:
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    return float((drawing_of(seen, SIDE).float() - pixels[0]).square().mean().sqrt())


def drawing_of(seen: Detections, side: int) -> Tensor:
    """An exact drawing uint8 [3, side, side] of what is detected in an image and known."""
    known = tuple(
        Placed(Kind(o.color, o.shape), o.x, o.y, o.radius)
        for o in seen.objects
        if o.color and o.shape
    )
    background = seen.background or next(iter(BACKGROUNDS))
    return render([Layout(known, background)], side)[0]
