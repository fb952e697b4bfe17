"""Pictures of the scene world, judged by the checker: are they right, and are they clean?"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.data.render import render
from open_imagen.data.scenes import BACKGROUNDS, Kind, Layout, Placed, Scene
from open_imagen.errors import DataError
from open_imagen.evaluation.checker import SIDE, Seen, look
from open_imagen.evaluation.features import Told
from open_imagen.evaluation.metrics import Score, mean_score, scored
from open_imagen.evaluation.pictures import PictureSet, read_picture
from open_imagen.evaluation.scene_suite import judge


class Verdict(NamedTuple):
    """Of one picture."""

    tag: str
    right: bool
    residue: float


def scene_of(metadata: dict[str, Any]) -> Scene:
    """The scene that a row of the scene suite asks for.

    Raises:
        DataError: the row is of another suite.
    """
    facts = metadata.get("scene")
    if not isinstance(facts, dict):
        raise DataError(
            f"{metadata.get('prompt')!r} is not a prompt of the scene suite: the checker knows "
            "coloured shapes only.",
            "Make the pictures with --suite scenes, or measure clip instead.",
        )
    kinds = tuple(Kind(*kind) for kind in facts["kinds"])
    return Scene(
        kinds, facts["count"], facts["relation"], facts["background"], facts.get("sign", "")
    )


def judge_pictures(pictures: PictureSet, told: Told | None = None) -> list[Verdict]:
    """A verdict on every picture of a run over the scene suite.

    Raises:
        DataError: it is not such a run.
    """
    if pictures.metadata is None:
        raise DataError(
            f"{pictures.folder} does not say which scene each picture should show.",
            "Make it with: imagen evaluate prompts --suite scenes",
        )
    if pictures.digest not in _remembered:
        _remembered.clear()
        _remembered[pictures.digest] = _judged(pictures, told)
    return _remembered[pictures.digest]


_remembered: dict[str, list[Verdict]] = {}
"""The last set by its content: two measures of it look at the pictures once."""


def _judged(pictures: PictureSet, told: Told | None) -> list[Verdict]:
    verdicts = []
    assert pictures.metadata is not None
    for file, metadata in zip(pictures.files, pictures.metadata, strict=True):
        pixels = torch.from_numpy(np.array(read_picture(file))).permute(2, 0, 1)
        scene = scene_of(metadata)
        seen = look(pixels, bool(scene.sign))
        right = judge(metadata["tag"], scene, seen)
        verdicts.append(Verdict(metadata["tag"], right, residue(pixels, seen)))
        if told is not None:
            told("checking", len(verdicts), len(pictures))
    return verdicts


def residue(picture: Tensor, seen: Seen) -> float:
    """How far a picture uint8 [3, H, W] is from an exact drawing of what is seen in it.

    The root mean square difference, 0 to 255, at the checker's resolution: noise, wavy edges, wrong
    shades and things that are no shape at all count; what the prompt asked for does not.
    """
    side = picture.shape[-1]
    pixels = picture[None].float()
    if side != SIDE:
        pixels = F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    return float((drawing_of(seen, SIDE).float() - pixels[0]).square().mean().sqrt())


def drawing_of(seen: Seen, side: int) -> Tensor:
    """An exact drawing uint8 [3, side, side] of what is seen in a picture and known."""
    known = tuple(
        Placed(Kind(o.color, o.shape), o.x, o.y, o.radius)
        for o in seen.objects
        if o.color and o.shape
    )
    background = seen.background or next(iter(BACKGROUNDS))
    return render([Layout(known, background)], side)[0]


def alignment(verdicts: list[Verdict]) -> tuple[Score, dict[str, float]]:
    """The share right in percent, the mean over tags as in GenEval, and the share of each tag."""
    shares, variance = {}, 0.0
    for tag in dict.fromkeys(verdict.tag for verdict in verdicts):
        right = [verdict.right for verdict in verdicts if verdict.tag == tag]
        # Agresti and Coull's two more of each kind: an error bar also where all are right.
        share = (sum(right) + 2) / (len(right) + 4)
        variance += share * (1 - share) / (len(right) + 4)
        shares[tag] = 100 * sum(right) / len(right)
    value = sum(shares.values()) / len(shares)
    error = 100 * variance**0.5 / len(shares)
    return scored(value, error), shares


def mean_residue(verdicts: list[Verdict]) -> Score:
    """The mean residue of all pictures."""
    return mean_score(np.array([verdict.residue for verdict in verdicts]))
