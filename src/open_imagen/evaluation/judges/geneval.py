"""GenEval's rules (Ghosh et al. 2023): which detections make an image right."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from open_imagen.errors import DataError

MAX_OBJECTS = 16
"""Detections of a class that are looked at."""
POSITION_THRESHOLD = 0.1
"""Share of the two boxes' sides by which an offset is shortened before it counts."""


class Detection(NamedTuple):
    """A box in pixels (left, top, right, bottom) with its confidence."""

    box: tuple[float, float, float, float]
    score: float


ColorsOf = Callable[[str, Sequence[Detection]], list[str]]
"""A class and its detections -> the name of each one's colour."""


class Outcome(NamedTuple):
    """Of an image, with the reasons against it."""

    right: bool
    reasons: tuple[str, ...]


def select(
    detections: Sequence[Detection], threshold: float, nms_threshold: float = 1.0
) -> list[Detection]:
    """Detections above a threshold, best first, at most MAX_OBJECTS, overlaps removed."""
    best = sorted((d for d in detections if d.score > threshold), key=lambda d: -d.score)
    kept: list[Detection] = []
    for one in best[:MAX_OBJECTS]:
        if nms_threshold == 1 or all(overlap(one, other) < nms_threshold for other in kept):
            kept.append(one)
    return kept


def overlap(a: Detection, b: Detection) -> float:
    """Intersection over union of two boxes."""
    width = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    height = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((d.box[2] - d.box[0]) * (d.box[3] - d.box[1]) for d in (a, b))
    return shared / (areas - shared) if areas > shared else 0.0


def relations(a: Detection, b: Detection) -> set[str]:
    """Where a is, seen from b: "left of", "right of", "above", "below".

    The offset of the centres is shortened by a tenth of both boxes' sides; a direction counts if
    it has more than half of the offset's length.
    """
    names = (("left of", "right of"), ("above", "below"))
    offsets, shortened = [], []
    for axis in (0, 1):
        low_a, high_a, low_b, high_b = (
            a.box[axis], a.box[axis + 2], b.box[axis], b.box[axis + 2],
        )  # fmt: skip
        offset = (low_a + high_a) / 2 - (low_b + high_b) / 2
        margin = POSITION_THRESHOLD * ((high_a - low_a) + (high_b - low_b))
        length = max(abs(offset) - margin, 0.0)
        offsets.append(offset)
        shortened.append(length if offset > 0 else -length)
    if all(abs(one) < 1e-3 for one in shortened):
        return set()
    norm = (offsets[0] ** 2 + offsets[1] ** 2) ** 0.5
    found = set()
    for (before, after), one in zip(names, shortened, strict=True):
        if one / norm < -0.5:
            found.add(before)
        if one / norm > 0.5:
            found.add(after)
    return found


def check_image(
    metadata: Mapping[str, Any],
    detections: Mapping[str, Sequence[Detection]],
    colors_of: ColorsOf,
) -> Outcome:
    """Whether detections fulfil a row in GenEval's schema.

    Every class under "include" must be there at least ``count`` times, in its colour, and in its
    position to the objects of an earlier one; none under "exclude" ``count`` times or more.
    """
    reasons: list[str] = []
    matched: list[list[Detection] | None] = []
    for row in metadata["include"]:
        name, count = str(row["class"]), int(row["count"])
        found = list(detections.get(name, ()))[:count]
        problem = _problem(row, name, count, found, matched, colors_of)
        if problem:
            reasons.append(problem)
        matched.append(None if problem else found)
    for row in metadata.get("exclude", ()):
        number = len(detections.get(row["class"], ()))
        if number >= int(row["count"]):
            reasons.append(f"expected fewer than {row['count']} {row['class']}, found {number}")
    return Outcome(not reasons, tuple(reasons))


def _problem(
    row: Mapping[str, Any],
    name: str,
    count: int,
    found: Sequence[Detection],
    matched: Sequence[list[Detection] | None],
    colors_of: ColorsOf,
) -> str:
    """Why a requirement is not met; empty if it is."""
    if len(found) < count:
        return f"expected {count} {name}, found {len(found)}"
    if "color" in row:
        colors = colors_of(name, found)
        if colors.count(row["color"]) < count:
            return f"expected {count} {row['color']} {name}, found {', '.join(colors)}"
    if "position" in row:
        relation, group = row["position"]
        targets = matched[int(group)]
        if targets is None:
            return f"nothing for {name} to be {relation}"
        if not all(relation in relations(one, other) for one in found for other in targets):
            return f"expected {name} {relation} its target"
    return ""


def check_row(metadata: Mapping[str, Any]) -> None:
    """Check the metadata of a prompt.

    Raises:
        DataError: the row does not say in GenEval's schema what must be seen.
    """
    prompt = metadata.get("prompt")
    if not metadata.get("include"):
        raise DataError(
            f"The prompt {prompt!r} names no object in GenEval's schema (include).",
            "Judge runs over GenEval's own prompts (its evaluation_metadata.jsonl as --suite), "
            "over the suite of a world, or over categories of it that show objects.",
        )
    try:
        for number, row in enumerate(metadata["include"]):
            str(row["class"]), int(row["count"])
            if "position" in row and not 0 <= int(row["position"][1]) < number:
                raise ValueError(f"position of {row['class']} refers to no earlier object")
        for row in metadata.get("exclude", ()):
            str(row["class"]), int(row["count"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(f"The row of {prompt!r} is not in GenEval's schema: {error!r}.") from error


def classes_of(metadata: Mapping[str, Any]) -> list[str]:
    """Every class that a row names."""
    rows = [*metadata["include"], *metadata.get("exclude", ())]
    return list(dict.fromkeys(str(row["class"]) for row in rows))
