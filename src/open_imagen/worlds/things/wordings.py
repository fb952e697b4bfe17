"""The tables of how captions say things: relations, styles, grounds, signs, places."""

from typing import NamedTuple


class Wording(NamedTuple):
    """One way of saying where A is, seen from B: a template for each relation."""

    name: str
    left: str
    right: str
    above: str
    below: str
    fronted: bool = False
    """B, or the place, is said before A."""

    def say(self, relation: str, a: str, b: str) -> str:
        """The relation ("left of" ...) of A to B in this wording."""
        return str(getattr(self, relation.removesuffix(" of"))).format(a=a, b=b)


def _sided(name: str, template: str, fronted: bool = False) -> Wording:
    """A wording whose relation is "to the left of", "above" ... in one place."""
    left, right, above, below = (
        template.replace("{r}", words)
        for words in ("to the left of", "to the right of", "above", "below")
    )
    return Wording(name, left, right, above, below, fronted)


WORDINGS = (
    _sided("plain", "{a} {r} {b}"),
    _sided("is", "{a} is {r} {b}"),
    _sided("sits", "{a} sits {r} {b}"),
    Wording("short", "{a} left of {b}", "{a} right of {b}", "{a} over {b}", "{a} under {b}"),
    Wording(
        "on the side of",
        "{a} on the left side of {b}",
        "{a} on the right side of {b}",
        "{a} on top of {b}",
        "{a} underneath {b}",
    ),
    Wording(
        "ends",
        "{a} on the left and {b} on the right",
        "{a} on the right and {b} on the left",
        "{a} at the top and {b} at the bottom",
        "{a} at the bottom and {b} at the top",
    ),
    Wording(
        "ends fronted",
        "on the left {a}, on the right {b}",
        "on the right {a}, on the left {b}",
        "at the top {a}, at the bottom {b}",
        "at the bottom {a}, at the top {b}",
    ),
    Wording(
        "other end first",
        "{b} on the right and {a} on the left",
        "{b} on the left and {a} on the right",
        "{b} at the bottom and {a} at the top",
        "{b} at the top and {a} at the bottom",
        True,
    ),
    Wording(
        "it",
        "{b}; to the left of it is {a}",
        "{b}; to the right of it is {a}",
        "{b}; above it is {a}",
        "{b}; below it is {a}",
        True,
    ),
    Wording(
        "there is",
        "there is {b}; to the left of it is {a}",
        "there is {b}; to the right of it is {a}",
        "there is {b}; above it is {a}",
        "there is {b}; below it is {a}",
        True,
    ),
    _sided("fronted", "{r} {b} is {a}", True),
    _sided("fronted there", "{r} {b} there is {a}", True),
    Wording(
        "with",
        "{b} with {a} to its left",
        "{b} with {a} to its right",
        "{b} with {a} above it",
        "{b} with {a} below it",
        True,
    ),
    Wording(
        "has",
        "{b} has {a} on its left",
        "{b} has {a} on its right",
        "{b} has {a} above it",
        "{b} has {a} beneath it",
        True,
    ),
)

PAIRS = ("{a} and {b}", "{a} and {b}", "{a} with {b}", "{a} next to {b}", "{a} beside {b}")
TRIPLES = ("{a}, {b} and {c}", "{a}, {b}, and {c}", "{a} and {b} and {c}", "{a}, {b}, {c}")
SIGNS = (
    "a sign that says {word}",
    "a sign that says {word}",
    "a sign saying {word}",
    "a sign that reads {word}",
    "a sign with the word {word}",
    "the word {word} on a sign",
    "a sign with {word} on it",
    "a sign with the text {word}",
)
QUOTES = ('"{}"', '"{}"', "“{}”", "'{}'")
STYLE_ADJECTIVES = {
    "drawn": ("drawn",),
    "old": ("old style", "old-style"),
    "flat": ("flat", "flat"),
    "shiny": ("shiny", "glossy"),
    "3d": ("3d", "3D"),
}
STYLE_FRAMES = {
    "drawn": ("a drawing of {x}", "{x}, drawn style", "{x} in the drawn style", "{x}, drawn"),
    "old": ("{x} drawn in the old style", "{x}, old style", "{x} in the old style"),
    "flat": ("{x}, flat style", "{x} in flat style", "a flat drawing of {x}", "{x}, flat design"),
    "shiny": ("{x}, shiny style", "{x} in shiny style", "a shiny picture of {x}", "{x}, glossy"),
    "3d": ("3d render of {x}", "a 3d render of {x}", "{x}, 3d style", "{x} in 3d", "{x}, 3d"),
}
"""Around a whole caption, where all things have one style."""
GROUNDS = (
    "{x} on a {ground} background",
    "{x} on a {ground} background",
    "{x} on {ground}",
    "{x} against {ground}",
    "{x} against a {ground} background",
    "{x}, {ground} background",
    "{x} with a {ground} background",
)
TWO_TONES = (
    "{x} on a background that is half {one} and half {two}",
    "{x}, background half {one} and half {two}",
    "{x} on a half {one}, half {two} background",
    "{x} on a {one} and {two} background",
)
NO_GROUND = (
    "{x} on a transparent background",
    "{x}, transparent background",
    "{x} with no background",
    "{x}, no background",
)
OPENINGS = ("a picture of ", "an image of ", "an emoji of ", "emoji of ", "a sticker of ")
REQUESTS = ("please draw ", "draw ", "show me ", "i want ", "can you draw ", "make ")
CORNERS = (
    ("in the top left corner", "at the top", "in the top right corner"),
    ("on the left", "in the middle", "on the right"),
    ("in the bottom left corner", "at the bottom", "in the bottom right corner"),
)
SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big")}
NUMBERS = ("one", "two", "three", "four", "five")
TONES = {"light", "medium-light", "medium", "medium-dark", "dark"}
