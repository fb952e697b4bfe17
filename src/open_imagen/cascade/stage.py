"""One stage of a cascade: a network, its noise schedule, its objective. loss() and sample()."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from open_imagen.cascade.augmentation import augment
from open_imagen.cascade.sampling import Sampling
from open_imagen.config import plain
from open_imagen.diffusion.guidance import guide
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.parameterization import diffuse, to_x
from open_imagen.diffusion.samplers import SAMPLERS
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError
from open_imagen.models.registry import construct, resolve
from open_imagen.types import LowRes, TextEmbedding, stack_texts

Watch = Callable[[int, int, Tensor], None]


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
    sampling: Sampling = field(default_factory=Sampling)
    """Defaults for pictures."""

    def __post_init__(self) -> None:
        if self.resolution < 8:
            raise ConfigError(f"{self.name}: resolution = {self.resolution} is too small.")
        if self.lowres and self.resolution % self.lowres:
            raise ConfigError(
                f"{self.name}: lowres = {self.lowres} must divide resolution = {self.resolution}."
            )


class Draws(NamedTuple):
    """The random numbers of one training step."""

    t: Tensor
    """Times in [0, 1], [B]."""
    eps: Tensor
    """Noise, shape of the images."""
    drop: Tensor
    """Where the text is dropped, bool [B]."""
    level: Tensor
    """Noise conditioning levels in [0, 1], [B]."""
    lowres_noise: Tensor
    """Noise for the low-resolution image; empty for base stages."""

    @classmethod
    def make(
        cls, shape: Sequence[int], generator: torch.Generator, text_drop: float, lowres: bool
    ) -> "Draws":
        """Draw for images of this shape. Times are stratified over the batch: less noisy loss."""
        device, batch = generator.device, shape[0]

        def uniform() -> Tensor:
            return torch.rand(batch, generator=generator, device=device)

        shuffled = torch.randperm(batch, generator=generator, device=device)
        t = (shuffled + uniform()) / batch
        eps = torch.randn(list(shape), generator=generator, device=device)
        drop = uniform() < text_drop
        level = uniform()
        noise = torch.randn(list(shape) if lowres else [0], generator=generator, device=device)
        return cls(t, eps, drop, level, noise)


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
        self.network = construct(name, network)
        self.network_config = network
        # What was resolved is what is saved: a preset may change, a saved model must not.
        self.saved_network = {"network": name, **plain(network)}

    def loss(
        self, images: Tensor, text: TextEmbedding, draws: Draws, lowres: Tensor | None = None
    ) -> Tensor:
        """Weighted error of each example, [B].

        Args:
            images: clean, [B, 3, H, W] in [-1, 1].
            lowres: for super-resolution, the small pictures [B, 3, h, w] in [-1, 1].
        """
        logsnr = self.config.schedule.logsnr(draws.t)
        z = diffuse(images, draws.eps, logsnr)
        condition = None
        if lowres is not None:
            size = (images.shape[2], images.shape[3])
            condition = augment(lowres, draws.level, draws.lowres_noise, size)
        prediction = self.network(z, logsnr, text.dropped(draws.drop), condition).float()
        return self.config.objective.loss(prediction, images, draws.eps, z, logsnr)

    @torch.inference_mode()
    def sample(
        self,
        text: TextEmbedding,
        generators: Sequence[torch.Generator],
        settings: Sampling | None = None,
        lowres: Tensor | None = None,
        negative: TextEmbedding | None = None,
        watch: Watch | None = None,
    ) -> Tensor:
        """Draw pictures, [B, 3, H, W] in [-1, 1].

        Each picture takes its noise from its own generator, so that it does not depend on which
        others are made with it.

        Args:
            text: [B, L, C] and mask.
            generators: one per picture, on the CPU.
            settings: over the stage's defaults.
            lowres: the small pictures [B, 3, h, w], for super-resolution.
            negative: what guidance leads away from; zeroed text if None.
            watch: told (step, steps, estimate of the clean images) after each call.
        """
        settings = (settings or Sampling()).over(self.config.sampling).complete()
        assert settings.steps is not None
        assert settings.sampler is not None
        assert settings.noise_level is not None
        device = next(self.parameters()).device
        height = width = self.config.resolution
        if lowres is not None:
            scale = self.config.resolution // self.config.lowres
            height, width = lowres.shape[2] * scale, lowres.shape[3] * scale
        shape = (3, height, width)

        def noise() -> Tensor:
            return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)

        condition = None
        if self.config.lowres:
            assert lowres is not None, f"{self.config.name} enlarges pictures; none were given"
            level = torch.full((len(generators),), settings.noise_level, device=device)
            condition = augment(lowres, level, noise(), (height, width))

        levels = self.config.schedule.levels(settings.steps)
        seen: list[float] = []

        def denoise(z: Tensor, logsnr: Tensor) -> Tensor:
            x = predict(z, logsnr)
            if not seen or seen[-1] != float(logsnr):
                seen.append(float(logsnr))
            if watch is not None:
                watch(min(len(seen), len(levels) - 1), len(levels) - 1, x)
            return x

        predict = self.denoiser(text, settings, condition, negative)
        z = noise().to(memory_format=torch.channels_last)
        x = SAMPLERS[settings.sampler](denoise, z, levels, noise)
        return x.clamp(-1, 1)

    def denoiser(
        self,
        text: TextEmbedding,
        settings: Sampling,
        condition: LowRes | None = None,
        negative: TextEmbedding | None = None,
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """(z, logsnr) -> the guided, thresholded estimate of the clean image.

        With guidance, the conditional and unconditional predictions are one call of the network on
        a batch twice as long.
        """
        guidance, threshold = settings.guide, settings.thresholding
        kind, network = self.config.objective.prediction, self.network
        both = stack_texts([text, negative or text.null()])
        twice = condition and LowRes(*(torch.cat([part, part]) for part in condition))

        def denoise(z: Tensor, logsnr: Tensor) -> Tensor:
            level = logsnr.to(z.device, z.dtype)
            if guidance.active(float(logsnr)):
                found = network(torch.cat([z, z]), level.expand(2 * len(z)), both, twice)
                conditional, unconditional = found.float().chunk(2)
                prediction = guide(conditional, unconditional, guidance.weight)
            else:
                prediction = network(z, level.expand(len(z)), text, condition).float()
            return threshold(to_x(prediction, z, logsnr, kind))

        return denoise
