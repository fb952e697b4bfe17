"""Routes that begin with an image: edits, variations, upscaling, and what an image says of itself.

Their bodies are forms with files, as the official clients send them, or JSON.
"""

import asyncio
from contextlib import ExitStack

from fastapi import APIRouter, Request
from fastapi.responses import Response

from open_imagen.cascade.masks import has_transparency
from open_imagen.server.bodies import described, read_body
from open_imagen.server.edit_requests import edit_request
from open_imagen.server.gallery_files import is_record
from open_imagen.server.image_routes import STREAMED, Authenticated
from open_imagen.server.requests import upscale_request
from open_imagen.server.responses import respond
from open_imagen.server.schema import (
    EditBody,
    RecordBody,
    RecordReply,
    UpscaleBody,
    VariationBody,
)
from open_imagen.server.service import Service
from open_imagen.server.uploads import reserve, upload
from open_imagen.server.variation_requests import recorded_adapters, variation_request


def edit_router(service: Service) -> APIRouter:
    """Routes that begin with an image."""
    router = APIRouter(prefix="/v1")

    @router.post(
        "/images/edits", tags=["images"], responses=STREAMED, openapi_extra=described(EditBody)
    )
    async def edits(request: Request, client: Authenticated) -> Response:
        """A changed image: all of it, what a mask marks, or what extends it."""
        body = await read_body(request, EditBody)
        edit = await asyncio.to_thread(edit_request, service, body, client.owner)
        return await respond(service, request, body, client, edit)

    @router.post(
        "/images/variations",
        tags=["images"],
        responses=STREAMED,
        openapi_extra=described(VariationBody),
    )
    async def variations(request: Request, client: Authenticated) -> Response:
        """Near relatives of an image."""
        body = await read_body(request, VariationBody)
        variation = await asyncio.to_thread(variation_request, service, body, client.owner)
        return await respond(service, request, body, client, variation)

    @router.post(
        "/images/upscale", tags=["images"], responses=STREAMED, openapi_extra=described(UpscaleBody)
    )
    async def upscale(request: Request, client: Authenticated) -> Response:
        """An image, upscaled by the super-resolution stages."""
        body = await read_body(request, UpscaleBody)
        upscaling = await asyncio.to_thread(upscale_request, service, body, client.owner)
        return await respond(service, request, body, client, upscaling)

    @router.post("/images/records", tags=["images"], openapi_extra=described(RecordBody))
    async def records(request: Request, client: Authenticated) -> RecordReply:
        """How an image was made, as its file says. Nothing is stored."""
        body = await read_body(request, RecordBody)
        return await asyncio.to_thread(_record_reply, service, body, client.owner)

    return router


def _record_reply(service: Service, body: RecordBody, owner: str) -> RecordReply:
    sent = upload(service, "image", body.image, owner)
    header = sent.header()
    record = header.record if is_record(header.record) else None
    with ExitStack() as held:
        reserve(service, [sent], held)
        transparent = has_transparency(sent.original().image)
    weights = {} if record is None else recorded_adapters(service, record)
    made_by = (record or {}).get("model_hash")
    models = (
        name
        for name, one in service.cascades.items()
        if service.adapters.hash_with(one, weights) == made_by
    )
    return RecordReply(
        width=sent.size[0],
        height=sent.size[1],
        format=header.kind,
        transparent=transparent,
        record=record,
        model=next(models, None),
    )
