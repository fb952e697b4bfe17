"""Images that users bring to be edited or upscaled.

From files, bytes, arrays or Pillow; upright, 8 bits a channel, with their transparency and colour
profile.
"""

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from open_imagen.data.images import MAX_PIXELS, as_rgb, to_srgb, upright
from open_imagen.errors import ConfigError, DataError

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray[Any, Any] | Tensor
"""An image as callers have it: a file, a file's bytes, a PIL image, or an array or tensor [H, W],
[H, W, C] or [C, H, W] with 1, 3 or 4 channels, whole numbers 0 to 255 or fractions 0 to 1."""
CHANNELS = (1, 3, 4)
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
"""Formats whose further frames are an animation; those of a phone's JPEG (MPO) are not."""
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


class Original(NamedTuple):
    """An image as it came, decoded and upright."""

    image: Image.Image
    """RGB or RGBA."""
    profile: bytes | None = None
    """The ICC profile of its colours, where they are not sRGB."""

    @property
    def srgb(self) -> Image.Image:
        """The image in the colours that models know."""
        return _convert(self.image, self.profile, None) if self.profile else self.image

    def from_srgb(self, image: Image.Image) -> Image.Image:
        """An image that a model made, in this one's colours."""
        return _convert(image, None, self.profile) if self.profile else image


def read_original(
    source: ImageSource, what: str = "image", max_pixels: int = MAX_PIXELS
) -> Original:
    """Read an image whole: turned as its EXIF says, 16 bits as 8, CMYK, palettes and greys as RGB.

    Args:
        what: the name of the argument or the file, for messages.
        max_pixels: more are refused before anything is decoded.

    Raises:
        DataError: it is missing, no image, damaged, animated or too large.
        ConfigError: pixels of a shape or type that no image has.
    """
    image, name = open_source(source, what)
    if image.width * image.height > max_pixels:
        raise DataError(
            f"{name} has {image.width}x{image.height} pixels; the limit is {max_pixels:,}.",
            "Scale it down first.",
        )
    if image.format in ANIMATED and getattr(image, "is_animated", False):
        raise DataError(
            f"{name} is an animation of {getattr(image, 'n_frames', 2)} frames.",
            "Save one of its frames as an image of its own.",
        )
    try:
        image.load()
        image = upright(image)
    except MemoryError as error:
        raise DataError(f"{name} does not fit in memory.", "Scale it down first.") from error
    except Exception as error:  # each decoder has errors of its own: struct, zlib, IndexError ...
        raise DataError(f"{name} is damaged: {error or type(error).__name__}.") from error
    return _in_rgb(image)


def open_source(source: ImageSource, what: str = "image") -> tuple[Image.Image, str]:
    """An image that is opened but, from a file or bytes, not yet decoded; and its name.

    Raises:
        DataError: it is missing, or no image.
        ConfigError: pixels of a shape or type that no image has.
    """
    if isinstance(source, Image.Image):
        return source, f"The {what}"
    if isinstance(source, np.ndarray | Tensor):
        return _from_pixels(source, what), f"The {what}"
    if not isinstance(source, str | os.PathLike | bytes | bytearray):
        raise ConfigError(
            f"{what} = {source!r} is no image.",
            "Pass a PIL image, a file or its bytes, an array or a tensor.",
        )
    if isinstance(source, bytes | bytearray):
        name, data = f"The {what}", bytes(source)
    else:
        name, data = str(source), _bytes_of(Path(source))
    if not data:
        raise DataError(f"{name} is empty.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(BytesIO(data)), name
    except Image.DecompressionBombError as error:
        raise DataError(f"{name} has too many pixels: {error}", "Scale it down first.") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not an image that can be read.") from error
    except Exception as error:
        raise DataError(f"{name} is damaged: {error or type(error).__name__}.") from error


def _bytes_of(path: Path) -> bytes:
    try:
        if not path.exists():
            raise DataError(f"There is no file {path}.")
        if not path.is_file():
            raise DataError(f"{path} is not a file.")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _from_pixels(pixels: Any, what: str) -> Image.Image:
    """Pixels [H, W], [H, W, C] or [C, H, W] with 1, 3 or 4 channels."""
    array = pixels.detach().cpu().numpy() if isinstance(pixels, Tensor) else pixels
    return Image.fromarray(_bytes(_channels_last(array, what), what))


def _channels_last(array: Any, what: str) -> Any:
    """[H, W], or [H, W, C] of 3 or 4 channels."""
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        return _channels_last(array[0], what)
    if array.ndim == 3 and shape[2] not in CHANNELS and shape[0] in CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS):
        return array
    raise ConfigError(
        f"{what}: an array of shape {list(shape)} is no image.",
        "It must be [H, W], [H, W, C] or [C, H, W], with 1, 3 or 4 channels.",
    )


def _bytes(array: Any, what: str) -> Any:
    """Whole numbers 0 to 255, fractions 0 to 1, or truth values, as uint8."""
    if array.dtype == bool:
        array = array * np.uint8(255)
    kind, highest = array.dtype.kind, 1 if array.dtype.kind == "f" else 255
    if kind not in "uif" or not array.size:
        raise ConfigError(
            f"{what}: an array of {array.dtype} and {array.size} values is no image.",
            "Use uint8, or fractions.",
        )
    if not (array.min() >= 0 and array.max() <= highest):
        raise ConfigError(
            f"{what}: an image of {array.dtype} must have values from 0 to {highest}, not "
            f"{array.min()} to {array.max()}."
        )
    if kind == "f":
        array = np.round(array.astype(np.float64) * 255)
    return np.ascontiguousarray(array.astype(np.uint8))


def _in_rgb(image: Image.Image) -> Original:
    """Any mode as RGB or RGBA. Only colours that stay as they are keep their profile."""
    profile = image.info.get("icc_profile")
    profile = profile if isinstance(profile, bytes) and not _is_srgb(profile) else None
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        kept = profile if image.mode in ("RGBA", "RGB", "P", "PA") else None
        return Original(_bare(image.convert("RGBA")), kept)
    if image.mode in ("RGB", "P"):
        return Original(_bare(image.convert("RGB")), profile)
    return Original(_bare(as_rgb(to_srgb(image))))


def _bare(image: Image.Image) -> Image.Image:
    """The pixels without the file's metadata, none of which may reach a new file."""
    return Image.frombytes(image.mode, image.size, image.tobytes())


def _is_srgb(profile: bytes) -> bool:
    try:
        opened = ImageCms.ImageCmsProfile(BytesIO(profile))
        described = opened.profile.profile_description or ""
    except Exception:  # damaged: then it says nothing
        return True
    return "sRGB" in described


def _convert(image: Image.Image, source: bytes | None, target: bytes | None) -> Image.Image:
    """Convert RGB or RGBA from one profile's colours to another's; None is sRGB.

    The image stays as it is where that is not possible.
    """
    try:
        before, after = (
            ImageCms.ImageCmsProfile(BytesIO(one)) if one else ImageCms.createProfile("sRGB")
            for one in (source, target)
        )
        transform = ImageCms.buildTransform(before, after, image.mode, image.mode)
        return ImageCms.applyTransform(image, transform) or image
    except Exception:  # a parser of bytes that anyone may have written; the pixels are good
        return image
