"""One guided call of the network, ours against diffusers', on identical DeepFloyd-shaped weights.

Both are the same function of the same numbers (checked first). Rows of diffusers: as it comes,
channels_last, and with torch.compile, its documented fast path; ours: as `sample` calls it, fast,
and compiled.
"""

import warnings
from collections.abc import Callable, Iterator

import torch
from measuring import Table, alternate, called, dtypes, script
from peers import TEXT, TOKENS, WEIGHT, diffusers_network, same_as
from torch import Tensor

from open_imagen.backends.accelerate import accelerate
from open_imagen.models.profile import size_of
from open_imagen.types import TextEmbedding

NEAR = {torch.float32: 2e-3, torch.bfloat16: 1.0}
"""How far from diffusers' own a guided prediction may be; guidance multiplies errors by seven."""
COMPILED = (64, 1)
"""Width and batch at which compiled rows are measured too: compiling takes a minute and more."""


def guided(found: Tensor) -> Tensor:
    text, empty = found[:, :3].chunk(2)
    return empty + WEIGHT * (text - empty)


def calls(
    width: int, batch: int, side: int, dtype: torch.dtype, device: str = "cpu"
) -> dict[str, Callable[[], Tensor]]:
    """The ways to make one guided prediction."""
    theirs = diffusers_network(width).to(device, dtype)
    last = diffusers_network(width).to(device, dtype, memory_format=torch.channels_last)
    ours, fast = same_as(theirs), same_as(theirs)
    for network in (ours, fast):
        network.to(device, dtype)
    accelerate(fast)
    z = torch.randn(batch, 3, side, side, dtype=dtype, device=device)
    tokens = torch.randn(2 * batch, TOKENS, TEXT, dtype=dtype, device=device)
    text = TextEmbedding(tokens, torch.ones(2 * batch, TOKENS, dtype=torch.bool, device=device))
    step = torch.full((2 * batch,), 500.0, device=device)
    read = ours.encode_text(text)

    def wide(x: Tensor) -> Tensor:
        return torch.cat([x, x]).to(memory_format=torch.channels_last)

    ways: dict[str, Callable[[], Tensor]] = {
        "diffusers": lambda: guided(theirs(torch.cat([z, z]), step, tokens).sample),
        "diffusers, channels_last": lambda: guided(last(wide(z), step, tokens).sample),
        "ours": lambda: guided(ours(wide(z), step, read)),
        "ours, fast": lambda: guided(fast(wide(z), step, read)),
    }
    if device != "cpu":  # as its documentation has it, with CUDA graphs
        compiled = torch.compile(last, mode="reduce-overhead", fullgraph=True)
        ways["diffusers, compiled"] = lambda: guided(compiled(wide(z), step, tokens).sample)
    elif (width, batch) == COMPILED:
        compiled, own = torch.compile(last, dynamic=False), torch.compile(ours, dynamic=False)
        ways["diffusers, compiled"] = lambda: guided(compiled(wide(z), step, tokens).sample)
        ways["ours, compiled"] = lambda: guided(own(wide(z), step, read))
    return ways


@torch.inference_mode()
def measure(widths: str, batches: str, side: int, rounds: int) -> Iterator[Table]:
    warnings.simplefilter("ignore")
    names = ["diffusers", "diffusers, channels_last", "diffusers, compiled"]
    names += ["ours", "ours, compiled", "ours, fast"]
    for dtype in dtypes():
        precision = called(dtype)
        table = Table(
            f"One guided call, {precision}",
            f"Guidance weight {WEIGHT:g}, {side} pixels, {TOKENS} tokens, the same weights in "
            "both; milliseconds. The last column is ours, fast, against diffusers' best row.",
            ["width", "parameters", "batch", *names, "ratio"],
        )
        for width in map(int, widths.split(",")):
            size = size_of(diffusers_network(width))
            for batch in map(int, batches.split(",")):
                ways = calls(width, batch, side, dtype)
                truth = ways["diffusers"]()
                for name, way in ways.items():
                    torch.testing.assert_close(way(), truth, rtol=0, atol=NEAR[dtype], msg=name)
                found = table.keep(alternate(ways, rounds), f"{width}, {batch}")
                best = min(found[name] for name in names[:3] if name in found)
                row = [1000 * found[name] if name in found else None for name in names]
                ratio = best / found["ours, fast"]
                table.rows.append([width, f"{size / 1e6:.0f} M", batch, *row, ratio])
        yield table


if __name__ == "__main__":
    script(
        measure,
        __doc__,
        widths={"default": "64,128"},
        batches={"default": "1,4"},
        side={"type": int, "default": 64},
        rounds={"type": int, "default": 7},
    )
