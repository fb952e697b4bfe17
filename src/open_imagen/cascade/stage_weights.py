"""The weights of a stage: read when first needed, changed by adapters, moved, given back."""

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from open_imagen.backends.accelerate import accelerate, restore
from open_imagen.cascade.weights import layout_of
from open_imagen.models.lora import LowRankChange, Merged


class StageWeights(nn.Module):
    """A network whose weights may be read again from a file, and changed by adapters."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dtype = torch.float32
        """Of the weights and of what the network computes."""
        self._accelerated = False
        self._source: Iterable[tuple[str, Tensor]] | None = None
        """Lazy weights are read from here."""
        self._changes: list[LowRankChange] = []
        self._originals: dict[str, Tensor] = {}
        """The weights that adapters have changed, before the change."""

    def with_lazy_weights(self, weights: Iterable[tuple[str, Tensor]]) -> Self:
        """This stage with weights that `load_weights` reads. For a network on "meta"."""
        self._source = weights
        return self.eval().requires_grad_(False)

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
