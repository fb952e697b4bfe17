"""Headers of a reply that say what became of its prompt."""

import asyncio
from urllib.parse import quote

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.prompts import plain_prompt
from open_imagen.cascade.requests import ImageRequest
from open_imagen.errors import OpenImagenError

SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
MAX_HEADER = 300
"""Characters of a header that repeats a prompt, before they are encoded."""


async def prompt_headers(cascade: Cascade, request: ImageRequest) -> dict[str, str]:
    """What a prompt was read as, what the model does not know of it, and what was cut off."""
    return await asyncio.to_thread(_prompt_headers, cascade, request)


def _prompt_headers(cascade: Cascade, request: ImageRequest) -> dict[str, str]:
    prompt = plain_prompt(request.prompt, request.prompt_weights)
    read_as = cascade.read(prompt).prompt
    try:
        hint = cascade.hint(prompt)
    except OpenImagenError:  # the job itself will say what is wrong
        hint = None
    texts = {
        "x-imagen-read-as": read_as if read_as != prompt else "",
        "x-imagen-hint": hint or "",
        "x-imagen-prompt-cut": _cut(cascade, request),
    }
    return {name: header_text(text) for name, text in texts.items() if text}


def _cut(cascade: Cascade, request: ImageRequest) -> str:
    """Which prompts are longer than the encoder reads; empty if none is.

    An encoder that is loaded only while it is needed is not loaded for counting tokens alone.
    """
    if cascade.generator.offload:
        return ""
    limit, cut = cascade.text.max_length, []
    for field, given in (("prompt", request.prompt), ("negative_prompt", request.negative)):
        text = plain_prompt(given, request.prompt_weights)
        if text and (tokens := cascade.text.num_tokens(cascade.read(text).prompt)) > limit:
            cut.append(f"{field}: only the first {limit} of {tokens} tokens were read")
    return "; ".join(cut)


def header_text(text: str) -> str:
    """A text as a header's value: UTF-8, percent-encoded where it is not printable ASCII.

    >>> header_text("100% cat: 猫")
    '100%25 cat: %E7%8C%AB'
    """
    return quote(text[:MAX_HEADER].strip(), safe=SAFE)
