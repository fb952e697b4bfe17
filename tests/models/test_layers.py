"""The blocks: what starts as nothing, and what must not see padding."""

import math

import pytest
import torch

from open_imagen.errors import ConfigError
from open_imagen.models.attention import TextAttention, attention, split_heads
from open_imagen.models.layers import (
    LevelEmbedding,
    NormAct,
    Positions,
    ResBlock,
    ResBlockConfig,
    resampled,
)
from open_imagen.models.text_layers import PooledText, TextDenoiser, TextLayer
from open_imagen.types import TextEmbedding


@pytest.fixture
def text():
    torch.manual_seed(0)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    return TextEmbedding(torch.randn(2, 5, 24) * mask[..., None], mask)


def garbage_in_padding(text):
    return TextEmbedding(
        torch.where(text.mask[..., None], text.tokens, torch.full_like(text.tokens, 9.0)),
        text.mask,
    )


def test_a_norm_of_pixels_is_the_layer_norm_of_each():
    torch.manual_seed(0)
    norm, x, scale_shift = NormAct(6, "silu", "pixel"), torch.randn(2, 6, 3, 4), torch.randn(2, 12)
    torch.nn.init.normal_(norm.weight)
    found = norm(x, scale_shift)
    pixel = x[1, :, 2, 3]
    normed = (pixel - pixel.mean()) / (pixel.var(correction=0) + norm.eps).sqrt() * norm.weight
    wanted = normed * (1 + scale_shift[1, :6]) + scale_shift[1, 6:]
    torch.testing.assert_close(found[1, :, 2, 3], wanted * torch.sigmoid(wanted))


def test_groups_of_a_single_number_are_refused():
    with pytest.raises(ConfigError, match="too small for this network"):
        NormAct(32)(torch.randn(4, 32, 1, 1))
    assert NormAct(32)(torch.randn(1, 32, 1, 2)).any()
    assert NormAct(64)(torch.randn(1, 64, 1, 1)).any()


@pytest.mark.parametrize("pixels", [16, 4096], ids=["small", "large"])
def test_attention_is_the_fused_form_on_any_size(pixels):
    torch.manual_seed(0)
    query, keys, values = (torch.randn(2, 3, n, 8) for n in (pixels, 9, 9))
    mask = torch.rand(2, 1, 1, 9) > 0.4
    mask[..., 0] = True
    fused = torch.nn.functional.scaled_dot_product_attention(query, keys, values, mask)
    torch.testing.assert_close(attention(query, keys, values, mask), fused, atol=1e-6, rtol=1e-5)


def test_positions_start_as_nothing_and_are_waves_over_each_side():
    positions = Positions(2, 8)
    assert not positions(4, 6).any()
    torch.nn.init.zeros_(positions.out.weight)
    for k in range(8):  # output k is input k
        positions.out.weight.data[k, k] = 1
    told = positions(4, 6)[0]
    assert told.shape == (8, 4, 6)
    y, x = 3, 1
    down, across = torch.pi * (y + 0.5) / 4, torch.pi * (x + 0.5) / 6
    sines = [[f(k * a) for k in (1, 2)] for a in (down, across) for f in (math.sin, math.cos)]
    expected = torch.tensor([number for pair in sines for number in pair])
    torch.testing.assert_close(told[:, y, x], expected)


def test_pooling_by_the_mean_is_the_mean_of_what_is_visible(text):
    torch.manual_seed(0)
    pooled = PooledText(24, 16, "mean")
    tokens = torch.nn.functional.layer_norm(text.tokens, (24,))
    means = torch.stack([tokens[0].mean(0), tokens[1, :2].mean(0)])
    wanted = torch.nn.functional.layer_norm(pooled.out(means), (16,))
    torch.testing.assert_close(pooled(text), wanted)


def test_attention_over_pixels_alone_does_not_hear_the_text(text):
    torch.manual_seed(0)
    block = TextAttention(32, 24, 16, over="pixels")
    torch.nn.init.normal_(block.out.weight)
    x = torch.randn(2, 32, 4, 4)
    assert torch.equal(block(x, text), block(x, text.null()))
    heard = TextAttention(32, 24, 16, over="text")
    torch.nn.init.normal_(heard.out.weight)
    assert not torch.allclose(heard(x, text), heard(x, text.null()))


def test_a_fresh_residual_block_is_its_shortcut():
    x, embedding = torch.randn(2, 32, 8, 8), torch.randn(2, 16)
    torch.testing.assert_close(ResBlock(32, 32, ResBlockConfig(embedding=16))(x, embedding), x)


def test_a_residual_block_is_the_textbook_formula():
    # norm, SiLU, conv, norm * (1 + scale) + shift, SiLU, conv; plus the shortcut, written out.
    torch.manual_seed(0)
    block = ResBlock(32, 64, ResBlockConfig(embedding=16))
    torch.nn.init.normal_(block.conv_out.weight, std=0.05)
    x, embedding = torch.randn(2, 32, 8, 8), torch.randn(2, 16)

    def normed(h, layer):
        groups = h.reshape(2, 32, -1)
        flat = (groups - groups.mean(2, keepdim=True)) / (
            groups.var(2, unbiased=False, keepdim=True) + 1e-5
        ).sqrt()
        return flat.reshape(h.shape) * layer.weight[:, None, None] + layer.bias[:, None, None]

    def silu(h):
        return h * torch.sigmoid(h)

    h = block.conv_in(silu(normed(x, block.norm_in)))
    numbers = embedding @ block.scale_shift.weight.T + block.scale_shift.bias
    scale, shift = numbers[:, :64, None, None], numbers[:, 64:, None, None]
    h = block.conv_out(silu(normed(h, block.norm_out) * (1 + scale) + shift))
    torch.testing.assert_close(block(x, embedding), block.shortcut(x) + h)


@pytest.mark.parametrize("how, side", [("down", 4), ("up", 16), ("", 8)])
def test_residual_blocks_resample(how, side):
    out = ResBlock(32, 48, ResBlockConfig(embedding=16), how)(
        torch.randn(2, 32, 8, 8), torch.randn(2, 16)
    )
    assert out.shape == (2, 48, side, side)


def test_resampling_by_hand():
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert resampled(x, "down").item() == 4
    assert resampled(x, "up")[0, 0, 0].tolist() == [1, 1, 3, 3]


@pytest.mark.parametrize("only_text", [False, True])
def test_attention_starts_as_nothing_and_never_sees_padding(text, only_text):
    attention = TextAttention(32, 24, 16, only_text)
    x = torch.randn(2, 32, 4, 4)
    torch.testing.assert_close(attention(x, text), x)
    torch.nn.init.normal_(attention.out.weight)
    found = attention(x, text)
    assert not torch.allclose(found, x)
    torch.testing.assert_close(attention(x, garbage_in_padding(text)), found)


def test_attention_is_the_textbook_formula(text):
    # One softmax over text and pixels together, written out (section 2.5).
    attention = TextAttention(32, 24, 32)
    torch.nn.init.normal_(attention.out.weight)
    x = torch.randn(1, 32, 2, 2)
    one = text.select(slice(0, 1))
    pixels = attention.norm(x).flatten(2).transpose(1, 2)[0]
    q = attention.query(pixels)
    k, v = attention.keys_values(pixels).chunk(2, dim=1)
    k_text, v_text = attention.text_keys_values(attention.norm_text(one.tokens))[0].chunk(2, dim=1)
    weights = torch.softmax(q @ torch.cat([k_text, k]).T / 32**0.5, dim=1)
    wanted = attention.out(weights @ torch.cat([v_text, v])).T.reshape(1, 32, 2, 2) + x
    torch.testing.assert_close(attention(x, one), wanted)


def test_a_text_layer_starts_as_nothing_and_never_sees_padding(text):
    layer = TextLayer(24, head_width=8)
    assert torch.equal(layer(text).tokens, text.tokens)
    for out in (layer.out, layer.mlp["out"]):
        torch.nn.init.normal_(out.weight)
    found = layer(text)
    hidden = layer(garbage_in_padding(text))
    visible = text.mask[..., None]
    assert not torch.allclose(found.tokens, text.tokens)
    torch.testing.assert_close(hidden.tokens * visible, found.tokens * visible)


def test_a_text_layer_is_the_textbook_formula(text):
    # h + attention(norm(h)), then h + mlp(norm(h)), written out for one caption and one head.
    torch.manual_seed(0)
    layer = TextLayer(24, head_width=24)
    for out in (layer.out, layer.mlp["out"]):
        torch.nn.init.normal_(out.weight)
    h = text.tokens[1, :2]  # the second caption has two tokens
    q, k, v = layer.query_keys_values(layer.norm(h)).chunk(3, dim=1)
    wanted = h + layer.out(torch.softmax(q @ k.T / 24**0.5, dim=1) @ v)
    inner = torch.nn.functional.gelu(layer.mlp["in"](layer.norm_mlp(wanted)))
    wanted = wanted + layer.mlp["out"](inner)
    torch.testing.assert_close(layer(text).tokens[1, :2], wanted)


@torch.no_grad()
def test_what_a_text_denoiser_hardly_changes_stays_as_it_is(text):
    torch.manual_seed(0)
    layers = [TextLayer(24, head_width=8) for _ in range(2)]
    for layer in layers:
        torch.nn.init.normal_(layer.out.weight, std=0.1)
    changed = layers[1](layers[0](text)).tokens
    shares = [
        float((changed - text.tokens)[k][text.mask[k]].square().sum())
        / float(text.tokens[k][text.mask[k]].square().sum())
        for k in range(2)
    ]
    few, many = sorted(range(2), key=shares.__getitem__)
    assert 0 < shares[few] < 0.99 * shares[many]
    found = TextDenoiser(layers, threshold=(shares[few] + shares[many]) / 2)(text)
    assert torch.equal(found.tokens[few], text.tokens[few])
    torch.testing.assert_close(found.tokens[many], changed[many])
    assert torch.equal(found.mask, text.mask)
    for threshold, wanted in ((0.0, changed), (1.01 * shares[many], text.tokens)):
        torch.testing.assert_close(TextDenoiser(layers, threshold)(text).tokens, wanted)
    assert TextDenoiser([])(text) is text


def test_pooled_text_is_attention_of_the_mean_token(text):
    torch.manual_seed(0)
    pooled = PooledText(24, 40, head_width=24)
    torch.nn.init.normal_(pooled.offset)
    tokens = pooled.norm_in(text.tokens[1, :2])  # the second caption has two tokens
    query = pooled.query(tokens.mean(0) + pooled.offset)
    keys, values = pooled.keys_values(tokens).chunk(2, dim=1)
    weights = torch.softmax(keys @ query / 24**0.5, dim=0)
    wanted = pooled.norm_out(pooled.out(weights @ values))
    torch.testing.assert_close(pooled(text)[1], wanted)


def test_pooled_text_never_sees_padding(text):
    pooled = PooledText(24, 40, head_width=8)
    torch.testing.assert_close(pooled(garbage_in_padding(text)), pooled(text))
    assert pooled(text).shape == (2, 40)


def test_level_embedding_tells_levels_apart():
    embedding = LevelEmbedding(32, 16, scale=50.0)
    found = embedding(torch.tensor([-10.0, 0.0, 0.1, 10.0]))
    assert found.shape == (4, 16)
    assert torch.pdist(found).min() > 1e-4


def test_heads_are_consecutive_channels():
    x = torch.arange(8.0).reshape(1, 1, 8)
    assert split_heads(x, 2)[0, :, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
