"""multipart/form-data (RFC 7578), as clients, browsers and curl send it, as a JSON body's values.

A body has been read whole when it comes here, within the limits of the guard; nothing is written to
disk. Fields may be nested: ``settings[base][steps]``, ``image[]``.
"""

import json
import re
from collections.abc import Iterator
from email.message import Message
from typing import Any, NamedTuple

MAX_PARTS = 200
MAX_PART_HEADER = 4096
"""Bytes of the headers of one part."""
MAX_DEPTH = 4
"""Brackets after a field's name."""
FIELD = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
PARAMETER = re.compile(r';\s*(name|filename)\*?=(?:"((?:[^"\\]|\\.)*)"|([^;"\s]+))', re.IGNORECASE)
ESCAPES = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))
"""What browsers escape in names."""


class FormError(ValueError):
    """A body is not multipart/form-data as it should be."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Part(NamedTuple):
    """One field of a form."""

    name: str
    content: bytes
    is_file: bool


def is_form(content_type: str) -> bool:
    """Whether a body is a form with files."""
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def form_parts(body: bytes, content_type: str) -> Iterator[Part]:
    """The parts of a form, in their order.

    Raises:
        FormError: it is damaged, or has too many parts.
    """
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if not boundary or len(boundary) > 200:
        raise FormError("multipart/form-data needs a boundary in the Content-Type.")
    delimiter = b"--" + boundary.encode("latin-1", "replace")
    place = body.find(delimiter)
    if place < 0 or (place and body[place - 2 : place] != b"\r\n"):
        raise FormError("The form does not begin with the boundary that its Content-Type names.")
    place += len(delimiter)
    for number in range(MAX_PARTS + 1):
        if body.startswith(b"--", place):
            return
        if number == MAX_PARTS:
            break
        line_end = body.find(b"\r\n", place, place + 80)
        if line_end < 0 or body[place:line_end].strip(b" \t"):
            raise FormError("The form is damaged: a boundary is not followed by a part.")
        headers_end = body.find(b"\r\n\r\n", line_end, line_end + MAX_PART_HEADER)
        if headers_end < 0:
            raise FormError("The form is damaged: a part has no end of its headers.")
        begin = headers_end + 4
        end = _part_end(body, delimiter, begin)
        yield _part(body[line_end + 2 : headers_end], body[begin:end])
        place = end + 2 + len(delimiter)
    raise FormError(f"The form has more than {MAX_PARTS} parts.")


def _part_end(body: bytes, delimiter: bytes, begin: int) -> int:
    """Where a part ends: before the line break of the next boundary."""
    end = body.find(b"\r\n" + delimiter, begin)
    while end >= 0:
        after = end + 2 + len(delimiter)
        if body[after : after + 1] in (b"-", b"\r", b" ", b"\t"):
            return end
        end = body.find(b"\r\n" + delimiter, end + 2)  # a longer boundary, of the content itself
    raise FormError("The form is cut off: its last boundary is missing.")


def _part(headers: bytes, content: bytes) -> Part:
    try:
        lines = headers.decode().split("\r\n")
    except UnicodeDecodeError as error:
        raise FormError("The form is damaged: the headers of a part are not UTF-8.") from error
    found = {key.strip().lower(): value for key, _, value in (one.partition(":") for one in lines)}
    disposition = found.get("content-disposition", "")
    values = {one[1].lower(): one[2] or one[3] or "" for one in PARAMETER.finditer(disposition)}
    if disposition.partition(";")[0].strip().lower() != "form-data" or "name" not in values:
        raise FormError("The form is damaged: a part has no name.")
    name = re.sub(r'\\(["\\])', r"\1", values["name"])
    for escaped, char in ESCAPES:
        name = name.replace(escaped, char)
    kind = found.get("content-type", "text/plain").strip().lower()
    is_text = kind.startswith("text/") or kind.startswith("application/json")
    return Part(name, content, "filename" in values or not is_text)


def form_values(
    body: bytes, content_type: str, many: frozenset[str], objects: frozenset[str]
) -> dict[str, Any]:
    """A form as the values of a JSON body: files as bytes, everything else as text.

    Args:
        many: fields that may be sent several times, which makes a list.
        objects: fields whose text may be a JSON object or list.

    Raises:
        FormError: it is damaged, or a field is sent twice.
    """
    values: dict[str, Any] = {}
    for part in form_parts(body, content_type):
        match = FIELD.fullmatch(part.name)
        if match is None:
            raise FormError(f"{part.name[:80]!r} is no field's name.", part.name[:80])
        name, brackets = match[1], re.findall(r"\[([^\]]*)\]", match[2])
        if len(brackets) > MAX_DEPTH:
            raise FormError(f"{part.name[:80]!r} is nested too deeply.", name[:80])
        value = _value(part, name, bool(brackets), objects)
        if value is not None:
            _put(values, [name, *brackets], value, name in many)
    return values


def _value(part: Part, name: str, nested: bool, objects: frozenset[str]) -> Any:
    """The value of a part; None for one that is left empty, as browsers send them."""
    if part.is_file:
        return part.content or None
    try:
        text = part.content.decode()
    except UnicodeDecodeError as error:
        raise FormError(f"{name[:80]} is not text in UTF-8.", name[:80]) from error
    if name == "prompt":
        return text
    if not text or text == "null":
        return None
    if name in objects and (nested or text.lstrip()[:1] in ("{", "[")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            if nested:
                return text
            raise FormError(f"{name} is not valid JSON: {str(error)[:80]}.", name) from error
    return text


def _put(values: dict[str, Any], path: list[str], value: Any, many: bool) -> None:
    """Put a value where its name says: ["settings", "base", "steps"], ["image", ""]."""
    here, name = values, path[0]
    for key in path[1:]:
        if key == "" or (many and key.isdecimal()):
            many = True
            break
        here = here.setdefault(name, {})
        name = key
        if not isinstance(here, dict):
            raise FormError(f"{path[0][:80]} is sent as a value and as an object.", path[0][:80])
    if many and name in here:
        old = here[name]
        here[name] = [*(old if isinstance(old, list) else [old]), value]
    elif name in here:
        raise FormError(f"{path[0][:80]} is sent twice.", path[0][:80])
    else:
        here[name] = [value] if len(path) > 1 and many else value
