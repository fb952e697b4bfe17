"""Alternatives in prompts: "a {red|blue} cat" is two. The studio page has the same rules."""

from itertools import pairwise

from open_imagen.errors import ConfigError

MAX_PROMPTS = 10_000
MAX_DEPTH = 50


def alternatives(text: str) -> list[str]:
    r"""All prompts of a text, in order; braces may be nested. "\{" is a brace itself.

    Braces without "|" between them, or without an end, are ordinary characters.

    >>> alternatives("a {red|dark {blue|green}} cat")
    ['a red cat', 'a dark blue cat', 'a dark green cat']
    >>> alternatives("{n} cats {")
    ['{n} cats {']
    >>> alternatives(r"\{a|b\}")
    ['{a|b}']

    Raises:
        ConfigError: there are more than 10,000.
    """
    prompts = _variants(text, _choices(text), 0, len(text), 0)
    if len(prompts) > 1:  # "a {big|} cat" has an empty one, which leaves no double space
        prompts = [" ".join(part for part in prompt.split(" ") if part) for prompt in prompts]
    return list(dict.fromkeys(prompts))


def _choices(text: str) -> dict[int, list[int]]:
    """Of each brace that opens alternatives: the places of its "|" and of its end."""
    found: dict[int, list[int]] = {}
    opened: list[tuple[int, list[int]]] = []
    at = 0
    while at < len(text):
        if text[at] == "{":
            opened.append((at, []))
        elif text[at] == "|" and opened:
            opened[-1][1].append(at)
        elif text[at] == "}" and opened:
            start, bars = opened.pop()
            if bars:
                found[start] = [*bars, at]
        at += 2 if _is_escaped(text, at) else 1
    return found


def _is_escaped(text: str, at: int) -> bool:
    """Whether a backslash takes the meaning of the sign after it away."""
    return text[at] == "\\" and text[at + 1 : at + 2] in ("{", "|", "}", "\\")


def _variants(text: str, choices: dict[int, list[int]], at: int, end: int, depth: int) -> list[str]:
    """The variants of a part of a text."""
    if depth > MAX_DEPTH:
        raise ConfigError(f"The alternatives of {text[:60]!r} are nested too deeply.")
    variants = [""]
    while at < end:
        if at in choices:
            places = [at, *choices[at]]
            found = [
                one
                for start, stop in pairwise(places)
                for one in _variants(text, choices, start + 1, stop, depth + 1)
            ]
            if len(variants) * len(found) > MAX_PROMPTS:
                raise ConfigError(
                    f"The alternatives of {text[:60]!r} make more than {MAX_PROMPTS:,} prompts.",
                    "Give fewer at once.",
                )
            variants = [one + more for one in variants for more in found]
            at = places[-1] + 1
            continue
        at += _is_escaped(text, at)
        start, at = at, at + 1
        while at < end and at not in choices and text[at] != "\\":
            at += 1
        variants = [one + text[start:at] for one in variants]
    return variants
