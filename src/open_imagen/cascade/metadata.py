"""The record of an image: all it takes to generate it again."""

from collections.abc import Mapping
from typing import Any

from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.sampling import ResolvedSampling
from open_imagen.config import plain
from open_imagen.version import __version__


def make_record(
    request: ImageRequest,
    settings: Mapping[str, ResolvedSampling],
    size: tuple[int, int],
    model: Mapping[str, Any],
    read_as: str,
    made_by: str = "generate",
    background: str | None = None,
    edit: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of one image.

    Args:
        size: width and height.
        model: the model's `Cascade.identity`.
        read_as: the prompt as the model's world reads it.
        made_by: generate, edit or upscale.
        edit: of an edit, its options and the SHA-256 of its inputs.
    """
    precision = model["precision"]
    return {
        "prompt": request.prompt,
        **({} if read_as == request.prompt else {"read_as": read_as}),
        "negative": request.negative,
        "seed": request.seed,
        "size": f"{size[0]}x{size[1]}",
        "settings": {name: plain_sampling(one) for name, one in settings.items()},
        "made_by": made_by,
        "model": model["model"],
        "model_hash": model["model_hash"],
        "version": __version__,
        **({"adapters": model["adapters"]} if model.get("adapters") else {}),
        **({} if precision == "fp32" else {"precision": precision}),
        **({} if background is None else {"background": background}),
        **({"prompt_weights": True} if request.prompt_weights else {}),
        **(
            {"variations": [one._asdict() for one in request.variations]}
            if request.variations
            else {}
        ),
        **({} if edit is None else {"edit": dict(edit)}),
    }


def plain_sampling(settings: ResolvedSampling) -> dict[str, Any]:
    """Settings for a record, in plain values.

    Infinities, which JSON lacks, are left to the defaults, and so is the adapter of a stage without
    one.
    """
    values: dict[str, Any] = plain(settings)
    return {
        key: value
        for key, value in values.items()
        if not (isinstance(value, float) and abs(value) == float("inf"))
        and not (key == "adapter" and not value)
    }
