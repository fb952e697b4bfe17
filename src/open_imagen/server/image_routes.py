"""Routes of the models and of making images."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.metadata import plain_sampling
from open_imagen.server.auth import Client
from open_imagen.server.errors import RequestError
from open_imagen.server.requests import generation_request
from open_imagen.server.responses import respond
from open_imagen.server.schema import (
    GenerationBody,
    ImagesReply,
    ModelReply,
    ModelsReply,
)
from open_imagen.server.service import Service

EVENT = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["event", "data"],
}
"""One event of a stream; its data is JSON."""
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ImagesReply,
        "description": "The images; with stream, events as they are made.",
        "content": {"text/event-stream": {"schema": EVENT}},
    }
}


def client_of(request: Request) -> Client:
    """Who sends a request, as the guard has found out."""
    client = getattr(request.state, "client", None)
    if not isinstance(client, Client):
        raise RequestError(401, "No API key was provided.", code="invalid_api_key")
    return client


Authenticated = Annotated[Client, Depends(client_of)]


def image_router(service: Service) -> APIRouter:
    """Routes of the models and of making images."""
    router = APIRouter(prefix="/v1")

    @router.get("/models", tags=["models"])
    def models(client: Authenticated) -> ModelsReply:
        """The models that are loaded, and their other names."""
        replies = [_model(service, name, cascade) for name, cascade in service.cascades.items()]
        replies += [_alias(service, alias) for alias in service.aliases]
        return ModelsReply(data=replies)

    @router.get("/models/{model}", tags=["models"])
    def model(model: str, client: Authenticated) -> ModelReply:
        """One of them."""
        return _alias(service, model) if model in service.aliases else _named(service, model)

    @router.post("/images/generations", tags=["images"], responses=STREAMED)
    async def generations(
        body: GenerationBody, request: Request, client: Authenticated
    ) -> Response:
        """Images of a sentence; with "stream": true as server-sent events."""
        generation = await asyncio.to_thread(generation_request, service, body)
        return await respond(service, request, body, client, generation)

    return router


def _named(service: Service, name: str) -> ModelReply:
    return _model(service, *service.cascade(name))


def _alias(service: Service, alias: str) -> ModelReply:
    model = _named(service, alias)
    return model.model_copy(update={"id": alias, "alias_of": model.id})


def _model(service: Service, name: str, cascade: Cascade) -> ModelReply:
    resolved = cascade.complete_settings([*cascade.stages.values()], None)
    stages = [
        {
            "name": stage.config.name,
            "resolution": stage.config.resolution,
            "defaults": stage.config.sampling.given(),
            "resolved": plain_sampling(resolved[stage.config.name]),
            "adapters": list(cascade.variants[stage.config.name].adapters),
        }
        for stage in cascade.stages.values()
    ]
    adapters = [
        {"name": one, "stage": weighted.adapter.stage}
        for one, weighted in service.adapters.fitting(cascade).items()
    ]
    return ModelReply(
        id=name,
        created=0,
        owned_by="open_imagen",
        hash=cascade.model_hash,
        stages=stages,
        adapters=adapters,
        default_stages=len(cascade.chosen(None)),
    )
