"""Two networks that share the noise levels: one for much noise, one for little (eDiff-I).

Balaji et al. 2022. What is in a picture is settled under much noise, by a network that is wide
where the map is small; its edges come last, from one that works close to the pixels.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.errors import ConfigError
from open_imagen.models.layers import number_attentions
from open_imagen.models.registry import NETWORKS, construct, resolve, written
from open_imagen.types import LowRes, ReadText, TextEmbedding

SHARED: dict[str, Any] = {"text_width": None, "lowres": None, "image_channels": 3}
"""What both networks must have alike, and what it is where a network leaves no choice."""


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """Which networks, and where one hands over to the other."""

    early: dict[str, Any] = field(default_factory=dict)
    """For log-SNRs below `begin`: a preset's name, or a network's name, and its settings."""
    late: dict[str, Any] = field(default_factory=dict)
    """For the others, alike."""
    begin: float = 0.0
    """The log-SNR from which on the late one is asked."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.begin):
            raise ConfigError(f"network.begin = {self.begin} must be a log-SNR.")
        for part in ("early", "late"):
            name, config = resolve(getattr(self, part))
            if name == "experts":
                raise ConfigError(f"network.{part} must be one network, not experts again.")
            if getattr(config, "level", "logsnr") != "logsnr":
                raise ConfigError(f"network.{part} must be told log-SNRs, not steps.")
            object.__setattr__(self, part, written(name, config))
        for name, usual in SHARED.items():
            theirs = [part.get(name, usual) for part in (self.early, self.late)]
            if theirs[0] != theirs[1]:
                raise ConfigError(
                    f"network.early.{name} = {theirs[0]!r} and network.late.{name} = "
                    f"{theirs[1]!r} must be the same."
                )

    @property
    def text_width(self) -> int:
        return int(self.early["text_width"])

    @property
    def lowres(self) -> bool:
        return bool(self.early["lowres"])

    @property
    def image_channels(self) -> int:
        return int(self.early.get("image_channels", SHARED["image_channels"]))

    @property
    def divisor(self) -> int:
        """The side of an image must be a multiple of this."""
        return math.lcm(*(int(resolve(part)[1].divisor) for part in (self.early, self.late)))


class Experts(nn.Module):
    """Called as either of its networks. [B, 3, H, W] -> [B, out, H, W]."""

    def __init__(self, config: ExpertsConfig) -> None:
        super().__init__()
        self.config = config
        self.early, self.late = (construct(*resolve(part)) for part in (config.early, config.late))
        self._pooled = self.early.pooled_text.out.out_features  # type: ignore[union-attr]
        self._attentions = len(number_attentions(self.early))

    def at(self, logsnr: float) -> str:
        """Who is asked at this log-SNR: early or late."""
        return "late" if logsnr >= self.config.begin else "early"

    def read(self, text: TextEmbedding) -> ReadText:
        """What both make of the text, side by side; `share` is one's part of it."""
        early, late = self.early.read(text), self.late.read(text)  # type: ignore[operator]
        pooled = torch.cat([early.pooled, late.pooled], dim=1)
        return ReadText(pooled, text.mask, early.keys_values + late.keys_values)

    def share(self, who: str, read: ReadText) -> ReadText:
        """What one of them has made of the text."""
        first = who == "early"
        pooled = slice(self._pooled) if first else slice(self._pooled, None)
        seen = slice(self._attentions) if first else slice(self._attentions, None)
        return ReadText(read.pooled[:, pooled], read.mask, read.keys_values[seen])

    def forward(
        self,
        z: Tensor,
        level: Tensor,
        text: TextEmbedding | ReadText,
        lowres: LowRes | None = None,
    ) -> Tensor:
        if level.is_meta:  # only counted (survey.py): what both take is the most it can be
            both: Tensor = self.early(z, level, text, lowres) + self.late(z, level, text, lowres)
            return both
        late, made, places = level >= self.config.begin, [], []
        for who, mine in (("early", ~late), ("late", late)):
            rows = mine.nonzero()[:, 0]
            # Who has no picture looks at the first, for nothing: processes that train wait for
            # everyone's gradients.
            seen = rows if len(rows) else rows.new_zeros(1)
            own = self.share(who, text) if isinstance(text, ReadText) else text
            small = lowres and LowRes(*(part[seen] for part in lowres))
            made.append(
                getattr(self, who)(z[seen], level[seen], own.select(seen), small)[: len(rows)]
            )
            places.append(rows)
        return torch.cat(made)[torch.cat(places).argsort()]


def asked(network: nn.Module, logsnr: float, read: ReadText) -> tuple[nn.Module, ReadText]:
    """Who is called for pictures that are all at one log-SNR, and what it has read."""
    if not isinstance(network, Experts):
        return network, read
    who = network.at(logsnr)
    return getattr(network, who), network.share(who, read)


NETWORKS.register("experts")((ExpertsConfig, Experts))
