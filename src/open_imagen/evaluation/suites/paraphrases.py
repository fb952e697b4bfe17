"""The same scenes in other words: paraphrases of a plain prompt, and how much each loses.

A world says what its scenes mean; every wording of a scene has the same truth and starts from the
same noise, so the drop against the plain wording is measured pair by pair.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from open_imagen.errors import DataError
from open_imagen.evaluation.intervals import Interval, cluster_interval, paired_difference
from open_imagen.evaluation.suites.prompts import Prompt, Suite

PLAIN = "plain"
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class Meaning(NamedTuple):
    """What a plain prompt says."""

    objects: tuple[str, ...]
    """One or two noun phrases: "a red circle", "three cats"."""
    relation: str = ""
    """Of the first object to the second: "to the left of"."""
    ground: str = ""
    """Said after the objects: "on a white background"."""
    several: bool = False
    """The only noun phrase is a plural."""
    absent: str = ""
    """Something of the world that is not in the scene, without article: "blue star"."""


def plain(meaning: Meaning) -> str:
    """The wording that others are compared with.

    >>> plain(Meaning(("a cat", "a dog"), "above", "on a red background"))
    'a cat above a dog on a red background'
    """
    joint = f" {meaning.relation or 'and'} "
    return _joined(joint.join(meaning.objects), meaning.ground)


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _is(meaning: Meaning) -> str:
    return "are" if meaning.several else "is"


def word_order(meaning: Meaning, rng: random.Random) -> str:
    """What comes last is said first."""
    first, *others = meaning.objects
    if meaning.relation:
        return _joined(f"{meaning.relation} {others[0]} is {first}", meaning.ground)
    if others:
        return _joined(f"{others[0]} and {first}", meaning.ground)
    return f"{meaning.ground}, {first}" if meaning.ground else ""


def there_is(meaning: Meaning, rng: random.Random) -> str:
    """In the form "there is a red cat"."""
    return f"there {_is(meaning)} {plain(meaning)}"


def passive(meaning: Meaning, rng: random.Random) -> str:
    """In the form "a cat is placed to the left of a dog"."""
    first, *others = meaning.objects
    if meaning.relation:
        return _joined(f"{first} is placed {meaning.relation} {others[0]}", meaning.ground)
    if others:
        return _joined(f"{first} is shown with {others[0]}", meaning.ground)
    return _joined(f"{first} {_is(meaning)} shown", meaning.ground)


def plurals(meaning: Meaning, rng: random.Random) -> str:
    """Several things are introduced as such."""
    if meaning.several:
        return f"a group of {plain(meaning)}"
    return f"two things, {plain(meaning)}" if len(meaning.objects) > 1 else ""


def digits(meaning: Meaning, rng: random.Random) -> str:
    """Numbers as digits, also of a single thing."""
    text = plain(meaning)
    for number, word in enumerate(NUMBERS, 1):
        text = re.sub(rf"\b{word}\b", str(number), text)
    if text == plain(meaning) and len(meaning.objects) == 1:
        text = re.sub(r"^an? ", "1 ", text)
    return text


def typos(meaning: Meaning, rng: random.Random) -> str:
    """One slip in a word of an object: letters swapped, one left out, or one twice."""
    text = plain(meaning)
    named = {word for phrase in meaning.objects for word in re.findall(r"[a-z]{4,}", phrase)}
    places = [m for m in re.finditer(r"[a-z]{4,}", text) if m.group() in named - set(NUMBERS)]
    if not places:
        return ""
    place = rng.choice(places)
    word, at = place.group(), rng.randint(1, len(place.group()) - 2)
    slips = {
        f"{word[:at]}{word[at + 1]}{word[at]}{word[at + 2 :]}",
        f"{word[:at]}{word[at + 1 :]}",
        f"{word[:at]}{word[at]}{word[at:]}",
    }
    slip = rng.choice(sorted(slips - {word}))
    return text[: place.start()] + slip + text[place.end() :]


def capitals(meaning: Meaning, rng: random.Random) -> str:
    """The plain wording in capitals."""
    return plain(meaning).upper()


def politeness(meaning: Meaning, rng: random.Random) -> str:
    """In the form "please draw a red cat", and other polite ones."""
    frames = ("please draw {}", "could you show me {}, please?", "I would like {}, thank you")
    return rng.choice(frames).format(plain(meaning))


def negation(meaning: Meaning, rng: random.Random) -> str:
    """Something is named that must not be there."""
    return f"{plain(meaning)}, but no {meaning.absent}" if meaning.absent else ""


WORDINGS: dict[str, Callable[[Meaning, random.Random], str]] = {
    "word order": word_order,
    "there is": there_is,
    "passive": passive,
    "plural": plurals,
    "digits": digits,
    "typo": typos,
    "capitals": capitals,
    "politeness": politeness,
    "negation": negation,
}


def wordings(meaning: Meaning, rng: random.Random) -> dict[str, str]:
    """Every wording of a meaning by name, the plain one first; those without a form are left out.

    >>> wordings(Meaning(("a red circle",)), random.Random(0))["digits"]
    '1 red circle'
    """
    said = plain(meaning)
    found = {name: make(meaning, rng) for name, make in WORDINGS.items()}
    return {PLAIN: said, **{name: text for name, text in found.items() if text not in ("", said)}}


def paraphrase_suite(
    name: str, scenes: Sequence[tuple[Meaning, Mapping[str, Any]]], seed: int
) -> Suite:
    """All wordings of scenes, category by category.

    Args:
        scenes: what each means, and its metadata as the world's judge reads it.
    """
    prompts: dict[str, list[Prompt]] = {key: [] for key in (PLAIN, *WORDINGS)}
    for pair, (meaning, metadata) in enumerate(scenes):
        rng = random.Random(f"paraphrases {seed} {pair}")
        for wording, text in wordings(meaning, rng).items():
            row = {**metadata, "prompt": text, "wording": wording, "pair": pair, "seed_index": pair}
            prompts[wording].append(Prompt(text, wording, row))
    return Suite(name, tuple(one for some in prompts.values() for one in some))


class Judged(NamedTuple):
    """An image of a wording of a scene."""

    wording: str
    pair: int
    score: float
    """0 to 1."""


class Drop(NamedTuple):
    """Of one wording, in percent and percentage points."""

    share: Interval
    plain: Interval
    """Of the plain wording of the same scenes."""
    drop: Interval
    """Plain less this wording."""
    pairs: int


def drops(judged: Sequence[Judged]) -> dict[str, Drop]:
    """The drop of each wording against the plain one, pair by pair, and that of all together.

    Raises:
        DataError: there are no plain wordings, or nothing else.
    """
    means: dict[str, dict[int, list[float]]] = {}
    for one in judged:
        means.setdefault(one.wording, {}).setdefault(one.pair, []).append(100 * one.score)
    by_wording = {
        wording: {pair: sum(some) / len(some) for pair, some in pairs.items()}
        for wording, pairs in means.items()
    }
    base = by_wording.pop(PLAIN, {})
    paired = {
        wording: [(pair, base[pair], value) for pair, value in pairs.items() if pair in base]
        for wording, pairs in by_wording.items()
    }
    rows = [row for some in paired.values() for row in some]
    if not rows:
        raise DataError(
            "There are no paraphrases beside the plain wordings of their scenes.",
            "Make a run with a suite of paraphrases: --suite WORLD:paraphrases.",
        )
    found = {wording: _drop(some) for wording, some in paired.items() if some}
    return {**found, "all paraphrases": _drop(rows)}


def _drop(rows: Sequence[tuple[int, float, float]]) -> Drop:
    pairs = [pair for pair, _, _ in rows]
    before, after = ([row[k] for row in rows] for k in (1, 2))
    return Drop(
        cluster_interval(after, pairs, 100.0),
        cluster_interval(before, pairs, 100.0),
        paired_difference(after, before, pairs, 100.0),
        len(set(pairs)),
    )


def judged_rows(metadata: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> list[Judged]:
    """Scores of the images of a run over a suite of paraphrases.

    Raises:
        DataError: the run is over another suite.
    """
    try:
        return [
            Judged(str(row["wording"]), int(row["pair"]), score)
            for row, score in zip(metadata, scores, strict=True)
        ]
    except KeyError as error:
        raise DataError(
            "The prompts of this run are no paraphrases.",
            "Make a run with --suite WORLD:paraphrases.",
        ) from error
