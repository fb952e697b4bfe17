"""Everything that a request can be refused for, as OpenAI's error object."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from open_imagen.errors import ConfigError, OpenImagenError, UnknownName
from open_imagen.server.schema import MOST_PICTURES, Generation
from open_imagen.server.worker import Expired


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


def show_errors(app: FastAPI) -> None:
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


def failure(error: Exception) -> Refusal:
    """What a client hears of a job that failed."""
    if isinstance(error, Expired):
        return Refusal(503, str(error), code="timeout", kind="server_error")
    if isinstance(error, ConfigError):
        return Refusal(400, f"{error} {error.hint}".strip(), code="invalid_value")
    if isinstance(error, OpenImagenError):
        return Refusal(500, str(error), kind="server_error")
    return Refusal(500, "The picture could not be made.", kind="server_error")
