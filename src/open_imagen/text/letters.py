"""The letters of quoted text as indices, because subword tokens hide spelling.

Words to be written stand in quotation marks in a caption: a sign that says "STOP".
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from open_imagen.types import NUM_LETTERS, TextEmbedding

BEFORE_FIRST = 31
"""The code before that of the first letter, the space."""

# An apostrophe within a word is no quotation mark: the dog's "STOP" sign.
_QUOTED = re.compile(
    r'"([^"]+)"|\u201c([^\u201d]+)\u201d|\u201e([^\u201c\u201d]+)[\u201c\u201d]'
    r"|\u00ab\s*([^\u00bb]+?)\s*\u00bb|\u300c([^\u300d]+)\u300d|\u300e([^\u300f]+)\u300f"
    r"|(?<!\w)'([^']+)'(?!\w)|(?<!\w)\u2018([^\u2019]+)\u2019(?!\w)"
)


def quoted(caption: str) -> str:
    """The quoted parts of a caption, joined by spaces; empty if there are none.

    >>> quoted('a cat beside a sign that says "STOP"')
    'STOP'
    >>> quoted("the dog's bone")
    ''
    """
    return " ".join(next(filter(None, found.groups())) for found in _QUOTED.finditer(caption))


def letter_indices(captions: Sequence[str], length: int) -> Tensor:
    """Indices of the quoted letters of captions, [B, length] int64; 0 where there is none.

    Characters outside printable ASCII count as no letter, but keep their position; what is longer
    than ``length`` is cut.
    """
    indices = torch.zeros(len(captions), length, dtype=torch.int64)
    for row, caption in enumerate(captions):
        found = [ord(character) - BEFORE_FIRST for character in quoted(caption)[:length]]
        found = [index if 0 < index < NUM_LETTERS else 0 for index in found]
        indices[row, : len(found)] = torch.tensor(found, dtype=torch.int64)
    return indices


def with_letters(text: TextEmbedding, captions: Sequence[str], length: int) -> TextEmbedding:
    """The embedding of these captions with the letters that a network of ``length`` reads.

    Unchanged where the network reads none.
    """
    if not length:
        return text
    return text._replace(letters=letter_indices(captions, length).to(text.tokens.device))
