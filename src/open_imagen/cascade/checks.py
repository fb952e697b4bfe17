"""Checks of what callers pass to a cascade. Errors name the argument and its value."""

import dataclasses
import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from open_imagen.cascade.alpha import parse_background
from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.sampling import ResolvedSampling, Sampling, parse_sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.values import text, unwrapped, whole_number, whole_numbers
from open_imagen.cascade.variants import StageVariants
from open_imagen.cascade.variations import Variation, check_amount
from open_imagen.errors import CheckpointError, ConfigError, OpenImagenWarning, UnknownName

SEED_LIMIT = 2**63
RANDOM_SEEDS = 2**32
"""Seeds that are drawn where the caller gives None are below this."""
TRY = 'Try: imagen generate "a red circle"'


def check_stages(stages: Sequence[Stage], default: int | None, model: str) -> None:
    """Check that stages follow each other.

    Raises:
        CheckpointError: they do not, or are fewer than run by default.
    """
    for below, above in pairwise(stages):
        if above.config.lowres != below.config.resolution:
            raise CheckpointError(
                f"Stage {above.config.name} enlarges {above.config.lowres}-pixel pictures, but "
                f"{below.config.name} makes {below.config.resolution}-pixel ones."
            )
        if above.channels != below.channels:
            raise CheckpointError(
                f"Stage {above.config.name} has images of {above.channels} channels, "
                f"{below.config.name} of {below.channels}."
            )
    if default is not None and not 1 <= default <= len(stages):
        raise CheckpointError(
            f"The model {model!r} has {len(stages)} stages; its default_stages = "
            f"{default} must be between 1 and that."
        )


def check_prompts(prompts: Any) -> list[str]:
    """The prompts of a call, from one or from several.

    Raises:
        ConfigError: there is none, one is empty, or no text.
    """
    prompts = unwrapped(prompts)
    if isinstance(prompts, str):
        prompts = [prompts]
    if isinstance(prompts, Mapping | bytes) or not isinstance(prompts, Iterable):
        raise ConfigError(f"prompts = {prompts!r} must be text, or a list of texts.", TRY)
    texts = [text(prompt, f"prompts[{k}]") for k, prompt in enumerate(prompts)]
    if not texts:
        raise ConfigError("There is no prompt.", TRY)
    if not all(one.strip() for one in texts):
        raise ConfigError("The prompt is empty.", TRY)
    return texts


def check_seeds(seed: Any, number: int) -> list[int]:
    """A seed for each image: the given ones, or ``seed`` and those that follow it; random if None.

    Raises:
        ConfigError: there are not as many as images, or one is no whole number in range.
    """
    seed = unwrapped(seed)
    if seed is None:
        seed = secrets.randbelow(RANDOM_SEEDS)
    if isinstance(seed, Iterable) and not isinstance(seed, str):
        seeds = list(whole_numbers(seed, "seed"))
    else:
        first = whole_number(seed, "seed")
        seeds = list(range(first, first + number))
    if len(seeds) != number:
        raise ConfigError(f"There are {len(seeds)} seeds for {number} images.")
    if not all(0 <= one < SEED_LIMIT for one in seeds):
        raise ConfigError(f"seed = {seed} must be between 0 and 2^63 less the images.")
    return seeds


def check_size(size: Any) -> tuple[int, int] | None:
    """Width and height from a pair, from one number for a square, or from "WxH".

    Raises:
        ConfigError: it is none of these.
    """
    size = unwrapped(size)
    if size is None:
        return None
    if isinstance(size, str):
        parts = size.lower().split("x")
        if len(parts) not in (1, 2) or not all(part.strip().isdecimal() for part in parts):
            raise ConfigError(f"size = {size} is not a size.", "Write WxH, as in 256x192.")
        return int(parts[0]), int(parts[-1])
    if not isinstance(size, Iterable):
        size = [size]
    sides = whole_numbers(size, "size")
    if len(sides) not in (1, 2):
        raise ConfigError(f"size = {size!r} must be a width and a height.")
    return sides[0], sides[-1]


def check_settings(settings: Any, known: Sequence[str]) -> dict[str, Sampling]:
    """Settings per stage, each a Sampling, or plain values by name.

    Args:
        known: the names of all stages of the model.

    Raises:
        UnknownName: there is no such stage, or no such setting.
        ConfigError: they are not of this kind.
    """
    if settings is None:
        return {}
    if not isinstance(settings, Mapping):
        raise ConfigError(
            f"settings = {settings!r} must say for which stage.",
            f'Write settings={{"{known[0]}": {{"steps": 50}}}}.',
        )
    return {text(name, "stage"): _sampling(one, name, known) for name, one in settings.items()}


def _sampling(settings: Any, stage: str, known: Sequence[str]) -> Sampling:
    if stage not in known:
        raise UnknownName("stage", stage, known)
    if isinstance(settings, Sampling):
        return settings
    if isinstance(settings, ResolvedSampling):
        return Sampling(**settings.given())
    if settings is None or isinstance(settings, Mapping):
        return parse_sampling(settings or {}, stage)
    raise ConfigError(f"settings[{stage!r}] = {settings!r} must be a Sampling, or values by name.")


def make_requests(
    prompts: Any,
    seed: Any,
    images_per_prompt: Any,
    negative: Any,
    prompt_weights: bool = False,
    variations: Iterable[tuple[Any, Any]] = (),
) -> list[ImageRequest]:
    """The images that a call asks for, prompt-major.

    Raises:
        ConfigError: there is no prompt, an empty one, or a number is out of range.
    """
    each = positive(images_per_prompt, "images_per_prompt")
    captions = [one for one in check_prompts(prompts) for _ in range(each)]
    against = "" if negative is None else text(negative, "negative")
    seeds = check_seeds(seed, len(captions))
    mixed = check_variations(variations)
    return [
        ImageRequest(caption, one, against, mixed, prompt_weights)
        for caption, one in zip(captions, seeds, strict=True)
    ]


def check_variations(variations: Iterable[tuple[Any, Any]]) -> tuple[Variation, ...]:
    """Other seeds and their amounts.

    Raises:
        ConfigError: a seed or an amount is out of range.
    """
    return tuple(
        Variation(check_seeds(seed, 1)[0], check_amount(amount)) for seed, amount in variations
    )


def positive(value: Any, name: str) -> int:
    """A whole number of at least 1.

    Raises:
        ConfigError: it is none; the message has its name.
    """
    number = whole_number(value, name)
    if number < 1:
        raise ConfigError(f"{name} = {number} must be at least 1.")
    return number


def check_base(chosen: Sequence[Stage], model: str) -> None:
    """Raises ConfigError unless the first stage makes images from text alone."""
    if chosen[0].config.lowres:
        raise ConfigError(
            f"The model {model!r} begins with {chosen[0].config.name}, which enlarges "
            "pictures; it cannot make them from text alone.",
            "Use upscale, or a model with a base stage.",
        )


def check_background(background: str | None, has_alpha: bool, model: str) -> None:
    """Raises ConfigError unless images of this model can have such a background."""
    if background is not None:
        background = text(background, "background")
    parse_background(background)
    if background is not None and not has_alpha:
        raise ConfigError(
            f"background = {background!r}: the images of {model!r} have no transparency.",
            "Leave it out, or name the background in the prompt.",
        )


def resolve_settings(
    stages: Sequence[Stage],
    variants: Mapping[str, StageVariants],
    settings: Any,
    negative: str | None,
    model: str,
) -> dict[str, ResolvedSampling]:
    """The settings of the stages that run, over the model's defaults.

    Args:
        variants: all stages of the model by name.
        settings: per stage name, a Sampling or plain values.

    Raises:
        UnknownName: settings for a stage that the model does not have.
        ConfigError: a negative prompt, and no guidance that could lead away from it.
    """
    given = check_settings(settings, list(variants))
    resolved = {
        name: _over_defaults(variants[name], given.get(name, Sampling()))
        for name in (stage.config.name for stage in stages)
    }
    for stage in stages:
        name, highest = stage.config.name, stage.config.augmentation.highest
        if (level := resolved[name].noise_level) > highest:
            warnings.warn(
                f"noise_level = {level}, but {name} of {model!r} has learned to enlarge "
                f"pictures with noise up to {highest}: these may turn out rough.",
                OpenImagenWarning,
                stacklevel=4,
            )
    if negative and all(one.guidance == 1 for one in resolved.values()):
        raise ConfigError(
            f"The negative prompt {negative!r} would change nothing: only guidance leads away "
            f"from it, and the guidance of {', '.join(resolved)} is 1, which is off.",
            "Leave it out, or set a guidance above 1.",
        )
    below = [f"{name} = {one.guidance:g}" for name, one in resolved.items() if one.guidance < 1]
    if below and negative:
        raise ConfigError(
            f"The negative prompt {negative!r} would be drawn: guidance below 1 leads towards it "
            f"(guidance of {', '.join(below)}).",
            "Leave it out, or set a guidance above 1.",
        )
    return resolved


def _over_defaults(variants: StageVariants, given: Sampling) -> ResolvedSampling:
    """Settings over the defaults of the stage with the adapter that they ask for."""
    defaults = variants.get(given.adapter).config.sampling
    return dataclasses.replace(given, adapter=defaults.adapter).over(defaults).resolve()
