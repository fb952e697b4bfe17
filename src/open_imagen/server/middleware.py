"""What a server needs to be run: limits before anything is read, counters, logs as JSON lines."""

import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from open_imagen.server.worker import Observer

log = logging.getLogger("open_imagen.server")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


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
            "imagen_queue_depth", "Pictures waiting or being drawn.", registry=self.registry
        )
        self.sizes = Histogram(
            "imagen_batch_size", "Pictures drawn together.", ["stage"],
            buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry,
        )  # fmt: skip
        self.drawing = Histogram(
            "imagen_batch_seconds", "Drawing of one batch of a stage.", ["stage"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60), registry=self.registry,
        )  # fmt: skip
        self.images = Counter("imagen_images", "Pictures finished.", registry=self.registry)
        self.not_kept = Counter(
            "imagen_images_not_kept",
            "Images that were answered but could not be written into the gallery.",
            registry=self.registry,
        )

    def batch(self, stage: str, size: int, seconds: float) -> None:
        self.sizes.labels(stage).observe(size)
        self.drawing.labels(stage).observe(seconds)

    def text(self) -> bytes:
        """All of it in Prometheus' format."""
        return generate_latest(self.registry)


def guard(
    app: FastAPI,
    counters: Counters,
    body_limit: int,
    origins: tuple[str, ...],
    too_large: Callable[[int], Response],
) -> None:
    """Put the guards before an app: CORS (only if asked for), the size of requests, logs."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["x-imagen-model", "x-imagen-read-as", "x-imagen-hint"],
        )
    app.add_middleware(_Limit, limit=body_limit, reply=too_large)
    app.add_middleware(_Watch, counters=counters)


class _Limit:
    """Refuse a request whose body is too large, before and while it is read."""

    def __init__(self, app: App, limit: int, reply: Callable[[int], Response]) -> None:
        self.app, self.limit, self.reply = app, limit, reply

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > self.limit:
            await self.reply(self.limit)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise HTTPException(413, f"The request has more than {self.limit:,} bytes.")
            return message

        await self.app(scope, counted, send)


class _Watch:
    """Give every request an id, count it, and log it when it has been answered."""

    def __init__(self, app: App, counters: Counters) -> None:
        self.app, self.counters = app, counters

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, started, status = secrets.token_hex(8), time.monotonic(), 0

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []), (b"x-request-id", name.encode())
                ]  # fmt: skip
            await send(message)

        try:
            await self.app(scope, receive, answered)
        finally:
            took = time.monotonic() - started
            route = getattr(scope.get("route"), "path", "other")
            self.counters.requests.labels(route, str(status or 499)).inc()
            self.counters.seconds.labels(route).observe(took)
            facts = {
                "request": name, "method": scope["method"], "route": route, "status": status,
                "ms": round(1000 * took), "client": scope.get("state", {}).get("client"),
            }  # fmt: skip
            log.info("request", extra=facts)


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    plain = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        facts = {k: v for k, v in vars(record).items() if k not in self.plain and v is not None}
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **facts,
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
