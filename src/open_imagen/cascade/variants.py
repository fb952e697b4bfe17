"""Stages with named adapters: one stage with its own weights, and with those of each adapter.

A few-step student ships as a low-rank adapter of the model that it was distilled from: small, and
the undistilled model stays at hand. An adapter is merged when its weights are loaded, so that it
costs no time in sampling.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from open_imagen.cascade.folder import Adapter
from open_imagen.cascade.stage import Stage
from open_imagen.errors import CheckpointError, UnknownName
from open_imagen.models.lora import NO_ADAPTER, LowRankChange, Merged


class StageVariants:
    """One stage of a cascade by the names of its adapters; "none" is the stage itself."""

    def __init__(self, stage: Stage, adapters: Sequence[Adapter] = ()) -> None:
        """Make a variant of the stage for each adapter.

        Args:
            adapters: named ones of this stage; the first is the default.

        Raises:
            CheckpointError: an adapter is of another network.
        """
        self.adapters = {adapter.name: adapter for adapter in adapters}
        self.stages = {name: with_adapter(stage, one) for name, one in self.adapters.items()}
        if adapters:
            sampling = replace(stage.config.sampling, adapter=NO_ADAPTER)
            stage.config = replace(stage.config, sampling=sampling)
        self.stages[NO_ADAPTER] = stage

    @property
    def default(self) -> Stage:
        """The variant that is used by default."""
        return next(iter(self.stages.values()))

    @property
    def own(self) -> Stage:
        """The stage without an adapter: the undistilled one of a distilled model."""
        return self.stages[NO_ADAPTER]

    def get(self, adapter: str | None) -> Stage:
        """The stage with this adapter; the default if None.

        Raises:
            UnknownName: it has no such adapter.
        """
        if not adapter:
            return self.default
        if adapter not in self.stages:
            raise UnknownName(f"adapter of stage {self.own.config.name}", adapter, self.stages)
        return self.stages[adapter]

    def offload(self) -> None:
        """Give the memory of all their weights back."""
        for stage in self.stages.values():
            stage.offload()


def with_adapter(stage: Stage, adapter: Adapter) -> Stage:
    """Another stage, on "meta": the weights of this one with what an adapter changes.

    Raises:
        CheckpointError: the adapter is of another network.
    """
    sampling = replace(adapter.sampling or stage.config.sampling, adapter=adapter.name)
    config = replace(stage.config, sampling=sampling, distilled_guidance=adapter.distilled_guidance)
    with torch.device("meta"):
        adapted = Stage(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in stage.network.named_parameters()}
    change = LowRankChange(adapter.tensors, shapes, adapter.scale)
    # Of a replica: the stage's own may get adapters of their own.
    return adapted.with_lazy_weights(Merged(stage.replica().weights(), [change]))


def variants_of(stages: Sequence[Stage], adapters: Iterable[Adapter]) -> dict[str, StageVariants]:
    """The variants of each stage, by its name.

    Raises:
        CheckpointError: an adapter is of a stage that is not here, or of another network.
    """
    by_stage: dict[str, list[Adapter]] = {stage.config.name: [] for stage in stages}
    for adapter in adapters:
        if adapter.stage not in by_stage:
            raise CheckpointError(
                f"The adapter is of stage {adapter.stage!r}; the model has {', '.join(by_stage)}."
            )
        by_stage[adapter.stage].append(adapter)
    return {
        stage.config.name: StageVariants(stage, by_stage[stage.config.name]) for stage in stages
    }
