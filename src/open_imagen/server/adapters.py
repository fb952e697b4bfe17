"""Adapters that requests may name, and the models with them, which share a bounded memory."""

import copy
import threading
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from open_imagen.cascade.adapters import WeightedAdapter, adapted_hash, read_weighted
from open_imagen.cascade.cascade import Cascade
from open_imagen.errors import CheckpointError, ConfigError, OpenImagenError, UnknownName
from open_imagen.models.lora import LowRankChange

MAX_ADAPTED = 2
"""Models with adapters in memory at once, beside those without; each has its own weights."""
Weights = tuple[tuple[str, float], ...]


class AdaptersBusy(OpenImagenError):
    """All adapted models that fit in memory are at work with other adapters."""


@dataclass(eq=False)
class _Adapted:
    """A model with adapters, and how many requests use it."""

    cascade: Cascade
    users: int = 0


class AdapterPool:
    """The adapters of a server, and the latest models with some of them."""

    def __init__(self, folders: Mapping[str, Path] | None = None, limit: int = MAX_ADAPTED) -> None:
        """
        Args:
            folders: of adapters, by the names that requests use.

        Raises:
            CheckpointError: one is no adapter, or damaged.
            ConfigError: one has a name of its own, and belongs into a model's folder.
        """
        self.limit = limit
        self.adapters: dict[str, WeightedAdapter] = {}
        for name, folder in (folders or {}).items():
            (one,) = read_weighted([folder])
            if one.adapter.name:
                raise ConfigError(
                    f"--adapter {name}={folder}: it is the named adapter {one.adapter.name!r}, "
                    "which replaces a stage's weights.",
                    "Serve the model's folder that holds it, and choose it in settings.",
                )
            # Records name it so, and no path of this machine.
            self.adapters[name] = replace(one, path=Path(name))
        self._lock = threading.Lock()
        self._adapted: dict[tuple[int, Weights], _Adapted] = {}

    def check(self, cascades: Iterable[Cascade]) -> None:
        """Raises ConfigError unless each adapter is of one of these models."""
        fitting = {name for cascade in cascades for name in self.fitting(cascade)}
        for name in self.adapters.keys() - fitting:
            raise ConfigError(
                f"--adapter {name}: it fits none of the models.", "Serve the model it is of, too."
            )

    def fitting(self, cascade: Cascade) -> dict[str, WeightedAdapter]:
        """The adapters that a model can have."""
        return {name: one for name, one in self.adapters.items() if _fits(one, cascade)}

    def hash_with(self, cascade: Cascade, weights: Mapping[str, float]) -> str:
        """The hash of a model with adapters of these weights."""
        chosen = [(self.adapters[name].adapter.digest, weight) for name, weight in weights.items()]
        digests, values = [one for one, _ in chosen], [weight for _, weight in chosen]
        return adapted_hash(cascade.model_hash, digests, values)

    def take(
        self, cascade: Cascade, weights: Mapping[str, float] | None, held: ExitStack
    ) -> Cascade:
        """A model with adapters of these weights; itself without any. It is made where it is not
        there yet, and stays until ``held`` is closed.

        Raises:
            UnknownName: the model can have no such adapter.
            AdaptersBusy: there is no room for it now.
        """
        chosen = {name: weight for name, weight in (weights or {}).items() if weight}
        fitting = self.fitting(cascade) if weights else {}
        for name in weights or {}:
            if name not in fitting:
                raise UnknownName(f"adapter of {cascade.name}", name[:80], fitting)
        if not chosen:
            return cascade
        key = (id(cascade), tuple(chosen.items()))
        with self._lock:
            found = self._adapted.pop(key, None) or self._make(cascade, chosen)
            self._adapted[key] = found  # at the end: the latest
            found.users += 1
        held.callback(self._give_back, found)
        return found.cascade

    def _make(self, cascade: Cascade, weights: Mapping[str, float]) -> _Adapted:
        if len(self._adapted) >= self.limit:
            unused = [key for key, one in self._adapted.items() if not one.users]
            if not unused:
                raise AdaptersBusy(
                    f"{self.limit} other sets of adapters are at work; the server holds no more."
                )
            del self._adapted[unused[0]]
        adapted = copy.copy(cascade)
        adapted.text = cascade.text
        adapted.set_adapters(
            [replace(self.adapters[name], weight=weight) for name, weight in weights.items()]
        )
        return _Adapted(adapted)

    def _give_back(self, adapted: _Adapted) -> None:
        with self._lock:
            adapted.users -= 1


def _fits(one: WeightedAdapter, cascade: Cascade) -> bool:
    """Whether an adapter is of a stage of this model."""
    if one.adapter.stage not in cascade.variants:
        return False
    network = cascade.variants[one.adapter.stage].own.network
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters()}
    try:
        LowRankChange(one.adapter.tensors, shapes, one.adapter.scale)
    except CheckpointError:
        return False
    return True
