"""From a job's events to bytes: one reply with all images, or a stream as they are made."""

import asyncio
import base64
import contextlib
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from PIL import Image

from open_imagen.cascade.edit import EditPlan
from open_imagen.cascade.records import encoded
from open_imagen.errors import OutputError
from open_imagen.server.auth import Client
from open_imagen.server.errors import RequestError, job_error
from open_imagen.server.finishing import flattened, preview_plan, shown
from open_imagen.server.gallery_files import GalleryImage
from open_imagen.server.headers import prompt_headers
from open_imagen.server.jobs import (
    Event,
    Failed,
    Finished,
    Job,
    Progress,
    QueueFull,
    WorkerStopping,
)
from open_imagen.server.middleware import Receive, Scope, Send
from open_imagen.server.requests import GenerationRequest
from open_imagen.server.schema import ImageReply, ImagesReply, RequestBody, Usage
from open_imagen.server.service import Service

KEEP_ALIVE_TICKS = 20
"""Half seconds of silence after which a stream sends a comment."""
log = logging.getLogger("open_imagen.server")


async def respond(
    service: Service,
    request: Request,
    body: RequestBody,
    client: Client,
    generation: GenerationRequest,
) -> Response:
    """Submit a job and answer with its images, at once or as a stream."""
    try:
        headers = await _check(service, body, client, generation)
        events: asyncio.Queue[Event] = asyncio.Queue()
        job = _submit(service, body, client, generation, events)
    except BaseException:
        generation.release()
        raise
    answer = _Answer(service, request, body, client, generation, job, events)
    if body.stream:
        return _Stream(answer, headers)
    content = await answer.whole()
    not_saved = sum(not image["saved"] for image in content["data"])
    if not_saved:
        headers["x-imagen-not-saved"] = str(not_saved)
    return await asyncio.to_thread(JSONResponse, content, headers=headers)


async def _check(
    service: Service, body: RequestBody, client: Client, generation: GenerationRequest
) -> dict[str, str]:
    """The headers of a reply to a request that is let in.

    Raises:
        RequestError: the server stops, or its filter does not let the request pass.
    """
    if service.draining.is_set():
        raise RequestError(503, "The server is stopping.", kind="server_error", retry_after=5)
    prompt = generation.prompt
    if service.filter is not None:
        await _check_filter(service, prompt, None)
        originals = {id(one): one for one in generation.plans}.values()
        for plan in originals:
            await _check_filter(service, prompt, plan.crop.canvas.original.image)
    if service.log_prompts:
        log.info("prompt", extra={"prompt": prompt, "client": client.name})
    headers = {
        "x-imagen-model": generation.cascade.model_hash,
        **await prompt_headers(generation.cascade, generation.images[0]),
        **generation.headers,
    }
    if body.ignored:
        headers["x-imagen-without-effect"] = ", ".join(body.ignored)
    return headers


def _submit(
    service: Service,
    body: RequestBody,
    client: Client,
    generation: GenerationRequest,
    events: asyncio.Queue[Event],
) -> Job:
    """Give a job to the worker.

    Raises:
        RequestError: the client has asked for too many images, or the server stops.
    """
    loop = asyncio.get_running_loop()

    def on_event(event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the worker
            loop.call_soon_threadsafe(events.put_nowait, event)

    number = len(generation.images)
    if wait := service.rate.wait(client, number):
        raise RequestError(
            429, "You have had as many images as one client gets in an hour.",
            code="rate_limit_exceeded", kind="rate_limit_error", retry_after=wait,
        )  # fmt: skip
    job = Job(
        account=client.account,
        model=generation.model,
        images=generation.images,
        stages=generation.stages,
        settings=generation.settings,
        on_event=_only_due_previews(on_event, body.num_previews),
        deadline=time.monotonic() + service.deadline,
        size=generation.size,
        lowres=generation.lowres,
        background=generation.background,
        crop=generation.crop,
        cascade=generation.cascade,
        plans=generation.plans,
        max_queued=client.max_queued or service.max_queued,
    )
    try:
        service.worker.submit(job)
    except QueueFull as error:
        raise RequestError(
            429, str(error), code=error.code, kind="rate_limit_error",
            retry_after=error.retry_after,
        ) from error  # fmt: skip
    except WorkerStopping as error:
        raise RequestError(503, str(error), kind="server_error", retry_after=5) from error
    service.rate.count(client, number)
    return job


def _only_due_previews(on_event: Callable[[Event], None], previews: int) -> Callable[[Event], None]:
    """Pass on all events, but of the steps only those at which a preview is due."""
    sent: dict[int, int] = {}

    def due_only(event: Event) -> None:
        if isinstance(event, Progress):
            due = int(event.fraction * (previews + 1))
            if due <= sent.get(event.image_index, 0) or event.fraction >= 1 or due > previews:
                return
            sent[event.image_index] = due
            estimate = event.estimate()
            event = event._replace(estimate=lambda: estimate)
        on_event(event)

    return due_only


async def _check_filter(service: Service, prompt: str, image: Image.Image | None) -> None:
    """Refuse what the content filter does not let pass."""
    assert service.filter is not None
    reason = await asyncio.to_thread(service.filter, prompt, image)
    if reason:
        raise RequestError(
            400, f"The content filter refused this: {reason}", "prompt",
            "content_policy_violation", "image_generation_user_error",
        )  # fmt: skip


class _Answer:
    """The answer to one request for images."""

    def __init__(
        self,
        service: Service,
        request: Request,
        body: RequestBody,
        client: Client,
        generation: GenerationRequest,
        job: Job,
        events: asyncio.Queue[Event],
    ) -> None:
        self.service, self.request, self.body, self.client = service, request, body, client
        self.generation, self.job, self.events = generation, job, events
        self._small: dict[int, EditPlan] = {}
        """By the edit that they are of: the same, for partial images."""
        self.kind = body.output_format or "png"
        self.created = int(time.time())
        service.pending.add(self)

    def close(self) -> None:
        """Forget the job; nobody waits for it any more."""
        self.service.worker.cancel(self.job)
        self.service.pending.discard(self)
        self.generation.release()

    async def whole(self) -> dict[str, Any]:
        """All images in one reply."""
        replies: dict[int, ImageReply] = {}
        try:
            async for event in self._events():
                if isinstance(event, Finished):
                    replies[event.image_index] = await self._save(event)
        finally:
            self.close()
        reply = ImagesReply(
            created=self.created,
            data=[replies[k] for k in sorted(replies)],
            output_format=self.kind,
            size=replies[0].record["size"],
            usage=self._usage(),
        )
        return reply.model_dump(exclude_none=True)

    async def stream(self) -> AsyncIterator[bytes]:
        """Partial and finished images as server-sent events."""
        sent: dict[int, int] = {}
        try:
            async for event in self._events():
                if event is None:
                    yield b": still here\n\n"
                elif isinstance(event, Progress):
                    number = sent.get(event.image_index, 0)
                    partial = await self._partial(event, number)
                    if partial is not None:
                        sent[event.image_index] = number + 1
                        yield _event_bytes(partial)
                elif isinstance(event, Finished):
                    yield _event_bytes(await self._completed(event))
        except RequestError as error:
            yield _event_bytes({"type": "error", **error.body()})
        except Exception:
            log.exception("a stream failed")
            yield _event_bytes({"type": "error", **RequestError(500, "The server failed.").body()})

    async def _events(self) -> AsyncIterator[Event | None]:
        """The job's events until it ends; None every few seconds of silence.

        Raises:
            RequestError: it fails, or its client has gone.
        """
        unfinished, silent = len(self.job.images), 0
        while unfinished:
            try:
                event = await asyncio.wait_for(self.events.get(), 0.5)
            except TimeoutError:
                if await self.request.is_disconnected():
                    raise RequestError(499, "The client has gone.") from None
                silent += 1
                if silent % KEEP_ALIVE_TICKS == 0:
                    yield None
                continue
            if isinstance(event, Failed):
                raise job_error(event.error)
            unfinished -= isinstance(event, Finished)
            yield event

    async def _partial(self, event: Progress, number: int) -> dict[str, Any] | None:
        """A preview; None if the content filter does not let it pass.

        The finished image decides about the request: a filter may misjudge a noisy one.
        """
        image = await asyncio.to_thread(self._preview, event)
        if self.service.filter is not None:
            try:
                await _check_filter(self.service, self.generation.prompt, image)
            except RequestError:
                return None
        return {
            **self._common("partial_image", image),
            "b64_json": await asyncio.to_thread(_base64_image, image, self.kind),
            "partial_image_index": number,
            "image_index": event.image_index,
            "stage": event.stage,
            "progress": round(event.fraction, 4),
        }

    def _preview(self, event: Progress) -> Image.Image:
        plan, pixels = self.job.plan(event.image_index), event.estimate()
        if plan is None:
            return shown(self.job, pixels, None)
        if id(plan) not in self._small:
            self._small[id(plan)] = preview_plan(plan)
        return shown(self.job, pixels, self._small[id(plan)])

    async def _completed(self, event: Finished) -> dict[str, Any]:
        reply = await self._save(event, always_bytes=True)
        return {
            **self._common("completed", event.image),
            **reply.model_dump(exclude_none=True),
            "image_index": event.image_index,
            "usage": self._usage().model_dump(),
        }

    def _common(self, kind: str, image: Image.Image) -> dict[str, Any]:
        """What partial and completed events have in common."""
        transparent = image.mode == "RGBA" and self.kind != "jpeg"
        return {
            "type": f"{self.generation.events}.{kind}",
            "created_at": self.created,
            "size": f"{image.width}x{image.height}",
            "quality": self.body.quality or "auto",
            "background": "transparent" if transparent else "opaque",
            "output_format": self.kind,
        }

    async def _save(self, event: Finished, always_bytes: bool = False) -> ImageReply:
        """Check a finished image with the filter, encode it, and save it in the gallery.

        One that cannot be saved is answered as bytes, whatever was asked for: it has been drawn.

        Raises:
            RequestError: the filter does not let it pass.
        """
        service = self.service
        if service.filter is not None:
            await _check_filter(service, self.generation.prompt, event.image)
        quality = self.body.output_compression
        data = await asyncio.to_thread(
            _encoded, event.image, event.record, self.kind, 95 if quality is None else quality
        )
        saved: GalleryImage | None = None
        try:
            saved = await asyncio.to_thread(
                service.gallery.add, data, self.kind, event.record, self.client.owner
            )
        except OutputError as error:
            log.warning("an image cannot be saved", extra={"reason": str(error)})
            service.counters.not_saved.inc()
        service.counters.images.inc()
        by_url = self.body.response_format == "url"  # else bytes, as the API's current models do
        with_bytes = not by_url or always_bytes or saved is None
        url = image_url(self.request, saved) if saved and (by_url or always_bytes) else None
        return ImageReply(
            b64_json=base64.b64encode(data).decode() if with_bytes else None,
            url=url,
            id=saved.id if saved else None,
            saved=saved is not None,
            seed=event.record["seed"],
            record=event.record,
        )

    def _usage(self) -> Usage:
        cascade = self.generation.cascade
        tokens = cascade.text.length(cascade.read(self.generation.prompt).prompt)
        details = {"text_tokens": tokens, "image_tokens": 0}
        return Usage(
            input_tokens=tokens, input_tokens_details=details, output_tokens=0, total_tokens=tokens
        )


class _Stream(StreamingResponse):
    """A stream of events, which also ends where its client goes before it has begun."""

    def __init__(self, answer: _Answer, headers: dict[str, str]) -> None:
        self._answer = answer
        super().__init__(
            answer.stream(),
            media_type="text/event-stream",
            headers={**headers, "Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.close()


def _encoded(image: Image.Image, record: dict[str, Any], kind: str, quality: int) -> bytes:
    return encoded(flattened(image) if kind == "jpeg" else image, record, kind, quality)


def _base64_image(image: Image.Image, kind: str) -> str:
    data = io.BytesIO()
    (flattened(image) if kind == "jpeg" else image).save(data, format=kind.upper())
    return base64.b64encode(data.getvalue()).decode()


def _event_bytes(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def image_url(request: Request, image: GalleryImage) -> str:
    """The address of an image of the gallery."""
    return f"{str(request.base_url).rstrip('/')}/v1/images/files/{image.id}.{image.kind}"
