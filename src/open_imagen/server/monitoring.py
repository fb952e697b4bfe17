"""Routes for whoever runs the server."""

from fastapi import APIRouter
from fastapi.responses import Response

from open_imagen.server.errors import RequestError
from open_imagen.server.service import Service


def monitoring_router(service: Service) -> APIRouter:
    """Routes of health and metrics. They need no thread: a busy server answers them at once."""
    router = APIRouter(tags=["monitoring"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        """Whether it takes work."""
        if service.draining.is_set() or not service.worker.alive:
            raise RequestError(503, "The server is not taking requests.", kind="server_error")
        return {"status": "ready"}

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        service.counters.depth.set(service.worker.depth)
        return Response(service.counters.text(), media_type="text/plain; version=0.0.4")

    return router
