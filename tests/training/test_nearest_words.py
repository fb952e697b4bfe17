"""Kin: what a language model takes strange words for, of tokens that say it plainly."""

import pytest
import torch

from open_imagen.errors import ConfigError
from open_imagen.training.objectives.nearest_words import FRAMES, frames_for, kin, words_of
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
        torch.tensor([MEANINGS.get(word, (0.0, 0.0, 0.0)) for word, _ in words_of(one)])
        for one in captions
    ]
    return TextEmbedding.of(rows)


CAPTIONS = ["a red dot", "a blue ring", "a green dot", "a red dot and a blue ring"]
KIND = ("red", "blue", "green")


def test_words_are_taken_for_what_makes_captions_most_alike():
    # Less the kind's own middle, (1, 1, 1) / 3: what all have in common says nothing.
    found = kin(encode, KIND, CAPTIONS, ["grass", "sky", "blood"])
    assert found == {"red": ["blood"], "blue": ["sky"], "green": ["grass"]}


def test_how_many_are_asked_at_once_changes_nothing(monkeypatch):
    strange = ["sky", "grass", "blood", "dot", "ring"]
    whole = kin(encode, KIND, CAPTIONS, strange)
    monkeypatch.setattr("open_imagen.training.objectives.nearest_words.PART", 2)
    assert kin(encode, KIND, CAPTIONS, strange) == whole


def test_frames_are_short_captions_around_one_word_of_the_kind():
    assert sorted(frames_for(KIND, CAPTIONS)) == [("a ", " dot"), ("a ", " ring")]
    assert frames_for(("dot", "ring"), ["a dot", "two dots", "a ring"]) == [("a ", "")]
    many = [f"a red {'x' * k} dot" for k in range(1, 101)]
    found = frames_for(KIND, many)
    assert len(set(found)) == FRAMES
    assert max(len(after) for _, after in found) <= 25 + len("  dot")
    assert found == frames_for(KIND, many[::-1])  # the order of captions does not matter


def test_a_kind_that_no_caption_has_is_refused():
    with pytest.raises(ConfigError, match="no caption has one of cube, ball"):
        kin(encode, ("cube", "ball"), CAPTIONS, ["sky"])
