"""One stage of a cascade: a network, its noise schedule, its objective. loss() and sample()."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from open_imagen.backends.accelerate import accelerate, restore
from open_imagen.cascade.augmentation import Augmentation, blurred, warped
from open_imagen.cascade.colors import correct_colors
from open_imagen.cascade.denoiser import Denoiser, FiniteCheck, Watch, watched
from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.sampling import ResolvedSampling, Sampling
from open_imagen.cascade.tiling import LARGE, predict_in_tiles
from open_imagen.cascade.variations import NoiseSource, standard_normal
from open_imagen.cascade.weights import layout_of
from open_imagen.diffusion.editing import StartImage, levels_from
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.parameterization import diffuse, to_eps
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models.lora import LowRankChange, Merged
from open_imagen.models.registry import construct, resolve, written
from open_imagen.types import CachedText, LowRes, TextEmbedding

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
        check_network(config, network)
        self.uses_timesteps = uses_timesteps(network)
        self.learned_range = getattr(network, "learned_variance", False)
        self.channels: int = getattr(network, "image_channels", 3)
        """Of its images: 3, or 4 with alpha."""
        self.letters: int = getattr(network, "letters", 0)
        """Letters of quoted text that its network reads."""
        self.network = construct(name, network)
        self.network_config = network
        self.dtype = torch.float32
        """In which its weights are, and its network computes."""
        self._accelerated = False
        self._source: Iterable[tuple[str, Tensor]] | None = None
        """What lazy weights are read from."""
        self._changes: list[LowRankChange] = []
        self._originals: dict[str, Tensor] = {}
        """Weights that adapters have changed, as they were."""
        self.saved_network = written(name, network)

    def with_lazy_weights(self, weights: Iterable[tuple[str, Tensor]]) -> "Stage":
        """This stage with weights that `load_weights` reads. For a network on "meta"."""
        self._source = weights
        return self.eval().requires_grad_(False)

    def replica(self) -> "Stage":
        """A stage for sampling with the same weights, whose device, dtype and acceleration are its
        own. Lazy weights that are not in memory are read again, others copied."""
        with torch.device("meta"):
            other = Stage(self.config)
        if self._source is not None and self._is_read_again:
            other._changes = list(self._changes)
            return other.with_lazy_weights(self._source)
        other._set_weights((name, tensor.detach().clone()) for name, tensor in self.weights())
        return other.eval().requires_grad_(False)

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, without adapters: the config, and the weights or where they are
        read from."""
        if self._is_read_again:
            return rebuild, (self.config, self._source)
        weights = {**dict(self.network.named_parameters()), **self._originals}
        return rebuild, (self.config, {name: one.detach().cpu() for name, one in weights.items()})

    def weights(self) -> Iterable[tuple[str, Tensor]]:
        """The weights by name. Where memory holds none, or rounded ones, they are read again."""
        if self._source is None or not self._is_read_again:
            return dict(self.network.named_parameters()).items()
        return Merged(self._source, self._changes) if self._changes else self._source

    @property
    def _is_read_again(self) -> bool:
        is_exact = self.dtype == torch.float32 and not next(self.parameters()).is_meta
        return self._source is not None and not is_exact

    def set_adapters(self, changes: Sequence[LowRankChange]) -> None:
        """Have the weights with what these adapters change, in place of those it had so far.

        Only the weights that differ are computed anew, from their originals: without adapters they
        are to the bit what they were.
        """
        before = self._changes
        if len(changes) == len(before) and all(map(LowRankChange.equals, changes, before)):
            return
        self._changes = list(changes)
        if self._source is not None and next(self.parameters()).is_meta:
            return  # load_weights will add them
        names = {name for one in [*before, *changes] for name in one.names}
        self._keep_originals(names)
        packed = self._accelerated and next(self.parameters()).device.type == "cpu"
        if packed:  # CPU layers hold transformed copies of their weights
            restore(self.network)
        merged = Merged((), changes).merged
        with torch.inference_mode():
            for name in names:
                self.network.get_parameter(name).copy_(merged(name, self._originals[name]))
        if packed:
            accelerate(self.network)

    def _keep_originals(self, names: set[str]) -> None:
        missing = names - self._originals.keys()
        own = ((name, weight.clone()) for name, weight in self.network.named_parameters())
        weights = own if self._source is None else self._source
        self._originals |= {name: weight for name, weight in weights if name in missing}

    def load_weights(
        self, device: torch.device, dtype: torch.dtype = torch.float32, fast: bool = False
    ) -> None:
        """Have the weights on this device, ready to sample, the network accelerated if ``fast``.

        Lazy ones are read one by one into their final place: no second copy is ever held.
        """
        self.dtype = dtype
        if self._source is not None and any(one.is_meta for one in self.parameters()):
            # All are read before one is set: an interrupted read leaves the stage as it was.
            self._set_weights(
                [
                    (name, tensor.to(device, dtype, memory_format=layout_of(tensor)))
                    for name, tensor in Merged(self._source, self._changes)
                ]
            )
        self.network.to(device, dtype)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if fast and not self._accelerated:
            accelerate(self.network)
            self._accelerated = True

    def _set_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        for name, tensor in weights:
            module, _, leaf = name.rpartition(".")
            parameter = nn.Parameter(tensor, requires_grad=False)
            setattr(self.network.get_submodule(module), leaf, parameter)

    def offload(self) -> None:
        """Give the memory of the weights back, if they can be read again."""
        if self._source is not None:
            restore(self.network)
            self._accelerated = False
            self._originals = {}
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
        if settings is None or isinstance(settings, Sampling):
            own = (settings or Sampling()).over(self.config.sampling).resolve()
            settings = [own] * len(generators)
        common = settings[0]
        assert len({one.together for one in set(settings)}) == 1, "cannot share a batch"
        device = next(self.parameters()).device
        wanted = image_size(self.config, lowres, size)
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
        return finished(x, lowres, common)[:, :, : wanted[0], : wanted[1]]

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
    """Small images [B, C, h, w], their last rows and columns repeated until the sides of the large
    ones are multiples of ``divisor``, two at least: of a single pixel nothing can be normalised."""
    multiple = divisor // math.gcd(divisor, config.resolution // config.lowres)
    down, right = (max(-side % multiple, 2 * multiple - side) for side in lowres.shape[2:])
    return F.pad(lowres, (0, right, 0, down), mode="replicate") if down or right else lowres


def guidance_weights(each: Sequence[ResolvedSampling], device: torch.device) -> Tensor | None:
    """Guidance weights [B] of images that differ in them; None if all have the same."""
    if len({one.guidance for one in each}) == 1:
        return None
    return torch.tensor([one.guidance for one in each], dtype=torch.float32).to(device)


def finished(x: Tensor, lowres: Tensor | None, settings: ResolvedSampling) -> Tensor:
    """Sampled images, their colours corrected if asked for, within their range."""
    if lowres is not None and settings.color_correction:
        x = correct_colors(x, lowres, settings.color_correction)
    x = x.clamp(-1, 1)
    if x.shape[1] == 4:  # premultiplied colours are at most alpha
        x = torch.cat([x[:, :3].minimum(x[:, 3:]), x[:, 3:]], dim=1)
    return x


def uses_timesteps(network: Any) -> bool:
    """Whether a network of this config is conditioned on steps of a discrete schedule."""
    return getattr(network, "level", "logsnr") == "step"


def check_network(config: StageConfig, network: Any) -> None:
    """Check that a network, by its config, can be this stage's.

    Raises:
        ConfigError: it cannot.
    """
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
    if uses_timesteps(network) and not config.schedule.discrete:
        raise ConfigError(
            f"{config.name}: a network that is told steps needs a discrete schedule, not "
            f"{config.schedule.name!r}."
        )
