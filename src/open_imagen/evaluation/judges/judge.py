"""The contract of a judge: images and what each was asked to show -> right or wrong.

Worlds, whose truth is known, register their judges here by name; a prompt's metadata names its
judge in "judge".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from open_imagen.errors import DataError
from open_imagen.evaluation.image_set import ImageSet, read_image
from open_imagen.evaluation.judges.atoms import AtomScore
from open_imagen.evaluation.metrics.distances import Score, mean_score, scored
from open_imagen.evaluation.progress import Progress
from open_imagen.registry import Registry

BATCH = 32
"""Images judged together."""


class Verdict(NamedTuple):
    """On one image."""

    tag: str
    """The category of its prompt."""
    right: bool
    reconstruction_rmse: float | None = None
    """Difference to an exact drawing of what is detected, 0 to 255; None: there is no drawing."""
    score: float | None = None
    """Of judges that give more than right or wrong."""
    atoms: tuple[AtomScore, ...] = ()
    """Of judges that ask questions: what each was worth."""

    @property
    def value(self) -> float:
        """The score; of judges without one, 1 for right and 0 for wrong."""
        return float(self.right) if self.score is None else self.score


class Judge(Protocol):
    """Says whether images show what their prompts ask for."""

    def __call__(
        self, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """Verdicts on images uint8 [3, H, W], of any sizes.

        Raises:
            DataError: the metadata do not say what the judge needs to know.
        """
        ...


JUDGES: Registry[Callable[[], Judge]] = Registry("judge")


def judge_images(images: ImageSet, progress: Progress | None = None) -> list[Verdict]:
    """A verdict on every image of a run over the suite of a world.

    Raises:
        DataError: it is not such a run.
    """
    if images.metadata is None:
        raise DataError(
            f"{images.folder} does not say what each image should show.",
            "Make it with: imagen evaluate prompts --suite WORLD",
        )
    if images.digest not in _last:
        _last.clear()
        _last[images.digest] = _judged(images, progress)
    return _last[images.digest]


_last: dict[str, list[Verdict]] = {}
"""The verdicts on the last set by its content: two measures of it judge the images once."""


def _judged(images: ImageSet, progress: Progress | None) -> list[Verdict]:
    assert images.metadata is not None
    judges = {name: JUDGES[name]() for name in dict.fromkeys(map(_judge_name, images.metadata))}
    verdicts: list[Verdict | None] = [None] * len(images)
    done = 0
    for name, judge in judges.items():
        rows = [k for k, row in enumerate(images.metadata) if row["judge"] == name]
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            pixels = [
                torch.from_numpy(np.array(read_image(images.files[k]))).permute(2, 0, 1)
                for k in batch
            ]
            found = judge(pixels, [images.metadata[k] for k in batch])
            for k, verdict in zip(batch, found, strict=True):
                verdicts[k] = verdict
            done += len(batch)
            if progress is not None:
                progress("judging", done, len(images))
    return [verdict for verdict in verdicts if verdict is not None]


def _judge_name(metadata: Mapping[str, Any]) -> str:
    name = metadata.get("judge")
    if name not in JUDGES:
        raise DataError(
            f"{metadata.get('prompt')!r} is not a prompt of a world: no judge knows the truth.",
            f"Make the images with --suite {' or '.join(JUDGES) or 'WORLD'}, or measure clip "
            "instead.",
        )
    return str(name)


def alignment(verdicts: Sequence[Verdict]) -> tuple[Score, dict[str, float]]:
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


def mean_reconstruction_rmse(verdicts: Sequence[Verdict]) -> Score:
    """The mean difference to exact drawings of what is detected.

    Raises:
        DataError: the judge of an image has no exact drawings.
    """
    values = [verdict.reconstruction_rmse for verdict in verdicts]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        raise DataError(
            "The judge of these images compares with no exact drawings: reconstruction_rmse is "
            "not defined.",
            "Measure alignment.",
        )
    return mean_score(np.array(known))
