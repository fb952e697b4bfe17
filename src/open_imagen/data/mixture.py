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

SHARES = ("weight", "repeats")
INF = float("inf")


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """Sources and how often each comes."""

    sources: tuple[dict[str, Any], ...]
    """Settings of each source, as it would have them alone, and its ``weight`` (1 if not given),
    its share of all examples; or its ``repeats`` (1 if not given), how often each of its examples
    comes in an epoch."""
    kind: str = "mixture"
    seed: int = 0
    """Of the order in which they take turns."""

    def __post_init__(self) -> None:
        for name in SHARES:
            shares = [source.get(name, 1.0) for source in self.sources]
            if not self.sources or any(
                isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < INF
                for share in shares
            ):
                raise ConfigError(
                    f"data.sources must be a list of sources, each of a {name} above 0."
                )
        if all(any(name in source for source in self.sources) for name in SHARES):
            raise ConfigError("data.sources: give weight or repeats, not both.")


class Several:
    """A Source of several others that take turns; which one's is a function of the position."""

    def __init__(self, settings: Sequence[dict[str, Any]], device: str) -> None:
        for one in settings:
            if one.get("buckets"):
                raise ConfigError("data.buckets does not go with sources that take turns.")
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
    def endless_captions(self) -> bool:
        """Whether captions of a source hardly ever come twice."""
        return any(getattr(source, "endless_captions", False) for source in self.sources)

    @property
    def skipped(self) -> Counter[str]:
        """What the sources left out, by reason."""
        counts: Counter[str] = Counter()
        for source in self.sources:
            counts.update(getattr(source, "skipped", {}))
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
        alone = [{k: v for k, v in one.items() if k not in SHARES} for one in config.sources]
        super().__init__(alone, device)
        self.config = config
        self.weights = [float(one.get("weight", 1.0)) for one in config.sources]
        if any("repeats" in one for one in config.sources):
            repeats = [one.get("repeats", 1.0) for one in config.sources]
            self.weights = [k * len(one) for k, one in zip(repeats, self.sources, strict=True)]
        self.turns = Interleaved(self.weights, config.seed)

    def turn(self, index: int) -> tuple[int, int, float]:
        """Of an example: which source it is from, its number there, and its loss weight."""
        return *self.turns[index], 1.0

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        sources = [source.describe() for source in self.sources]
        shares = [weight / sum(self.weights) for weight in self.weights]
        return {"kind": "mixture", "seed": self.config.seed, "shares": shares, "sources": sources}


SOURCES.register("mixture")((MixtureConfig, MixtureSource))
