"""How networks run: device, number format, acceleration and offloading."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

import torch

from open_imagen.devices import free_memory, pick_device
from open_imagen.errors import UnknownName

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHORT = {"float32": "fp32", "bfloat16": "bf16"}
"""Torch's names of these, and ours."""


class RuntimeOptions(TypedDict, total=False):
    """The settings of `RuntimeConfig` as keyword arguments."""

    device: str
    dtype: str
    fast: bool
    offload: bool | None


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """How a cascade runs. None of it changes what a model is."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps ..."""
    dtype: str = "fp32"
    """Of the networks: fp32, or bf16, which takes half the memory, is faster where the hardware
    has it, and changes images a little."""
    fast: bool = False
    """Compute as fast as the device can, the same to 1e-4 (docs/guides/speed.md). A CPU needs a C++
    compiler once."""
    offload: bool | None = None
    """Sequential offload: only the encoder or one stage is in memory at a time, and weights are
    read again when they are needed. None: only if not everything fits."""

    def __post_init__(self) -> None:
        # torch.device("cuda"), torch.bfloat16 and "bfloat16" are taken as well.
        dtype = str(self.dtype).removeprefix("torch.")
        object.__setattr__(self, "dtype", SHORT.get(dtype, dtype))
        object.__setattr__(self, "device", str(self.device))
        if self.dtype not in DTYPES:
            raise UnknownName("precision", self.dtype, DTYPES)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number format as torch names it."""
        return DTYPES[self.dtype]

    def torch_device(self) -> torch.device:
        """The device; "auto" is the best one here.

        Raises:
            ConfigError: it is not here.
        """
        return pick_device(self.device)

    def needs_offload(self, parameters: Iterable[torch.Tensor], device: torch.device) -> bool:
        """Whether to offload: if nothing is set, where weights take half of the free memory."""
        if self.offload is not None:
            return self.offload
        size = self.torch_dtype.itemsize * sum(tensor.numel() for tensor in parameters)
        return size > free_memory(device) / 2
