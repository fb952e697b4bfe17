"""The image server: the OpenAI Images API on our cascades, the gallery, and the studio page."""

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from open_imagen.server.edit_routes import edit_router
from open_imagen.server.errors import show_errors
from open_imagen.server.gallery_routes import gallery_router
from open_imagen.server.guard import MIB, Guard, GuardConfig
from open_imagen.server.image_routes import image_router
from open_imagen.server.middleware import RequestLog, RootPath
from open_imagen.server.monitoring import monitoring_router
from open_imagen.server.pages import page_router
from open_imagen.server.schema import ErrorReply
from open_imagen.server.service import Service
from open_imagen.version import __version__

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": text}
    for status, text in (
        (400, "The request is wrong; the message says how."),
        (401, "No key, or a wrong one."),
        (403, "The image was not written by this server; or the host or site is not allowed."),
        (404, "There is no such thing."),
        (405, "No such method here."),
        (408, "The request's body did not arrive in time."),
        (413, "The request is too large."),
        (429, "The queue is full or a limit is reached; Retry-After says when to come again."),
        (500, "The server failed."),
        (503, "The server is stopping, or the image was not finished in time."),
    )
}
SHOWN_HEADERS = ["x-imagen-model", "x-imagen-read-as", "x-imagen-hint", "x-imagen-prompt-cut",
                 "x-imagen-not-saved", "x-imagen-without-effect", "x-imagen-made-by",
                 "retry-after"]  # fmt: skip


def make_app(service: Service) -> FastAPI:
    """The whole server as an ASGI application."""
    app = FastAPI(
        title="Open Imagen",
        version=__version__,
        description="Images from sentences: the OpenAI Images API on cascades of pixel-space "
        "diffusion models.",
        responses=ERRORS,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    show_errors(app)
    for router in (
        page_router(service.root_path),
        monitoring_router(service),
        image_router(service),
        edit_router(service),
        gallery_router(service),
    ):
        app.include_router(router)
    app.add_middleware(Guard, config=guard_config(service))
    if service.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=SHOWN_HEADERS,
        )
    app.add_middleware(RequestLog, counters=service.counters)
    app.add_middleware(RootPath, root_path=service.root_path)
    return app


def guard_config(service: Service) -> GuardConfig:
    """What the image server lets in."""
    return GuardConfig(
        allowed_hosts=service.allowed_hosts,
        origins=service.origins,
        keys=service.keys,
        body_limits={
            "/v1/images/generations": min(MIB, service.body_limit),
            "/v1/images/upscale": service.body_limit,
            "/v1/images/edits": service.body_limit,
            "/v1/images/variations": service.body_limit,
            "/v1/images/records": service.body_limit,
        },
    )
