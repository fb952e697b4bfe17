"""From the fields of a variation to images that can be drawn.

An image that was generated here carries its record: its noise is mixed with that of other seeds.
Any other image is varied by image to image, with the prompt of the request or of its record.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.edit import EditOptions, Strength
from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.sampling import ResolvedSampling, Sampling, parse_sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.variations import Variation
from open_imagen.cascade.vary import full_size, record_size, recorded_request, variation_settings
from open_imagen.errors import ConfigError
from open_imagen.server.edit_requests import base_stages, plan_upload
from open_imagen.server.errors import RequestError
from open_imagen.server.gallery_files import is_record
from open_imagen.server.headers import header_text
from open_imagen.server.requests import (
    GenerationRequest,
    check_background,
    chosen_model,
    holding,
    image_requests,
    sampling_settings,
)
from open_imagen.server.schema import MAX_PROMPT, MAX_STEPS, VariationBody
from open_imagen.server.service import Service
from open_imagen.server.uploads import Upload, reserve, upload

AMOUNT = 0.3
MAX_MIXED = 32
"""Seeds that one image's noise may be mixed of."""


def variation_request(service: Service, body: VariationBody, owner: str) -> GenerationRequest:
    """Near relatives of an image.

    Raises:
        RequestError: it cannot be read, or it has no record and there is no prompt.
    """
    return holding(lambda held: _variation(service, body, owner, held))


def _variation(
    service: Service, body: VariationBody, owner: str, held: ExitStack
) -> GenerationRequest:
    sent = upload(service, "image", body.image, owner)
    record = sent.header().record
    if record is None or not is_record(record):
        return _image_to_image(service, body, held, sent, body.prompt)
    if record.get("made_by", "generate") != "generate":
        return _image_to_image(service, body, held, sent, body.prompt or record["prompt"])
    if body.prompt is not None and body.prompt != record["prompt"]:
        raise RequestError(
            400, "The image's own prompt is in its record; leave prompt out, or edit the image.",
            "prompt", "invalid_value",
        )  # fmt: skip
    name, cascade = _model_of(service, body, held, record)
    try:
        images = _mixed(body, record)
        stages, first, crop = _recorded_stages(service, cascade, record)
        _check_size(body, record_size(record))
        settings = _settings(cascade, body, record, stages)
    except (ConfigError, TypeError, ValueError, AttributeError, KeyError) as error:
        message = f"The image's record cannot be varied: {error} {getattr(error, 'hint', '')}"
        raise RequestError(400, message.strip(), "image", "invalid_value") from error
    other = record.get("model_hash") != cascade.model_hash
    made_by = f"{record['model']} {record.get('model_hash', '')}".strip()
    return GenerationRequest(
        name,
        cascade,
        images,
        stages,
        settings,
        first,
        crop,
        background=check_background(cascade, body) or _recorded_background(cascade, body, record),
        headers={"x-imagen-made-by": header_text(made_by)} if other else {},
    )


def _image_to_image(
    service: Service, body: VariationBody, held: ExitStack, sent: Upload, prompt: str | None
) -> GenerationRequest:
    """Variations of an image that was not generated here."""
    if not prompt:
        raise RequestError(
            400, "The image carries no record of how it was made. Send a prompt that describes "
            "it, and it is varied by image to image; or send a file as imagen wrote it.",
            "image", "invalid_value",
        )  # fmt: skip
    name, cascade = chosen_model(service, body, held)
    stages = base_stages(cascade, None)
    _check_size(body, sent.size)
    settings = sampling_settings(cascade, body, stages)
    background = check_background(cascade, body)
    strength: Strength = body.amount if body.strength is None else body.strength
    reserve(service, [sent], held)
    plan = plan_upload(sent, None, stages, EditOptions(strength=strength), None)
    images = image_requests(body, prompt, body.n or 1)
    return GenerationRequest(
        name,
        cascade,
        images,
        stages,
        settings,
        background=background,
        plans=[plan] * len(images),
    )


def _model_of(
    service: Service, body: VariationBody, held: ExitStack, record: Mapping[str, Any]
) -> tuple[str, Cascade]:
    """The model and adapters that are asked for, or else those that made the image, if they are
    served."""
    if body.model is None and body.adapters is None:
        weights = recorded_adapters(service, record)
        for name, cascade in service.cascades.items():
            if service.adapters.hash_with(cascade, weights) == record.get("model_hash"):
                return chosen_model(service, _with_adapters(body, weights), held, name)
    return chosen_model(service, body, held)


def _with_adapters(body: VariationBody, weights: dict[str, float]) -> VariationBody:
    """The same request with these adapters."""
    return body.model_copy(update={"adapters": weights})


def recorded_adapters(service: Service, record: Mapping[str, Any]) -> dict[str, float]:
    """Those that made an image, by their names here, with their weights; none where one of them is
    not served."""
    names = {one.adapter.digest[:12]: name for name, one in service.adapters.adapters.items()}
    try:
        return {names[one["hash"]]: float(one["weight"]) for one in record.get("adapters", [])}
    except (KeyError, TypeError, ValueError):
        return {}


def _mixed(body: VariationBody, record: Mapping[str, Any]) -> list[ImageRequest]:
    """The recorded image, each time with another seed's noise mixed in."""
    amount = AMOUNT if body.amount is None else body.amount
    longest = max(len(record["prompt"]), len(str(record.get("negative") or "")))
    if longest > MAX_PROMPT or len(record.get("variations", [])) >= MAX_MIXED:
        raise ConfigError(f"its prompt is too long, or it is mixed of {MAX_MIXED} seeds already.")
    seeds = [one.seed for one in image_requests(body, record["prompt"], body.n or 1)]
    return [recorded_request(record, Variation(seed, amount)) for seed in seeds]


def _recorded_stages(
    service: Service, cascade: Cascade, record: Mapping[str, Any]
) -> tuple[list[Stage], tuple[int, int] | None, tuple[int, int] | None]:
    """The stages that made an image, the size of the first one's, and to what it is cropped."""
    size, full = record_size(record), full_size(record)
    if full[0] * full[1] > service.max_pixels:
        raise ConfigError(f"it has more than {service.max_pixels:,} pixels.")
    number = len(record["settings"])
    stages, first = cascade.plan(number, full)
    return stages, first, None if full == size else size


def _settings(
    cascade: Cascade, body: VariationBody, record: Mapping[str, Any], stages: list[Stage]
) -> dict[str, ResolvedSampling]:
    """The recorded settings, and over them those of the request."""
    same = {**cascade.identity, "model_hash": record.get("model_hash")}
    recorded = variation_settings(record, same)
    given = body.by_stage([stage.config.name for stage in stages])
    settings: dict[str, Sampling] = {
        name: parse_sampling(given.get(name, {}), name).over(one) for name, one in recorded.items()
    }
    resolved = cascade.complete_settings(stages, settings, str(record.get("negative") or ""))
    if any(max(one.steps, len(one.timesteps)) > MAX_STEPS for one in resolved.values()):
        raise ConfigError(f"it took more than {MAX_STEPS:,} steps.")
    return resolved


def _check_size(body: VariationBody, size: tuple[int, int]) -> None:
    if body.size not in (None, "auto", f"{size[0]}x{size[1]}"):
        raise RequestError(
            400, f"size = {body.size}: a variation is as large as the image, "
            f"{size[0]}x{size[1]}.", "size", "invalid_value",
        )  # fmt: skip


def _recorded_background(
    cascade: Cascade, body: VariationBody, record: Mapping[str, Any]
) -> str | None:
    """That of the image, where the request does not say."""
    if body.background is not None or record.get("background") != "transparent":
        return None
    return "transparent" if cascade.has_alpha and body.output_format != "jpeg" else None
