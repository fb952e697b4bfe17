"""The peers' networks, and ours beside them: of the same weights, or of as many parameters."""

import contextlib
import importlib.machinery
import io
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel

from open_imagen.config import plain
from open_imagen.models.deepfloyd import assembled, origins, unet_config
from open_imagen.models.efficient_unet import EfficientUNetConfig
from open_imagen.models.profile import size_of
from open_imagen.models.registry import construct
from open_imagen.models.unet import UNet, UNetConfig

TEXT, TOKENS, WEIGHT = 512, 77, 7.0


def diffusers_network(width: int) -> UNet2DConditionModel:
    """Stage I of DeepFloyd IF at another width, random."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
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


def diffusers_scheduler() -> DDPMScheduler:
    """DeepFloyd IF's, as published."""
    return DDPMScheduler(
        1000,
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        prediction_type="epsilon",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
    )


def same_as(theirs: UNet2DConditionModel) -> UNet:
    """Our network with its weights."""
    config = unet_config(dict(theirs.config), "the benchmark")
    ours = UNet(config).eval()
    weights = theirs.state_dict()
    names = origins(config, weights, "the benchmark")
    ours.load_state_dict({o: assembled(o, [weights[n] for n in t]) for o, t in names.items()})
    return ours.to(memory_format=torch.channels_last)


def imagen_pytorch() -> Any:
    """The package, which asks on import for torchvision and for a config of T5 from the hub.

    It gets a stand-in of the one and an empty config for the other; neither is ever called here,
    where embeddings are given and images are tensors.
    """
    if "imagen_pytorch" in sys.modules:
        return sys.modules["imagen_pytorch"]
    import accelerate  # noqa: F401 - these look for torchvision too, and shall not find it
    import transformers

    assert transformers.T5EncoderModel
    transformers.T5Config.from_pretrained = classmethod(lambda cls, name: cls(d_model=768))

    class Absent:
        def __init__(self, *_: Any, **__: Any) -> None: ...

    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.__getattr__ = lambda _: Absent  # type: ignore[method-assign]
        sys.modules[name] = module
    warnings.simplefilter("ignore")
    import imagen_pytorch

    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
        del sys.modules[name]
    return imagen_pytorch


def imagen_pytorch_network(width: int, text_width: int, efficient: bool = False) -> Any:
    """Its U-Net in the shape of the paper's base: four levels, three blocks, attention in three.

    Args:
        efficient: its own setting for a lighter network, which resamples before its blocks.
    """
    attends = (False, True, True, True)
    with contextlib.redirect_stdout(io.StringIO()):
        return imagen_pytorch().Unet(
            dim=width,
            text_embed_dim=text_width,
            cond_dim=4 * width,
            dim_mults=(1, 2, 3, 4),
            num_resnet_blocks=3,
            layer_attns=attends,
            layer_cross_attns=attends,
            memory_efficient=efficient,
        )


def of_size(parameters: int, config: Callable[[int], Any], network: str) -> dict[str, Any]:
    """The settings of a network at the width whose parameters come nearest to this number."""

    def miss(width: int) -> int:
        with torch.device("meta"):
            made = construct(network, config(width))
        return abs(size_of(made) - parameters)

    return {"network": network, **plain(config(min(range(16, 161, 4), key=miss)))}


def paper_base(parameters: int, text_width: int) -> dict[str, Any]:
    """The paper's base model, narrower."""

    def config(width: int) -> UNetConfig:
        return UNetConfig(channels=width, head_width=width, text_width=text_width)

    return of_size(parameters, config, "unet")


def efficient_base(parameters: int, text_width: int) -> dict[str, Any]:
    """The same three lower levels as an Efficient U-Net: no blocks at full resolution."""

    def config(width: int) -> EfficientUNetConfig:
        return EfficientUNetConfig(
            stem=width,
            channels=(2 * width, 3 * width, 4 * width),
            blocks=(3, 3, 3),
            attention=("both",) * 3,
            heads=4,
            embedding=4 * width,
            text_width=text_width,
            lowres=False,
        )

    return of_size(parameters, config, "efficient_unet")
