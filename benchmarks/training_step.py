"""One training step, forward, backward, clipping, optimiser and average: ours and imagen-pytorch.

Both trainers as they come, both with an exponential average; networks of equal parameters.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import Table, alternate, apart, called, dtypes, peak_memory, script
from peers import (
    efficient_base,
    imagen_pytorch,
    imagen_pytorch_network,
    paper_base,
)

from open_imagen.cascade.stage_config import StageConfig
from open_imagen.models.profile import size_of
from open_imagen.training.config import TrainConfig
from open_imagen.training.loop import Trainer
from open_imagen.training.optim import OptimConfig
from open_imagen.training.recipe import Recipe
from open_imagen.types import Batch, TextEmbedding

WIDTH, TEXT, TOKENS = 64, 384, 32
PRECISIONS = {"float32": ("fp32", "no"), "bfloat16": ("bf16", "bf16")}
"""What each trainer calls them."""
WAYS = {
    "imagen-pytorch": "theirs",
    "imagen-pytorch, memory_efficient": "theirs, lighter",
    "ours": "ours",
    "ours, compiled": "ours, compiled",
    "ours, Efficient U-Net": "ours, lighter",
}


class Random:
    """A text encoder whose every caption is the same noise."""

    name, max_length = "random", TOKENS

    def __init__(self, width: int = TEXT) -> None:
        self.width = width

    def num_tokens(self, caption: str) -> int:
        return TOKENS

    def __call__(self, captions: Any) -> TextEmbedding:
        tokens = torch.randn(1, TOKENS, self.width, generator=torch.Generator().manual_seed(0))
        mask = torch.ones(len(captions), TOKENS, dtype=torch.bool)
        return TextEmbedding(tokens.expand(len(captions), -1, -1), mask)


class OneCaption:
    """Data of one caption; the benchmarks make their batches themselves."""

    def captions(self) -> list[str]:
        return ["a"]

    def describe(self) -> dict[str, Any]:
        return {}


def theirs(batch: int, precision: str, lighter: bool) -> Callable[[], Any]:
    package = imagen_pytorch()
    network = imagen_pytorch_network(WIDTH, TEXT, lighter)
    imagen = package.Imagen(unets=(network,), image_sizes=(64,), text_embed_dim=TEXT)
    package.ImagenTrainer.locked = False  # it would allow one in a process
    trainer = package.ImagenTrainer(
        imagen, precision=PRECISIONS[precision][1], max_grad_norm=1.0, verbose=False
    )
    images = torch.rand(batch, 3, 64, 64)
    text = Random()(["a"] * batch)

    def step() -> None:
        trainer(images, text_embeds=text.tokens, unet_number=1)
        trainer.update(unet_number=1)

    return step


def ours(batch: int, precision: str, lighter: bool, compiled: bool = False) -> Callable[[], Any]:
    size = size_of(imagen_pytorch_network(WIDTH, TEXT, lighter))
    shape = (efficient_base if lighter else paper_base)(size, TEXT)
    recipe = Recipe(
        name="benchmark",
        stage=StageConfig(name="base", resolution=64, network=shape),
        train=TrainConfig(
            images=10**9,
            batch_size=batch,
            device="cpu",
            precision=PRECISIONS[precision][0],
            compile=compiled,
        ),
        optim=OptimConfig(),
        encoder="random",
        data={"kind": "one caption"},
    )
    trainer = Trainer(recipe, OneCaption(), Random())  # type: ignore[arg-type]
    assert abs(size_of(trainer.network) / size - 1) < 0.05, "not of equal parameters"
    images = torch.randint(0, 256, (batch, 3, 64, 64), dtype=torch.uint8)

    def step() -> None:
        trainer.step(Batch(images, ["a"] * batch, trainer.images_seen))

    return step


def make(way: str, batch: int, precision: str) -> Callable[[], Any]:
    whose, _, rest = WAYS[way].partition(", ")
    if whose == "theirs":
        return theirs(batch, precision, rest == "lighter")
    return ours(batch, precision, rest == "lighter", rest == "compiled")


def seconds(batch: int, precision: str, rounds: int) -> dict[str, list[float]]:
    warnings.simplefilter("ignore")
    ways = [way for way in WAYS if precision == "bfloat16" or "compiled" not in way]
    return alternate({way: make(way, batch, precision) for way in ways}, rounds, warm=2)


def measure(batches: str, precisions: str, rounds: int) -> Iterator[Table]:
    for precision in precisions.split(","):
        times = Table(
            f"A training step, {precision}",
            f"64 pixels, {TOKENS} tokens, AdamW, gradients clipped, an average kept; milliseconds. "
            f"Theirs: ImagenTrainer, dim {WIDTH}; ours of as many parameters, to 5 %. The ratios: "
            "the paper's base, compiled (which gains nothing in float32), against their network; "
            "the Efficient U-Net against their best row.",
            ["batch", *WAYS, "ratio", "ratio, lighter"],
        )
        memory = Table(
            f"Peak memory of training, {precision}",
            "The same steps in processes of their own, megabytes above an empty one that has "
            "imported torch. The ratios are ours to theirs: the paper's base, and the lighter two.",
            ["batch", *(way for way in WAYS if "compiled" not in way), "ratio", "ratio, lighter"],
        )
        for batch in map(int, batches.split(",")):
            found = times.keep(apart(seconds, batch, precision, rounds), str(batch))
            best = min(found["imagen-pytorch"], found["imagen-pytorch, memory_efficient"])
            ratio = found["imagen-pytorch"] / found.get("ours, compiled", found["ours"])
            lighter = best / found["ours, Efficient U-Net"]
            row = [1000 * found[way] if way in found else None for way in WAYS]
            times.rows.append([batch, *row, ratio, lighter])
            held = {way: peak_memory(make, way, batch, precision) for way in memory.columns[1:-2]}
            ratio = held["ours"] / held["imagen-pytorch"]
            lighter = held["ours, Efficient U-Net"] / held["imagen-pytorch, memory_efficient"]
            memory.rows.append([batch, *held.values(), ratio, lighter])
        yield times
        yield memory


if __name__ == "__main__":
    script(
        measure,
        __doc__,
        batches={"default": "8"},
        precisions={"default": ",".join(map(called, dtypes()))},
        rounds={"type": int, "default": 5},
    )
