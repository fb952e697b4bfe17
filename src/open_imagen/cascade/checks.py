"""Checks of what callers pass to a cascade. Errors name the argument and its value."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise

from open_imagen.cascade.alpha import parse_background
from open_imagen.cascade.requests import ImageRequest
from open_imagen.cascade.sampling import ResolvedSampling, Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.variations import Variation, check_amount
from open_imagen.errors import CheckpointError, ConfigError, OpenImagenWarning, UnknownName

SEED_LIMIT = 2**63


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


def check_prompts(prompts: Sequence[str]) -> list[str]:
    """The prompts, if there are any and none is empty.

    Raises:
        ConfigError: otherwise.
    """
    if not prompts:
        raise ConfigError("There is no prompt.", 'Try: imagen generate "a red circle"')
    for prompt in prompts:
        if not prompt.strip():
            raise ConfigError("The prompt is empty.", 'Try: imagen generate "a red circle"')
    return list(prompts)


def check_seeds(seed: int | Sequence[int], number: int) -> list[int]:
    """A seed for each image: the given ones, or ``seed`` and those that follow it.

    Raises:
        ConfigError: there are not as many as images, or one is out of range.
    """
    seeds = list(range(seed, seed + number)) if isinstance(seed, int) else list(seed)
    if len(seeds) != number:
        raise ConfigError(f"There are {len(seeds)} seeds for {number} pictures.")
    if not all(0 <= one < SEED_LIMIT for one in seeds):
        raise ConfigError(f"seed = {seed} must be between 0 and 2^63 less the pictures.")
    return seeds


def make_requests(
    prompts: str | Sequence[str],
    seed: int | Sequence[int],
    images_per_prompt: int,
    negative: str | None,
    prompt_weights: bool = False,
    variations: Sequence[Variation] = (),
) -> list[ImageRequest]:
    """The images that a call asks for, prompt-major.

    Raises:
        ConfigError: there is no prompt, an empty one, or a number is out of range.
    """
    if images_per_prompt < 1:
        raise ConfigError(f"images_per_prompt = {images_per_prompt} must be at least 1.")
    texts = check_prompts([prompts] if isinstance(prompts, str) else list(prompts))
    captions = [one for one in texts for _ in range(images_per_prompt)]
    seeds = check_seeds(seed, len(captions))
    mixed = check_variations(variations)
    return [
        ImageRequest(caption, one, negative or "", mixed, prompt_weights)
        for caption, one in zip(captions, seeds, strict=True)
    ]


def check_variations(variations: Sequence[tuple[int, float]]) -> tuple[Variation, ...]:
    """Other seeds and their amounts.

    Raises:
        ConfigError: a seed or an amount is out of range.
    """
    return tuple(
        Variation(check_seeds(int(seed), 1)[0], check_amount(amount)) for seed, amount in variations
    )


def check_batch_size(batch_size: int) -> None:
    """Raises ConfigError unless a batch has an image at least."""
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size} must be at least 1.")


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
    parse_background(background)
    if background is not None and not has_alpha:
        raise ConfigError(
            f"background = {background!r}: the images of {model!r} have no transparency.",
            "Leave it out, or name the background in the prompt.",
        )


def resolve_settings(
    stages: Sequence[Stage],
    known: Sequence[str],
    settings: Mapping[str, Sampling] | None,
    negative: str | None,
    model: str,
) -> dict[str, ResolvedSampling]:
    """The settings of the stages that run, over the model's defaults.

    Args:
        known: the names of all stages of the model.

    Raises:
        UnknownName: settings for a stage that the model does not have.
        ConfigError: a negative prompt, and no guidance that could lead away from it.
    """
    given = dict(settings or {})
    for name in given:
        if name not in known:
            raise UnknownName("stage", name, known)
    resolved = {
        stage.config.name: given.get(stage.config.name, Sampling())
        .over(stage.config.sampling)
        .resolve()
        for stage in stages
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
    return resolved
