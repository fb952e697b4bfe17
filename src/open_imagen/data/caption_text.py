"""From bytes, a value of JSON or a cell of a table to captions, or why there are none."""

import codecs
import unicodedata
from collections.abc import Sequence
from typing import Any

from open_imagen.data.images import SkippedExample

MAX_BYTES = 1 << 20
"""A caption file beyond this is something else under a wrong name."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # begins with UTF-16's mark
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
INVISIBLE = "\ufeff\u200b\u2060"
"""Characters without width that are no white space for `str.strip`."""


def decode_text(data: bytes) -> str:
    """Decode text in UTF-8, or in the UTF-16 or UTF-32 that its byte-order mark names.

    >>> decode_text("café".encode("utf-16"))
    'café'

    Raises:
        UnicodeDecodeError: it is not text in the encoding that it says it has.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding)
    return data.decode("utf-8")


def caption_of(value: Any) -> str:
    """A caption without the white space around it; of a list of captions, the first.

    >>> caption_of([" a red circle ", "a circle"])
    'a red circle'

    Raises:
        SkippedExample: there is none, it is empty, or it is no text that can be written as UTF-8.
    """
    return next(filter(None, captions_of(value)))


def captions_of(value: Any) -> tuple[str, ...]:
    """The captions in a value that is one caption or a list of them; "" for an unusable one.

    >>> captions_of(["a dog", None, "a small dog"])
    ('a dog', '', 'a small dog')

    Raises:
        SkippedExample: there is no usable one; the reason is that of the first.
    """
    if not isinstance(value, list | tuple):
        return (_clean(value),)
    captions: list[str] = []
    error: SkippedExample | None = None
    for one in value:
        try:
            captions.append(_clean(one))
        except SkippedExample as reason:
            captions.append("")
            error = error or reason
    if not any(captions):
        raise error or SkippedExample("no caption")
    return tuple(captions)


def joined_captions(values: Sequence[Any]) -> tuple[str, ...]:
    """The captions in the values of several columns, one column after the other.

    Raises:
        SkippedExample: no column has one.
    """
    captions: list[str] = []
    errors = []
    for value in values:
        try:
            captions += captions_of(value)
        except SkippedExample as error:
            captions.append("")
            errors.append(error)
    if not any(captions):
        # "caption not text" says more than "no caption" of another column.
        raise next(
            (e for e in errors if e.reason not in ("no caption", "empty caption")), errors[0]
        )
    return tuple(captions)


def _clean(value: Any) -> str:
    """A caption in Unicode's composed form (NFC), which tokenizers expect."""
    if value is None:
        raise SkippedExample("no caption")
    if not isinstance(value, str):
        raise SkippedExample("caption not text", f"{type(value).__name__} {value!r:.60}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
        raise SkippedExample("caption not UTF-8", repr(value[:60])) from error
    if "\0" in value:  # binary data, or UTF-16 without a byte-order mark
        raise SkippedExample("caption not text", f"NUL in {value!r:.60}")
    stripped = value.strip().strip(INVISIBLE).strip()
    if not stripped:
        raise SkippedExample("empty caption")
    return unicodedata.normalize("NFC", stripped)
