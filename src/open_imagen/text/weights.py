"""Weights of words in a prompt: "a (red:1.4) circle". Off by default.

A weighted token moves away from the embedding of the empty text (above 1) or towards it (below 1):
e + w (t - e). Networks normalise tokens, so that scaling alone would do nothing.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from open_imagen.errors import ConfigError

WEIGHTED = re.compile(r"\(([^()]*[^()\s][^()]*):\s*([+-]?[\d.]+)\s*\)")
MAX_WEIGHT = 3.0
"""Beyond it tokens are far from any that a network has seen."""


class Span(NamedTuple):
    """A part of a prompt with a weight."""

    start: int
    end: int
    weight: float


@runtime_checkable
class TokenFinder(Protocol):
    """An encoder that knows which tokens a part of a caption became."""

    def places(self, caption: str, start: int, end: int) -> tuple[int, int]:
        """The first token of characters start..end of a caption, and the one after the last."""


def parse_weights(prompt: str) -> tuple[str, list[Span]]:
    """The prompt without its weights, and which characters of it they are for.

    Parentheses without a number stay as they are.

    >>> parse_weights("a (red:1.4) circle (on white)")
    ('a red circle (on white)', [Span(start=2, end=5, weight=1.4)])

    Raises:
        ConfigError: a weight that is no number from 0 to 3.
    """
    plain, spans, last = "", [], 0
    for found in WEIGHTED.finditer(prompt):
        text, number = found[1], found[2]
        plain += prompt[last : found.start()]
        spans.append(Span(len(plain), len(plain) + len(text), _weight(text, number)))
        plain, last = plain + text, found.end()
    return plain + prompt[last:], spans


def _weight(text: str, number: str) -> float:
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= MAX_WEIGHT:
        raise ConfigError(
            f"({text}:{number}): the weight of a word must be a number from 0 to {MAX_WEIGHT:g}.",
            "1 changes nothing; 1.2 to 1.5 is usual.",
        )
    return weight


def relocated(spans: Sequence[Span], prompt: str, read: str) -> tuple[list[Span], list[str]]:
    """The spans in the text as which a prompt is read, and the weighted words missing from it.

    Letter case is ignored.
    """
    if read == prompt:
        return list(spans), []
    found, lost = [], []
    for start, end, weight in spans:
        words = prompt[start:end].strip()
        place = read.lower().find(words.lower())
        if place < 0:
            lost.append(words)
        else:
            found.append(Span(place, place + len(words), weight))
    return found, lost


def weigh(
    tokens: Tensor, empty: Tensor, caption: str, spans: Sequence[Span], encoder: TokenFinder
) -> Tensor:
    """A caption's tokens [L, C] with weights on some.

    Args:
        empty: the tokens of the empty caption, [K, C]: where there are as many as the caption has
            (encoders that pad) each is compared with its own, otherwise with their mean.
    """
    tokens = tokens.clone()
    origin = empty if len(empty) == len(tokens) else empty.mean(0, keepdim=True).expand_as(tokens)
    for start, end, weight in spans:
        first, after = encoder.places(caption, start, end)
        part = slice(first, min(after, len(tokens)))  # what is cut has no token
        tokens[part] = origin[part] + weight * (tokens[part] - origin[part])
    return tokens
