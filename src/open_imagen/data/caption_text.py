"""From a value of JSON or of a table to a caption, or the reason why it is none."""

from typing import Any

from open_imagen.data.images import SkippedExample


def caption_of(value: Any) -> str:
    """A caption without the white space around it; of a list of captions, the first.

    >>> caption_of([" a red circle ", "a circle"])
    'a red circle'

    Raises:
        SkippedExample: there is none, it is empty, or it is no text that can be written as UTF-8.
    """
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    if value is None:
        raise SkippedExample("no caption")
    if not isinstance(value, str):
        raise SkippedExample("caption not text", f"{type(value).__name__} {value!r:.60}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can spell
        raise SkippedExample("caption not UTF-8", repr(value[:60])) from error
    if not value.strip():
        raise SkippedExample("empty caption")
    return value.strip()
