"""Around every request: an id, a line in the log, counters for Prometheus, a proxy's prefix."""

import logging
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from open_imagen.server.worker import Observer

log = logging.getLogger("open_imagen.server")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Counters(Observer):
    """What Prometheus reads. Labels never hold prompts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "imagen_requests", "Requests answered.", ["route", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "imagen_request_seconds", "From request to answer.", ["route"],
            buckets=(0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300), registry=self.registry,
        )  # fmt: skip
        self.depth = Gauge(
            "imagen_queue_depth", "Images waiting or being drawn.", registry=self.registry
        )
        self.sizes = Histogram(
            "imagen_batch_size", "Images drawn together.", ["stage"],
            buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry,
        )  # fmt: skip
        self.drawing = Histogram(
            "imagen_batch_seconds", "Drawing of one batch of a stage.", ["stage"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60), registry=self.registry,
        )  # fmt: skip
        self.images = Counter("imagen_images", "Images finished.", registry=self.registry)
        self.not_saved = Counter(
            "imagen_images_not_saved",
            "Images that were answered but could not be written into the gallery.",
            registry=self.registry,
        )

    def on_batch(self, stage: str, size: int, seconds: float) -> None:
        """Count a batch and its time."""
        self.sizes.labels(stage).observe(size)
        self.drawing.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' format."""
        return generate_latest(self.registry)


class RootPath:
    """Makes the path under which a proxy shows the server known, whether it cuts it off or not."""

    def __init__(self, app: App, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        scope["root_path"] = self.root_path
        await self.app(scope, receive, send)


class RequestLog:
    """Gives every request an id, counts it, and logs it when it has been answered."""

    def __init__(self, app: App, counters: Counters) -> None:
        self.app, self.counters = app, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, started, status = secrets.token_hex(8), time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []), (b"x-request-id", name.encode())
                ]  # fmt: skip
            await send(message)

        state = scope.setdefault("state", {})
        try:
            await self.app(scope, receive, send_with_id)
        finally:
            took = time.monotonic() - started
            route = getattr(scope.get("route"), "path", "other")
            self.counters.requests.labels(route, str(status or 499)).inc()
            self.counters.seconds.labels(route).observe(took)
            client = state.get("client")
            extra = {
                "request": name, "method": scope["method"][:20], "route": route, "status": status,
                "ms": round(1000 * took), "client": client.name if client is not None else None,
            }  # fmt: skip
            log.info("request", extra=extra)
