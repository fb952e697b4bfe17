"""Prompts of the things world by category, what each asks for, and when a picture is right."""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from open_imagen.worlds.shapes.words import SHOWN, UNSEEN
from open_imagen.worlds.things import wordings
from open_imagen.worlds.things.catalog import MAIN_GROUPS, Catalog
from open_imagen.worlds.things.grammar import (
    NAMES,
    WITH_THE,
    article,
    plural,
    takes_article,
)
from open_imagen.worlds.things.held_out import (
    color_held_out,
    pair_held_out,
    style_held_out,
    tag_held_out,
)
from open_imagen.worlds.things.scenes import COLORS, RELATIONS, SIZES

CATEGORIES = {
    "label": "a thing by its label",
    "tag": "a thing by another name that training says",
    "held_out_tag": "a thing by a name that training never says",
    "color": "a thing in a color that training shows it in",
    "held_out_color": "a thing in a color that training never shows it in",
    "style": "a thing in a style that training shows it in",
    "held_out_style": "a thing in a style that training never shows it in",
    "counting": "two to five of a thing",
    "place": "two things in a relation, in all wordings",
    "held_out_place": "the same of two things that training never shows together",
    "two_things": "two different things",
    "held_out_pair": "two things that training never shows together",
    "size": "a small or a large thing",
    "ground": "a thing on a ground of one or two colors",
    "shown_words": "a sign with a word that training shows",
    "unseen_words": "a sign with a word that training never shows",
    "transparency": "a thing on a clear transparent ground with sharp edges",
}
OTHERS = 0.2
"""Share of smileys, hearts and people among the prompts of one thing, as in training."""


class ExpectedScene(NamedTuple):
    """One kind of object that a prompt asks for."""

    names: tuple[str, ...]
    """The judge's names of what will do: a label, "shape star", "sign"; mostly one."""
    number: int = 1
    color: str = ""
    style: str = ""
    size: str = ""


@dataclass(frozen=True)
class Truth:
    """What a prompt asks for; what it leaves open is empty."""

    wanted: tuple[ExpectedScene, ...]
    relation: str = ""
    """Of the first object to the second."""
    ground: str | None = None
    """As in Scene.ground; None: any."""
    word: str = ""
    """On the sign."""
    clear: bool = False
    """The transparent ground itself is judged, and nothing else."""


@dataclass(frozen=True)
class Prompt:
    """A prompt with its truth."""

    category: str
    text: str
    truth: Truth
    parts: dict[str, str] = field(default_factory=dict)
    """What figures are also given by: the wording, the number, the group."""
    pair: int | None = None
    """Prompts of one number are of one scene in several wordings, and start from one noise."""

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return {"category": self.category, "prompt": self.text, "truth": asdict(self.truth)}


class Suite:
    """Draws the prompts of each category; prompt k depends on (category, seed, atlas) alone."""

    def __init__(
        self, catalog: Catalog, near: Callable[[int], frozenset[str]] | None = None
    ) -> None:
        """Collect the things to ask for.

        Args:
            catalog: with what is held out.
            near: the colors that a sprite would vanish on.
        """
        self.catalog, self.near = catalog, near
        shown = {
            sprite.thing
            for sprite in catalog.sprites
            if not style_held_out(sprite.style, catalog.label(sprite.thing))
        }
        usable = sorted(shown)
        self.main = [k for k in usable if catalog.things[k].group in MAIN_GROUPS]
        self.others = [k for k in usable if catalog.things[k].group not in MAIN_GROUPS]
        self.colorable = [k for k in self.main if catalog.recolorable(k)]
        self.counted = [k for k in self.main if plural(catalog.label(k))]

    def prompts(self, category: str, count: int, seed: int = 1) -> list[Prompt]:
        """The first prompts of a category; fewer if there are not as many different ones."""
        rng = random.Random(f"things suite {category} {seed}")
        make = getattr(self, f"_{category}")
        found: list[Prompt] = make(rng, count)
        return found[:count]

    # One thing

    def _label(self, rng: random.Random, count: int) -> list[Prompt]:
        return [
            self._prompt("label", self._single(thing), Truth((self._wanted(thing),)), thing)
            for thing in self._things(rng, count)
        ]

    def _tag(self, rng: random.Random, count: int) -> list[Prompt]:
        return self._tagged("tag", rng, count, held_out=False)

    def _held_out_tag(self, rng: random.Random, count: int) -> list[Prompt]:
        return self._tagged("held_out_tag", rng, count, held_out=True)

    def _tagged(
        self, category: str, rng: random.Random, count: int, held_out: bool
    ) -> list[Prompt]:
        pairs = [
            (thing, tag)
            for thing in self.main + self.others
            for tag in self.catalog.all_tags[thing]
            if tag_held_out(tag) == held_out
        ]
        rng.shuffle(pairs)
        return [
            self._prompt(category, said(tag), Truth((self._wanted(thing),)), thing)
            for thing, tag in pairs[:count]
        ]

    def _color(self, rng: random.Random, count: int) -> list[Prompt]:
        return self._colored("color", rng, count, held_out=False)

    def _held_out_color(self, rng: random.Random, count: int) -> list[Prompt]:
        return self._colored("held_out_color", rng, count, held_out=True)

    def _colored(
        self, category: str, rng: random.Random, count: int, held_out: bool
    ) -> list[Prompt]:
        pairs = [
            (thing, color)
            for thing in self.colorable
            for color in COLORS
            if color_held_out(color, self.catalog.label(thing)) == held_out
        ]
        rng.shuffle(pairs)
        return [
            self._prompt(
                category,
                said(self.catalog.label(thing), color),
                Truth((self._wanted(thing)._replace(color=color),)),
                thing,
            )
            for thing, color in pairs[:count]
        ]

    def _style(self, rng: random.Random, count: int) -> list[Prompt]:
        return self._styled("style", rng, count, held_out=False)

    def _held_out_style(self, rng: random.Random, count: int) -> list[Prompt]:
        return self._styled("held_out_style", rng, count, held_out=True)

    def _styled(
        self, category: str, rng: random.Random, count: int, held_out: bool
    ) -> list[Prompt]:
        pairs = [
            (thing, style)
            for thing in self.main
            for style in self.catalog.styles(thing)
            if style_held_out(style, self.catalog.label(thing)) == held_out
        ]
        rng.shuffle(pairs)
        prompts = []
        for thing, style in pairs[:count]:
            frame = rng.choice(wordings.STYLE_FRAMES[style])
            truth = Truth((self._wanted(thing)._replace(style=style),))
            text = frame.format(x=self._single(thing))
            prompts.append(self._prompt(category, text, truth, thing, style=style))
        return prompts

    def _size(self, rng: random.Random, count: int) -> list[Prompt]:
        prompts = []
        for k, thing in enumerate(self._things(rng, count)):
            size = SIZES[k % 2]
            truth = Truth((self._wanted(thing)._replace(size=size),))
            text = said(self.catalog.label(thing), size)
            prompts.append(self._prompt("size", text, truth, thing, size=size))
        return prompts

    def _ground(self, rng: random.Random, count: int) -> list[Prompt]:
        prompts = []
        for thing in self._things(rng, count):
            near: frozenset[str] = frozenset()
            if self.near is not None:
                sprites = [n for n, s in enumerate(self.catalog.sprites) if s.thing == thing]
                near = frozenset().union(*map(self.near, sprites))
            free = [color for color in COLORS if color not in near] or list(COLORS)
            two = rng.random() < 0.2 and len(free) > 1
            ground = " and ".join(rng.sample(free, 2)) if two else rng.choice(free)
            text = self._single(thing)
            if two:
                one, other = ground.split(" and ")
                text = rng.choice(wordings.TWO_TONES).format(x=text, one=one, two=other)
            else:
                text = rng.choice(wordings.GROUNDS).format(x=text, ground=ground)
                text = text.replace(" a orange", " an orange")
            truth = Truth((self._wanted(thing),), ground=ground)
            prompts.append(
                self._prompt("ground", text, truth, thing, tones="two" if two else "one")
            )
        return prompts

    def _transparency(self, rng: random.Random, count: int) -> list[Prompt]:
        prompts = []
        for k, thing in enumerate(self._things(rng, count)):
            text = self._single(thing)
            if k % 2:
                text = rng.choice(wordings.NO_GROUND).format(x=text)
            truth = Truth((self._wanted(thing),), ground="", clear=True)
            prompts.append(
                self._prompt("transparency", text, truth, thing, said="yes" if k % 2 else "no")
            )
        return prompts

    # Several

    def _counting(self, rng: random.Random, count: int) -> list[Prompt]:
        prompts = []
        for k, thing in enumerate(_endless(self.counted, rng, count)):
            number = 2 + k % 4
            text = f"{wordings.NUMBERS[number - 1]} {plural(self.catalog.label(thing))}"
            truth = Truth((self._wanted(thing)._replace(number=number),))
            prompts.append(self._prompt("counting", text, truth, thing, number=str(number)))
        return prompts

    def _two_things(self, rng: random.Random, count: int) -> list[Prompt]:
        return [self._pair("two_things", rng, *self._two(rng)) for _ in range(count)]

    def _held_out_pair(self, rng: random.Random, count: int) -> list[Prompt]:
        return [self._pair("held_out_pair", rng, *self._two(rng, True)) for _ in range(count)]

    def _pair(self, category: str, rng: random.Random, a: int, b: int) -> Prompt:
        text = rng.choice(wordings.PAIRS).format(a=self._single(a), b=self._single(b))
        return self._prompt(category, text, Truth((self._wanted(a), self._wanted(b))), a)

    def _place(self, rng: random.Random, count: int) -> list[Prompt]:
        return [self._related("place", rng, k, *self._two(rng)) for k in range(count)]

    def _held_out_place(self, rng: random.Random, count: int) -> list[Prompt]:
        return [
            self._related("held_out_place", rng, k, *self._two(rng, True)) for k in range(count)
        ]

    def _related(self, category: str, rng: random.Random, k: int, a: int, b: int) -> Prompt:
        wording = wordings.WORDINGS[k % len(wordings.WORDINGS)]
        relation = RELATIONS[k // len(wordings.WORDINGS) % len(RELATIONS)]
        text = wording.say(relation, self._single(a), self._single(b))
        truth = Truth((self._wanted(a), self._wanted(b)), relation)
        return self._prompt(category, text, truth, a, wording=wording.name, relation=relation)

    def _two(self, rng: random.Random, held_out: bool = False) -> tuple[int, int]:
        while True:
            a, b = rng.sample(self.main, 2)
            if pair_held_out(self.catalog.label(a), self.catalog.label(b)) == held_out:
                return a, b

    # Signs

    def _shown_words(self, rng: random.Random, count: int) -> list[Prompt]:
        return self._signs("shown_words", SHOWN, rng, count)

    def _unseen_words(self, rng: random.Random, count: int) -> list[Prompt]:
        return self._signs("unseen_words", UNSEEN, rng, count)

    def _signs(
        self, category: str, words: Sequence[str], rng: random.Random, count: int
    ) -> list[Prompt]:
        prompts = []
        for word in _endless(list(words), rng, count):
            text = rng.choice(wordings.SIGNS).format(word=f'"{word}"')
            parts = {"letters": str(len(word))}
            prompts.append(
                Prompt(category, text, Truth((ExpectedScene(("sign",)),), word=word), parts)
            )
        return prompts

    # Parts

    def _things(self, rng: random.Random, count: int) -> list[int]:
        """Things in training's shares; none comes again before all have come."""
        few = round(OTHERS * count) if self.others else 0
        chosen = _endless(self.main, rng, count - few) + _endless(self.others, rng, few)
        rng.shuffle(chosen)
        return chosen

    def _single(self, thing: int) -> str:
        return said(self.catalog.label(thing))

    def _wanted(self, thing: int) -> ExpectedScene:
        return ExpectedScene((self.catalog.label(thing),))

    def _prompt(self, category: str, text: str, truth: Truth, thing: int, **parts: str) -> Prompt:
        group = self.catalog.things[thing].group
        return Prompt(category, text, truth, {"group": group, **parts})


def said(name: str, *adjectives: str) -> str:
    """A thing with its article: "a red cat", "the statue of liberty", "scissors"."""
    phrase = " ".join((*adjectives, name))
    if name in WITH_THE:
        return f"the {phrase}"
    if name in NAMES or not takes_article(name):
        return phrase
    return f"{article(phrase)} {phrase}"


def _endless(choices: list[Any], rng: random.Random, count: int) -> list[Any]:
    """So many of them in random order, each again only when all have come."""
    found: list[Any] = []
    while choices and len(found) < count:
        found += rng.sample(choices, len(choices))
    return found[:count]
