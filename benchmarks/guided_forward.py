"""One guided call of the network, ours against diffusers', on identical DeepFloyd-shaped weights.

Both are the same function of the same numbers (checked first); rounds alternate, so that whatever
else the machine does meets both. Rows of diffusers: as it comes, channels_last, and with
torch.compile (`--compile`), its documented fast path; ours: as `sample` calls it, `fast`, compiled.

    python benchmarks/guided_forward.py --widths 64,128 --batches 1,4 --compile
    python benchmarks/guided_forward.py --precision bfloat16
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from open_imagen.models.deepfloyd import assembled, origins, unet_config
from open_imagen.models.fast import hasten
from open_imagen.models.unet import UNet
from open_imagen.types import TextEmbedding

TEXT, TOKENS, WEIGHT = 512, 77, 7.0
NEAR = {torch.float32: 2e-3, torch.bfloat16: 1.0}
"""How far from diffusers' own a guided prediction may be; guidance multiplies errors by seven."""


def make(width: int) -> tuple[UNet2DConditionModel, UNet]:
    """diffusers' network, random, and ours with its weights."""
    torch.manual_seed(0)
    theirs = UNet2DConditionModel(
        sample_size=64,
        in_channels=3,
        out_channels=6,
        block_out_channels=[width, 2 * width, 3 * width, 4 * width],
        layers_per_block=2,
        down_block_types=["ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3],
        up_block_types=[*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"],
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        act_fn="gelu",
        attention_head_dim=64,
        cross_attention_dim=4 * width,
        encoder_hid_dim=TEXT,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
    ).eval()
    config = unet_config(dict(theirs.config), "the benchmark")
    ours = UNet(config).eval()
    weights = theirs.state_dict()
    names = origins(config, weights, "the benchmark")
    ours.load_state_dict({o: assembled(o, [weights[n] for n in t]) for o, t in names.items()})
    return theirs, ours.to(memory_format=torch.channels_last)


def guided(found: Tensor) -> Tensor:
    text, empty = found[:, :3].chunk(2)
    return empty + WEIGHT * (text - empty)


def calls(
    width: int, batch: int, side: int, compiled: bool, dtype: torch.dtype
) -> dict[str, Callable[[], Tensor]]:
    """The rows of the table, each a call that makes one guided prediction."""
    theirs, ours = (network.to(dtype) for network in make(width))
    z = torch.randn(batch, 3, side, side, dtype=dtype)
    tokens = torch.randn(2 * batch, TOKENS, TEXT, dtype=dtype)
    text = TextEmbedding(tokens, torch.ones(2 * batch, TOKENS, dtype=torch.bool))
    step = torch.full((2 * batch,), 500.0)
    read = ours.read(text)
    last, fast = make(width)
    last = last.to(dtype, memory_format=torch.channels_last)
    fast = fast.to(dtype, memory_format=torch.channels_last)
    hasten(fast)

    def wide(x: Tensor) -> Tensor:
        return torch.cat([x, x]).to(memory_format=torch.channels_last)

    rows: dict[str, Callable[[], Tensor]] = {
        "diffusers": lambda: guided(theirs(torch.cat([z, z]), step, tokens).sample),
        "diffusers, channels_last": lambda: guided(last(wide(z), step, tokens).sample),
        "ours": lambda: guided(ours(wide(z), step, read)),
        "ours, fast": lambda: guided(fast(wide(z), step, read)),
    }
    if compiled:
        quick, own = torch.compile(last, dynamic=False), torch.compile(ours, dynamic=False)
        rows["diffusers, compiled"] = lambda: guided(quick(wide(z), step, tokens).sample)
        rows["ours, compiled"] = lambda: guided(own(wide(z), step, read))
    return rows


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", default="64,128")
    parser.add_argument("--batches", default="1,4")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    dtype = getattr(torch, options.precision)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.side} pixels, "
        f"{options.precision}"
    )
    for width in map(int, options.widths.split(",")):
        for batch in map(int, options.batches.split(",")):
            rows = calls(width, batch, options.side, options.compile, dtype)
            truth = rows["diffusers"]()
            for name, call in rows.items():
                torch.testing.assert_close(call(), truth, rtol=0, atol=NEAR[dtype], msg=name)
                call()
            times: dict[str, list[float]] = {name: [] for name in rows}
            for _ in range(options.rounds):
                for name, call in rows.items():
                    begun = time.perf_counter()
                    call()
                    times[name].append(time.perf_counter() - begun)
            best = min(statistics.median(t) for n, t in times.items() if n.startswith("diffusers"))
            print(f"width {width}, batch {batch}")
            for name, taken in times.items():
                median = statistics.median(taken)
                print(
                    f"    {name:26} {1000 * median:8.1f} ms   {best / median:5.2f} x best diffusers"
                )


if __name__ == "__main__":
    main()
