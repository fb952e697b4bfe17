"""On a GPU: a guided call and the whole loop against diffusers, and training against the card.

The first two are those of guided_forward.py and sampling_loop.py, in bfloat16 and at the width of
DeepFloyd's medium model. The last is a step of the trainer, from text and pictures on the CPU to
changed weights and averages, as a share of the rate of a large matrix product in the same run.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from guided_forward import NEAR, calls
from measuring import Table, alternate, medians, script
from peers import TOKENS, WEIGHT, diffusers_network
from roofline import cost
from sampling_loop import against_diffusers
from training_step import OneCaption, Random

from open_imagen.cascade.stage_config import StageConfig
from open_imagen.models.profile import size_of
from open_imagen.models.registry import build
from open_imagen.training.config import TrainConfig
from open_imagen.training.loop import Trainer
from open_imagen.training.optim import OptimConfig
from open_imagen.training.recipe import Recipe
from open_imagen.types import Batch

DTYPE, DEVICE, SIDE = torch.bfloat16, "cuda", 64
PRODUCT = 8192


@torch.inference_mode()
def guided_call(width: int, batch: int, rounds: int) -> dict[str, list[float]]:
    ways = calls(width, batch, SIDE, DTYPE, DEVICE)
    truth = ways["diffusers"]()
    for name, way in ways.items():
        torch.testing.assert_close(way(), truth, rtol=0, atol=NEAR[DTYPE], msg=name)
    return alternate(ways, rounds, warm=3)


@torch.inference_mode()
def loop(width: int, batch: int, steps: int, rounds: int) -> dict[str, list[float]]:
    ways = against_diffusers(batch, steps, width=width, device=DEVICE, dtype=DTYPE)
    return alternate(ways, rounds, warm=2)


def training(preset: str, batch: int) -> tuple[Trainer, Batch]:
    """A trainer of a preset, and a batch for it."""
    text_width: Any = build(preset, "meta").config.text_width
    recipe = Recipe(
        name="benchmark",
        stage=StageConfig(name="base", resolution=SIDE, network={"preset": preset}),
        train=TrainConfig(
            images=10**9, batch_size=batch, device=DEVICE, compile=True, cuda_graphs=False
        ),
        optim=OptimConfig(name="adafactor"),
        encoder="random",
        data={"kind": "one caption"},
    )
    with torch.device(DEVICE):  # where two billion weights are drawn at once
        trainer = Trainer(recipe, OneCaption(), Random(text_width))  # type: ignore[arg-type]
    images = torch.randint(0, 256, (batch, 3, SIDE, SIDE), dtype=torch.uint8)
    return trainer, Batch(images, ["a"] * batch, 0)


def matrix_rate(rounds: int = 9) -> float:
    """FLOP/s of a large product in bfloat16."""
    a, b = torch.randn(2, PRODUCT, PRODUCT, dtype=DTYPE, device=DEVICE)
    found = medians(alternate({"product": lambda: [a @ b for _ in range(10)]}, rounds, warm=3))
    return 10 * 2 * PRODUCT**3 / found["product"]


def compared(title: str, width: int, rounds: dict[int, dict[str, list[float]]]) -> Table:
    """The rounds of all ways at each batch, as a table."""
    size = f"{size_of(diffusers_network(width)) / 1e6:.0f} M parameters"
    table = Table(
        title,
        f"{torch.cuda.get_device_name()}, bfloat16, {SIDE} pixels, {TOKENS} tokens, guidance "
        f"{WEIGHT:g}, width {width} ({size}), the same weights in both; milliseconds. diffusers, "
        "compiled: with CUDA graphs and channels_last. The ratios: ours, fast, against diffusers "
        "as it comes and compiled.",
        [],
    )
    for batch, taken in rounds.items():
        found = table.keep(taken, str(batch))
        fast = found["ours, fast"]
        ratios = [found["diffusers"] / fast, found["diffusers, compiled"] / fast]
        table.columns = ["batch", *found, "ratio, as it comes", "ratio, compiled"]
        table.rows.append([batch, *(1000 * one for one in found.values()), *ratios])
    return table


def measure(
    parts: str, width: int, batches: str, steps: int, preset: str, batch: int, rounds: int
) -> Iterator[Table]:
    warnings.simplefilter("ignore")
    each = [int(number) for number in batches.split(",")]
    if "calls" in parts:
        taken = {number: guided_call(width, number, 5 * rounds) for number in each}
        yield compared("One guided call on a GPU", width, taken)
    if "loops" in parts:
        taken = {number: loop(width, number, steps, rounds) for number in each}
        yield compared(f"{steps} steps of DDPM on a GPU", width, taken)
    if "training" in parts:
        yield trained(preset, batch, rounds)


def trained(preset: str, batch: int, rounds: int) -> Table:
    """A training step as a share of the card's rate."""
    rate = matrix_rate()
    trainer, given = training(preset, batch)
    table = Table(
        "Training on a GPU",
        f"{torch.cuda.get_device_name()}, bfloat16, Adafactor, an average kept, the network "
        f"compiled. Matrices of {PRODUCT:,} in the same run: {rate / 1e12:.0f} TFLOP/s.",
        ["network", "parameters", "batch", "step, ms", "images/s", "TFLOP/s", "share of the rate"],
    )
    found = table.keep(alternate({preset: lambda: trainer.step(given)}, rounds, warm=3))[preset]
    # Forward and backward are three times the forward.
    achieved = 3 * batch * cost(preset, Random.max_length).flops / found
    parameters = f"{size_of(trainer.network) / 1e6:,.0f} M"
    row = [preset, parameters, batch, 1000 * found, batch / found, achieved / 1e12]
    table.rows.append([*row, achieved / rate])
    return table


if __name__ == "__main__":
    script(
        measure,
        __doc__,
        parts={"default": "calls,loops,training"},
        width={"type": int, "default": 192},
        batches={"default": "1,16"},
        steps={"type": int, "default": 20},
        preset={"default": "imagen-base-64"},
        batch={"type": int, "default": 64},
        rounds={"type": int, "default": 7},
    )
