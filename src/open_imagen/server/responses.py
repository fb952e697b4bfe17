"""From a job's events to bytes: one reply with all pictures, or a stream as they are made."""

import asyncio
import base64
import contextlib
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image

from open_imagen.cascade.alpha import parse_background, to_image
from open_imagen.cascade.records import encoded
from open_imagen.errors import OpenImagenError, OutputError
from open_imagen.server.auth import ANYONE
from open_imagen.server.errors import Refusal, failure
from open_imagen.server.gallery_files import GalleryImage
from open_imagen.server.requests import GenerationRequest
from open_imagen.server.schema import Ask, ImagesReply, PictureReply, Usage
from open_imagen.server.service import Service
from open_imagen.server.worker import (
    Event,
    Failed,
    Finished,
    Full,
    Job,
    Progress,
    Stopping,
)

SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
MOST_HEADER = 300
"""Characters of a header that repeats a prompt, before they are encoded."""
log = logging.getLogger("open_imagen.server")


async def answer(
    service: Service, request: Request, body: Ask, who: str, wanted: GenerationRequest
) -> Response:
    """Submit a job and answer with its pictures, at once or as a stream."""
    if service.draining.is_set():
        raise Refusal(503, "The server is stopping.", kind="server_error", retry_after=5)
    if service.filter is not None:
        await _filtered(service, body.prompt, None)
    if service.log_prompts:
        log.info("prompt", extra={"prompt": body.prompt, "client": who})
    loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

    def heard(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the worker
            loop.call_soon_threadsafe(events.put_nowait, event)

    job = Job(
        client=who if who != ANYONE else _address(request),
        model=wanted.model,
        pictures=wanted.pictures,
        stages=wanted.stages,
        settings=wanted.settings,
        heard=_sparing(heard, body.partials),
        deadline=time.monotonic() + service.deadline,
        size=wanted.size,
        start=wanted.start,
        background=wanted.background,
    )
    try:
        service.worker.submit(job)
    except Full as error:
        raise Refusal(
            429, str(error), code="queue_full", kind="rate_limit_error", retry_after=2
        ) from error
    except Stopping as error:
        raise Refusal(503, str(error), kind="server_error", retry_after=5) from error
    headers = {"x-imagen-model": wanted.cascade.model_hash, **await _said_of(wanted, body.prompt)}
    if body.without_effect:
        headers["x-imagen-without-effect"] = ", ".join(body.without_effect)
    reply = _Answer(service, request, body, who, job, events)
    if body.stream:
        return StreamingResponse(
            reply.stream(),
            media_type="text/event-stream",
            headers={**headers, "Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    content = await reply.whole()
    not_kept = sum(not image["kept"] for image in content["data"])
    if not_kept:
        headers["x-imagen-not-kept"] = str(not_kept)
    return JSONResponse(content, headers=headers)


async def _said_of(wanted: GenerationRequest, prompt: str) -> dict[str, str]:
    """Headers that say what a prompt was read as, and what the model does not know of it."""
    cascade = wanted.cascade
    read_as = (await asyncio.to_thread(cascade.read, prompt)).prompt
    try:
        hint = await asyncio.to_thread(cascade.hint, prompt)
    except OpenImagenError:  # the job itself will say what is wrong
        hint = None
    said = {"x-imagen-read-as": read_as if read_as != prompt else "", "x-imagen-hint": hint or ""}
    return {name: header_text(text) for name, text in said.items() if text}


def header_text(text: str) -> str:
    """A text as a header's value: UTF-8, percent-encoded where it is not printable ASCII.

    >>> header_text("100% cat: 猫")
    '100%25 cat: %E7%8C%AB'
    """
    return quote(text[:MOST_HEADER].strip(), safe=SAFE)


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ANYONE


def _sparing(heard: Callable[[Event], None], partials: int) -> Callable[[Event], None]:
    """Pass on what is waited for: of all steps, those at which a partial picture is due."""
    shown: dict[int, int] = {}

    def some(event: Event) -> None:
        if isinstance(event, Progress):
            due = int(event.share * (partials + 1))
            if due <= shown.get(event.picture, 0) or event.share >= 1 or due > partials:
                return
            shown[event.picture] = due
            ready = event.estimate()
            event = event._replace(estimate=lambda: ready)
        heard(event)

    return some


async def _filtered(service: Service, prompt: str, image: Image.Image | None) -> None:
    """Refuse what the content filter does not let pass."""
    assert service.filter is not None
    why = await asyncio.to_thread(service.filter, prompt, image)
    if why:
        raise Refusal(
            400, f"The content filter refused this: {why}", "prompt", "content_policy_violation",
            "image_generation_user_error",
        )  # fmt: skip


class _Answer:
    """One request's way from events to bytes."""

    def __init__(
        self, service: Service, request: Request, body: Ask, who: str, job: Job,
        events: asyncio.Queue[Event],
    ) -> None:  # fmt: skip
        self.service, self.request, self.body, self.who = service, request, body, who
        self.job, self.events = job, events
        self.kind = body.output_format or "png"
        self.created = int(time.time())

    async def whole(self) -> dict[str, Any]:
        """All pictures in one reply."""
        found: dict[int, PictureReply] = {}
        try:
            async for event in self._events():
                if isinstance(event, Finished):
                    found[event.picture] = await self._finish(event)
        finally:
            self.service.worker.cancel(self.job)
        reply = ImagesReply(
            created=self.created,
            data=[found[k] for k in sorted(found)],
            output_format=self.kind,
            size=found[0].record["size"],
            usage=self._usage(),
        )
        return reply.model_dump(exclude_none=True)

    async def stream(self) -> AsyncIterator[bytes]:
        """Partial and finished pictures as server-sent events."""
        counted: dict[int, int] = {}
        try:
            async for event in self._events():
                if event is None:
                    yield b": still here\n\n"
                elif isinstance(event, Progress):
                    number = counted.get(event.picture, 0)
                    counted[event.picture] = number + 1
                    yield _sent(await asyncio.to_thread(self._partial, event, number))
                elif isinstance(event, Finished):
                    yield _sent(await self._completed(event))
        except Refusal as error:
            yield _sent({"type": "error", **error.body()})
        except Exception:
            log.exception("a stream failed")
            yield _sent({"type": "error", **Refusal(500, "The server failed.").body()})
        finally:
            self.service.worker.cancel(self.job)

    async def _events(self) -> AsyncIterator[Event | None]:
        """The job's events until it ends; None every few seconds of silence.

        Raises:
            Refusal: it fails, or its client has gone.
        """
        left = len(self.job.pictures)
        silent = 0
        while left:
            try:
                event = await asyncio.wait_for(self.events.get(), 0.5)
            except TimeoutError:
                if await self.request.is_disconnected():
                    raise Refusal(499, "The client has gone.") from None
                silent += 1
                if silent % 20 == 0:
                    yield None
                continue
            if isinstance(event, Failed):
                raise failure(event.error)
            left -= isinstance(event, Finished)
            yield event

    def _partial(self, event: Progress, number: int) -> dict[str, Any]:
        pixels = event.estimate()
        image = to_image(pixels, parse_background(self.job.background))
        data = io.BytesIO()
        image.save(data, format=self.kind.upper())
        return {
            **self._about("image_generation.partial_image", image.size),
            "b64_json": base64.b64encode(data.getvalue()).decode(),
            "partial_image_index": number,
            "image_index": event.picture,
            "stage": event.stage,
            "progress": round(event.share, 4),
        }

    async def _completed(self, event: Finished) -> dict[str, Any]:
        reply = await self._finish(event, bytes_too=True)
        return {
            **self._about("image_generation.completed", event.image.size),
            **reply.model_dump(exclude_none=True),
            "image_index": event.picture,
            "usage": self._usage().model_dump(),
        }

    def _about(self, kind: str, size: tuple[int, int]) -> dict[str, Any]:
        return {
            "type": kind,
            "created_at": self.created,
            "size": f"{size[0]}x{size[1]}",
            "quality": self.body.quality or "auto",
            "background": self.job.background or "opaque",
            "output_format": self.kind,
        }

    async def _finish(self, event: Finished, bytes_too: bool = False) -> PictureReply:
        """Filter, encode and keep a finished image.

        One that cannot be kept is answered as bytes, whatever was asked for: it has been drawn.

        Raises:
            Refusal: the filter does not let it pass.
        """
        service = self.service
        if service.filter is not None:
            await _filtered(service, self.body.prompt, event.image)
        quality = self.body.output_compression
        data = await asyncio.to_thread(
            encoded, event.image, event.record, self.kind, 95 if quality is None else quality
        )
        kept: GalleryImage | None = None
        try:
            kept = await asyncio.to_thread(
                service.gallery.add, data, self.kind, event.record, self.who
            )
        except OutputError as error:
            log.warning("an image cannot be kept", extra={"reason": str(error)})
            service.counters.not_kept.inc()
        service.counters.images.inc()
        by_url = self.body.response_format == "url"  # else bytes, as the API's current models do
        wanted = not by_url or bytes_too or kept is None
        url = picture_url(self.request, kept) if kept and (by_url or bytes_too) else None
        return PictureReply(
            b64_json=base64.b64encode(data).decode() if wanted else None,
            url=url,
            id=kept.id if kept else None,
            kept=kept is not None,
            seed=event.record["seed"],
            record=event.record,
        )

    def _usage(self) -> Usage:
        cascade = self.service.cascades[self.job.model]
        tokens = cascade.text.length(cascade.read(self.body.prompt).prompt)
        details = {"text_tokens": tokens, "image_tokens": 0}
        return Usage(
            input_tokens=tokens, input_tokens_details=details, output_tokens=0, total_tokens=tokens
        )


def _sent(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def picture_url(request: Request, kept: GalleryImage) -> str:
    """Where a picture of the gallery is to be had."""
    return f"{str(request.base_url).rstrip('/')}/v1/images/files/{kept.id}.{kept.kind}"
