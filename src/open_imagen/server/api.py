"""The OpenAI Images API on our cascades, the gallery beside it, and the studio page."""

import asyncio
from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, Response

from open_imagen.cascade.pipeline import Cascade
from open_imagen.cascade.records import FORMATS
from open_imagen.server.auth import ANYONE
from open_imagen.server.errors import Refusal, show_errors
from open_imagen.server.gallery_files import GalleryImage
from open_imagen.server.middleware import guard
from open_imagen.server.requests import generation_request, upscaling_request
from open_imagen.server.responses import answer, picture_url
from open_imagen.server.schema import (
    ErrorReply,
    GalleryReply,
    Generation,
    ImagesReply,
    KeptReply,
    ModelReply,
    ModelsReply,
    Upscaling,
)
from open_imagen.server.service import Service
from open_imagen.version import __version__

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": text}
    for status, text in (
        (400, "The request is wrong; the message says how."),
        (401, "No key, or a wrong one."),
        (403, "The image was not written by this server; it does not remove it."),
        (404, "There is no such thing."),
        (405, "No such method here."),
        (413, "The request is too large."),
        (429, "The queue is full; Retry-After says when to come again."),
        (500, "The server failed."),
        (503, "The server is stopping, or the picture was not finished in time."),
    )
}
EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
"""One of a stream; its data is JSON."""
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ImagesReply,
        "description": "The pictures; with stream, events as they are made.",
        "content": {"text/event-stream": {"schema": EVENT}},
    }
}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}


def make_app(service: Service) -> FastAPI:
    """The whole server as an ASGI application."""
    app = FastAPI(
        title="Open Imagen",
        version=__version__,
        description="Pictures from sentences: the OpenAI Images API on cascades of pixel-space "
        "diffusion models.",
        responses=ERRORS,
        redoc_url=None,
    )
    app.state.service = service
    show_errors(app)
    client = Depends(_client(service))
    page = files("open_imagen").joinpath("server/static/studio.html").read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    def studio() -> HTMLResponse:
        return HTMLResponse(page, headers=PAGE_HEADERS)

    @app.get("/healthz", tags=["operation"])
    def alive() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operation"])
    def ready() -> dict[str, str]:
        """Whether it takes work."""
        if service.draining.is_set() or not service.worker.alive:
            raise Refusal(503, "The server is not taking requests.", kind="server_error")
        return {"status": "ready"}

    @app.get("/metrics", tags=["operation"], response_class=Response)
    def metrics() -> Response:
        """For Prometheus."""
        service.counters.depth.set(service.worker.depth)
        return Response(service.counters.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models", tags=["models"])
    def models(who: Annotated[str, client]) -> ModelsReply:
        """The models that are loaded."""
        return ModelsReply(data=[_model(name, c) for name, c in service.cascades.items()])

    @app.get("/v1/models/{model}", tags=["models"])
    def model(model: str, who: Annotated[str, client]) -> ModelReply:
        """One of them."""
        return _model(*service.cascade(model))

    @app.post("/v1/images/generations", tags=["images"], responses=STREAMED)
    async def generate(body: Generation, request: Request, who: Annotated[str, client]) -> Response:
        """Pictures of a sentence; with "stream": true as server-sent events."""
        return await answer(service, request, body, who, generation_request(service, body))

    @app.post("/v1/images/upscale", tags=["images"], responses=STREAMED)
    async def upscale(body: Upscaling, request: Request, who: Annotated[str, client]) -> Response:
        """A picture, enlarged by the super-resolution stages."""
        made = await asyncio.to_thread(upscaling_request, service, body, who)
        return await answer(service, request, body, who, made)

    @app.get("/v1/images/files/{name}", tags=["images"], response_class=Response)
    def file(name: str) -> Response:
        """A picture's file; its name is the key to it."""
        kept = service.gallery.get(name.rpartition(".")[0] or name)
        data = service.gallery.data(kept) if kept is not None else None
        if kept is None or data is None:
            raise Refusal(404, "There is no such picture.", "name", "not_found")
        headers = {**IMMUTABLE, "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type=FORMATS[kept.kind], headers=headers)

    @app.get("/v1/gallery", tags=["gallery"])
    def gallery(
        request: Request,
        who: Annotated[str, client],
        limit: Annotated[int, Query(ge=1, le=100)] = 30,
        before: Annotated[float | None, Query(ge=0, le=1e12, allow_inf_nan=False)] = None,
    ) -> GalleryReply:
        """What was made with this key, the newest first; ``before`` turns the page."""
        found = service.gallery.latest(who, limit + 1, before)
        return GalleryReply(
            data=[_shown(request, kept) for kept in found[:limit]], more=len(found) > limit
        )

    @app.delete("/v1/gallery/{name}", tags=["gallery"])
    def forget(name: str, who: Annotated[str, client]) -> dict[str, bool]:
        """Remove a picture."""
        kept = service.gallery.get(name)
        if kept is None or kept.owner != who:
            raise Refusal(404, "There is no such picture.", "name", "not_found")
        if not service.gallery.delete(kept):
            raise Refusal(
                403, f"The gallery did not write {kept.file} and never removes it. To remove it, "
                "delete the file in the gallery's folder.", "name", "not_removable",
            )  # fmt: skip
        return {"deleted": True}

    guard(app, service.counters, service.body_limit, service.origins, _too_large)
    return app


def _too_large(limit: int) -> Response:
    return Refusal(
        413, f"The request has more than {limit:,} bytes.", code="request_too_large"
    ).reply()


def _client(service: Service) -> Callable[[Request], str]:
    """Who asks; a wrong key is refused."""

    def client(request: Request) -> str:
        if service.keys is None:
            return ANYONE
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        name = service.keys.client(key.strip()) if kind.lower() == "bearer" else None
        if name is None:
            what = "Incorrect API key provided." if key else "No API key was provided."
            raise Refusal(401, what, code="invalid_api_key")
        request.state.client = name
        return name

    return client


def _model(name: str, cascade: Cascade) -> ModelReply:
    stages = [
        {
            "name": stage.config.name,
            "resolution": stage.config.resolution,
            "defaults": stage.config.sampling.given(),
            "adapters": list(cascade.variants[stage.config.name].adapters),
        }
        for stage in cascade.stages.values()
    ]
    return ModelReply(id=name, created=0, owned_by="open_imagen", hash=cascade.model_hash,
                      stages=stages, default_stages=len(cascade.chosen(None)))  # fmt: skip


def _shown(request: Request, kept: GalleryImage) -> KeptReply:
    return KeptReply(
        id=kept.id,
        url=picture_url(request, kept),
        created=kept.created,
        width=kept.width,
        height=kept.height,
        removable=kept.written,
        record=kept.record,
    )
