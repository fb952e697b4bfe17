"""What a variation takes from the record of the image that it varies."""

import warnings
from collections.abc import Mapping
from typing import Any

from PIL import Image

from open_imagen.cascade.checks import check_seeds, check_variations
from open_imagen.cascade.output import GenerationOutput
from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.sampling import Sampling, parse_sampling
from open_imagen.cascade.variations import Variation
from open_imagen.errors import ConfigError, OpenImagenWarning


def variation_settings(record: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Sampling]:
    """The settings of each stage that made the image. Warns if another model did.

    Args:
        model: the `Cascade.identity` of the model that varies it.

    Raises:
        ConfigError: it was edited or upscaled, or the record lacks what is needed.
    """
    made_by = record.get("made_by", "generate")
    if made_by != "generate":
        raise ConfigError(
            f"The image was made by {made_by}, from an image that its record does not hold.",
            f"Repeat the {made_by} with another seed.",
        )
    missing = {"prompt", "seed", "settings", "size"} - record.keys()
    if missing or not record["settings"]:
        lacking = ", ".join(sorted(missing)) or "settings"
        raise ConfigError(f"The record lacks {lacking}; it cannot be varied.")
    if record.get("model_hash") not in (None, model["model_hash"]):
        warnings.warn(
            f"The image was made by {record.get('model')} {record['model_hash']}, this is "
            f"{model['model']} {model['model_hash']}: amount = 0 may not give it back.",
            OpenImagenWarning,
            stacklevel=3,
        )
    return {name: parse_sampling(values, name) for name, values in record["settings"].items()}


def record_size(record: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of the image of a record.

    Raises:
        ConfigError: it is no size.
    """
    sides = str(record["size"]).split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(f"The record has size = {record['size']!r}, which is no WxH.")
    return int(sides[0]), int(sides[1])


def full_size(record: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height in which an image was made, before it was cropped around its centre.

    Raises:
        ConfigError: it is no size, or smaller than what was cropped from it.
    """
    size = record_size(record)
    if "cropped_from" not in record:
        return size
    full = record_size({"size": record["cropped_from"]})
    if size[0] > full[0] or size[1] > full[1]:
        raise ConfigError(
            f"The record has size = {record['size']!r}, cropped from {record['cropped_from']!r}, "
            "which is smaller."
        )
    return full


def cropped(output: GenerationOutput, size: tuple[int, int]) -> GenerationOutput:
    """The images around their centre, as the image that they are variations of."""
    images, records = [], []
    for image, record in zip(output.images, output.records, strict=True):
        images.append(crop_centre(image, size))
        cut = {"size": f"{size[0]}x{size[1]}", "cropped_from": record["size"]}
        records.append(record if image.size == size else {**record, **cut})
    return GenerationOutput(images, output.stages, records)


def crop_centre(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """The middle of an image; the image itself without a size."""
    if size is None or size == image.size:
        return image
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def recorded_request(record: Mapping[str, Any], variation: Variation) -> ImageRequest:
    """The request that made the image of a record, with another seed's noise mixed in.

    Raises:
        ConfigError: a seed or the amount is out of range.
    """
    earlier = [(one["seed"], one["amount"]) for one in record.get("variations", [])]
    return ImageRequest(
        str(record["prompt"]),
        check_seeds(int(record["seed"]), 1)[0],
        str(record.get("negative") or ""),
        check_variations([*earlier, variation]),
        bool(record.get("prompt_weights")),
    )
