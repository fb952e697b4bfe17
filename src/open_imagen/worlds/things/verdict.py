"""Whether an image shows what its prompt of the things world asks for."""

from collections.abc import Sequence
from typing import NamedTuple

from open_imagen.worlds.things.judge import FoundObject, Seen, Transparency
from open_imagen.worlds.things.layout import relation_holds
from open_imagen.worlds.things.suite import ExpectedScene, Truth

SMALL, LARGE = (0.16, 0.38), (0.76, 1.0)
"""The longer side of a single thing, as layouts draw it (0.20 to 0.34, 0.80 to 0.95), and a bit."""


class Verdict(NamedTuple):
    """Of one picture."""

    right: bool
    present: bool
    """All objects are there, as many as asked for and no others, wherever and however they are."""


def judge(
    truth: Truth, seen: Seen, read: bool = False, clear: Transparency | None = None
) -> Verdict:
    """Whether a picture, as the judge sees it, is what was asked for.

    Args:
        read: whether the sign reads as asked.
        clear: of a picture with alpha.
    """
    if truth.clear:
        right = clear is not None and seen.ground == "" and bool(seen.objects) and clear.right
        return Verdict(right, bool(seen.objects))
    if truth.word:
        return Verdict(read, read)
    matched = match(truth.wanted, seen.objects)
    if matched is None:
        return Verdict(False, False)
    right = all(
        fits(wanted, one)
        for wanted, some in zip(truth.wanted, matched, strict=True)
        for one in some
    )
    if truth.relation:
        first, second = matched[0][0], matched[1][0]
        right &= relation_holds(truth.relation, first.x - second.x, first.y - second.y)
    if truth.ground is not None:
        right &= sorted(seen.ground.split(" and ")) == sorted(truth.ground.split(" and "))
    return Verdict(right, True)


def match(
    wanted: Sequence[ExpectedScene], objects: Sequence[FoundObject]
) -> list[list[FoundObject]] | None:
    """The objects of each kind asked for; None unless they are exactly these."""
    left = list(objects)
    found: list[list[FoundObject]] = []
    for kind in wanted:
        # Two kinds may share a name ("a red cup and a blue cup"): the better fit goes first.
        named = [one for one in left if one.name in kind.names]
        fitting = sorted(named, key=lambda one, kind=kind: not fits(kind, one))  # type: ignore[misc]
        if len(fitting) < kind.number:
            return None
        found.append(fitting[: kind.number])
        left = [one for one in left if one not in found[-1]]
    return None if left else found


def fits(wanted: ExpectedScene, one: FoundObject) -> bool:
    """Whether an object of the right name is also of the color, style and size asked for."""
    if wanted.color and wanted.color != one.color and (one.color or wanted.color not in one.also):
        return False
    if wanted.style and wanted.style != one.style:
        return False
    if wanted.size:
        low, high = SMALL if wanted.size == "small" else LARGE
        return low <= one.side <= high
    return True
