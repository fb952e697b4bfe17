"""Questions about an image, their dependencies, and the rules that turn answers into scores."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from open_imagen.errors import DataError


class Atom(NamedTuple):
    """One question about an image."""

    id: int
    question: str
    answer: str = "yes"
    """The right answer."""
    choices: tuple[str, ...] = ()
    """Answers to choose from; none: yes or no, or free."""
    parents: tuple[int, ...] = ()
    """Ids of questions that must be answered rightly before this one can count."""
    category: str = ""
    first_row: bool = False
    """The first row of DPG-Bench's file, which its reference script skips."""

    @property
    def binary(self) -> bool:
        """Whether the answer is yes or no."""
        return self.answer.lower() in ("yes", "no")


class AtomScore(NamedTuple):
    """What a judge says of an atom of one image."""

    category: str
    score: float
    """Before its parents are looked at: 0 or 1, or the probability of the right answer."""
    gated: float
    """0 where a parent failed, otherwise the score."""


def atoms_of(metadata: Mapping[str, Any]) -> list[Atom]:
    """The questions of a prompt.

    Raises:
        DataError: it has none, or they cannot be read; the message names the prompt.
    """
    prompt, rows = metadata.get("prompt"), metadata.get("atoms")
    if not rows:
        raise DataError(
            f"The prompt {prompt!r} has no questions (atoms).",
            "Make the run from a suite with questions: DPG-Bench's CSV, TIFA's JSON, GenEval 2's "
            'JSONL, a JSONL whose rows have "atoms", or the suite of a world.',
        )
    try:
        atoms = [
            Atom(
                int(row["id"]),
                str(row["question"]),
                str(row.get("answer", "yes")),
                tuple(map(str, row.get("choices", ()))),
                tuple(int(parent) for parent in row.get("parents", ())),
                str(row.get("category", "")),
                bool(row.get("first_row", False)),
            )
            for row in rows
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"The questions of {prompt!r} cannot be read: {error!r}.",
            'Each needs "id" and "question", and may have "answer", "choices" and "parents".',
        ) from error
    _check(atoms, prompt)
    return atoms


def _check(atoms: Sequence[Atom], prompt: object) -> None:
    known = {atom.id for atom in atoms}
    if len(known) < len(atoms):
        raise DataError(f"Two questions of {prompt!r} have the same id.")
    for atom in atoms:
        unknown = [parent for parent in atom.parents if parent not in known]
        if unknown:
            raise DataError(
                f"Question {atom.id} of {prompt!r} depends on question {unknown[0]}, which it "
                "does not have."
            )
        if atom.choices and atom.answer not in atom.choices:
            raise DataError(
                f"The answer {atom.answer!r} of question {atom.id} of {prompt!r} is not among its "
                f"choices: {', '.join(atom.choices)}."
            )
    resolved: set[int] = set()
    while len(resolved) < len(atoms):
        ready = {a.id for a in atoms if resolved.issuperset(a.parents)} - resolved
        if not ready:
            raise DataError(f"Questions of {prompt!r} depend on each other in a circle.")
        resolved |= ready


def gate(
    atoms: Sequence[Atom], scores: Mapping[int, float], threshold: float = 0.5
) -> dict[int, float]:
    """Scores that are 0 where any ancestor failed, in whatever order the questions come.

    Args:
        threshold: a question has failed if its own score is below this.
    """
    by_id = {atom.id: atom for atom in atoms}
    held: dict[int, bool] = {}

    def holds(id: int) -> bool:
        if id not in held:
            held[id] = scores[id] >= threshold and all(map(holds, by_id[id].parents))
        return held[id]

    return {atom.id: scores[atom.id] if all(map(holds, atom.parents)) else 0.0 for atom in atoms}


def gate_in_file_order(atoms: Sequence[Atom], scores: Mapping[int, float]) -> dict[int, float]:
    """Scores as DPG-Bench's reference script gates them.

    It goes through the questions once, in the order of the file, and looks at the scores as they
    are at that moment: a failed grandparent counts only if the parent comes before the child. A
    parent that was never asked (the first row of the file) counts as answered.
    """
    gated = dict(scores)
    for atom in atoms:
        if any(gated.get(parent, 1.0) == 0 for parent in atom.parents):
            gated[atom.id] = 0.0
    return gated


def arithmetic_mean(scores: Sequence[float]) -> float:
    """The share of atoms that hold."""
    return sum(scores) / len(scores)


def geometric_mean(scores: Sequence[float]) -> float:
    """Close to 0 unless all atoms hold.

    >>> round(geometric_mean([0.5, 0.02]), 6), geometric_mean([1.0, 0.0])
    (0.1, 0.0)
    """
    if min(scores) <= 0:
        return 0.0
    return math.exp(sum(map(math.log, scores)) / len(scores))
