"""Images and captions as the world damages them, each with what must come of it."""

import base64
import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = Path(__file__).parent / "data" / "images"
"""Written by ImageMagick, see make.sh there."""
SIDE = 24


def encoded(image, kind, **more):
    data = io.BytesIO()
    image.save(data, format=kind, **more)
    return data.getvalue()


def noise(kind="PNG", **more):
    """A picture whose file is no shorter than its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), kind, **more)


def plain(k):
    """A picture of one colour that says which it is."""
    return encoded(Image.new("RGB", (SIDE, SIDE), (k % 250, k // 250 * 60, 99)), "PNG")


def chunk(kind, body):
    """A chunk of a PNG."""
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check


def png_of(width, height, data):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)


def with_bytes(data, place, new):
    return data[:place] + new + data[place + len(new) :]


DAMAGED = {
    "zero bytes": (b"", "empty file"),
    "a page of HTML": (b"<!DOCTYPE html><html><title>404</title></html>", "not a picture"),
    "an answer in JSON": (b'{"error": {"code": 403, "message": "quota"}}', "not a picture"),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "not a picture",
    ),
    "zeros of a full disk": (bytes(4096), "not a picture"),
    "random bytes": (np.random.default_rng(1).bytes(3000), "not a picture"),
    "a zip file": (b"PK\x03\x04" + bytes(60), "not a picture"),
    "a PDF": (b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n", "not a picture"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a picture"),
    "a photograph of an iPhone (HEIC)": (
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40),
        "not a picture",
    ),
    "a film": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(40), "not a picture"),
    "a JPEG in gzip": (gzip.compress(noise("JPEG"), mtime=0), "not a picture"),
    "a PNG in base64": (base64.b64encode(noise()), "not a picture"),
    "UTF-16 text": ("not an image".encode("utf-16"), "not a picture"),
    "a PNG after FTP in text mode": (noise().replace(b"\r\n", b"\n"), "not a picture"),
    "a PNG after text processing": (noise().decode("latin-1").encode(), "not a picture"),
    "a JPEG's first two bytes": (b"\xff\xd8", "not a picture"),
    "a JPEG without its first bytes": (noise("JPEG")[20:], "not a picture"),
    "a PNG of width 0": (png_of(0, 5, zlib.compress(b"")), "not a picture"),
    "a RIFF header alone": (b"RIFF\x1a\x00\x00\x00WEBPVP8L", "damaged picture"),
    "a PNG cut to 200 bytes": (noise()[:200], "damaged picture"),
    "a PNG header alone": (plain(1)[:33], "not a picture"),
    "a PNG of broken zlib": (png_of(20, 20, b"no zlib at all"), "damaged picture"),
    "a PNG with flipped bytes": (with_bytes(noise(), 60, b"\xff\x00\xff\x00"), "damaged picture"),
    "a JPEG cut short": ((IMAGES / "truncated.jpg").read_bytes(), "damaged picture"),
    "a JPEG without its end": (noise("JPEG")[:-200], "damaged picture"),
    "a WebP cut short": (noise("WEBP", lossless=True)[:300], "damaged picture"),
    "a BMP cut short": (noise("BMP")[:500], "damaged picture"),
    "a TIFF cut short": (noise("TIFF")[:700], "damaged picture"),
    "a TIFF of packed bits cut": (noise("TIFF", compression="tiff_lzw")[:-400], "not a picture"),
    "a GIF cut short": (noise("GIF")[:900], "damaged picture"),
    "an AVIF cut short": (noise("AVIF")[:300], "not a picture"),
    "a decompression bomb": (png_of(60_000, 60_000, zlib.compress(bytes(1000))), "too many pixels"),
}
"""What is wrong: the file, and the reason that it is counted under."""

GOOD_CAPTIONS = {
    "plain": (b"a red circle", "a red circle"),
    "line feed of Windows": (b"a red circle\r\n", "a red circle"),
    "byte-order mark": (b"\xef\xbb\xbfa red circle", "a red circle"),
    "Notepad's Unicode": ("caf\u00e9 noir".encode("utf-16"), "caf\u00e9 noir"),
    "UTF-16 of big machines": (b"\xfe\xff" + "\u7ea2\u5706".encode("utf-16-be"), "\u7ea2\u5706"),
    "UTF-32": ("a star".encode("utf-32"), "a star"),
    "macOS's decomposed accents": ("cafe\u0301".encode(), "caf\u00e9"),
    "Chinese": ("\u4e00\u53ea\u732b".encode(), "\u4e00\u53ea\u732b"),
    "Arabic with marks of direction": (
        "\u200f\u0642\u0637\u0629".encode(),
        "\u200f\u0642\u0637\u0629",
    ),
    "emoji of several characters": ("\U0001f469\u200d\U0001f680 in space".encode(), None),
    "several lines": (b"a red circle\n\non white", "a red circle\n\non white"),
    "line separators of Unicode": ("one\u2028two\x85three".encode(), "one\u2028two\x85three"),
    "quotes and backslashes": (rb'say "hi" \n {x} %s', r'say "hi" \n {x} %s'),
    "very long": (b"very " * 3000 + b"long", None),
    "no-break spaces": ("\u00a0a cat\u00a0".encode(), "a cat"),
    "digits alone": (b"123", "123"),
    "the word null": (b"null", "null"),
}
"""What is odd: the bytes, and the caption; None for just the text."""
BAD_CAPTIONS = {
    "none at all": (None, "no caption"),
    "an empty file": (b"", "empty caption"),
    "white space": (b" \t\r\n\x0c", "empty caption"),
    "characters without width": ("\u200b\ufeff".encode(), "empty caption"),
    "Latin-1": ("caf\u00e9".encode("latin-1"), "caption not UTF-8"),
    "Shift JIS": ("\u732b".encode("shift_jis"), "caption not UTF-8"),
    "half a surrogate pair": (b"\xed\xa0\xbd", "caption not UTF-8"),
    "UTF-8 cut in a character": ("caf\u00e9".encode()[:-1], "caption not UTF-8"),
    "UTF-16 without a mark": ("a cat".encode("utf-16-le"), "caption not text"),
    "binary": (b"\x00\x01\x02\x03", "caption not text"),
}
"""What is wrong: the bytes, and the reason that it is counted under."""
