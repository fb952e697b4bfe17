"""Both U-Nets: shapes, gradients everywhere, sensitivity to every condition, the paper's sizes."""

import numpy as np
import pytest
import torch

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models import PRESETS, build, names
from open_imagen.models.attention import TextAttention
from open_imagen.models.efficient_unet import EfficientUNetConfig
from open_imagen.models.layers import ResBlock
from open_imagen.models.unet import UNetConfig
from open_imagen.types import LowRes, TextEmbedding

SMALL = ["tiny-base-64", "tiny-sr-256", "small-base-64", "small-sr-256"]


def awake(network):
    """Without zero weights, behind which nothing could be seen."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def inputs(network, batch=2):
    torch.manual_seed(1)
    side = network.config.divisor * 2
    text = TextEmbedding(torch.randn(batch, 5, 384), torch.ones(batch, 5, dtype=torch.bool))
    z, logsnr = torch.randn(batch, 3, side, side), torch.linspace(-3, 3, batch)
    lowres = None
    if network.config.lowres:
        lowres = LowRes(torch.randn(batch, 3, side, side), torch.linspace(0, 5, batch))
    return z, logsnr, text, lowres


@pytest.mark.parametrize("name", SMALL)
def test_a_fresh_network_predicts_nothing_of_the_right_shape(name):
    network = build(name)
    found = network(*inputs(network))
    assert found.shape == inputs(network)[0].shape
    assert not found.any()


@pytest.mark.parametrize("name", SMALL)
def test_gradients_reach_every_parameter(name):
    network = awake(build(name))
    network(*inputs(network)).square().sum().backward()
    without_gradient = [
        n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert without_gradient == []


@pytest.mark.parametrize("name", SMALL)
def test_every_condition_is_heard(name):
    network = awake(build(name)).eval()
    z, logsnr, text, lowres = inputs(network)
    base = network(z, logsnr, text, lowres)
    assert not torch.allclose(network(z + 0.1, logsnr, text, lowres), base)
    assert not torch.allclose(network(z, logsnr + 1, text, lowres), base)
    assert not torch.allclose(network(z, logsnr, text.null(), lowres), base, atol=1e-5)
    if lowres is not None:
        assert not torch.allclose(
            network(z, logsnr, text, lowres._replace(image=lowres.image + 0.1)), base
        )
        assert not torch.allclose(
            network(z, logsnr, text, lowres._replace(level=lowres.level + 1)), base
        )


@pytest.mark.parametrize("name", [*SMALL, "tiny-sr-1024", "small-sr-1024"])
def test_text_that_was_read_before_says_the_same(name):
    network = awake(build(name)).eval()
    z, logsnr, text, lowres = inputs(network)
    text = TextEmbedding(text.tokens, torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool())
    read = network.encode_text(text)
    plain = network(z, logsnr, text, lowres)
    torch.testing.assert_close(network(z, logsnr, read, lowres), plain, rtol=1e-4, atol=1e-5)
    one = read.select(slice(0, 1))
    first = lowres and LowRes(*(part[:1] for part in lowres))
    torch.testing.assert_close(
        network(z[:1], logsnr[:1], one, first), plain[:1], rtol=1e-4, atol=1e-5
    )
    other = network.encode_text(TextEmbedding(text.tokens.flip(0), text.mask))
    assert not torch.allclose(network(z, logsnr, other, lowres), plain, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_a_picture_does_not_depend_on_its_neighbours_or_on_padding(name):
    network = awake(build(name)).eval()
    z, logsnr, text, lowres = inputs(network)
    both = network(z, logsnr, text, lowres)
    padded = TextEmbedding(
        torch.nn.functional.pad(text.tokens, (0, 0, 0, 3)),
        torch.nn.functional.pad(text.mask, (0, 3)),
    )
    alone = network(
        z[:1],
        logsnr[:1],
        padded.select(slice(0, 1)),
        lowres and LowRes(lowres.image[:1], lowres.level[:1]),
    )
    torch.testing.assert_close(alone, both[:1], rtol=0, atol=1e-4)


def odd(network):
    """Inputs whose sides no level can halve evenly."""
    _, level, text, lowres = inputs(network)
    patch = network.config.patch
    shape = (2, 3, 7 * patch, 5 * patch)
    return torch.randn(shape), level, text, lowres and lowres._replace(image=torch.randn(shape))


@pytest.mark.parametrize("name", SMALL)
def test_sides_need_not_be_even(name):
    network = awake(build(name)).eval()
    given = odd(network)
    found = network(*given)
    assert found.shape == given[0].shape
    assert torch.isfinite(found).all()


ABLATED = [
    {"pooling": "mean"},
    {"pooling": "mean", "attends": "pixels"},
    {"pooling": "class"},
    {"attends": "pixels"},
    {"attends": "text"},
    {"text_norm": "group", "activation": "gelu", "residual_divisor": 2**0.5, "level": "step"},
    {"text_projection": 48},
]


@pytest.mark.parametrize("change", ABLATED, ids=str)
def test_every_way_of_listening_to_text_hears_it_and_learns(change):
    network = awake(build("tiny-base-64", **change))
    z, level, text, lowres = inputs(network)
    found = network(z, level, text, lowres)
    found.square().sum().backward()
    without_gradient = [
        n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert without_gradient == []
    assert not torch.allclose(network(z, level, text.null(), lowres), found, atol=1e-5)


PAPER_SR = {"conv_shortcut": True, "attention_multiplier": 2}


def test_attention_of_twice_the_width_hears_and_learns_with_convolutions_on_shortcuts():
    network = awake(build("tiny-sr-256", **PAPER_SR))
    given = inputs(network)
    found = network(*given)
    found.square().sum().backward()
    without_gradient = [
        n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ]
    assert without_gradient == []
    z, level, text, lowres = given
    assert not torch.allclose(network(z, level, text.null(), lowres), found, atol=1e-5)
    read = network.encode_text(text)
    torch.testing.assert_close(network(z, level, read, lowres), found, rtol=1e-4, atol=1e-5)
    layer = network.down[1].level.attention
    assert layer.query.weight.shape == (64, 32)
    assert layer.text_keys_values.weight.shape == (128, 384)
    assert layer.out.weight.shape == (32, 64)
    assert layer.heads == network.config.heads
    with pytest.raises(ConfigError, match="attention_multiplier = 0"):
        EfficientUNetConfig(attention_multiplier=0)


def test_a_convolution_on_a_shortcut_begins_as_the_shortcut():
    plain = awake(build("tiny-sr-256"))
    other = build("tiny-sr-256", conv_shortcut=True)
    missing, unknown = other.load_state_dict(plain.state_dict(), strict=False)
    assert unknown == []
    blocks = [name for name, m in other.named_modules() if isinstance(m, ResBlock)]
    wanted = [f"{name}.shortcut.{kind}" for name in blocks for kind in ("weight", "bias")]
    assert missing == wanted
    torch.testing.assert_close(other(*inputs(other)), plain(*inputs(plain)), rtol=1e-5, atol=1e-5)


def test_heads_of_the_paper_s_bases_have_64_channels():
    for name in names():
        if name.startswith("imagen-base"):
            network = build(name, device="meta")
            layers = [m for m in network.modules() if isinstance(m, TextAttention)]
            assert {m.query.out_features / m.heads for m in layers} == {64}


@pytest.mark.parametrize("name", ["none", ""])
def test_a_network_has_an_activation(name):
    with pytest.raises(UnknownName, match="activation"):
        UNetConfig(activation=name)


@pytest.mark.parametrize("how", ["pooling", "attends", "text_norm", "activation", "level"])
def test_a_way_that_there_is_not_is_refused(how):
    with pytest.raises(UnknownName, match=how):
        build("tiny-base-64", **{how: "nonsense"})


@pytest.mark.parametrize("norm,same", [("pixel", True), ("groups", False)])
def test_with_norms_of_pixels_a_crop_is_taken_as_the_whole_is(norm, same):
    shape = {"patch": 1, "channels": (16,), "blocks": (1,), "attention": ("text",), "norm": norm}
    network = awake(build("tiny-sr-256", **shape)).eval()
    _, level, text, _ = inputs(network)
    z, image = (torch.randn(2, 3, 96, 96) + torch.linspace(-2, 2, 96) for _ in range(2))

    def shown(place, inner):
        crop = network(z[place], level, text, LowRes(image[place], level))
        return crop[inner]

    # Nothing reaches further than 16 pixels.
    with torch.no_grad():
        whole = shown(np.s_[...], np.s_[:, :, 32:64, 32:64])
        crop = shown(np.s_[:, :, 16:80, 16:80], np.s_[:, :, 16:48, 16:48])
    assert whole.std() > 0.1
    assert torch.allclose(crop, whole, atol=1e-5) == same


def test_a_norm_that_there_is_not_is_refused():
    with pytest.raises(UnknownName, match="norm"):
        build("tiny-sr-256", norm="pixels")


def millions(name, **overrides):
    return sum(p.numel() for p in build(name, device="meta", **overrides).parameters()) / 1e6


def test_the_shipped_networks_fit_their_budget():
    # 40 MB in float16 for both.
    assert millions("small-base-64") + millions("small-sr-256") < 20


def test_presets_are_listed_and_misspelt_ones_met_with_a_suggestion():
    assert names() == sorted(PRESETS)
    with pytest.raises(UnknownName) as caught:
        build("imagen-base-46")
    assert caught.value.hint == "Did you mean 'imagen-base-64'?"


def test_overrides_are_checked():
    assert build("tiny-base-64", channels=64).config.channels == 64
    with pytest.raises(UnknownName):
        build("tiny-base-64", chanels=64)
    with pytest.raises(ConfigError, match="one entry per level"):
        build("tiny-base-64", multipliers=[1])


def test_attention_kinds_are_checked():
    with pytest.raises(UnknownName):
        EfficientUNetConfig(attention=("none", "none", "none", "self"))
    with pytest.raises(ConfigError):
        EfficientUNetConfig(blocks=(1,))
    assert UNetConfig().divisor == 8
    assert EfficientUNetConfig().divisor == 16
