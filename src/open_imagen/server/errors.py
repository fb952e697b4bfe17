"""Errors as clients see them: OpenAI's error object."""

import logging
import sqlite3
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.server.jobs import DeadlineExceeded, WorkerStopping
from open_imagen.server.schema import MAX_IMAGES, UNSUPPORTED_FIELDS, GenerationBody

log = logging.getLogger("open_imagen.server")


class RequestError(Exception):
    """A request that is answered with an error object."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None,
        kind: str = "invalid_request_error", retry_after: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.param, self.code, self.kind = status, param, code, kind
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The error object of OpenAI's API."""
        return {
            "error": {
                "message": str(self),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }

    def reply(self) -> JSONResponse:
        """The HTTP response."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        elif self.status >= 500:
            headers["x-should-retry"] = "false"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def show_errors(app: FastAPI) -> None:
    """Answer every error with OpenAI's error object."""

    @app.exception_handler(RequestError)
    async def request_error(request: Request, error: RequestError) -> Response:
        return error.reply()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(error).reply()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        reply = RequestError(error.status_code, str(error.detail)).reply()
        reply.headers.update(error.headers or {})
        return reply

    @app.exception_handler(sqlite3.Error)
    async def index_error(request: Request, error: sqlite3.Error) -> Response:
        log.warning("the gallery's index cannot be read", extra={"reason": str(error)})
        return RequestError(
            503, "The gallery cannot be read at the moment.", kind="server_error", retry_after=5
        ).reply()

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return RequestError(500, "The server failed.", kind="server_error").reply()


def _invalid(error: RequestValidationError) -> RequestError:
    """What is wrong with a request, in one sentence, with the limit that it breaks."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    if first["type"] == "json_invalid":
        return RequestError(400, "The request is not valid JSON.")
    if first["type"] == "extra_forbidden":
        if place[-1] in UNSUPPORTED_FIELDS:
            message = f"{place[-1]} cannot be served. {UNSUPPORTED_FIELDS[place[-1]]}"
            return RequestError(400, message, place[-1], "unsupported_parameter")
        model = getattr(error, "model", GenerationBody)
        unknown = UnknownName("field", place[-1][:80], [*model.model_fields])
        return RequestError(400, f"{unknown} {unknown.hint}", place[-1][:80], "unknown_parameter")
    if place == ["n"]:
        message = f"n must be a whole number from 1 to {MAX_IMAGES}."
    elif place == ["output_format"]:
        message = "output_format must be png, jpeg or webp."
    elif place == ["size"]:
        message = 'size must be "auto" or WIDTHxHEIGHT, as in "256x256".'
    else:
        where = ".".join(place)[:200] or "The request body"
        message = f"{where}: {first['msg'].removeprefix('Value error, ')}."
    return RequestError(400, message, ".".join(place[:1])[:80] or None, "invalid_value")


def job_error(error: Exception) -> RequestError:
    """What a client is told of a job that failed; what concerns the server's files is not."""
    if isinstance(error, DeadlineExceeded):
        return RequestError(503, str(error), code="timeout", kind="server_error")
    if isinstance(error, WorkerStopping):
        return RequestError(503, str(error), kind="server_error", retry_after=5)
    if isinstance(error, ConfigError):
        return RequestError(400, f"{error} {error.hint}".strip(), code="invalid_value")
    log.warning("an image could not be made", extra={"reason": str(error)})
    return RequestError(
        500, "The image could not be made; the server's log says why.", kind="server_error"
    )
