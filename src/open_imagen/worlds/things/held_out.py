"""What training never shows, chosen by SHA-256 of the words, so that suites can list it."""

import hashlib

from open_imagen.worlds.shapes.scenes import COLOR_SYNONYMS, SHAPE_SYNONYMS, UNSEEN_PAIRS
from open_imagen.worlds.shapes.words import UNSEEN

ONE_COLOR_IN, ONE_STYLE_IN, ONE_PAIR_IN, ONE_TAG_IN = 20, 20, 50, 5
SYNONYMS = frozenset({*COLOR_SYNONYMS, *SHAPE_SYNONYMS})
"""Words of the shapes world's suite; they stand in training captions only inside a label."""


def color_held_out(color: str, label: str) -> bool:
    """Whether no training picture shows this thing recoloured towards this color."""
    shape = any((color, word) in UNSEEN_PAIRS for word in label.split())
    return shape or _chosen("color", (color, label), ONE_COLOR_IN)


def style_held_out(style: str, label: str) -> bool:
    """Whether no training picture shows this thing in this style."""
    return _chosen("style", (style, label), ONE_STYLE_IN)


def pair_held_out(one: str, other: str) -> bool:
    """Whether no training picture shows these two things together, in any order."""
    return one != other and _chosen("pair", tuple(sorted((one, other))), ONE_PAIR_IN)


def tag_held_out(tag: str) -> bool:
    """Whether no training caption calls a thing by this tag."""
    return bool(SYNONYMS & set(tag.split())) or _chosen("tag", (tag,), ONE_TAG_IN)


def word_held_out(word: str) -> bool:
    """Whether no training picture shows this word on a sign."""
    return word.upper() in UNSEEN


def _chosen(sort: str, words: tuple[str, ...], one_in: int) -> bool:
    digest = hashlib.sha256("|".join(("things", sort, *words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % one_in == 0
