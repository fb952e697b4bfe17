"""The whole sampling loop: ours against diffusers' pipeline, and against imagen-pytorch.

With diffusers the weights are the same, and so is the noise: the pictures must be, too (checked).
imagen-pytorch's network is another, of as many parameters and the same levels.
"""

import contextlib
import copy
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import IFPipeline
from measuring import Table, alternate, medians, script
from peers import (
    TEXT,
    TOKENS,
    WEIGHT,
    diffusers_network,
    diffusers_scheduler,
    imagen_pytorch,
    imagen_pytorch_network,
    paper_network,
)
from torch import Tensor, nn

from open_imagen.cascade import deepfloyd
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage, StageConfig
from open_imagen.config import plain
from open_imagen.models.fast import hasten
from open_imagen.types import TextEmbedding

WIDTH = 64


def generators(number: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(number)]


def text_of(number: int, width: int) -> TextEmbedding:
    tokens = torch.randn(number, TOKENS, width, generator=torch.Generator().manual_seed(1))
    return TextEmbedding(tokens, torch.ones(number, TOKENS, dtype=torch.bool))


def calm(network: nn.Module) -> nn.Module:
    """Smaller weights: a random network at weight 7 makes pictures of its rounding errors."""
    torch.manual_seed(2)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.01)
    return network


def ours(stage: Stage, text: TextEmbedding, settings: Sampling) -> dict[str, Callable[[], Tensor]]:
    empty = TextEmbedding(torch.zeros_like(text.tokens), text.mask)
    quick = copy.deepcopy(stage)
    hasten(quick.network)

    def draw(stage: Stage) -> Tensor:
        return stage.sample(text, generators(len(text.tokens)), settings, negative=empty)

    return {"ours": lambda: draw(stage), "ours, fast": lambda: draw(quick)}


def against_diffusers(batch: int, steps: int) -> dict[str, Callable[[], Tensor]]:
    parts = {"tokenizer": None, "text_encoder": None, "safety_checker": None}
    parts |= {"feature_extractor": None, "watermarker": None, "requires_safety_checker": False}
    pipelines = {}
    for name in ("diffusers", "diffusers, channels_last"):
        network = calm(diffusers_network(WIDTH))
        pipelines[name] = IFPipeline(unet=network, scheduler=diffusers_scheduler(), **parts)
        pipelines[name].set_progress_bar_config(disable=True)
    pipelines["diffusers, channels_last"].unet.to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as folder:
        pipelines["diffusers"].unet.save_pretrained(Path(folder) / "unet")
        pipelines["diffusers"].scheduler.save_pretrained(Path(folder) / "scheduler")
        stage = deepfloyd.read_stage(Path(folder))
        stage.wake(torch.device("cpu"))
    text = text_of(batch, TEXT)

    def theirs(pipeline: IFPipeline) -> Tensor:
        return pipeline(
            prompt_embeds=text.tokens,
            negative_prompt_embeds=torch.zeros_like(text.tokens),
            num_inference_steps=steps,
            guidance_scale=WEIGHT,
            generator=generators(batch),
            output_type="pt",
        ).images

    ways: dict[str, Callable[[], Tensor]] = {
        name: lambda pipeline=pipeline: theirs(pipeline) for name, pipeline in pipelines.items()
    }
    ways |= ours(stage, text, Sampling(steps=steps, guidance=WEIGHT))
    truth = ways["diffusers"]()
    for name, way in ways.items():
        torch.testing.assert_close(way(), truth, rtol=0, atol=2e-2, msg=name)
    return ways


def against_imagen_pytorch(batch: int, steps: int) -> dict[str, Callable[[], Tensor]]:
    with contextlib.redirect_stdout(io.StringIO()):
        network = imagen_pytorch_network(WIDTH, TEXT)
        peer = (
            imagen_pytorch()
            .Imagen(unets=(network,), image_sizes=(64,), timesteps=steps, text_embed_dim=TEXT)
            .eval()
        )
    size = sum(p.numel() for p in network.parameters())
    shape = {"network": "unet", **plain(paper_network(size, TEXT))}
    stage = Stage(StageConfig(name="base", resolution=64, network=shape)).eval()
    stage.network.to(memory_format=torch.channels_last)
    text = text_of(batch, TEXT)
    settings = Sampling(steps=steps, guidance=WEIGHT, sampler="ddpm")

    def theirs() -> Tensor:
        return peer.sample(text_embeds=text.tokens, cond_scale=WEIGHT, use_tqdm=False)

    return {"imagen-pytorch": theirs, **ours(stage, text, settings)}


@torch.inference_mode()
def measure(batches: str, steps: int, rounds: int) -> Iterator[Table]:
    warnings.simplefilter("ignore")
    about = (
        f"{steps} steps of DDPM at guidance weight {WEIGHT:g}, dynamic thresholding, 64 pixels, "
        f"{TOKENS} tokens given as embeddings, float32; milliseconds for the whole loop. "
    )
    makers: dict[str, tuple[Callable[[int, int], dict[str, Callable[[], Tensor]]], str]] = {
        "diffusers": (
            against_diffusers,
            f"IFPipeline, width {WIDTH}, the same weights and noise: the same pictures.",
        ),
        "imagen-pytorch": (
            against_imagen_pytorch,
            f"Imagen.sample, dim {WIDTH}, attention in three of four levels; ours is the paper's "
            "base of as many parameters.",
        ),
    }
    for peer, (make, said) in makers.items():
        table = Table(f"The sampling loop against {peer}", about + said, [])
        for batch in map(int, batches.split(",")):
            ways = make(batch, steps)
            table.columns = ["batch", *ways, "ratio"]
            taken = alternate(ways, rounds)
            found = medians(taken)
            best = min(time for name, time in found.items() if name.startswith(peer))
            row = [1000 * time for time in found.values()]
            table.rows.append([batch, *row, best / found["ours, fast"]])
            table.rounds |= {f"{batch}, {name}": times for name, times in taken.items()}
        yield table


if __name__ == "__main__":
    script(
        measure,
        __doc__,
        batches={"default": "1,4"},
        steps={"type": int, "default": 10},
        rounds={"type": int, "default": 5},
    )
