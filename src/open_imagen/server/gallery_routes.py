"""Routes of the gallery."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from open_imagen.cascade.records import FORMATS
from open_imagen.errors import OutputError
from open_imagen.server.errors import RequestError
from open_imagen.server.gallery_files import GalleryImage
from open_imagen.server.image_routes import Authenticated
from open_imagen.server.responses import image_url
from open_imagen.server.schema import GalleryImageReply, GalleryReply
from open_imagen.server.service import Service

IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}


def gallery_router(service: Service) -> APIRouter:
    """Routes of the gallery."""
    router = APIRouter(prefix="/v1")

    @router.get("/images/files/{name}", tags=["images"], response_class=Response)
    def image_file(name: str) -> Response:
        """An image's file; its name is the key to it."""
        image = service.gallery.get(name.rpartition(".")[0] or name)
        data = service.gallery.data(image) if image is not None else None
        if image is None or data is None:
            raise RequestError(404, "There is no such image.", "name", "not_found")
        headers = {**IMMUTABLE, "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type=FORMATS[image.kind], headers=headers)

    @router.get("/gallery", tags=["gallery"])
    def gallery(
        request: Request,
        client: Authenticated,
        limit: Annotated[int, Query(ge=1, le=100)] = 30,
        before: Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)] = None,
    ) -> GalleryReply:
        """What was made with this key, the newest first; ``before`` turns the page."""
        images = service.gallery.latest(client.owner, limit + 1, before)
        return GalleryReply(
            data=[_reply(request, image) for image in images[:limit]], more=len(images) > limit
        )

    @router.delete("/gallery/{name}", tags=["gallery"])
    def delete(name: str, client: Authenticated) -> dict[str, bool]:
        """Remove an image."""
        image = service.gallery.get(name)
        if image is None or image.owner != client.owner:
            raise RequestError(404, "There is no such image.", "name", "not_found")
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


def _reply(request: Request, image: GalleryImage) -> GalleryImageReply:
    return GalleryImageReply(
        id=image.id,
        url=image_url(request, image),
        created=image.created,
        width=image.width,
        height=image.height,
        removable=image.written,
        record=image.record,
    )
