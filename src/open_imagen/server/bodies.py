"""Bodies of requests that may hold images: JSON, or a form with files."""

import asyncio
import json
from typing import Any, TypeVar, get_args

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from open_imagen.server.errors import RequestError
from open_imagen.server.forms import FormError, form_values, is_form

SMALL_BODY = 256 * 1024
"""Bytes that are parsed on the event loop."""
SEVERAL = frozenset({"image", "images", "mask"})
"""Fields of a form that may be sent several times."""
Body = TypeVar("Body", bound=BaseModel)


class BodyError(RequestValidationError):
    """A body that is not valid, and the model that says what is."""

    def __init__(self, error: ValidationError, model: type[BaseModel]) -> None:
        super().__init__(error.errors(include_input=False))
        self.model = model


async def read_body(request: Request, model: type[Body]) -> Body:
    """The body of a request, validated. Large ones are parsed in a thread.

    Raises:
        RequestError, RequestValidationError: it is neither JSON nor a form, or not valid.
    """
    data = await request.body()
    kind = request.headers.get("content-type", "application/json")
    if len(data) <= SMALL_BODY:
        return parse_body(data, kind, model)
    return await asyncio.to_thread(parse_body, data, kind, model)


def parse_body(data: bytes, kind: str, model: type[Body]) -> Body:
    """A body by its content type; see read_body."""
    form = is_form(kind)
    if form:
        try:
            values: Any = form_values(data, kind, SEVERAL, objects_of(model))
        except FormError as error:
            raise RequestError(400, str(error), error.field, "invalid_value") from error
    elif kind.partition(";")[0].strip().lower() == "application/json":
        try:
            values = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RequestError(400, "The request is not valid JSON.") from error
    else:
        raise RequestError(400, "Send application/json or multipart/form-data.")
    try:
        # A form has only text, whose numbers are read as such; JSON has numbers.
        return model.model_validate(values, strict=False if form else None)
    except ValidationError as error:
        raise BodyError(error, model) from error


def objects_of(model: type[BaseModel]) -> frozenset[str]:
    """The fields whose values may be objects or lists, and are no images."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if name not in SEVERAL and _holds(field.annotation, (dict, list))
    )


def _holds(annotation: Any, kinds: tuple[type, ...]) -> bool:
    origin = getattr(annotation, "__origin__", None)
    return origin in kinds or any(_holds(one, kinds) for one in get_args(annotation))


def described(model: type[BaseModel]) -> dict[str, Any]:
    """What the API's description says of a route whose body is read by `read_body`."""
    schema = model.model_json_schema()
    content = {kind: {"schema": schema} for kind in ("multipart/form-data", "application/json")}
    return {"requestBody": {"content": content, "required": True}}
