"""FLOPs and bytes of every stage, the floor they imply on this machine, and how near we come.

A call of the network cannot take less than its arithmetic at the machine's rate, nor less than the
bytes it must move at the machine's bandwidth. Both are measured here, in the same run: a large
matrix product, and a copy. Bytes are the least there could be: every weight once, and the input and
output of every convolution, matrix product and attention once, as if all else were fused into them.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from measuring import Table, alternate, called, dtypes, medians, script
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from open_imagen.backends.accelerate import accelerate
from open_imagen.models.profile import size_of
from open_imagen.models.registry import PRESETS, build
from open_imagen.types import LowRes, TextEmbedding

TOKENS = 77
STAGES = (
    *("small-base-64", "small-sr-256", "small-sr-1024"),
    *("imagen-base-64-300m", "imagen-base-64", "imagen-sr-256", "imagen-sr-1024"),
)
LONGEST = 40.0
"""Seconds that a call's floor may be for the call to be made; beyond it only the floor is told."""
COLUMNS = [
    *("stage", "parameters", "GFLOP", "MB in float32", "precision", "floor, ms", "set by"),
    *("measured, ms", "fraction", "fast, ms", "fast, fraction"),
]
HEAVY = ("convolution", "mm.", "addmm", "bmm", "attention")


class Cost(NamedTuple):
    """Of one call for one picture."""

    flops: int
    bytes: int
    """In numbers moved, not yet times their size."""


class Moved(TorchDispatchMode):
    """Counts the numbers that go into and come out of all that multiplies matrices."""

    total = 0

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(name in f"{func}" for name in HEAVY):
            results = out if isinstance(out, tuple) else (out,)
            tensors = [one for one in (*args, *results) if isinstance(one, Tensor)]
            self.total += sum(one.numel() for one in tensors)
        return out


def given(
    network: nn.Module, side: int, device: str, dtype: torch.dtype, tokens: int = TOKENS
) -> tuple[Any, ...]:
    config: Any = network.config
    with torch.device(device):
        text = TextEmbedding(
            torch.randn(1, tokens, config.text_width, dtype=dtype),
            torch.ones(1, tokens, dtype=torch.bool),
        )
        z = torch.randn(1, 3, side, side, dtype=dtype).to(memory_format=torch.channels_last)
        level = torch.zeros(1)
        lowres = LowRes(torch.zeros_like(z), level) if config.lowres else None
    return z, level, network.encode_text(text), lowres  # type: ignore[operator]


def cost(name: str, tokens: int = TOKENS) -> Cost:
    """Counted on tensors without memory."""
    # In inference mode layers would stay whole, and not be the operations that are counted.
    with torch.inference_mode(False), torch.no_grad():
        network = build(name, device="meta")
        inputs = given(network, PRESETS[name].resolution, "meta", torch.float32, tokens)
        with FlopCounterMode(display=False) as flops, Moved() as moved:
            network(*inputs)
    assert moved.total > size_of(network) / 2, (
        f"{name}: fewer numbers moved than half of its weights"
    )
    return Cost(flops.get_total_flops(), moved.total)


class Machine(NamedTuple):
    """What these cores do at best, in FLOP/s and bytes/s."""

    rates: dict[torch.dtype, float]
    bandwidth: float

    @classmethod
    def measured(cls, rounds: int = 7) -> "Machine":
        ways: dict[str, Callable[[], Any]] = {}
        side, number = 2048, 2**27
        for dtype in dtypes():
            a, b = torch.randn(2, side, side).to(dtype)
            ways[str(dtype)] = lambda a=a, b=b: a @ b
        source, target = torch.zeros(number), torch.zeros(number)
        ways["copy"] = lambda: target.copy_(source)
        found = medians(alternate(ways, rounds, warm=2))
        product = 2 * side**3
        return cls(
            {dtype: product / found[str(dtype)] for dtype in dtypes()},
            2 * 4 * number / found["copy"],
        )

    def floor(self, cost: Cost, dtype: torch.dtype) -> tuple[float, str]:
        """Seconds that a call takes at least, and what sets it."""
        arithmetic = cost.flops / self.rates[dtype]
        moving = cost.bytes * dtype.itemsize / self.bandwidth
        return max((arithmetic, "arithmetic"), (moving, "memory"))


def measured(name: str, dtype: torch.dtype, fast: bool, rounds: int) -> float:
    """Seconds of one call."""
    network = build(name).eval().to(dtype=dtype, memory_format=torch.channels_last)
    if fast:
        accelerate(network)
    inputs = given(network, PRESETS[name].resolution, "cpu", dtype)
    return medians(alternate({name: lambda: network(*inputs)}, rounds))[name]


@torch.inference_mode()
def measure(rounds: int) -> Iterator[Table]:
    machine = Machine.measured()
    rates = " and ".join(
        f"{rate / 1e9:,.0f} GFLOP/s in {called(dtype)}" for dtype, rate in machine.rates.items()
    )
    table = Table(
        "Roofline",
        f"One call for one picture, {TOKENS} tokens, the text already read. This machine at best: "
        f"{rates} (matrices of 2,048), {machine.bandwidth / 1e9:.0f} GB/s (copying). Fraction: "
        "floor to measured. Above 1, fast, is no error: convolutions are computed in "
        "split-bfloat16 by AMX or, without it, by Winograd with a quarter of the multiplications. "
        f"Calls whose floor is beyond {LONGEST:g} s are not made.",
        COLUMNS,
    )
    for name in STAGES:
        found = cost(name)
        size = size_of(build(name, device="meta"))
        for dtype in dtypes():
            floor, bound = machine.floor(found, dtype)
            row = [name, f"{size / 1e6:,.0f} M", found.flops / 1e9, found.bytes * 4 / 1e6]
            row += [called(dtype), 1000 * floor, bound]
            if floor < LONGEST and size * dtype.itemsize < 6e9:
                for fast in (False, True):
                    seconds = measured(name, dtype, fast, rounds if floor < 1 else 1)
                    row += [1000 * seconds, floor / seconds]
            else:
                row += [None] * 4
            table.rows.append(row)
    yield table


if __name__ == "__main__":
    script(measure, __doc__, rounds={"type": int, "default": 5})
