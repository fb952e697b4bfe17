"""Several sources as one, in fixed shares."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from open_imagen.data.order import Interleaved
from open_imagen.data.registry import SOURCES, open_source
from open_imagen.errors import ConfigError
from open_imagen.types import Batch


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Sources and how often each comes."""

    sources: tuple[dict[str, Any], ...]
    """Settings of each source, as it would have them alone, and its ``weight`` (1 if not given)."""
    kind: str = "mixture"
    seed: int = 0
    """Of the order in which they take turns."""

    def __post_init__(self) -> None:
        weights = [source.get("weight", 1.0) for source in self.sources]
        if not self.sources or any(
            not isinstance(weight, int | float) or not weight > 0 for weight in weights
        ):
            raise ConfigError("data.sources must be a list of sources, each of a weight above 0.")


class Several:
    """A Source of several others that take turns; which one's is a function of the position."""

    def __init__(self, settings: Sequence[dict[str, Any]], device: str) -> None:
        self.sources = [open_source(one, device) for one in settings]

    def parts(self) -> list[tuple[str, Any]]:
        """Each source with the name of the setting that describes it."""
        return [(f"sources[{number}]", source) for number, source in enumerate(self.sources)]

    def turn(self, index: int) -> tuple[int, int, float]:
        """Whose turn example ``index`` is, its position there, and how much it counts."""
        raise NotImplementedError

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    @property
    def unusable(self) -> Counter[str]:
        """What the sources left out, by reason."""
        counts: Counter[str] = Counter()
        for source in self.sources:
            counts.update(getattr(source, "unusable", {}))
        return counts

    def batch(self, index: int, size: int) -> Batch:
        """Examples index to index + size - 1."""
        turns = [self.turn(k) for k in range(index, index + size)]
        parts = [self.sources[stream].batch(place, 1) for stream, place, _ in turns]
        lowres = [part.lowres for part in parts if part.lowres is not None]
        return Batch(
            torch.cat([part.images for part in parts]),
            [part.captions[0] for part in parts],
            index,
            torch.cat(lowres) if lowres else None,
            torch.tensor([weight for _, _, weight in turns]),
        )

    def captions(self) -> Iterator[str]:
        """Every caption of every source."""
        for source in self.sources:
            yield from source.captions()


class MixtureSource(Several):
    """Exact shares in every thousand examples, none lost or doubled."""

    def __init__(self, config: MixtureConfig, device: str = "cpu") -> None:
        alone = [{k: v for k, v in one.items() if k != "weight"} for one in config.sources]
        super().__init__(alone, device)
        self.config = config
        self.turns = Interleaved([one.get("weight", 1.0) for one in config.sources], config.seed)

    def turn(self, index: int) -> tuple[int, int, float]:
        return *self.turns[index], 1.0

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        return {"kind": "mixture", "sources": [source.describe() for source in self.sources]}


SOURCES.register("mixture")((MixtureConfig, MixtureSource))
