"""Routes of the gallery."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from open_imagen.cascade.records import FORMATS
from open_imagen.errors import DataError, OutputError
from open_imagen.server.auth import Client
from open_imagen.server.errors import RequestError
from open_imagen.server.gallery_files import GalleryImage
from open_imagen.server.image_routes import Authenticated
from open_imagen.server.responses import image_url
from open_imagen.server.schema import GalleryImageReply, GalleryReply
from open_imagen.server.service import Service
from open_imagen.server.thumbnails import Thumbnails

IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}


def gallery_router(service: Service) -> APIRouter:
    """Routes of the gallery."""
    router = APIRouter(prefix="/v1")
    thumbnails = Thumbnails()

    @router.get("/images/files/{name}", tags=["images"], response_class=Response)
    def image_file(name: str) -> Response:
        """An image's file; its name is the key to it."""
        image = service.gallery.get(name.rpartition(".")[0] or name)
        data = service.gallery.data(image) if image is not None else None
        if image is None or data is None:
            raise RequestError(404, "There is no such image.", "name", "not_found")
        headers = {**IMMUTABLE, "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type=FORMATS[image.kind], headers=headers)

    @router.get("/images/files/{name}/thumbnail", tags=["images"], response_class=Response)
    def thumbnail(name: str) -> Response:
        """A small copy of an image as WebP."""
        image = service.gallery.get(name.rpartition(".")[0] or name)
        try:
            data = thumbnails.get(service.gallery, image) if image is not None else None
        except DataError as error:
            raise RequestError(404, f"It cannot be read: {error}.", "name", "not_found") from error
        if data is None:
            raise RequestError(404, "There is no such image.", "name", "not_found")
        headers = {**IMMUTABLE, "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type="image/webp", headers=headers)

    @router.get("/gallery", tags=["gallery"])
    def gallery(
        request: Request,
        client: Authenticated,
        limit: Annotated[int, Query(ge=1, le=100)] = 30,
        before: Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)] = None,
        search: Annotated[str, Query(max_length=200)] = "",
        starred: bool = False,
    ) -> GalleryReply:
        """What was made with this key, the newest first; ``before`` turns the page.

        ``search`` finds prompts that have each of its words, ``starred`` the images with a star.
        """
        images = service.gallery.latest(client.owner, limit + 1, before, search, starred)
        stars = service.gallery.stars
        return GalleryReply(
            data=[_reply(request, image, image in stars) for image in images[:limit]],
            more=len(images) > limit,
        )

    @router.put("/gallery/{name}/star", tags=["gallery"])
    def star(name: str, client: Authenticated) -> dict[str, bool]:
        """Star an image: it is listed among the starred, and never removed to make room."""
        return _star(service, client, name, True)

    @router.delete("/gallery/{name}/star", tags=["gallery"])
    def unstar(name: str, client: Authenticated) -> dict[str, bool]:
        """Take an image's star away."""
        return _star(service, client, name, False)

    @router.delete("/gallery/{name}", tags=["gallery"])
    def delete(name: str, client: Authenticated) -> dict[str, bool]:
        """Remove an image."""
        image = _own(service, client, name)
        try:
            deleted = service.gallery.delete(image)
        except OutputError as error:
            raise RequestError(
                500, "The image's file cannot be removed.", "name", kind="server_error"
            ) from error
        if not deleted:
            raise RequestError(
                403, f"The gallery did not write {image.file} and never removes it. To remove it, "
                "delete the file in the gallery's folder.", "name", "not_removable",
            )  # fmt: skip
        return {"deleted": True}

    return router


def _own(service: Service, client: Client, name: str) -> GalleryImage:
    """A client's image.

    Raises:
        RequestError: it has none of this id.
    """
    image = service.gallery.get(name)
    if image is None or image.owner != client.owner:
        raise RequestError(404, "There is no such image.", "name", "not_found")
    return image


def _star(service: Service, client: Client, name: str, starred: bool) -> dict[str, bool]:
    image = _own(service, client, name)
    try:
        service.gallery.star(image, starred)
    except OutputError as error:
        raise RequestError(
            500, "The gallery's folder cannot be written.", kind="server_error"
        ) from error
    return {"starred": starred}


def _reply(request: Request, image: GalleryImage, starred: bool) -> GalleryImageReply:
    return GalleryImageReply(
        id=image.id,
        url=image_url(request, image),
        created=image.created,
        width=image.width,
        height=image.height,
        removable=image.written,
        starred=starred,
        record=image.record,
    )
