"""The OpenAI Images API on our cascades, the gallery beside it, and the studio page."""

import asyncio
import base64
import binascii
import contextlib
import io
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from PIL import Image
from starlette.exceptions import HTTPException

from open_imagen.cascade.pipeline import Cascade, first_size
from open_imagen.cascade.records import FORMATS, encoded
from open_imagen.cascade.sampling import Sampling, parse_sampling
from open_imagen.cascade.stage import Stage
from open_imagen.data.images import Unusable, decode
from open_imagen.errors import ConfigError, OpenImagenError, OutputError, UnknownName
from open_imagen.serving.access import ANYONE, Keys
from open_imagen.serving.gallery import ID, Gallery, Kept
from open_imagen.serving.operation import Counters, guard
from open_imagen.serving.schema import (
    MOST_PICTURES,
    Ask,
    ErrorReply,
    GalleryReply,
    Generation,
    ImagesReply,
    KeptReply,
    ModelReply,
    ModelsReply,
    PictureReply,
    Upscaling,
    Usage,
)
from open_imagen.serving.worker import (
    Event,
    Expired,
    Failed,
    Finished,
    Full,
    Job,
    Picture,
    Progress,
    Stopping,
    Worker,
)
from open_imagen.version import __version__

log = logging.getLogger("open_imagen.serving")
Filter = Callable[[str, Image.Image | None], str | None]
"""(prompt, picture or None before it is made) -> why it is not to be shown, or None."""
Made = TypeVar("Made")

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": text}
    for status, text in (
        (400, "The request is wrong; the message says how."),
        (401, "No key, or a wrong one."),
        (404, "There is no such thing."),
        (405, "No such method here."),
        (413, "The request is too large."),
        (429, "The queue is full; Retry-After says when to come again."),
        (500, "The server failed."),
        (503, "The server is stopping, or the picture was not finished in time."),
    )
}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ImagesReply,
        "description": "The pictures; with stream, events as they are made.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
IMMUTABLE = {"Cache-Control": "private, max-age=31536000, immutable"}


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a server serves, and within which limits."""

    cascades: Mapping[str, Cascade]
    worker: Worker
    gallery: Gallery
    counters: Counters
    keys: Keys | None = None
    """None: anyone may ask."""
    deadline: float = 600.0
    """Seconds from asking to the finished picture."""
    most_pixels: int = 1024 * 1024
    """Of one picture."""
    body_limit: int = 32 * 1024 * 1024
    """Bytes of a request."""
    origins: tuple[str, ...] = ()
    """Other sites whose pages may ask (CORS)."""
    log_prompts: bool = False
    filter: Filter | None = None
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server stops: no new work."""

    @property
    def first(self) -> str:
        """The model that is meant when none is named."""
        return next(iter(self.cascades))


class Refusal(Exception):
    """An answer that is an error object."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None,
        kind: str = "invalid_request_error", retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.param, self.code, self.kind = status, param, code, kind
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        return {
            "error": {
                "message": str(self),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def reply(self) -> JSONResponse:
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        elif self.status >= 500:
            headers["x-should-retry"] = "false"
        return JSONResponse(self.body(), self.status, headers)


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
    _errors(app)
    client = Depends(_client(service))
    page = files("open_imagen").joinpath("serving/static/studio.html").read_text(encoding="utf-8")

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
        return _model(model, _cascade(service, model))

    @app.post("/v1/images/generations", tags=["images"], responses=STREAMED)
    async def generate(body: Generation, request: Request, who: Annotated[str, client]) -> Response:
        """Pictures of a sentence; with "stream": true as server-sent events."""
        return await _answer(service, request, body, who, _job_of(service, body, who))

    @app.post("/v1/images/upscale", tags=["images"], responses=STREAMED)
    async def upscale(body: Upscaling, request: Request, who: Annotated[str, client]) -> Response:
        """A picture, enlarged by the super-resolution stages."""
        made = await asyncio.to_thread(_enlarging_job, service, body, who)
        return await _answer(service, request, body, who, made)

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
        service.gallery.delete(kept)
        return {"deleted": True}

    guard(app, service.counters, service.body_limit, service.origins, _too_large)
    return app


def _too_large(limit: int) -> Response:
    return Refusal(
        413, f"The request has more than {limit:,} bytes.", code="request_too_large"
    ).reply()


def _errors(app: FastAPI) -> None:
    """Every error as OpenAI's error object."""

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return error.reply()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(error).reply()

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        reply = Refusal(error.status_code, str(error.detail)).reply()
        reply.headers.update(error.headers or {})
        return reply

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return Refusal(500, "The server failed.", kind="server_error").reply()


def _invalid(error: RequestValidationError) -> Refusal:
    """What is wrong with a request, in one sentence, with the limit that it breaks."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "json_invalid":
        return Refusal(400, "The request is not valid JSON.")
    if first["type"] == "extra_forbidden":
        unknown = UnknownName("field", place[-1], [*Generation.model_fields])
        return Refusal(400, f"{unknown} {unknown.hint}", place[-1], "unknown_parameter")
    if place == ["n"]:
        message = f"n must be a whole number from 1 to {MOST_PICTURES}."
    elif place == ["size"]:
        message = 'size must be "auto" or WIDTHxHEIGHT, as in "256x256".'
    else:
        where = ".".join(place) or "The request body"
        message = f"{where}: {first['msg'].removeprefix('Value error, ')}."
    return Refusal(400, message, ".".join(place[:1]) or None, "invalid_value")


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


def _cascade(service: Service, name: str | None) -> Cascade:
    if name is None or name == "":
        return service.cascades[service.first]
    if name not in service.cascades:
        known = ", ".join(service.cascades)
        raise Refusal(
            404, f"The model {name[:80]!r} does not exist; there are: {known}.", "model",
            "model_not_found",
        )  # fmt: skip
    return service.cascades[name]


def _model(name: str, cascade: Cascade) -> ModelReply:
    stages = [
        {
            "name": stage.config.name,
            "resolution": stage.config.resolution,
            "defaults": stage.config.sampling.given(),
        }
        for stage in cascade.stages.values()
    ]
    return ModelReply(id=name, created=0, owned_by="open_imagen", hash=cascade.model_hash,
                      stages=stages)  # fmt: skip


@dataclass
class Wanted:
    """A job that waits to be submitted, and where its events go."""

    model: str
    cascade: Cascade
    pictures: list[Picture]
    stages: list[Stage]
    settings: dict[str, Sampling]
    size: tuple[int, int] | None
    start: Any = None


def _settings(cascade: Cascade, body: Ask, stages: list[Stage]) -> dict[str, Sampling]:
    names = [stage.config.name for stage in stages]
    try:
        plain = body.by_stage(names)
        given = {name: parse_sampling(values, name) for name, values in plain.items()}
        return cascade.complete_settings(stages, given)
    except KeyError as error:
        raise Refusal(
            400, f"There is no stage {error} at work; there are {', '.join(names)}.", "settings",
            "invalid_value",
        ) from error  # fmt: skip
    except (ConfigError, TypeError, ValueError) as error:
        hint = getattr(error, "hint", "")
        raise Refusal(400, f"{error} {hint}".strip(), "settings", "invalid_value") from error


def _job_of(service: Service, body: Generation, who: str) -> Wanted:
    """A request for new pictures, checked in everything that can be checked before drawing."""
    cascade = _cascade(service, body.model)
    try:
        stages = cascade.chosen(body.stages)
        if stages[0].config.lowres:
            raise ConfigError("This model enlarges pictures; it makes none from text alone.")
        size, chosen = None, stages
        if body.size not in (None, "auto"):
            assert body.size is not None
            width, height = (int(side) for side in body.size.split("x"))
            if width * height > service.most_pixels:
                raise ConfigError(
                    f"size = {body.size} has more than {service.most_pixels:,} pixels."
                )
            # A size that a stage is made for, asked without "stages", means: up to that stage.
            fits = [
                k for k, s in enumerate(stages) if (width, height) == (s.config.resolution,) * 2
            ]
            if fits and body.stages is None:
                chosen = stages[: fits[0] + 1]
            else:
                size = first_size((width, height), chosen)
    except ConfigError as error:
        param = "stages" if "stages" in str(error) else "size"
        raise Refusal(400, f"{error} {error.hint}".strip(), param, "invalid_value") from error
    seed = body.seed if body.seed is not None and body.seed >= 0 else secrets.randbelow(2**32)
    pictures = [
        Picture(body.prompt, body.negative_prompt or "", seed + k) for k in range(body.n or 1)
    ]
    return Wanted(
        _name(service, cascade), cascade, pictures, chosen, _settings(cascade, body, chosen), size
    )


def _name(service: Service, cascade: Cascade) -> str:
    return next(name for name, one in service.cascades.items() if one is cascade)


def _enlarging_job(service: Service, body: Upscaling, who: str) -> Wanted:
    cascade = _cascade(service, body.model)
    image = _sent_or_kept(service, body.image, who)
    try:
        stages, start = cascade.start_of(image)
    except ConfigError as error:
        raise Refusal(400, str(error), "image", "invalid_value") from error
    seed = body.seed if body.seed is not None and body.seed >= 0 else secrets.randbelow(2**32)
    picture = Picture(body.prompt, body.negative_prompt or "", seed)
    settings = _settings(cascade, body, stages)
    return Wanted(_name(service, cascade), cascade, [picture], stages, settings, None, start)


def _sent_or_kept(service: Service, text: str, who: str) -> Image.Image:
    if ID.fullmatch(text):
        kept = service.gallery.get(text)
        data = service.gallery.data(kept) if kept is not None and kept.owner == who else None
        if data is None:
            raise Refusal(404, "There is no such picture in the gallery.", "image", "not_found")
    else:
        try:
            data = base64.b64decode(text.partition("base64,")[2] or text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refusal(
                400, "image is neither the id of a picture nor base64.", "image", "invalid_value"
            ) from error
    try:
        return decode(data, max_pixels=16 * 1024 * 1024)
    except Unusable as error:
        raise Refusal(400, f"image cannot be read: {error}.", "image", "invalid_value") from error


async def _answer(
    service: Service, request: Request, body: Ask, who: str, wanted: Wanted
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
    )
    try:
        service.worker.submit(job)
    except Full as error:
        raise Refusal(
            429, str(error), code="queue_full", kind="rate_limit_error", retry_after=2
        ) from error
    except Stopping as error:
        raise Refusal(503, str(error), kind="server_error", retry_after=5) from error
    headers = {"x-imagen-model": wanted.cascade.model_hash}
    if body.without_effect:
        headers["x-imagen-without-effect"] = ", ".join(body.without_effect)
    answer = _Answer(service, request, body, who, job, events)
    if body.stream:
        return StreamingResponse(
            answer.stream(),
            media_type="text/event-stream",
            headers={**headers, "Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    return JSONResponse(await answer.whole(), headers=headers)


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
                raise _failure(event.error)
            left -= isinstance(event, Finished)
            yield event

    def _partial(self, event: Progress, number: int) -> dict[str, Any]:
        pixels = event.estimate()
        image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
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
            "background": "opaque",
            "output_format": self.kind,
        }

    async def _finish(self, event: Finished, bytes_too: bool = False) -> PictureReply:
        """Filter, encode and keep a finished picture.

        Raises:
            Refusal: the filter does not let it pass, or it cannot be kept.
        """
        service = self.service
        if service.filter is not None:
            await _filtered(service, self.body.prompt, event.image)
        quality = self.body.output_compression
        data = await asyncio.to_thread(
            encoded, event.image, event.record, self.kind, 95 if quality is None else quality
        )
        try:
            kept = await asyncio.to_thread(
                service.gallery.add, data, self.kind, event.record, self.who
            )
        except OutputError as error:
            log.exception("a picture cannot be kept")
            raise Refusal(500, "The picture cannot be kept.", kind="server_error") from error
        service.counters.images.inc()
        wanted = self.body.response_format == "b64_json" or bytes_too
        url = _url(self.request, kept) if self.body.response_format == "url" or bytes_too else None
        if self.body.response_format is None:
            wanted = True  # as the current models of the API answer
        return PictureReply(
            b64_json=base64.b64encode(data).decode() if wanted else None,
            url=url,
            id=kept.id,
            seed=event.record["seed"],
            record=event.record,
        )

    def _usage(self) -> Usage:
        tokens = self.service.cascades[self.job.model].text.length(self.body.prompt)
        details = {"text_tokens": tokens, "image_tokens": 0}
        return Usage(
            input_tokens=tokens, input_tokens_details=details, output_tokens=0, total_tokens=tokens
        )


def _failure(error: Exception) -> Refusal:
    if isinstance(error, Expired):
        return Refusal(503, str(error), code="timeout", kind="server_error")
    if isinstance(error, ConfigError):
        return Refusal(400, f"{error} {error.hint}".strip(), code="invalid_value")
    if isinstance(error, OpenImagenError):
        return Refusal(500, str(error), kind="server_error")
    return Refusal(500, "The picture could not be made.", kind="server_error")


def _sent(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def _url(request: Request, kept: Kept) -> str:
    return f"{str(request.base_url).rstrip('/')}/v1/images/files/{kept.id}.{kept.kind}"


def _shown(request: Request, kept: Kept) -> KeptReply:
    return KeptReply(
        id=kept.id,
        url=_url(request, kept),
        created=kept.created,
        width=kept.width,
        height=kept.height,
        record=kept.record,
    )
