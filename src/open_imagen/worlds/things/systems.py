"""What is evaluated: anything that makes images of prompts."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.metadata import plain_sampling
from open_imagen.cascade.sampling import Sampling


class System(Protocol):
    """What draws the images of prompts."""

    @property
    def facts(self) -> dict[str, Any]:
        """What its images depend on beside prompts and seeds: "model", "model_hash" ..."""
        ...

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Images uint8 [N, 3 or 4, S, S]."""
        ...


class CascadeSystem:
    """A cascade with its settings."""

    def __init__(
        self,
        cascade: Cascade,
        stages: int | None = None,
        settings: Mapping[str, Sampling] | None = None,
        batch_size: int = 16,
    ) -> None:
        self.cascade, self.stages, self.settings = cascade, stages, settings
        self.batch_size = batch_size

    @property
    def facts(self) -> dict[str, Any]:
        """The model, its precision, stages and settings."""
        chosen = self.cascade.chosen(self.stages)
        complete = self.cascade.complete_settings(chosen, self.settings)
        return {
            **self.cascade.identity,
            "stages": len(chosen),
            "settings": {name: plain_sampling(one) for name, one in complete.items()},
        }

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Images of the last stage."""
        made = self.cascade.generate(
            prompts,
            seed=seeds,
            stages=self.stages,
            settings=self.settings,
            batch_size=self.batch_size,
        )
        return list(made.stages.values())[-1].cpu()
