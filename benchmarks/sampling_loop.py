"""The whole sampling loop: ours against diffusers' pipeline, and against imagen-pytorch.

With diffusers the weights are the same, and so is the noise: the pictures must be, too (checked).
imagen-pytorch's network is another, of as many parameters and the same levels.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import IFPipeline
from measuring import Table, alternate, dtypes, script
from peers import (
    TEXT,
    TOKENS,
    WEIGHT,
    diffusers_network,
    diffusers_scheduler,
    efficient_base,
    imagen_pytorch,
    imagen_pytorch_network,
    paper_base,
)
from torch import Tensor, nn

from open_imagen.backends.accelerate import accelerate
from open_imagen.cascade import deepfloyd
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.models.profile import size_of
from open_imagen.types import TextEmbedding

WIDTH = 64
EFFICIENT = "ours, Efficient U-Net, fast"
LIGHTER = "ours, the same as large as that, fast"


def generators(number: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(number)]


def text_of(
    number: int,
    width: int,
    length: int = TOKENS,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TextEmbedding:
    tokens = torch.randn(number, length, width, generator=torch.Generator().manual_seed(1))
    text = TextEmbedding(tokens, torch.ones(number, length, dtype=torch.bool))
    return text.to(device, dtype)


def calm(network: nn.Module) -> nn.Module:
    """Smaller weights: a random network at weight 7 makes pictures of its rounding errors."""
    torch.manual_seed(2)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.01)
    return network


def ours(
    stage: Stage, text: TextEmbedding, settings: Sampling, side: int = 64
) -> dict[str, Callable[[], Tensor]]:
    empty = TextEmbedding(torch.zeros_like(text.tokens), text.mask)
    fast = copy.deepcopy(stage)
    accelerate(fast.network)

    def draw(stage: Stage) -> Tensor:
        makers = generators(len(text.tokens))
        return stage.sample(text, makers, settings, negative=empty, size=(side, side))

    return {"ours": lambda: draw(stage), "ours, fast": lambda: draw(fast)}


def against_diffusers(
    batch: int,
    steps: int,
    side: int = 64,
    length: int = TOKENS,
    width: int = WIDTH,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> dict[str, Callable[[], Tensor]]:
    parts = {"tokenizer": None, "text_encoder": None, "safety_checker": None}
    parts |= {"feature_extractor": None, "watermarker": None, "requires_safety_checker": False}
    pipelines = {}
    compiled = ("diffusers, compiled",) if device != "cpu" else ()
    for name in ("diffusers", "diffusers, channels_last", *compiled):
        network = calm(diffusers_network(width)).to(device, dtype)
        pipelines[name] = IFPipeline(unet=network, scheduler=diffusers_scheduler(), **parts)
        pipelines[name].set_progress_bar_config(disable=True)
    for name in ("diffusers, channels_last", *compiled):
        pipelines[name].unet.to(memory_format=torch.channels_last)
    for name in compiled:  # as its documentation has it, with CUDA graphs
        pipelines[name].unet.compile(mode="reduce-overhead", fullgraph=True)
    with tempfile.TemporaryDirectory() as folder:
        pipelines["diffusers"].unet.save_pretrained(Path(folder) / "unet")
        pipelines["diffusers"].scheduler.save_pretrained(Path(folder) / "scheduler")
        stage = deepfloyd.read_stage(Path(folder))
        stage.load_weights(torch.device(device), dtype)
    text = text_of(batch, TEXT, length, device, dtype)

    def theirs(pipeline: IFPipeline) -> Tensor:
        return pipeline(
            prompt_embeds=text.tokens,
            negative_prompt_embeds=torch.zeros_like(text.tokens),
            num_inference_steps=steps,
            height=side,
            width=side,
            guidance_scale=WEIGHT,
            generator=generators(batch),
            output_type="pt",
        ).images

    ways: dict[str, Callable[[], Tensor]] = {
        name: lambda pipeline=pipeline: theirs(pipeline) for name, pipeline in pipelines.items()
    }
    ways |= ours(stage, text, Sampling(steps=steps, guidance=WEIGHT), side)
    if dtype == torch.float32:
        truth = ways["diffusers"]()
        for name, way in ways.items():
            torch.testing.assert_close(way(), truth, rtol=0, atol=2e-2, msg=name)
    return ways


def against_imagen_pytorch(
    batch: int, steps: int, dtype: torch.dtype = torch.float32
) -> dict[str, Callable[[], Tensor]]:
    """Theirs computes in bfloat16 under autocast, as its trainer does; ours has such weights."""
    text, ways = text_of(batch, TEXT), {}
    for name, efficient in (("imagen-pytorch", False), ("imagen-pytorch, memory_efficient", True)):
        network = imagen_pytorch_network(WIDTH, TEXT, efficient)
        peer = imagen_pytorch().Imagen(
            unets=(network,), image_sizes=(64,), timesteps=steps, text_embed_dim=TEXT
        )
        peer.eval()

        def theirs(peer: Any = peer) -> Tensor:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                return peer.sample(text_embeds=text.tokens, cond_scale=WEIGHT, use_tqdm=False)

        ways[name] = theirs
        size = size_of(network)
        light = efficient_base(size, TEXT)
        shapes = (
            {LIGHTER: light} if efficient else {"ours": paper_base(size, TEXT), EFFICIENT: light}
        )
        for called, shape in shapes.items():
            stage = Stage(StageConfig(name="base", resolution=64, network=shape)).eval()
            assert abs(size_of(stage.network) / size - 1) < 0.05, "not of equal parameters"
            stage.load_weights(torch.device("cpu"), dtype)
            found = ours(stage, text, Sampling(steps=steps, guidance=WEIGHT, sampler="ddpm"))
            ways |= found if called == "ours" else {called: found["ours, fast"]}
    return ways


@torch.inference_mode()
def measure(batches: str, steps: int, rounds: int) -> Iterator[Table]:
    warnings.simplefilter("ignore")
    about = (
        f"{steps} steps of DDPM at guidance weight {WEIGHT:g}, dynamic thresholding, 64 pixels, "
        f"{TOKENS} tokens given as embeddings; milliseconds for the whole loop. "
    )
    diffusers = Table(
        "The sampling loop against diffusers",
        f"{about}float32. IFPipeline, width {WIDTH}, the same weights and noise: the same "
        "pictures. The last column is ours, fast, against the best of theirs.",
        [],
    )
    against = (
        f"Imagen.sample with a U-Net of dim {WIDTH}, three blocks a level, attention in three of "
        "four levels; ours are the paper's base and the Efficient U-Net, each of as many "
        "parameters, to 5 %. Then their lighter network, and the Efficient U-Net of as many "
        "parameters as that. The ratios: the paper's base, fast, and the Efficient U-Net against "
        "their network; the last column against their best."
    )
    peer = Table("The sampling loop against imagen-pytorch", f"{about}float32. {against}", [])
    peer_bf16 = Table(
        "The sampling loop against imagen-pytorch, bfloat16",
        f"{about}Theirs under torch.autocast, ours as with --precision bf16. {against}",
        [],
    )
    in_bf16 = partial(against_imagen_pytorch, dtype=torch.bfloat16)
    tables = [(diffusers, against_diffusers), (peer, against_imagen_pytorch)]
    if torch.bfloat16 in dtypes():
        tables.append((peer_bf16, in_bf16))
    for table, make in tables:
        for batch in map(int, batches.split(",")):
            ways = make(batch, steps)
            found = table.keep(alternate(ways, rounds), str(batch))
            theirs = [found[name] for name in found if not name.startswith("ours")]
            ratios = {"ratio": min(theirs) / found["ours, fast"]}
            if table is not diffusers:
                ratios = {
                    "ratio": theirs[0] / found["ours, fast"],
                    "ratio, Efficient U-Net": theirs[0] / found[EFFICIENT],
                    "ratio, lighter": min(theirs) / found[LIGHTER],
                }
            table.columns = ["batch", *found, *ratios]
            milliseconds = [1000 * seconds for seconds in found.values()]
            table.rows.append([batch, *milliseconds, *ratios.values()])
        yield table


if __name__ == "__main__":
    script(
        measure,
        __doc__,
        batches={"default": "1,4"},
        steps={"type": int, "default": 10},
        rounds={"type": int, "default": 5},
    )
