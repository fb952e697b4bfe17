"""What a picture says of itself: records inside PNG files."""

import io
import json
from pathlib import Path
from typing import Any

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


def parameters(record: dict[str, Any]) -> str:
    """The record as the lines that galleries of generated pictures read."""
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


def encoded(
    image: Image.Image, record: dict[str, Any], kind: str = "png", quality: int = 95
) -> bytes:
    """A picture as a file's bytes, with its record: text chunks in PNG; EXIF and XMP in the others.

    Args:
        kind: png, jpeg or webp.
        quality: of jpeg and webp, 0 to 100.
    """
    data = io.BytesIO()
    if kind == "png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_itxt("parameters", parameters(record))
        chunks.add_itxt(CHUNK, json.dumps(record, ensure_ascii=False))
        chunks.add_itxt("XML:com.adobe.xmp", XMP)
        image.save(data, format="PNG", pnginfo=chunks)
    else:
        exif = Image.Exif()
        comment = b"UNICODE\0" + parameters(record).encode("utf-16-be")
        exif.get_ifd(IFD.Exif)[USER_COMMENT] = comment
        image.save(data, format=kind.upper(), exif=exif, xmp=XMP.encode(), quality=quality)
    return data.getvalue()


def open_image(path: Path) -> Image.Image:
    """A picture from a file, fully read.

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
    """The record inside a picture.

    Raises:
        DataError: it is no picture, or has no record of ours.
    """
    image = open_image(path)
    text = image.info.get(CHUNK)
    if text is None:
        raise DataError(
            f"{path} carries no record of open_imagen.",
            "Only PNG files written by open_imagen, and not edited since, have one.",
        )
    try:
        record = json.loads(text)
    except ValueError as error:
        raise DataError(f"The record in {path} is damaged: {error}.") from error
    if not isinstance(record, dict) or "prompt" not in record or "seed" not in record:
        raise DataError(f"The record in {path} is damaged: it has no prompt or seed.")
    return record
