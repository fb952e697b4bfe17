"""Nearest words: which known word a text encoder takes an out-of-vocabulary word for."""

import pytest
import torch

from open_imagen.errors import ConfigError
from open_imagen.training.objectives.nearest_words import (
    TEMPLATES,
    nearest_words,
    split_words,
    templates_for,
)
from open_imagen.types import TextEmbedding

MEANINGS = {
    "red": (1.0, 0.0, 0.0),
    "blue": (0.0, 1.0, 0.0),
    "green": (0.0, 0.0, 1.0),
    "blood": (5.0, 4.0, 4.0),
    "sky": (0.1, 0.3, 0.2),
    "grass": (-0.3, -0.4, -0.1),
    "dot": (9.0, 2.0, 3.0),
    "ring": (-7.0, 2.0, 5.0),
}


def encode(captions):
    """A token a word, as MEANINGS say; words that stand nowhere are nought."""
    rows = [
        torch.tensor([MEANINGS.get(word, (0.0, 0.0, 0.0)) for word, _ in split_words(one)])
        for one in captions
    ]
    return TextEmbedding.of(rows)


CAPTIONS = ["a red dot", "a blue ring", "a green dot", "a red dot and a blue ring"]
WORD_CLASS = ("red", "blue", "green")


def test_words_are_taken_for_what_makes_captions_most_alike():
    # Less the class's mean, (1, 1, 1) / 3: what all have in common says nothing.
    found = nearest_words(encode, WORD_CLASS, CAPTIONS, ["grass", "sky", "blood"])
    assert found == {"red": ["blood"], "blue": ["sky"], "green": ["grass"]}


def test_how_many_are_asked_at_once_changes_nothing(monkeypatch):
    oov_words = ["sky", "grass", "blood", "dot", "ring"]
    whole = nearest_words(encode, WORD_CLASS, CAPTIONS, oov_words)
    monkeypatch.setattr("open_imagen.training.objectives.nearest_words.WORDS_PER_BATCH", 2)
    assert nearest_words(encode, WORD_CLASS, CAPTIONS, oov_words) == whole


def test_templates_are_short_captions_around_one_word_of_the_class():
    assert sorted(templates_for(WORD_CLASS, CAPTIONS)) == [("a ", " dot"), ("a ", " ring")]
    assert templates_for(("dot", "ring"), ["a dot", "two dots", "a ring"]) == [("a ", "")]
    many = [f"a red {'x' * k} dot" for k in range(1, 101)]
    found = templates_for(WORD_CLASS, many)
    assert len(set(found)) == TEMPLATES
    assert max(len(after) for _, after in found) <= 25 + len("  dot")
    assert found == templates_for(WORD_CLASS, many[::-1])  # the order of captions does not matter


def test_a_class_that_no_caption_has_is_refused():
    with pytest.raises(ConfigError, match="no caption has one of cube, ball"):
        nearest_words(encode, ("cube", "ball"), CAPTIONS, ["sky"])
