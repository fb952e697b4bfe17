"""Weights of words in prompts: off unless asked for, and the same image at weight 1."""

import numpy as np
import pytest

from open_imagen.errors import ConfigError
from standins import WordEncoder, make_cascade


class Places(WordEncoder):
    def places(self, caption, start, end):
        first = len(caption[:start].split())
        return first, first + len(caption[start:end].split())


@pytest.fixture(scope="module")
def tiny():
    return make_cascade(text=Places())


def apart(a, b):
    return int(np.abs(np.asarray(a.images[0]).astype(int) - np.asarray(b.images[0])).max())


def test_weights_are_characters_unless_asked_for(tiny):
    literal = tiny.generate("a (red:1.5) cat", stages=1)
    assert literal.records[0]["prompt"] == "a (red:1.5) cat"
    assert "prompt_weights" not in literal.records[0]
    assert apart(literal, tiny.generate("a red cat", stages=1)) > 1


def test_weight_one_is_the_plain_prompt_and_others_are_not(tiny):
    plain = tiny.generate("a red cat", stages=1)
    same, strong, none = (
        tiny.generate(f"a (red:{weight}) cat", stages=1, prompt_weights=True)
        for weight in (1, 1.5, 0)
    )
    assert apart(same, plain) <= 1
    assert apart(strong, plain) > 1
    assert apart(none, plain) > 1
    assert strong.records[0]["prompt_weights"] is True
    assert strong.records[0]["prompt"] == "a (red:1.5) cat"


def test_negative_prompts_and_edits_have_weights_too(tiny):
    negative = [
        tiny.generate("a cat", negative=text, stages=1, prompt_weights=True)
        for text in ("a dog", "a (dog:1.5)")
    ]
    assert apart(*negative) > 1
    image = negative[0].images[0]
    edits = [
        tiny.edit(image, text, stages=1, prompt_weights=True)
        for text in ("a red cat", "a (red:1.5) cat")
    ]
    assert apart(*edits) > 1
    assert edits[1].records[0]["prompt_weights"] is True


def test_a_weight_out_of_range_is_refused(tiny):
    with pytest.raises(ConfigError, match="from 0 to 3"):
        tiny.generate("a (red:9) cat", prompt_weights=True)


def test_an_encoder_that_cannot_say_which_tokens_a_word_became_is_named():
    with pytest.raises(ConfigError, match="encoder words does not tell which tokens"):
        make_cascade().generate("a (red:1.5) cat", prompt_weights=True)
