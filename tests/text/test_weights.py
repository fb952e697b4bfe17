"""Weights of words: their syntax, and what they do to tokens."""

import pytest
import torch

from open_imagen.errors import ConfigError
from open_imagen.text.weights import Span, parse_weights, relocated, weigh


@pytest.mark.parametrize(
    ("prompt", "plain", "spans"),
    [
        ("a red circle", "a red circle", []),
        ("(red circle:0.5)", "red circle", [Span(0, 10, 0.5)]),
        (
            "a (red:2) and (blue:.5) star",
            "a red and blue star",
            [Span(2, 5, 2.0), Span(10, 14, 0.5)],
        ),
        ("a sign (on the left) says 12:30", "a sign (on the left) says 12:30", []),
        ("a clock (12:30:1.5)", "a clock 12:30", [Span(8, 13, 1.5)]),
        ("a smile :) and (:1.2)", "a smile :) and (:1.2)", []),
    ],
)
def test_the_syntax(prompt, plain, spans):
    assert parse_weights(prompt) == (plain, spans)


@pytest.mark.parametrize("number", ["-1", "3.5", "1.2.3"])
def test_weights_out_of_range_are_refused(number):
    with pytest.raises(ConfigError, match=r"\(red:.*from 0 to 3"):
        parse_weights(f"a (red:{number}) star")


class Words:
    def places(self, caption, start, end):
        first = len(caption[:start].split())
        return first, first + len(caption[start:end].split())


def test_tokens_move_on_the_line_through_no_text():
    tokens, empty = torch.randn(4, 8), torch.randn(2, 8)
    spans = [Span(2, 10, 1.5)]
    found = weigh(tokens, empty, "a red cat sits", spans, Words())
    origin = empty.mean(0)
    assert torch.equal(found[0], tokens[0])
    assert torch.equal(found[3], tokens[3])
    torch.testing.assert_close(found[1:3], origin + 1.5 * (tokens[1:3] - origin))


def test_padded_encoders_are_compared_token_by_token():
    tokens, empty = torch.randn(4, 8), torch.randn(4, 8)
    found = weigh(tokens, empty, "a red cat sits", [Span(2, 5, 0.0)], Words())
    torch.testing.assert_close(found[1], empty[1])


def test_weight_one_changes_nothing():
    tokens, empty = torch.randn(4, 8), torch.randn(2, 8)
    found = weigh(tokens, empty, "a red cat sits", [Span(0, 14, 1.0)], Words())
    torch.testing.assert_close(found, tokens)


def test_words_are_found_again_in_what_a_prompt_is_read_as():
    spans = parse_weights("ein (Red:1.5) (kreis:2)")[1]
    found, lost = relocated(spans, "ein Red kreis", "a red circle")
    assert found == [Span(2, 5, 1.5)]
    assert lost == ["kreis"]
