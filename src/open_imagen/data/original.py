"""Images that people bring to be edited or enlarged: from files, bytes, arrays or Pillow, upright,
8 bits a channel, with their transparency and their colour profile."""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from open_imagen.data.images import MAX_PIXELS, as_rgb, to_srgb, upright
from open_imagen.errors import ConfigError, DataError

ImageSource = str | Path | bytes | Image.Image | np.ndarray[Any, Any] | Tensor
"""An image as callers have it: a file, a file's bytes, or pixels as uint8 [H, W], [H, W, C]
(arrays) or [C, H, W] (tensors)."""
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
    if not isinstance(source, str | Path | bytes | bytearray):
        raise ConfigError(
            f"{what} = {type(source).__name__} is no image.",
            "Give a file's path, its bytes, a Pillow image, or an array of uint8.",
        )
    name = str(source) if isinstance(source, str | Path) else f"The {what}"
    data = _bytes_of(Path(source), name) if isinstance(source, str | Path) else bytes(source)
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


def _bytes_of(path: Path, name: str) -> bytes:
    try:
        if not path.exists():
            raise DataError(f"There is no file {name}.")
        if not path.is_file():
            raise DataError(f"{name} is not a file.")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}.") from error


def _from_pixels(pixels: np.ndarray[Any, Any] | Tensor, what: str) -> Image.Image:
    array = pixels
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        array = array.permute(1, 2, 0).numpy() if array.ndim == 3 else array.numpy()
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shape_fits or not array.size:
        shape = "x".join(map(str, pixels.shape))
        raise ConfigError(
            f"{what} has the shape {shape} and the type {pixels.dtype}.",
            "Pixels are uint8: [H, W], [H, W, 3] or [H, W, 4]; tensors [C, H, W].",
        )
    return Image.fromarray(np.ascontiguousarray(array))


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
    """RGB or RGBA from one profile's colours to another's; None is sRGB. Unchanged where that
    cannot be."""
    try:
        profiles = [
            ImageCms.ImageCmsProfile(BytesIO(one)) if one else ImageCms.createProfile("sRGB")
            for one in (source, target)
        ]
        transform = ImageCms.buildTransform(*profiles, image.mode, image.mode)
        return ImageCms.applyTransform(image, transform) or image
    except Exception:  # a parser of bytes that anyone may have written; the pixels are good
        return image
