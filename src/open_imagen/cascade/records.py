"""Records of how an image was made, written into PNG, JPEG and WebP files and read back."""

import html
import io
import json
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, PngImagePlugin, UnidentifiedImageError
from PIL.ExifTags import IFD

from open_imagen.errors import DataError
from open_imagen.storage import atomic

CHUNK = "open_imagen"
XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""
"""IPTC's mark for pictures made by a trained model."""
COMPOSITE = XMP.replace("/trainedAlgorithmicMedia", "/compositeWithTrainedAlgorithmicMedia")
"""The same for what a trained model changed or added in another picture."""
LARGE = 4 * 1024 * 1024
"""Pixels above which a PNG is compressed five times as fast, to a little more."""


def parameters(record: dict[str, Any]) -> str:
    """The record in the text form that image galleries read."""
    lines = [record["prompt"]]
    if record.get("negative"):
        lines.append(f"Negative prompt: {record['negative']}")
    first: dict[str, Any] = next(iter(record["settings"].values()), {})
    facts = {
        "Steps": ", ".join(f"{k} {v['steps']}" for k, v in record["settings"].items()),
        "Sampler": first.get("sampler", ""),
        "CFG scale": first.get("guidance", ""),
        "Seed": record["seed"],
        "Size": record["size"],
        "Model hash": record["model_hash"],
        "Model": record["model"],
        "Version": f"open_imagen {record['version']}",
    }
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in facts.items()))
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) and "," in value else str(value)


def save_png(image: Image.Image, path: Path, record: dict[str, Any]) -> None:
    """Write a PNG with its record, atomically.

    Raises:
        OutputError: the place cannot be written.
    """
    with atomic(path) as temporary:
        temporary.write_bytes(encoded(image, record))


FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
USER_COMMENT = 0x9286
MAX_COMMENT = 60_000
"""Bytes of EXIF's comment at most: all EXIF of a JPEG is one segment of 64 KiB."""
MARK = b"open_imagen record "
"""Beginning of a JPEG comment that holds a record, or the next part of it."""
NAMESPACE = "https://open-imagen.invalid/ns/1.0/"
"""Of our XMP property; a name, not an address."""


def encoded(
    image: Image.Image, record: dict[str, Any], kind: str = "png", quality: int = 95
) -> bytes:
    """An image as a file's bytes, with its record.

    It is in text chunks of a PNG, comments of a JPEG and XMP of a WebP; EXIF of the last two holds
    its ``parameters``.

    Args:
        kind: png, jpeg or webp.
        quality: of jpeg and webp, 0 to 100.
    """
    data = io.BytesIO()
    mark = COMPOSITE if record.get("made_by") == "edit" else XMP
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("parameters", parameters(record))
        chunks.add_itxt(CHUNK, json.dumps(record, ensure_ascii=False))
        chunks.add_itxt("XML:com.adobe.xmp", mark)
        level = 1 if image.width * image.height > LARGE else 6
        image.save(data, format="PNG", pnginfo=chunks, compress_level=level)
    else:
        comment = parameters(record).encode("utf-16-be", "surrogatepass")
        exif = Image.Exif()
        exif.get_ifd(IFD.Exif)[USER_COMMENT] = b"UNICODE\0" + comment[:MAX_COMMENT]
        place: dict[str, Any] = {"extra": _segments(record)} if kind == "jpeg" else {}
        xmp = (mark if kind == "jpeg" else _xmp(mark, record)).encode()
        colors = {"icc_profile": image.info.get("icc_profile")}
        image.save(
            data, format=kind.upper(), exif=exif, xmp=xmp, quality=quality, **place, **colors
        )
    return data.getvalue()


def _segments(record: dict[str, Any]) -> bytes:
    """The record as COM segments of a JPEG; one holds at most 65,533 bytes, so several may follow.

    EXIF and XMP of a JPEG are single segments: a long prompt does not fit into them.
    """
    text = json.dumps(record).encode()
    room = 65_533 - len(MARK)
    parts = [MARK + text[k : k + room] for k in range(0, len(text), room)]
    return b"".join(b"\xff\xfe" + (len(part) + 2).to_bytes(2, "big") + part for part in parts)


def _xmp(mark: str, record: dict[str, Any]) -> str:
    """XMP that holds the record besides IPTC's mark."""
    text = html.escape(json.dumps(record))
    field = f' xmlns:open_imagen="{NAMESPACE}" open_imagen:record="{text}"/>'
    return mark.replace("/>", field, 1)


class ImageHeader(NamedTuple):
    """The metadata of an image file, read without decoding it."""

    kind: str
    """png, jpeg or webp; another format's name."""
    width: int
    height: int
    record: dict[str, Any] | None
    """How it was made; None where there is no record of ours, or a damaged one."""


def read_header(source: Path | bytes) -> ImageHeader:
    """Format, size and record of an image, a file or its bytes. Pixels are not decoded.

    Raises:
        DataError: it is not an image, or its header is damaged.
    """
    name = "The image" if isinstance(source, bytes) else str(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                kind = (image.format or "").lower()
                text = _record_text(image)
                width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} is not an image that can be read: {error}.") from error
    try:
        record = _parse(text) if text is not None else None
    except ValueError:
        record = None
    return ImageHeader(kind, width, height, record)


def _record_text(image: Image.Image) -> str | None:
    """The record of an opened image as JSON text."""
    if image.format == "PNG":
        found: str | None = image.info.get(CHUNK)
        return found
    if image.format == "WEBP":
        xmp = image.info.get("xmp", b"").decode("utf-8", "replace")
        match = re.search(r'open_imagen:record="([^"]*)"', xmp)
        return html.unescape(match[1]) if match else None
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    parts = [
        data[len(MARK) :] for name, data in segments if name == "COM" and data.startswith(MARK)
    ]
    return b"".join(parts).decode("utf-8", "replace") if parts else None


def _parse(text: str) -> dict[str, Any]:
    """A record from its JSON text.

    Raises:
        ValueError: it is damaged.
    """
    try:
        record = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(record, dict) or "prompt" not in record or "seed" not in record:
        raise ValueError("it has no prompt or seed")
    return record


def open_image(path: Path) -> Image.Image:
    """Read an image file.

    Raises:
        DataError: there is no such file, it is no picture, or it is damaged or absurdly large.
    """
    try:
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}.") from error
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a picture that can be read: {error}.") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is damaged or cannot be read: {error}.") from error
    return image


def read_record(path: Path) -> dict[str, Any]:
    """The record in an image file.

    Raises:
        DataError: it is no picture, or has no record of ours.
    """
    image = open_image(path)
    text = _record_text(image)
    if text is None:
        raise DataError(
            f"{path} carries no record of open_imagen.",
            "Only images written by open_imagen, and not edited since, have one.",
        )
    try:
        return _parse(text)
    except ValueError as error:
        raise DataError(f"The record in {path} is damaged: {error}.") from error
