"""What scenes may be made of: the atlas's things and sprites less what is held out."""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Protocol

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.worlds.things.grammar import plural, words
from open_imagen.worlds.things.held_out import (
    color_held_out,
    pair_held_out,
    style_held_out,
    tag_held_out,
)
from open_imagen.worlds.things.more_names import MORE_NAMES
from open_imagen.worlds.things.tags import plain

MAIN_GROUPS = ("animals", "food", "travel", "activities", "objects")
COLOR_WORDS = words(
    """
    red orange yellow green blue purple pink brown white gray grey black golden silver gold
    rainbow violet dark light colored
    """
)
GENDERED = words("witch wizard bride father santa sorcerer ballerina hijab valentine")
"""Names of people that tell a gender, which the picture may not have."""
STYLES = ("drawn", "old", "flat", "shiny", "3d")


class ThingLike(Protocol):
    """A thing of the atlas."""

    @property
    def label(self) -> str:
        """The name in captions."""

    @property
    def group(self) -> str:
        """The group: animals, foods, people ..."""

    @property
    def tags(self) -> Sequence[str]:
        """Other names."""


class SpriteLike(Protocol):
    """A sprite of the atlas: width and height are shares of its square."""

    @property
    def thing(self) -> int:
        """Index of its thing."""

    @property
    def style(self) -> str:
        """The style in which it is drawn."""

    @property
    def vector(self) -> bool:
        """Whether it is drawn as a vector graphic."""

    @property
    def gender(self) -> str:
        """The gender that it shows; "" for none."""

    @property
    def tone(self) -> str:
        """The skin tone that it shows; "" for none."""

    @property
    def width(self) -> float:
        """Width as a share of the larger side."""

    @property
    def height(self) -> float:
        """Height as a share of the larger side."""


class Catalog:
    """The things, styles and colors that training scenes are drawn from."""

    def __init__(
        self,
        things: Sequence[ThingLike],
        sprites: Sequence[SpriteLike],
        *,
        labels: Sequence[str] = (),
        styles: Sequence[str] = (),
        colors: Sequence[str],
        others: float = 0.2,
        only: Collection[int] | None = None,
        held_out: bool = False,
    ) -> None:
        """Choose the things, sprites and colors to draw from.

        Args:
            labels, styles: what to draw from; empty for all.
            others: share of smileys, hearts and people.
            only: numbers of the sprites to use; None for all.
            held_out: keep the styles that training never shows, for judges and suites.
        """
        self.things, self.sprites, self.colors = things, sprites, tuple(colors)
        self.others = others
        self._sprites: dict[int, dict[str, list[int]]] = {}
        for number, sprite in enumerate(sprites):
            label = things[sprite.thing].label
            if (
                (not labels or label in labels)
                and (not styles or sprite.style in styles)
                and (only is None or number in only)
                and (held_out or not style_held_out(sprite.style, label))
            ):
                by_style = self._sprites.setdefault(sprite.thing, {})
                by_style.setdefault(sprite.style, []).append(number)
        refuse_held_out([thing.label for thing in things], labels, styles, colors)
        usable = sorted(self._sprites)
        if not usable:
            raise ConfigError("No sprite of the atlas has one of data.things and data.styles.")
        self._main = [k for k in usable if things[k].group in MAIN_GROUPS]
        self._others = [k for k in usable if things[k].group not in MAIN_GROUPS]
        self._counted = {k for k in usable if plural(things[k].label)}
        self.all_tags = all_tags(things)
        """Of each thing, the other names that mean it alone, held out or not."""

    def draw(self, rng: random.Random, counted: bool = False) -> int:
        """A thing; one that can be counted where asked for."""
        for _ in range(1000):
            few = not self._main or (self._others and rng.random() < self.others)
            thing = rng.choice(self._others if few else self._main)
            if not counted or thing in self._counted:
                return thing
        raise ConfigError("None of data.things can be counted: set data.mixture.counting to 0.")

    def label(self, thing: int) -> str:
        """The label of a thing."""
        return self.things[thing].label

    def tags(self, thing: int) -> tuple[str, ...]:
        """The tags that training captions may call a thing by."""
        return tuple(tag for tag in self.all_tags[thing] if not tag_held_out(tag))

    def styles(self, thing: int) -> list[str]:
        """The styles in which a thing is drawn."""
        return sorted(self._sprites[thing])

    def recolorable(self, thing: int) -> bool:
        """Whether a color can be put on a thing: not where its label names one, nor on people."""
        named = words(self.label(thing).replace("-", " ")) & COLOR_WORDS
        return self.things[thing].group in MAIN_GROUPS and not named

    def is_person(self, thing: int) -> bool:
        """Whether a thing is a person."""
        return self.things[thing].group == "people"

    def person(self, thing: int, style: str, rng: random.Random) -> tuple[str, str]:
        """The gender and skin tone of one of a person's sprites, "" where it has none."""
        sprite = self.sprites[rng.choice(self._of(thing, style))]
        return sprite.gender, sprite.tone

    def sprite(
        self, rng: random.Random, thing: int, style: str = "", gender: str = "", tone: str = ""
    ) -> int:
        """A sprite as an item means it; styles come alike often."""
        style = style or rng.choice(self.styles(thing))
        numbers = self._of(thing, style)
        fitting = [
            number
            for number in numbers
            if (not gender or self.sprites[number].gender == gender)
            and (not tone or self.sprites[number].tone == tone)
        ]
        if not fitting:  # this style has no such sprite: another one has
            fitting = [
                number
                for number in self._of(thing, "")
                if (not gender or self.sprites[number].gender == gender)
                and (not tone or self.sprites[number].tone == tone)
            ]
        return rng.choice(fitting)

    def _of(self, thing: int, style: str) -> list[int]:
        by_style = self._sprites[thing]
        return by_style[style] if style else [n for each in by_style.values() for n in each]


def all_tags(things: Sequence[ThingLike]) -> list[tuple[str, ...]]:
    """Of each thing, the other names that mean it alone, held out or not."""
    labels = {thing.label for thing in things}
    counts = Counter(tag for thing in things for tag in thing.tags)
    return [
        tuple(
            tag
            for tag in dict.fromkeys((*thing.tags, *MORE_NAMES.get(thing.label, ())))
            if tag not in labels
            and counts[plain(tag)] == (tag in thing.tags)
            and not (thing.group == "people" and (GENDERED & words(tag) or tag.endswith("man")))
        )
        for thing in things
    ]


def refuse_held_out(
    known: Sequence[str], labels: Sequence[str], styles: Sequence[str], colors: Sequence[str]
) -> None:
    """Refuse a choice of things that asks for a held-out pair by name.

    Raises:
        UnknownName: a label that is not in the atlas.
        ConfigError: nothing is left of a named thing, or two named things are a held-out pair.
    """
    for label in labels:
        if label not in known:
            raise UnknownName("thing in the atlas", label, known)
        if styles and all(style_held_out(style, label) for style in styles):
            raise ConfigError(
                f"data.things names {label!r}, which is held out in data.styles = {list(styles)}.",
                "It is kept for evaluation: name another style, or leave the thing out.",
            )
        if labels and colors and all(color_held_out(color, label) for color in colors):
            raise ConfigError(
                f"data.things names {label!r}, which is held out in data.colors = {list(colors)}.",
                "It is kept for evaluation: name another color, or leave the thing out.",
            )
    if len(labels) == 2 and pair_held_out(*labels):
        raise ConfigError(
            f"data.things = {list(labels)} are a pair that is held out.",
            "It is kept for evaluation: add other things, or take another pair.",
        )
