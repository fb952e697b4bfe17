"""Images that clients send: found, bounded and recognized before any pixel is decoded."""

import base64
import binascii
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from PIL import Image

from open_imagen.cascade.records import ImageHeader, read_header
from open_imagen.data.images import ORIENTATION
from open_imagen.data.original import Original, open_source, read_original
from open_imagen.errors import DataError
from open_imagen.server.errors import RequestError
from open_imagen.server.gallery_files import ID
from open_imagen.server.schema import UploadedImage, UploadedImages
from open_imagen.server.service import Service
from open_imagen.server.sizes import MAX_SIDE

MAX_UPLOAD_PIXELS = 16 * 1024 * 1024
MAX_REQUEST_PIXELS = 2 * MAX_UPLOAD_PIXELS
"""Of all images of one request together: a large one and its mask, or ten of 3 megapixels."""
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "AVIF")
"""Formats that are decoded; others' decoders are large, old, or start programs."""


@dataclass(frozen=True)
class Upload:
    """An image that a client sent, not yet decoded."""

    field: str
    data: bytes
    size: tuple[int, int]
    """Width and height, turned as its EXIF says."""

    @property
    def pixels(self) -> int:
        return self.size[0] * self.size[1]

    def original(self) -> Original:
        """The decoded image.

        Raises:
            RequestError: it is damaged, or an animation.
        """
        try:
            return read_original(self.data, self.field, MAX_UPLOAD_PIXELS)
        except DataError as error:
            raise unreadable(self.field, error) from error

    def header(self) -> ImageHeader:
        """What its file says without being decoded.

        Raises:
            RequestError: that is damaged.
        """
        try:
            return read_header(self.data)
        except DataError as error:
            raise unreadable(self.field, error) from error


def unreadable(field: str, error: DataError) -> RequestError:
    return RequestError(400, f"{error} {error.hint}".strip(), field, "invalid_value")


def upload(service: Service, field: str, sent: UploadedImage, owner: str) -> Upload:
    """An image that a client sent, by its header.

    Raises:
        RequestError: it is none, of a format that is not decoded, or has too many pixels.
    """
    data = _data_of(service, field, sent, owner)
    try:
        image, name = open_source(data, field)
        if image.format not in FORMATS:
            raise DataError(f"{name} is {image.format}.", "Send PNG, JPEG or WebP.")
        size = _upright_size(image)
    except DataError as error:
        raise unreadable(field, error) from error
    if size[0] * size[1] > MAX_UPLOAD_PIXELS or max(size) > MAX_SIDE:
        raise RequestError(
            400, f"The {field} has {size[0]}x{size[1]} pixels; the limit is "
            f"{MAX_UPLOAD_PIXELS:,}, and {MAX_SIDE:,} a side. Scale it down first.", field,
            "invalid_value",
        )  # fmt: skip
    return Upload(field, data, size)


def uploads(service: Service, field: str, sent: UploadedImages | None, owner: str) -> list[Upload]:
    """None, one or several; see upload."""
    if sent is None:
        return []
    several = sent if isinstance(sent, list) else [sent]
    return [upload(service, field, one, owner) for one in several]


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Raises DataError where the EXIF cannot be read."""
    try:
        turned = image.getexif().get(ORIENTATION) in (5, 6, 7, 8)
    except Exception:  # a parser of bytes that anyone may have written; the pixels are good
        turned = False
    return (image.height, image.width) if turned else image.size


def _data_of(service: Service, field: str, sent: UploadedImage, owner: str) -> bytes:
    if isinstance(sent, bytes):
        return sent
    if isinstance(sent, dict):
        sent = _referred(field, sent)
    if ID.fullmatch(sent):
        image = service.gallery.get(sent)
        data = service.gallery.data(image) if image is not None and image.owner == owner else None
        if data is None:
            raise RequestError(404, "There is no such image in the gallery.", field, "not_found")
        return data
    if sent.startswith(("http://", "https://")):
        raise RequestError(
            400, f"{field} is an address; this server fetches nothing. Send the image itself.",
            field, "invalid_value",
        )  # fmt: skip
    try:
        return base64.b64decode(sent.partition("base64,")[2] or sent, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            400, f"{field} is neither the id of an image nor base64.", field, "invalid_value"
        ) from error


def _referred(field: str, reference: dict[str, str | None]) -> str:
    """The text of {"image_url": ...} or {"file_id": ...}, as the API's JSON has them."""
    given = {key: value for key, value in reference.items() if value is not None}
    if given.keys() in ({"image_url"}, {"file_id"}):
        return next(iter(given.values()))
    raise RequestError(
        400, f'{field} must be a file, text, {{"image_url": "data:..."}} or {{"file_id": ID}}.',
        field, "invalid_value",
    )  # fmt: skip


def reserve(service: Service, sent: Sequence[Upload], held: ExitStack, added: int = 0) -> None:
    """Room in memory for decoded images, until ``held`` is closed.

    Args:
        added: pixels that extend them.

    Raises:
        RequestError: they are larger than a request may be, or others hold the room.
    """
    pixels = added + sum(one.pixels for one in sent)
    if pixels > MAX_REQUEST_PIXELS:
        raise RequestError(
            400, f"The images and what extends them have {pixels:,} pixels together; the limit is "
            f"{MAX_REQUEST_PIXELS:,} a request.", "image", "invalid_value",
        )  # fmt: skip
    if not service.upload_budget.take(pixels):
        raise RequestError(
            503, "The server is working on too many large images.", "image",
            kind="server_error", retry_after=10,
        )  # fmt: skip
    held.callback(service.upload_budget.give, pixels)
