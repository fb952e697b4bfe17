"""One stage of a cascade: a network, its noise schedule, its objective. loss() and sample()."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.backends.accelerate import accelerate, restore
from open_imagen.cascade.augmentation import Augmentation, blurred, warped
from open_imagen.cascade.colors import correct_colors
from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.sampling import Sampling
from open_imagen.diffusion.guidance import guide_on, rescaled
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.parameterization import diffuse, to_eps, to_x
from open_imagen.diffusion.samplers import Denoise, Estimate, image_of
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import CheckpointError, ConfigError, UnknownName
from open_imagen.models.lora import Merged
from open_imagen.models.registry import construct, resolve, written
from open_imagen.types import CachedText, LowRes, TextEmbedding, stack_texts

Watch = Callable[[int, int, Tensor], None]
UNCONDITIONAL = ("zero", "empty")
Truth = Callable[[Tensor, Tensor, TextEmbedding, LowRes | None], Tensor]
"""(z, t, text, low-resolution condition) -> the clean image that the loss compares with."""
FARTHEST = 20.0
"""Networks are told no log-SNR beyond this, either way: pure noise has none."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What a stage is, in plain values; written to its config.json."""

    name: str
    """base, sr256, sr1024 ..."""
    resolution: int
    """Side of its pictures in pixels."""
    lowres: int = 0
    """Side of the pictures it enlarges; 0 for the base."""
    network: dict[str, Any] = field(default_factory=dict)
    """A preset's name, or a network's name, and its settings."""
    schedule: Schedule = field(default_factory=Schedule)
    """Which noise level belongs to which time."""
    objective: Objective = field(default_factory=Objective)
    """What the network predicts and how its error counts."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """How the low-resolution image is enlarged and noised."""
    unconditional: str = "zero"
    """The text of the unconditional branch: zero (the paper) or the empty sentence."""
    distilled_guidance: float = 1.0
    """The guidance scale that is distilled into the network's own prediction
    (training/objectives/distillation.py). Sampling with it needs no second prediction."""
    sampling: Sampling = field(default_factory=Sampling)
    """Defaults for pictures."""

    def __post_init__(self) -> None:
        if self.resolution < 8:
            raise ConfigError(f"{self.name}: resolution = {self.resolution} is too small.")
        if self.lowres < 0:
            raise ConfigError(f"{self.name}: lowres = {self.lowres} must be at least 0.")
        if self.lowres and self.resolution % self.lowres:
            raise ConfigError(
                f"{self.name}: lowres = {self.lowres} must divide resolution = {self.resolution}."
            )
        if not (math.isfinite(self.distilled_guidance) and self.distilled_guidance > 0):
            raise ConfigError(
                f"{self.name}: distilled_guidance = {self.distilled_guidance} must be above 0."
            )
        if self.unconditional not in UNCONDITIONAL:
            raise UnknownName("unconditional", self.unconditional, UNCONDITIONAL)
        if self.schedule.zero_snr and self.objective.prediction == "eps":
            raise ConfigError(
                f"{self.name}: pure noise (schedule.zero_snr) says nothing about eps; the "
                "prediction must be x or v."
            )


class Stage(nn.Module):
    """A network that knows its schedule and what its output means."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__()
        self.config = config
        name, network = resolve(config.network)
        if bool(config.lowres) != network.lowres:
            raise ConfigError(
                f"{config.name}: lowres = {config.lowres} does not fit a network with "
                f"lowres = {network.lowres}.",
                "Base stages have neither, super-resolution stages both.",
            )
        if config.resolution % network.divisor:
            below = config.resolution // network.divisor * network.divisor
            raise ConfigError(
                f"{config.name}: resolution = {config.resolution} must be a multiple of "
                f"{network.divisor}. Nearest: {below or network.divisor} or "
                f"{below + network.divisor}."
            )
        self.uses_timesteps = getattr(network, "level", "logsnr") == "step"
        if self.uses_timesteps and not config.schedule.discrete:
            raise ConfigError(
                f"{config.name}: a network that is told steps needs a discrete schedule, not "
                f"{config.schedule.name!r}."
            )
        self.learned_range = getattr(network, "learned_variance", False)
        self.channels: int = getattr(network, "image_channels", 3)
        """Of its images: 3, or 4 with alpha."""
        self.letters: int = getattr(network, "letters", 0)
        """Letters of quoted text that its network reads."""
        self.network = construct(name, network)
        self.network_config = network
        self.fast = False
        """Whether to accelerate the network when it wakes."""
        self.dtype = torch.float32
        """In which its weights wake, and its network computes."""
        self._accelerated = False
        self._weights: Iterable[tuple[str, Tensor]] | None = None
        self.saved_network = written(name, network)

    def with_lazy_weights(self, weights: Iterable[tuple[str, Tensor]]) -> "Stage":
        """This stage with weights that `load_weights` reads. For a network on "meta"."""
        self._weights = weights
        return self.eval().requires_grad_(False)

    @property
    def lazy_weights(self) -> Iterable[tuple[str, Tensor]]:
        """The weights that `load_weights` reads."""
        assert self._weights is not None, "only a stage that can read its weights again"
        return self._weights

    def merge(self, adapter: Mapping[str, Tensor], scale: float) -> None:
        """Wake with what a low-rank adapter changes, from now on.

        Raises:
            CheckpointError: the adapter is of another network.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in self.network.named_parameters()}
        self._weights = Merged(self.lazy_weights, shapes, adapter, scale)

    def load_weights(self, device: torch.device) -> None:
        """Have the weights, in `dtype`, on this device, ready to sample.

        They are read one by one into their final place: no second copy of them is ever held.
        """
        if self._weights is not None and next(self.parameters()).is_meta:
            for name, tensor in self._weights:
                place, _, leaf = name.rpartition(".")
                layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
                ready = tensor.to(device, self.dtype, memory_format=layout)
                module = self.network.get_submodule(place)
                setattr(module, leaf, nn.Parameter(ready, requires_grad=False))
        self.network.to(device, self.dtype)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.fast and not self._accelerated:
            accelerate(self.network)
            self._accelerated = True

    def offload(self) -> None:
        """Give the memory of the weights back, if they can be fetched again."""
        if self._weights is not None:
            restore(self.network)
            self._accelerated = False
            self.network.to("meta")

    def loss(
        self,
        images: Tensor,
        text: TextEmbedding,
        noise: TrainingNoise,
        lowres: Tensor | None = None,
        truth: Truth | None = None,
    ) -> Tensor:
        """Weighted error of each example, [B].

        Args:
            images: clean, [B, C, H, W] in [-1, 1].
            lowres: for super-resolution, the small pictures [B, C, h, w] in [-1, 1].
            truth: what the clean image shall be taken for, if not ``images`` themselves.
        """
        logsnr = self.config.schedule.logsnr(noise.t)
        z = diffuse(images, noise.eps, logsnr)
        condition = None
        if lowres is not None:
            condition = self.condition_drawn(lowres, noise, (images.shape[2], images.shape[3]))
        text = text.dropped(noise.drop)
        told = {"augment_labels": noise.augment_labels} if len(noise.augment_labels) else {}
        prediction = self.network(z, self.time_condition(logsnr), text, condition, **told).float()
        prediction = prediction[:, : self.channels]
        x, eps = images, noise.eps
        if truth is not None:
            x = truth(z, noise.t, text, condition)
            eps = to_eps(x, z, logsnr)
        return self.config.objective.loss(prediction, x, eps, z, logsnr)

    def time_condition(self, logsnr: Tensor) -> Tensor:
        """A noise level [B] as the network wants to be told it."""
        if self.uses_timesteps:
            return self.config.schedule.step_of(logsnr)
        return logsnr.clamp(-FARTHEST, FARTHEST)

    def encode_text(self, text: TextEmbedding) -> CachedText:
        """What the network makes of the text, the same at every step."""
        text = text.to(text.tokens.device, self.dtype)
        read: CachedText = self.network.encode_text(text)  # type: ignore[operator]
        return read

    def condition(
        self, lowres: Tensor, level: Tensor, noise: Tensor, size: tuple[int, int]
    ) -> LowRes:
        """The low-resolution image as the network wants it; see Augmentation."""
        image, logsnr = self.config.augmentation(lowres, level, noise, size)
        return LowRes(image, self.time_condition(logsnr))

    def condition_drawn(
        self, lowres: Tensor, noise: TrainingNoise, size: tuple[int, int]
    ) -> LowRes:
        """The same with the random numbers of a training step."""
        how = self.config.augmentation
        if how.warp:
            lowres = warped(lowres, noise.warp * how.warp, noise.points)
        if how.blur:
            lowres = blurred(lowres, noise.blur * how.blur)
        return self.condition(lowres, noise.level * how.highest, noise.lowres_noise, size)

    @torch.inference_mode()
    def sample(
        self,
        text: TextEmbedding,
        generators: Sequence[torch.Generator],
        settings: Sampling | Sequence[Sampling] | None = None,
        lowres: Tensor | None = None,
        negative: TextEmbedding | None = None,
        watch: Watch | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Draw pictures, [B, C, H, W] in [-1, 1].

        Each picture takes its noise from its own generator, so that it does not depend on which
        others are made with it.

        Args:
            text: [B, L, C] and mask.
            generators: one per picture, on the CPU.
            settings: over the stage's defaults; one for all pictures or one for each, which may
                differ in what `Sampling.together` leaves out.
            lowres: the small pictures [B, C, h, w], for super-resolution.
            negative: what guidance leads away from; zeroed text if None.
            watch: told (step, steps, estimate of the clean images) after each call.
            size: width and height of a base's pictures; the resolution both ways if None.
        """
        several = isinstance(settings, Sequence)
        each = settings if isinstance(settings, Sequence) else [settings or Sampling()]
        each = [one.over(self.config.sampling).complete() for one in each]
        common = each[0]
        assert all(one.together == common.together for one in each), "cannot share a batch"
        device = next(self.parameters()).device
        width, height = size or (self.config.resolution,) * 2
        if lowres is not None:
            scale = self.config.resolution // self.config.lowres
            height, width = lowres.shape[2] * scale, lowres.shape[3] * scale
        shape = (self.channels, height, width)

        def noise() -> Tensor:
            return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)

        z = noise().to(memory_format=torch.channels_last)
        condition = None
        if self.config.lowres:
            assert lowres is not None, f"{self.config.name} enlarges pictures; none were given"
            told = [one.noise_level for one in each] * (1 if several else len(generators))
            level = torch.tensor(told, device=device)
            condition = self.condition(lowres, level, noise(), (height, width))

        levels = common.levels(self.config.schedule)
        weights = None
        if len({one.guidance for one in each}) > 1:
            weights = torch.tensor([one.guidance for one in each], device=device)
        denoise = self.denoiser(text, common, condition, negative, levels, weights)
        if watch is not None:
            denoise = watched(denoise, levels, watch)
        made = common.walk(denoise, z, levels, noise)
        if lowres is not None and common.color_correction:
            made = correct_colors(made, lowres, common.color_correction)
        made = made.clamp(-1, 1)
        if self.channels == 4:  # premultiplied colours are at most alpha
            made = torch.cat([made[:, :3].minimum(made[:, 3:]), made[:, 3:]], dim=1)
        return made

    def denoiser(
        self,
        text: TextEmbedding,
        settings: Sampling,
        condition: LowRes | None = None,
        negative: TextEmbedding | None = None,
        levels: Sequence[float] = (),
        weights: Tensor | None = None,
    ) -> Denoise:
        """(z, logsnr) -> the guided, thresholded estimate of the clean image.

        With guidance, all predictions are one call of the network on a batch as many times as long.
        A learned variance is the conditional one's, and goes with the estimate where the sampler
        wants it. ``levels`` are those walked down, for guidance that counts steps; ``weights`` [B]
        stand for the guidance weight where pictures differ in it.
        """
        guidance, threshold = settings.guide, settings.thresholding
        kind, number = self.config.objective.prediction, len(text.tokens)
        guided, null, channels = self.config.distilled_guidance, text.null(), self.channels
        # What a guided network is led away from is nothing, so a negative prompt comes third.
        others = [null] if negative is None else [negative, null][: 1 if guided == 1 else 2]

        def network(z: Tensor, logsnr: float, read: CachedText, condition: LowRes | None) -> Tensor:
            here = self.time_condition(torch.tensor(logsnr, dtype=torch.float64))
            told = torch.full((len(z),), float(here), device=z.device, dtype=torch.float32)
            found: Tensor = self.network(z.to(self.dtype), told, read, condition)
            return found.float()

        # Whether the network's own prediction is all that is asked for at the weight that it has.
        enough = guided == 1 or (negative is None and not guidance.rescale)

        # What hangs on the text alone is worked out once, and not at every step.
        mostly_alone = enough and guidance.weight == guided and weights is None

        @cache
        def all_texts() -> CachedText:
            return self.encode_text(stack_texts([text, *others]))

        @cache
        def alone() -> CachedText:
            return self.encode_text(text) if mostly_alone else all_texts().select(slice(number))

        condition = condition and LowRes(condition.image.to(self.dtype), condition.level)
        times = 1 + len(others)
        many = condition and LowRes(*(torch.cat([part] * times) for part in condition))
        with_variance = self.learned_range and settings.sampler == "ddpm"

        def denoise(z: Tensor, logsnr: float) -> Estimate:
            weight: float | Tensor = guidance.at(logsnr, bisect_left(levels, logsnr))
            if weights is not None and weight != 1:
                weight = weights[:, None, None, None]
            if enough and not isinstance(weight, Tensor) and weight == guided:
                found = network(z, logsnr, alone(), condition)
                prediction = found[:, :channels]
            else:
                many_z = torch.cat([z] * times)
                found, *rest = network(many_z, logsnr, all_texts(), many).chunk(times)
                own, *away, nothing = (part[:, :channels] for part in (found, *rest))
                prediction = guide_on(own, nothing, weight, guided, *away)
                if guidance.rescale:
                    plain = guide_on(own, nothing, 1.0, guided)
                    prediction = rescaled(prediction, plain, guidance.rescale)
            level = torch.tensor(logsnr, dtype=torch.float64)
            x = threshold(to_x(prediction, z, level, kind))
            return (x, (found[:, channels:] + 1) / 2) if with_variance else x

        return denoise


def watched(denoise: Denoise, levels: Sequence[float], watch: Watch) -> Denoise:
    """The same, telling how far it has come and what the image will be."""

    def told(z: Tensor, logsnr: float) -> Estimate:
        estimate = denoise(z, logsnr)
        watch(
            min(bisect_right(levels, logsnr), len(levels) - 1), len(levels) - 1, image_of(estimate)
        )
        return estimate

    return told


def check_shapes(network: nn.Module, shapes: Mapping[str, Sequence[int]], source: Path) -> None:
    """Whether weights of these names and shapes are this network's.

    Raises:
        CheckpointError: they are not; the message lists what differs.
    """
    own = dict(network.named_parameters())
    wrong = [f"{name} is missing" for name in own if name not in shapes]
    wrong += [f"{name} is unknown" for name in shapes if name not in own]
    wrong += [
        f"{name} is {list(shapes[name])}, not {list(own[name].shape)}"
        for name in own
        if name in shapes and tuple(shapes[name]) != tuple(own[name].shape)
    ]
    if wrong:
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise CheckpointError(
            f"The weights {source} do not fit the network of its config.json: {shown}."
        )
