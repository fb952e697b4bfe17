"""The paper's subset of COCO without people: captions that use none of its words."""

import re

NO_PEOPLE = "no people"
WORDS = (
    "man", "men", "woman", "women", "person", "people", "child", "adult", "adults", "boy", "boys",
    "girl", "girls", "guy", "lady", "ladies", "someone", "toddler", "player", "workers",
    "spectators",
)  # fmt: skip
"""The paper's list; its "(sport) player" is any player."""
PATTERN = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)


def names_people(caption: str) -> bool:
    """Whether a caption uses one of the words, as a whole word.

    >>> names_people("A tennis Player."), names_people("a woman's hat"), names_people("a mannequin")
    (True, True, False)
    """
    return PATTERN.search(caption) is not None
