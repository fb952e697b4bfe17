"""How often a judge is right, on exact scenes whose truth is known."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from open_imagen.errors import ConfigError, DataError
from open_imagen.evaluation.intervals import Interval, wilson
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.evaluation.judges.spec import ModelJudge
from open_imagen.evaluation.progress import Progress
from open_imagen.registry import Registry

BATCH = 8


class ExactScene(NamedTuple):
    """An exact drawing, a prompt, and whether one shows the other."""

    image: Tensor
    """uint8 [3, H, W]."""
    metadata: Mapping[str, Any]
    """Of the prompt, as a suite writes it."""
    right: bool
    atoms: Mapping[int, bool] = {}
    """For each question of the prompt, whether its right answer is true of the image."""


ExactScenes = Callable[[int, int], Iterator[ExactScene]]
"""Count and seed -> scenes, half of which show what their prompts ask for."""
EXACT_SCENES: Registry[ExactScenes] = Registry("world")


def measure_accuracy(
    judge: ModelJudge,
    world: str,
    count: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Accuracy with intervals, over all scenes, by category, and of single questions.

    Raises:
        ConfigError: there are too few scenes to say anything.
        DataError: the judge can judge none of the world's scenes.
    """
    if count < 2:
        raise ConfigError(f"count = {count} must be at least 2.")
    rows: list[tuple[ExactScene, Verdict]] = []
    skipped, done = 0, 0
    for batch in _batches(EXACT_SCENES[world](count, seed)):
        done += len(batch)
        for scene in batch:
            try:
                [verdict] = judge([scene.image], [scene.metadata])
            except DataError:  # a sign has no object that a detector could find
                skipped += 1
                continue
            rows.append((scene, verdict))
        if progress is not None:
            progress("judging", done, count)
    if not rows:
        raise DataError(f"{judge.label} can judge no scene of the world {world}.")
    return {
        "judge": judge.label,
        "identity": judge.identity,
        "world": world,
        "seed": seed,
        "scenes": len(rows),
        "skipped": skipped,
        **_table(judge, rows),
        "categories": {
            tag: _table(judge, [row for row in rows if row[1].tag == tag])
            for tag in dict.fromkeys(verdict.tag for _, verdict in rows)
        },
        "atoms": _atoms(rows),
    }


def _batches(scenes: Iterator[ExactScene]) -> Iterator[list[ExactScene]]:
    batch: list[ExactScene] = []
    for scene in scenes:
        batch.append(scene)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _table(judge: ModelJudge, rows: Sequence[tuple[ExactScene, Verdict]]) -> dict[str, Any]:
    truth = np.array([scene.right for scene, _ in rows])
    scores = np.array([verdict.value for _, verdict in rows])
    found: dict[str, Any] = {"of": len(rows), "auc": area_under_roc(truth, scores)}
    if not judge.aggregation.percent:
        return found  # a preference has no threshold for right
    said = np.array([verdict.right for _, verdict in rows])
    return {
        **found,
        "accuracy": _share(said == truth),
        "right_accepted": _share(said[truth]),
        "wrong_accepted": _share(said[~truth]),
    }


def _atoms(rows: Sequence[tuple[ExactScene, Verdict]]) -> dict[str, Any]:
    """Accuracy on single questions, by what they ask about."""
    by_category: dict[str, list[bool]] = {}
    for scene, verdict in rows:
        if len(verdict.atoms) == len(scene.atoms):
            for one, true in zip(verdict.atoms, scene.atoms.values(), strict=True):
                by_category.setdefault(one.category, []).append((one.score >= 0.5) == true)
    return {name: _share(np.array(some)) for name, some in by_category.items()}


def _share(right: Any) -> dict[str, Any] | None:
    if not len(right):
        return None
    low, high = wilson(int(right.sum()), len(right))
    return {**Interval(float(right.mean()), low, high)._asdict(), "of": len(right)}


def area_under_roc(truth: Any, scores: Any) -> float | None:
    """The chance that a right image scores higher than a wrong one, ties half.

    >>> area_under_roc(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
    0.75
    """
    right, wrong = scores[truth], scores[~truth]
    if not len(right) or not len(wrong):
        return None
    higher = (right[:, None] > wrong[None]).mean() + (right[:, None] == wrong[None]).mean() / 2
    return float(higher)
