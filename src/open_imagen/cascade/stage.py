"""One stage of a cascade: a network, its noise schedule, its objective. loss() and sample()."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.cascade.augmentation import blurred, warped
from open_imagen.cascade.colors import correct_colors
from open_imagen.cascade.denoiser import Denoiser, FiniteCheck, Watch, watched
from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.sampling import ResolvedSampling, Sampling
from open_imagen.cascade.stage_config import StageConfig, check_network, uses_timesteps
from open_imagen.cascade.stage_weights import StageWeights
from open_imagen.cascade.tiling import LARGE, predict_in_tiles
from open_imagen.cascade.variations import NoiseSource, standard_normal
from open_imagen.diffusion.editing import StartImage, levels_from
from open_imagen.diffusion.parameterization import diffuse, to_eps
from open_imagen.models.registry import construct, resolve, written
from open_imagen.types import CachedText, LowRes, TextEmbedding

Truth = Callable[[Tensor, Tensor, TextEmbedding, LowRes | None], Tensor]
"""(z, t, text, low-resolution condition) -> the clean image that the loss compares with."""
FARTHEST = 20.0
"""The largest absolute log-SNR that a network is conditioned on: that of pure noise is infinite."""


class Stage(StageWeights):
    """A network that knows its schedule and what its output means."""

    def __init__(self, config: StageConfig) -> None:
        name, network = resolve(config.network)
        check_network(config, network)
        super().__init__(construct(name, network))
        self.config = config
        self.uses_timesteps = uses_timesteps(network)
        self.learned_range = getattr(network, "learned_variance", False)
        self.channels: int = getattr(network, "image_channels", 3)
        """Of its images: 3, or 4 with alpha."""
        self.letters: int = getattr(network, "letters", 0)
        """Letters of quoted text that its network reads."""
        self.network_config = network
        self.saved_network = written(name, network)

    def replica(self) -> "Stage":
        """A stage for sampling with the same weights, but its own device, dtype and acceleration.

        Lazy weights that are not in memory are read again, others copied.
        """
        with torch.device("meta"):
            other = Stage(self.config)
        if self._source is not None and self._is_read_again:
            other._changes = list(self._changes)
            return other.with_lazy_weights(self._source)
        other._set_weights((name, tensor.detach().clone()) for name, tensor in self.weights())
        return other.eval().requires_grad_(False)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, without adapters.

        The config, and the weights or where they are read from.
        """
        if self._is_read_again:
            return rebuild, (self.config, self._source)
        weights = {**dict(self.network.named_parameters()), **self._originals}
        return rebuild, (self.config, {name: one.detach().cpu() for name, one in weights.items()})

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
            condition = self.condition_with_noise(lowres, noise, (images.shape[2], images.shape[3]))
        text = text.dropped(noise.drop)
        labels = {"augment_labels": noise.augment_labels} if len(noise.augment_labels) else {}
        prediction = self.network(z, self.time_condition(logsnr), text, condition, **labels)
        prediction = prediction.float()[:, : self.channels]
        x, eps = images, noise.eps
        if truth is not None:
            x = truth(z, noise.t, text, condition)
            eps = to_eps(x, z, logsnr)
        return self.config.objective.loss(prediction, x, eps, z, logsnr)

    def time_condition(self, logsnr: Tensor) -> Tensor:
        """A log-SNR [B] as the network is conditioned on it: clamped, or as a discrete timestep."""
        if self.uses_timesteps:
            return self.config.schedule.step_of(logsnr)
        return logsnr.clamp(-FARTHEST, FARTHEST)

    @property
    def prediction(self) -> str:
        """What the network predicts: eps, x or v."""
        return self.config.objective.prediction

    @property
    def distilled_guidance(self) -> float:
        """The guidance weight of the network's own prediction."""
        return self.config.distilled_guidance

    def predict(self, z: Tensor, logsnr: float, text: CachedText, lowres: LowRes | None) -> Tensor:
        """The network's prediction for images at one noise level, float32.

        Large ones are upscaled in tiles.
        """
        level = float(self.time_condition(torch.tensor(logsnr, dtype=torch.float64)))
        levels = torch.full((len(z),), level, device=z.device, dtype=torch.float32)

        def network(z: Tensor, lowres: LowRes | None) -> Tensor:
            prediction: Tensor = self.network(z.to(self.dtype), levels, text, lowres)
            return prediction.float()

        side = self.config.resolution
        if lowres is None or z.shape[2] * z.shape[3] <= LARGE * side**2:
            return network(z, lowres)
        return predict_in_tiles(network, z, lowres, side, self.network_config.divisor)

    def encode_text(self, text: TextEmbedding) -> CachedText:
        """What the network makes of the text, the same at every step."""
        text = text.to(text.tokens.device, self.dtype)
        read: CachedText = self.network.encode_text(text)  # type: ignore[operator]
        return read

    def condition(
        self, lowres: Tensor, level: Tensor, noise: Tensor, size: tuple[int, int]
    ) -> LowRes:
        """The low-resolution condition: upsampled and noised; see Augmentation."""
        image, logsnr = self.config.augmentation(lowres, level, noise, size)
        return LowRes(image, self.time_condition(logsnr))

    def condition_with_noise(
        self, lowres: Tensor, noise: TrainingNoise, size: tuple[int, int]
    ) -> LowRes:
        """The low-resolution condition of a training step, degraded by its random numbers."""
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
        generators: Sequence[NoiseSource],
        settings: Sampling | Sequence[ResolvedSampling] | None = None,
        lowres: Tensor | None = None,
        negative: TextEmbedding | None = None,
        watch: Watch | None = None,
        size: tuple[int, int] | None = None,
        start: StartImage | None = None,
    ) -> Tensor:
        """Sample images, [B, C, H, W] in [-1, 1].

        Each image takes its noise from its own generator, so that it does not depend on which
        others are made with it.

        Args:
            text: [B, L, C] and mask.
            generators: one per image, on the CPU.
            settings: over the stage's defaults, for all images; or resolved ones for each, which
                may differ in what `ResolvedSampling.together` leaves out.
            lowres: the small images [B, C, h, w] of any size, for super-resolution.
            negative: what guidance leads away from; zeroed text if None.
            watch: called after each estimate of the clean images; it may change it.
            size: width and height of a base's images; the resolution both ways if None.
            start: images of the same size to begin with, instead of noise alone.

        Raises:
            SamplingError: the network computes numbers that are not finite.
        """
        settings = self._settings_of_each(settings, len(generators))
        common = settings[0]
        device = next(self.parameters()).device
        shown_height, shown_width = image_size(self.config, lowres, size)
        if lowres is not None:
            lowres = padded(lowres, self.network_config.divisor, self.config)
        height, width = image_size(self.config, lowres, size)
        noise = partial(normal_noise, (self.channels, height, width), generators, device)
        z = noise().to(memory_format=torch.channels_last)
        condition = None
        if self.config.lowres:
            assert lowres is not None, f"{self.config.name} upscales images; none were given"
            level = torch.tensor([one.noise_level for one in settings], dtype=torch.float32)
            condition = self.condition(lowres, level.to(device), noise(), (height, width))
        levels = common.levels(self.config.schedule)
        if start is not None:
            levels = levels_from(levels, start.strength)
        weights = guidance_weights(settings, device)
        check = FiniteCheck(self.config.name, levels)
        denoise = check.around(self.denoiser(text, common, condition, negative, levels, weights))
        if watch is not None:
            denoise = watched(denoise, levels, watch)
        if start is None:
            x = common.walk(denoise, z, levels, noise)
        else:
            x = start.sample(common.walk, denoise, noise, levels, z)
        check.add(len(levels) - 1, x)
        check.finish()
        return finished(x, lowres, common)[:, :, :shown_height, :shown_width]

    def _settings_of_each(
        self, settings: Sampling | Sequence[ResolvedSampling] | None, count: int
    ) -> Sequence[ResolvedSampling]:
        """The resolved settings of each image of a batch."""
        if settings is None or isinstance(settings, Sampling):
            return [(settings or Sampling()).over(self.config.sampling).resolve()] * count
        assert len({one.together for one in set(settings)}) == 1, "cannot share a batch"
        return settings

    def denoiser(
        self,
        text: TextEmbedding,
        settings: ResolvedSampling,
        condition: LowRes | None = None,
        negative: TextEmbedding | None = None,
        levels: Sequence[float] = (),
        weights: Tensor | None = None,
    ) -> Denoiser:
        """(z, logsnr) -> the guided, thresholded estimate of the clean image; see Denoiser."""
        return Denoiser(self, text, settings, condition, negative, levels, weights)


def rebuild(
    config: StageConfig, weights: Iterable[tuple[str, Tensor]] | dict[str, Tensor]
) -> Stage:
    """A pickled stage."""
    with torch.device("meta"):
        stage = Stage(config)
    if not isinstance(weights, dict):
        return stage.with_lazy_weights(weights)
    stage._set_weights(weights.items())
    return stage.eval().requires_grad_(False)


def image_size(
    config: StageConfig, lowres: Tensor | None, size: tuple[int, int] | None
) -> tuple[int, int]:
    """Height and width of the images to sample."""
    if lowres is not None:
        scale = config.resolution // config.lowres
        return lowres.shape[2] * scale, lowres.shape[3] * scale
    width, height = size or (config.resolution,) * 2
    return height, width


def normal_noise(
    shape: Sequence[int], sources: Sequence[NoiseSource], device: torch.device
) -> Tensor:
    """Standard normal noise [B, *shape], each image's from its own source."""
    return torch.stack([standard_normal(shape, one) for one in sources]).to(device)


def padded(lowres: Tensor, divisor: int, config: StageConfig) -> Tensor:
    """Pad low-resolution images [B, C, h, w] to a multiple of ``divisor`` after upsampling.

    Their last rows and columns are repeated. Sides get two multiples at least: a single pixel
    cannot be normalised.
    """
    multiple = divisor // math.gcd(divisor, config.resolution // config.lowres)
    down, right = (max(-side % multiple, 2 * multiple - side) for side in lowres.shape[2:])
    return F.pad(lowres, (0, right, 0, down), mode="replicate") if down or right else lowres


def guidance_weights(each: Sequence[ResolvedSampling], device: torch.device) -> Tensor | None:
    """Guidance weights [B] of images that differ in them; None if all have the same."""
    if len({one.guidance for one in each}) == 1:
        return None
    return torch.tensor([one.guidance for one in each], dtype=torch.float32).to(device)


def finished(x: Tensor, lowres: Tensor | None, settings: ResolvedSampling) -> Tensor:
    """Clamp sampled images to their range, after colour correction if it is on."""
    if lowres is not None and settings.color_correction:
        x = correct_colors(x, lowres, settings.color_correction)
    x = x.clamp(-1, 1)
    if x.shape[1] == 4:  # premultiplied colours are at most alpha
        x = torch.cat([x[:, :3].minimum(x[:, 3:]), x[:, 3:]], dim=1)
    return x
