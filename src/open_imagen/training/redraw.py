"""Super-resolution that learns from what the stage below draws, not only from scaled pictures.

A cascade's stages are trained apart: super-resolution sees true pictures made small, and is given
drawn ones. Here the stage below redraws part of the true ones: noise is put on them and the stage
takes it off again, with the text (Meng et al. 2021, SDEdit). What comes back is in its own hand,
its slips included; the truth at full size is known all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from open_imagen.cascade.draws import Draws, scrambled
from open_imagen.cascade.folder import locate, read_header, read_stages
from open_imagen.cascade.stage import Stage
from open_imagen.diffusion.parameterization import diffuse
from open_imagen.errors import ConfigError
from open_imagen.training.distill import guided_estimates, step
from open_imagen.types import TextEmbedding

STREAM = 0x299F31D0
"""Sets the random numbers of redrawing apart from all others of the run."""


@dataclass(frozen=True, kw_only=True)
class RedrawConfig:
    """Which model redraws, how many of the low-resolution images, and how freely."""

    model: str = ""
    """A base, or a cascade that begins with one, of the low-resolution images' side: a name, a
    folder or "hf:..."; empty: they stay as they are."""
    share: float = 0.5
    """Share of the images that are redrawn."""
    highest: float = 0.4
    """Each is redrawn from a time between 0, which changes nothing, and this, at most 1, which
    leaves nothing of it. What has moved cannot be learned from: stay where places are settled."""
    steps: int = 3
    """Calls of the network for each."""

    def __post_init__(self) -> None:
        for name, value in (("share", self.share), ("highest", self.highest)):
            if not 0 < value <= 1:
                raise ConfigError(f"redraw.{name} = {value} must be above 0 and at most 1.")
        if self.steps < 1:
            raise ConfigError(f"redraw.steps = {self.steps} must be at least 1.")


class Redrawing:
    """Low-resolution images [B, 3, h, w] in [-1, 1] -> the same, some in the hand of ``stage``."""

    def __init__(self, config: RedrawConfig, stage: Stage) -> None:
        self.config, self.stage = config, stage

    @torch.no_grad()
    def __call__(self, images: Tensor, text: TextEmbedding, index: int, seed: int) -> Tensor:
        """
        Args:
            text: of the images, [B, L, C] and mask.
            index: place in the run of the first; what it draws depends on that and ``seed`` alone.
        """
        number = scrambled(seed, STREAM)
        draws = Draws.make(images.shape, index, number, self.config.share, device=images.device)
        [chosen] = draws.drop.nonzero(as_tuple=True)
        if not len(chosen):
            return images
        some = TextEmbedding(text.tokens[chosen], text.mask[chosen])
        times = self.config.highest * draws.t[chosen]
        redrawn = self.redrawn(images[chosen], draws.eps[chosen], times, some)
        return images.index_copy(0, chosen, redrawn)

    def redrawn(self, images: Tensor, eps: Tensor, times: Tensor, text: TextEmbedding) -> Tensor:
        """Images with noise put on until ``times`` [B] and taken off in equal steps of time."""
        guidance = self.stage.config.sampling.complete().guidance
        assert guidance is not None  # complete
        estimate: Callable[[Tensor, Tensor], Tensor]
        estimate = guided_estimates(self.stage, text, None, guidance)
        parts = torch.arange(self.config.steps, 0, -1, device=times.device) / self.config.steps
        levels = [self.stage.config.schedule.logsnr(times * part) for part in parts]
        z = diffuse(images, eps, levels[0])
        for now, then in pairwise(levels):
            z = step(estimate(z, now), z, now, then)
        return estimate(z, levels[-1]).clamp(-1, 1).to(images.dtype)


def load_redrawing(
    config: RedrawConfig, lowres: int, encoder: str, device: torch.device
) -> Redrawing:
    """The base that redraws, awake.

    Args:
        lowres: side of the low-resolution images.
        encoder: what reads the captions.

    Raises:
        ConfigError: the model's first stage draws another size, or reads another encoder's text.
    """
    folder = locate(config.model)
    header = read_header(folder)
    base = next(iter(read_stages(folder, header)))
    if base.config.resolution != lowres or base.config.lowres:
        raise ConfigError(
            f"redraw.model = {config.model!r} draws pictures of {base.config.resolution}, and "
            f"stage.lowres = {lowres}.",
            "Name a model whose base has that side.",
        )
    if header["encoder"] != encoder:
        raise ConfigError(
            f"redraw.model = {config.model!r} reads {header['encoder']}, this recipe {encoder}."
        )
    base.wake(device)
    return Redrawing(config, base.eval().requires_grad_(False))
