"""From the bytes of a picture to the square that training sees, or the reason why not."""

import functools
import random
import stat
import warnings
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from open_imagen.errors import DataError

# Pillow warns of each damaged EXIF block; the image is used all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\..*")

ORIENTATION = 0x0112
"""EXIF's tag of how a camera was held."""
MAX_PIXELS = 89_478_485
"""Beyond this a picture is taken for a decompression bomb (Pillow's own line)."""


class SkippedExample(DataError):
    """An example that cannot be learned from; ``reason`` is what it is counted under."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def decode(data: bytes, near: int = 0, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image as sRGB, [H, W, 3], upright.

    Its EXIF orientation and colour profile are applied, transparency is shown over white, and of
    several frames the first is taken.

    Args:
        near: the side that is wanted; a JPEG of at least twice that is decoded smaller, which is
            faster and, being an average, no worse.

    Raises:
        SkippedExample: empty, not a picture, truncated, or too many pixels.
    """
    if not data:
        raise SkippedExample("empty file")
    try:
        image: Image.Image = Image.open(BytesIO(data))
        if image.width * image.height > max_pixels:
            raise SkippedExample("too many pixels", f"{image.width}x{image.height}")
        if near:
            image.draft(None, (2 * near, 2 * near))
        image.load()
        return as_rgb(to_srgb(upright(image)))
    except SkippedExample:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SkippedExample("too many pixels", str(error)) from error
    except UnidentifiedImageError as error:
        raise SkippedExample("not a picture") from error
    except Exception as error:  # each decoder has errors of its own: struct, zlib, IndexError ...
        raise SkippedExample("damaged picture", str(error) or type(error).__name__) from error


def header_size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture that is turned as its EXIF says, from its header alone.

    Raises:
        SkippedExample: empty, or not a picture.
    """
    if not data:
        raise SkippedExample("empty file")
    try:
        image = Image.open(BytesIO(data))
        is_turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    except Image.DecompressionBombError as error:
        raise SkippedExample("too many pixels", str(error)) from error
    except UnidentifiedImageError as error:
        raise SkippedExample("not a picture") from error
    except Exception as error:
        raise SkippedExample("damaged picture", str(error) or type(error).__name__) from error
    return (image.height, image.width) if is_turned else image.size


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF says, or as it is where the EXIF is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a parser of bytes that anyone may have written; the pixels are good
        return image


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert an image with another colour profile to sRGB.

    Phones (Display P3) and photographers (Adobe RGB) write such profiles. An image whose profile is
    damaged, or of another mode, stays as it is.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or image.mode not in ("RGB", "RGBA", "CMYK", "L", "P"):
        return image
    try:
        colors = image.convert("RGBA" if "transparency" in image.info else "RGB")
        source = colors if image.mode == "P" else image
        target = "RGBA" if source.mode == "RGBA" else "RGB"
        transform = _transform(profile, source.mode, target)
        return source if transform is None else ImageCms.applyTransform(source, transform) or source
    except Exception:  # a parser of bytes that anyone may have written; the pixels are good
        return image


@functools.lru_cache(64)
def _transform(profile: bytes, mode: str, target: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None if it is sRGB."""
    opened = ImageCms.ImageCmsProfile(BytesIO(profile))
    if "sRGB" in (opened.profile.profile_description or "") and mode != "CMYK":
        return None
    return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, target)


def read_file(path: Path) -> bytes:
    """The bytes of a picture.

    Raises:
        SkippedExample: the file is not there, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # reading a pipe would wait for ever
            raise SkippedExample("not a file", str(path))
        return path.read_bytes()
    except FileNotFoundError as error:
        raise SkippedExample("missing file", str(path)) from error
    except OSError as error:
        raise SkippedExample("unreadable file", f"{path}: {error.strerror}") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow as RGB: 16 bits and floats scaled to 8, transparent places white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image).astype(np.float64))
        if image.mode == "F":  # 0 to 1, as programs for photographs write it, or 0 to 255
            values = values * (65535 if values.max(initial=0) <= 1 else 257)
        scaled = np.clip(values / 257 + 0.5, 0, 255).astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(with_alpha)
        return white.convert("RGB")
    return image.convert("RGB")


class Square(NamedTuple):
    """What training sees of a picture, uint8 [3, height, width]; a square without buckets."""

    image: Tensor
    lowres: Tensor | None


def to_square(
    image: Image.Image,
    size: tuple[int, int],
    factor: int = 0,
    crop: int = 0,
    rng: random.Random | None = None,
) -> Square:
    """Scale an image until it covers ``size`` and cut out the centre.

    Of that, a random square if ``crop`` is given.

    Args:
        factor: how many times smaller the low-resolution input is; 0 for none. It is averaged from
            the scaled picture itself, and cropped with it.
        crop: side of a random crop, its place a whole number of low-resolution pixels.
        rng: draws the crop's place.
    """
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    small = averaged(pixels, factor) if factor else None
    step = factor or 1
    if crop:
        assert rng is not None
        left, top = (rng.randint(0, (side - crop) // step) for side in size)
        pixels = pixels[:, top * step : top * step + crop, left * step : left * step + crop]
        if small is not None:
            side = crop // step
            small = small[:, top : top + side, left : left + side]
    return Square(pixels, small)


def averaged(pixels: Tensor, factor: int) -> Tensor:
    """uint8 [3, H, W] -> uint8 [3, H / factor, W / factor], rounded means."""
    return F.avg_pool2d(pixels[None].float(), factor)[0].add(0.5).to(torch.uint8)
