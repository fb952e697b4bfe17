"""Requests and replies: the OpenAI Images API's fields and ours, with their limits."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, field_validator, model_validator

MAX_IMAGES = 10
MAX_PROMPT = 32_000
"""Characters of a prompt at most, the API's own limit."""
MAX_PREVIEWS = 64
MAX_STEPS = 1000
SIZE = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
IGNORED_FIELDS = (
    "moderation", "quality", "safety_identifier", "style", "user", "complexity",
)  # fmt: skip
"""OpenAI's fields that are accepted and have no effect here."""

Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
NoiseLevel = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-1, lt=2**62)]


class RequestBody(BaseModel):
    """What all requests for images have. Settings are one value, or one for each stage."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Prompt
    model: Annotated[str, Field(max_length=200)] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    stream: StrictBool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None

    background: Literal["transparent", "opaque", "auto"] | None = None
    moderation: Annotated[str, Field(max_length=200)] | None = None
    quality: Annotated[str, Field(max_length=200)] | None = None
    style: Annotated[str, Field(max_length=200)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    complexity: Annotated[str, Field(max_length=200)] | None = None

    negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT)] | None = None
    seed: Seed | None = None
    """Of the first image; the next ones have the next seeds. -1 or none: random."""
    steps: Steps | dict[str, Steps] | None = None
    guidance: Guidance | dict[str, Guidance] | None = None
    sampler: Annotated[str, Field(max_length=40)] | dict[str, str] | None = None
    threshold: Annotated[str, Field(max_length=40)] | dict[str, str] | None = None
    threshold_percentile: Annotated[float, Field(gt=0, le=100)] | None = None
    noise_level: NoiseLevel | dict[str, NoiseLevel] | None = None
    settings: Annotated[dict[str, dict[str, Any]], Field(max_length=8)] | None = None
    """Everything that a stage samples with, by stage; as in an image's record."""
    previews: Annotated[int, Field(ge=0, le=MAX_PREVIEWS)] | None = None
    """Partial images while streaming, beyond the three of partial_images."""

    num_inference_steps: Steps | None = None
    """The same as steps."""
    guidance_scale: Guidance | None = None
    """The same as guidance."""

    @field_validator("prompt")
    @classmethod
    def _is_not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the prompt is empty")
        return value

    @model_validator(mode="after")
    def _one_name_each(self) -> "RequestBody":
        for ours, theirs in (("steps", "num_inference_steps"), ("guidance", "guidance_scale")):
            if getattr(self, ours) is not None and getattr(self, theirs) is not None:
                raise ValueError(f"{ours} and {theirs} are the same; give one of them")
        return self

    def by_stage(self, stages: list[str]) -> dict[str, dict[str, Any]]:
        """The settings of each stage, as plain values.

        Raises:
            KeyError: settings are given for a stage that does not run.
            ValueError: one is out of range.
        """
        values: dict[str, dict[str, Any]] = {name: {} for name in stages}
        for stage, settings in (self.settings or {}).items():
            values[stage].update(settings)
        given: dict[str, Any] = {
            "steps": self.steps if self.steps is not None else self.num_inference_steps,
            "guidance": self.guidance if self.guidance is not None else self.guidance_scale,
            "sampler": self.sampler,
            "threshold": self.threshold,
            "percentile": self.threshold_percentile,
            "noise_level": self.noise_level,
        }
        for setting, value in given.items():
            if isinstance(value, dict):
                for stage, one in value.items():
                    values[stage][setting] = one
            elif value is not None:
                for settings in values.values():
                    settings[setting] = value
        for settings in values.values():
            _check_settings(settings)
        return values

    @property
    def num_previews(self) -> int:
        """How many partial images are sent of each image."""
        if not self.stream:
            return 0
        return self.previews if self.previews is not None else self.partial_images or 0

    @property
    def ignored(self) -> list[str]:
        """Fields that were given and have no effect."""
        return [name for name in IGNORED_FIELDS if getattr(self, name) is not None]


def _check_settings(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} must be finite")
        if name == "steps" and isinstance(value, int) and value > MAX_STEPS:
            raise ValueError(f"steps = {value} must be at most {MAX_STEPS}")
        if name == "timesteps" and isinstance(value, list) and len(value) > MAX_STEPS:
            raise ValueError(f"timesteps must be at most {MAX_STEPS}")


class GenerationBody(RequestBody):
    """POST /v1/images/generations."""

    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = None
    size: Annotated[str, Field(pattern=SIZE)] | None = None
    stages: Annotated[int, Field(ge=1, le=8)] | None = None
    """Run only the first ones."""


class UpscaleBody(RequestBody):
    """POST /v1/images/upscale: an image of the gallery, or one that is sent."""

    image: Annotated[str, Field(min_length=1, max_length=30_000_000)]
    """The id of an image of the gallery, or a PNG, JPEG or WebP in base64."""


class ErrorObject(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """OpenAI's error object."""

    error: ErrorObject


class Usage(BaseModel):
    """Tokens of the prompt; images are not counted in tokens here."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    total_tokens: int


class ImageReply(BaseModel):
    """One image."""

    b64_json: str | None = None
    url: str | None = None
    id: str | None = None
    saved: bool = True
    """Whether the gallery has it. If not, as on a full disk, it is only here, in b64_json."""
    seed: int
    record: dict[str, Any]


class ImagesReply(BaseModel):
    """OpenAI's ImagesResponse, with the record of each image."""

    created: int
    data: list[ImageReply]
    output_format: str
    size: str
    usage: Usage


class ModelReply(BaseModel):
    """A model, as OpenAI lists it; our stages and their settings beside."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    hash: str
    stages: list[dict[str, Any]]
    default_stages: int
    """How many of them run where a request does not say."""
    alias_of: str | None = None
    """The model that this is another name of."""


class ModelsReply(BaseModel):
    """All models."""

    object: Literal["list"] = "list"
    data: list[ModelReply]


class GalleryImageReply(BaseModel):
    """An image of the gallery."""

    id: str
    url: str
    created: float
    width: int
    height: int
    removable: bool
    """False of a file that the gallery did not write: it is listed, and never removed."""
    starred: bool
    record: dict[str, Any]


class GalleryReply(BaseModel):
    """Images of the gallery, the newest first."""

    data: list[GalleryImageReply]
    more: bool
