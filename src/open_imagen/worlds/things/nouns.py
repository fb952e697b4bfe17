"""Which tags of the emoji data are nouns that people would call a thing by."""


def is_noun(tag: str) -> bool:
    """Whether a caption may say "a" and this tag."""
    return len(tag) > 2 and tag.replace(" ", "").replace("-", "").isalpha()
