"""Requests and replies: the OpenAI Images API's fields and ours, with their limits."""

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    field_validator,
    model_validator,
)

MAX_IMAGES = 10
MAX_PROMPT = 32_000
"""Characters of a prompt at most, the API's own limit."""
MAX_PREVIEWS = 64
MAX_STEPS = 1000
MAX_RESAMPLE = 20
SIZE = r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
IGNORED_FIELDS = (
    "moderation", "quality", "safety_identifier", "style", "user", "complexity", "input_fidelity",
)  # fmt: skip
"""OpenAI's fields that are accepted and have no effect here."""
UNSUPPORTED_FIELDS = {
    "markup": "Use a mask, and say in the prompt what shall be there.",
    "frame_count": "Images are still here.",
    "frame_duration_ms": "Images are still here.",
    "svg": "Images are made of pixels here.",
}
"""OpenAI's fields that cannot be served, and why; null is taken as not given."""


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError("the prompt is empty")
    return text


Prompt = Annotated[str, Field(min_length=1, max_length=MAX_PROMPT), AfterValidator(_not_empty)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
NoiseLevel = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-1, lt=2**62)]
Strength = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
AdapterWeight = Annotated[float, Field(ge=-4, le=4, allow_inf_nan=False)]
ImageText = Annotated[str, Field(min_length=1, max_length=45_000_000)]
ImageReference = Annotated[dict[str, str | None], Field(min_length=1, max_length=4)]
UploadedImage = ImageText | bytes | ImageReference
"""A file of a form; or as text the id of an image of the gallery, base64 or a data: URL; or the
API's {"image_url": "data:..."} and {"file_id": id of the gallery}."""
UploadedImages = UploadedImage | Annotated[list[UploadedImage], Field(min_length=1, max_length=16)]

SYNONYMS = (
    ("steps", "num_inference_steps"),
    ("guidance", "guidance_scale"),
    ("negative_prompt", "negative"),
)


class RequestBody(BaseModel):
    """What all requests for images have. Settings are one value, or one for each stage."""

    model_config = ConfigDict(extra="forbid", strict=True)

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
    input_fidelity: Annotated[str, Field(max_length=200)] | None = None

    negative_prompt: Annotated[str, Field(max_length=MAX_PROMPT)] | None = None
    negative: Annotated[str, Field(max_length=MAX_PROMPT)] | None = None
    """The same as negative_prompt."""
    adapters: Annotated[dict[str, AdapterWeight], Field(max_length=8)] | None = None
    """Names of adapters of the server, and how much of each; see GET /v1/models."""
    prompt_weights: StrictBool | None = None
    """Whether "(word:1.3)" weighs words of the prompts."""
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

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, values: Any) -> Any:
        """Leave out fields of the API that we do not have, where they are null."""
        if not isinstance(values, dict):
            return values
        unsupported = {key for key in UNSUPPORTED_FIELDS if values.get(key, 0) is None}
        return {key: value for key, value in values.items() if key not in unsupported}

    @model_validator(mode="after")
    def _one_name_each(self) -> "RequestBody":
        for ours, theirs in SYNONYMS:
            if getattr(self, ours) is not None and getattr(self, theirs) is not None:
                raise ValueError(f"{ours} and {theirs} are the same; give one of them")
        return self

    @property
    def against(self) -> str:
        """The negative prompt; empty for none."""
        return self.negative_prompt or self.negative or ""

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

    prompt: Prompt
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = None
    size: Annotated[str, Field(pattern=SIZE)] | None = None
    stages: Annotated[int, Field(ge=1, le=8)] | None = None
    """Run only the first ones."""


class UpscaleBody(RequestBody):
    """POST /v1/images/upscale: an image of the gallery, or one that is sent."""

    prompt: Prompt
    image: UploadedImage


class EditBody(GenerationBody):
    """POST /v1/images/edits: a whole image, what a mask marks of it, or what extends it."""

    image: UploadedImages | None = None
    """Each of several is edited on its own."""
    images: UploadedImages | None = None
    """The same as image."""
    mask: UploadedImages | None = None
    """Of the image's size: transparent, or else white, where it is made anew; "alpha": where the
    image itself is transparent. With several images as many masks."""
    strength: Strength | dict[str, Strength] | None = None
    """How much is made anew: 0.6, or 1 with a mask or an extension."""
    extend: Annotated[list[int], Field(max_length=4)] | None = None
    """Pixels to add left, above, right and below (outpainting)."""
    resample: Annotated[int, Field(ge=1, le=MAX_RESAMPLE)] | None = None
    """Of a mask: how often each step is walked (RePaint)."""
    known: Literal["renoised", "clean"] | None = None
    """Of a mask: how the network sees the pixels that stay."""
    feather: Annotated[int, Field(ge=0, le=4096)] | None = None
    """Of a mask: over how many pixels inside it the new fades in."""
    context: Annotated[int, Field(ge=0, le=65_536)] | None = None
    """Of a mask: how many pixels around it the model sees; the prompt describes those."""

    @field_validator("extend", mode="before")
    @classmethod
    def _numbers_in_text(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


class VariationBody(RequestBody):
    """POST /v1/images/variations: near relatives of an image."""

    image: UploadedImage
    prompt: Prompt | None = None
    """Only of an image that was not made here, which is varied by image to image."""
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = None
    size: Annotated[str, Field(pattern=SIZE)] | None = None
    amount: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """0 is the image itself, 1 that of another seed."""
    strength: Strength | dict[str, Strength] | None = None
    """Only of an image that was not made here."""


class RecordBody(BaseModel):
    """POST /v1/images/records: an image whose record is wanted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: UploadedImage


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


class RecordReply(BaseModel):
    """What an image file says of itself."""

    width: int
    height: int
    """Of the upright image."""
    format: str
    transparent: bool
    record: dict[str, Any] | None
    """How it was made; None where it carries no record of ours."""
    model: str | None
    """The model of this server that made it."""


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
    adapters: list[dict[str, str]]
    """Names that requests may give in adapters, and the stage of each."""
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
