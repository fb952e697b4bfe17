"""Whole networks, accelerated, are the same networks; on a GPU, too."""

import copy

import pytest
import torch

from open_imagen.backends.accelerate import accelerate, restore
from open_imagen.errors import ConfigError
from open_imagen.models.efficient_unet import EfficientUNet, EfficientUNetConfig
from open_imagen.models.unet import UNet, UNetConfig
from open_imagen.types import LowRes, TextEmbedding
from standins import needs_cuda


def random_map(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (3 * x + 1).to(memory_format=torch.channels_last)


def networks():
    shape = {"channels": 32, "multipliers": (1, 2), "blocks": (1, 2), "attention": (False, True)}
    yield "shipped base", UNet(UNetConfig(**shape, text_width=24, patch=4, positions=2))
    yield (
        "DeepFloyd",
        UNet(
            UNetConfig(
                **shape,
                text_width=24,
                text_norm="group",
                pooling="class",
                activation="gelu",
                residual_divisor=2**0.5,
                lowres=True,
                out_channels=6,
            )
        ),
    )
    yield (
        "Efficient",
        EfficientUNet(
            EfficientUNetConfig(
                stem=32,
                channels=(32, 64),
                blocks=(1, 2),
                attention=("none", "both"),
                text_width=24,
                embedding=64,
            )
        ),
    )
    yield (
        "Efficient, the paper's",
        EfficientUNet(
            EfficientUNetConfig(
                stem=32,
                channels=(32, 64),
                blocks=(1, 2),
                attention=("none", "both"),
                text_width=24,
                embedding=64,
                conv_shortcut=True,
                attention_multiplier=2,
            )
        ),
    )
    yield (
        "norms of pixels",
        EfficientUNet(
            EfficientUNetConfig(
                stem=32,
                channels=(32,),
                blocks=(1,),
                attention=("text",),
                text_width=24,
                embedding=64,
                norm="pixel",
            )
        ),
    )


@pytest.mark.parametrize("network", [pytest.param(one, id=name) for name, one in networks()])
def test_whole_networks_are_the_same(network):
    torch.manual_seed(1)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.6 / parameter[0].numel() ** 0.5)
    network.eval().to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(2)
    text = TextEmbedding(
        torch.randn(2, 5, 24, generator=generator), torch.ones(2, 5, dtype=torch.bool)
    )
    level, z = torch.tensor([0.3, -2.0]), random_map(2, 3, 32, 32) / 3
    lowres = LowRes(random_map(2, 3, 32, 32, seed=5) / 3, level) if network.config.lowres else None
    with torch.no_grad():
        plain = network(z, level, text, lowres)
        assert plain.abs().max() > 0.3
        accelerate(network)
        found = network(z, level, text, lowres)
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
        assert not torch.equal(found, plain)  # kernels of ours
        some = lowres and LowRes(lowres.image[:1], lowres.level[:1])
        alone = network(z[:1], level[:1], text.select(slice(1)), some)
        torch.testing.assert_close(found[:1], alone, rtol=1e-4, atol=1e-4)
    assert network(z, level, text, lowres).requires_grad  # gradients go the plain way
    restore(network)
    with torch.no_grad():
        assert torch.equal(network(z, level, text, lowres), plain)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match="'inferrence' must be one of inference, training"):
        accelerate(torch.nn.Linear(1, 1), "inferrence")


@needs_cuda
@pytest.mark.filterwarnings("ignore:TensorFloat32")
def test_cuda_graphs_give_what_plain_calls_give():
    """New images, levels and texts through one graph; another shape through another."""
    torch.manual_seed(0)
    network = EfficientUNet(
        EfficientUNetConfig(
            stem=16,
            channels=(32, 64),
            blocks=(1, 1),
            attention=("none", "both"),
            heads=2,
            text_width=24,
            embedding=32,
        )
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    network = network.cuda().eval().to(memory_format=torch.channels_last)
    fast = copy.deepcopy(network)
    accelerate(fast)
    precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), precise:
        for batch in (2, 2, 3, 2):
            text = TextEmbedding(
                torch.randn(batch, 5, 24, device="cuda"),
                torch.rand(batch, 5, device="cuda") < 0.7,
            )
            read, kept = network.encode_text(text), []
            for _ in range(3):  # steps share the text
                z = torch.randn(batch, 3, 16, 16, device="cuda")
                level = torch.randn(batch, device="cuda")
                given = (z, level, read, LowRes(z.flip(0), level))
                kept.append((fast(*given), network(*given)))
            for found, exact in kept:  # none was written over by a later call
                torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
