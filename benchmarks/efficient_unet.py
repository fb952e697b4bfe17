"""The Efficient U-Net against the plain one at 256 pixels, the paper's claim of 2 to 3 times.

The presets imagen-sr-256 and imagen-sr-256-unet: about as many parameters, both whole.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import Table, alternate, peak_memory, script

from open_imagen.models.profile import size_of
from open_imagen.models.registry import build
from open_imagen.types import LowRes, TextEmbedding

PRESETS = {"plain": "imagen-sr-256-unet", "efficient": "imagen-sr-256"}
SIDE, TOKENS = 256, 77


def make(kind: str, learning: bool) -> Callable[[], Any]:
    """A step of sampling (one call), or of training (forward and backward)."""
    network = build(PRESETS[kind]).to(memory_format=torch.channels_last)
    z = torch.randn(1, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
    level = torch.zeros(1)
    tokens = torch.randn(1, TOKENS, network.config.text_width)  # type: ignore[union-attr]
    text = TextEmbedding(tokens, torch.ones(1, TOKENS, dtype=torch.bool))
    lowres = LowRes(torch.randn_like(z), level)

    def step() -> None:
        with torch.set_grad_enabled(learning):
            found = network(z, level, text, lowres)
            if learning:
                found.square().mean().backward()
                network.zero_grad()

    return step


def measure(rounds: int) -> Iterator[Table]:
    table = Table(
        "Efficient U-Net against U-Net, 256 pixels",
        f"One picture, {TOKENS} tokens of the paper's encoder's width, float32. Seconds, and peak "
        "memory in megabytes, weights included, in processes of their own. Ratios: plain to "
        "efficient.",
        ["", "parameters", "call, s", "training step, s", "memory, call", "memory, training step"],
    )
    rows: dict[str, list[float]] = {}
    for kind in PRESETS:
        rows[kind] = [size_of(build(PRESETS[kind], device="meta")) / 1e6]
    for learning in (False, True):
        taken = alternate({kind: make(kind, learning) for kind in PRESETS}, rounds)
        found = table.keep(taken, "training step" if learning else "call")
        for kind, seconds in found.items():
            rows[kind].append(seconds)
    for learning in (False, True):
        for kind, row in rows.items():
            row.append(peak_memory(make, kind, learning))
    for kind, row in rows.items():
        table.rows.append([kind, f"{row[0]:.0f} M", *row[1:]])
    pairs = zip(*(row[1:] for row in rows.values()), strict=True)
    table.rows.append(["ratio", None, *(plain / efficient for plain, efficient in pairs)])
    yield table


if __name__ == "__main__":
    script(measure, __doc__, rounds={"type": int, "default": 3})
