"""Dynamic thresholding alone: ours against diffusers' scheduler and plain torch.quantile.

imagen-pytorch has no function for it; in its sampling step it calls torch.quantile, as here.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from measuring import Table, alternate, script
from peers import diffusers_scheduler
from torch import Tensor

from open_imagen.diffusion.thresholding import Threshold

PERCENTILE = 95.0


def by_quantile(x: Tensor) -> Tensor:
    s = torch.quantile(x.flatten(1).abs(), PERCENTILE / 100, dim=1).clamp(min=1)
    s = s[:, None, None, None]
    return x.clamp(-s, s) / s


@torch.inference_mode()
def measure(batch: int, rounds: int) -> Iterator[Table]:
    scheduler = diffusers_scheduler()
    scheduler.register_to_config(sample_max_value=1000.0)  # no cap
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "diffusers": scheduler._threshold_sample,
        "torch.quantile": by_quantile,
        "ours": Threshold("dynamic", PERCENTILE),
    }
    table = Table(
        "Dynamic thresholding",
        f"{batch} images at percentile {PERCENTILE:g}, milliseconds; the same results (checked). "
        "The ratio is ours against the best of the others.",
        ["side", *ways, "ratio"],
    )
    for side in (64, 256, 1024):
        x = 1.5 * torch.randn(batch, 3, side, side)
        for way in ways.values():
            torch.testing.assert_close(way(x), ways["ours"](x))
        taken = alternate({name: partial(way, x) for name, way in ways.items()}, rounds)
        found = table.keep(taken, str(side))
        best = min(found["diffusers"], found["torch.quantile"])
        table.rows.append([side, *(1000 * t for t in found.values()), best / found["ours"]])
    yield table


if __name__ == "__main__":
    script(measure, __doc__, batch={"type": int, "default": 4}, rounds={"type": int, "default": 9})
