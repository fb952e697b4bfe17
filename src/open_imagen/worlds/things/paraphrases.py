"""Prompts of the things world in other words: scenes of its suite, each in every wording."""

import random
from collections.abc import Sequence

from open_imagen.errors import ConfigError
from open_imagen.evaluation.suites.paraphrases import PLAIN, WORDINGS, Meaning, wordings
from open_imagen.worlds.things.grammar import article, plural
from open_imagen.worlds.things.suite import ExpectedScene, Prompt, Suite, Truth, said
from open_imagen.worlds.things.wordings import NUMBERS

PARAPHRASED = ("label", "color", "counting", "place", "two_things", "size", "ground")
"""Categories whose scenes are paraphrased, unless others are asked for."""
RELATIONS = {"left of": "to the left of", "right of": "to the right of"}
POSSIBLE = (*PARAPHRASED, "held_out_color", "held_out_place", "held_out_pair")
"""Categories whose prompts say things, colors, sizes, numbers, relations and grounds alone."""


def paraphrase_prompts(
    suite: Suite, count: int, seed: int, categories: Sequence[str] = PARAPHRASED
) -> dict[str, list[Prompt]]:
    """Prompts by wording, the plain ones first.

    Raises:
        ConfigError: a category cannot be paraphrased.
    """
    for category in categories:
        if category not in POSSIBLE:
            raise ConfigError(
                f"The category {category!r} cannot be paraphrased.",
                f"Choose from: {', '.join(POSSIBLE)}.",
            )
    found: dict[str, list[Prompt]] = {name: [] for name in (PLAIN, *WORDINGS)}
    pair = 0
    for category in categories:
        for prompt in suite.prompts(category, count, seed):
            rng = random.Random(f"paraphrases {seed} {category} {pair}")
            meaning = meaning_of(prompt.truth, suite, rng)
            for wording, text in wordings(meaning, rng).items():
                parts = {"category": category}
                found[wording].append(Prompt(wording, text, prompt.truth, parts, pair))
            pair += 1
    return {name: some for name, some in found.items() if some}


def meaning_of(truth: Truth, suite: Suite, rng: random.Random) -> Meaning:
    """What the truth of a prompt says, and something that it does not."""
    named = {name for one in truth.wanted for name in one.names}
    absent = rng.choice([k for k in suite.main if suite.catalog.label(k) not in named])
    ground = ""
    if truth.ground:
        tones = f"{truth.ground} background"
        ground = f"on {article(tones)} {tones}"
    return Meaning(
        tuple(map(_phrase, truth.wanted)),
        RELATIONS.get(truth.relation, truth.relation),
        ground,
        truth.wanted[0].number > 1,
        suite.catalog.label(absent),
    )


def _phrase(one: ExpectedScene) -> str:
    """As "a red cat" or "three small cats"."""
    name, words = one.names[0], [w for w in (one.size, one.color) if w]
    if one.number == 1:
        return said(name, *words)
    return " ".join((NUMBERS[one.number - 1], *words, plural(name) or name))
