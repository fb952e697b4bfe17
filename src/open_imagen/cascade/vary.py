"""What a variation takes from the record of the image that it varies."""

import warnings
from collections.abc import Mapping
from typing import Any

from open_imagen.cascade.checks import check_seeds, check_variations
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
