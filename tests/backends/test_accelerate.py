"""What is faster is the same: kernels, convolutions in parts, whole networks, each beside torch."""

import copy

import pytest
import torch
import torch.nn.functional as F

from open_imagen.errors import MissingDependency
from open_imagen.models import kernels
from open_imagen.models.efficient_unet import EfficientUNet, EfficientUNetConfig
from open_imagen.models.fast import (
    FEWEST_LEARNING,
    ConvInParts,
    ConvInTiles,
    PackedConv,
    QuickNorm,
    gains_in_attention,
    gains_in_tiles,
    has_matrix_units,
    hasten,
    hasten_learning,
    learn_attention,
    learn_in_tiles,
    slow,
)
from open_imagen.models.layers import Conv, NormAct, TextAttention, attended, split_heads
from open_imagen.models.unet import UNet, UNetConfig
from open_imagen.types import LowRes, TextEmbedding
from standins import needs_cuda

in_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16"
)


def a_map(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (3 * x + 1).to(memory_format=torch.channels_last)


def a_norm(channels, activation, over="groups"):
    norm = NormAct(channels, activation, over)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm.requires_grad_(False)


def fast_pass(norm, x, scale_shift=None, in_parts=False):
    return QuickNorm(norm, in_parts)(x, scale_shift)


@pytest.mark.parametrize("activation", ["", "silu", "gelu"])
@pytest.mark.parametrize("shape", [(2, 64, 8, 8), (3, 20, 5, 7), (1, 96, 1, 130)])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("over", ["groups", "pixel"])
def test_one_pass_is_norm_scale_shift_and_activation(activation, shape, scaled, over):
    torch.manual_seed(0)
    x, norm = a_map(*shape), a_norm(shape[1], activation, over)
    scale_shift = torch.randn(shape[0], 2 * shape[1]) if scaled else None
    found = fast_pass(norm, x, scale_shift)
    torch.testing.assert_close(found, norm(x, scale_shift), rtol=1e-5, atol=5e-6)


def test_activations_are_exact_far_from_zero_too():
    """A norm that changes nothing: rows of mean 0 and variance 1, moved by the shift."""
    x = torch.tensor([1.0, -1.0]).repeat(64).view(1, 1, 8, 16)
    for activation, exact in (("silu", F.silu), ("gelu", F.gelu)):
        norm = NormAct(1, activation).requires_grad_(False)
        norm.eps = 0.0
        for place in (-120.0, -30.0, -5.6, -2.0, 0.0, 0.5, 4.0, 30.0, 120.0):
            found = fast_pass(norm, x, torch.tensor([[0.0, place]]))
            torch.testing.assert_close(found, exact(x + place), rtol=1e-6, atol=2e-6)


def test_a_large_mean_costs_no_precision():
    x, norm = a_map(2, 32, 16, 16) / 3 + 30, a_norm(32, "")
    exact = F.group_norm(
        x.double(), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps
    )
    assert (fast_pass(norm, x) - exact).abs().max() < 1e-3


@pytest.mark.parametrize("over", ["groups", "pixel"])
def test_half_maps_stay_half(over):
    torch.manual_seed(0)
    x, norm = a_map(2, 32, 4, 4), a_norm(32, "silu", over)
    found = fast_pass(norm, x.bfloat16())
    assert found.dtype == torch.bfloat16
    exact = norm(x.bfloat16().float())
    assert torch.equal(found, exact.bfloat16()) or (found - exact).abs().max() < 0.02


def test_two_parts_hold_sixteen_bits():
    x = a_map(2, 40, 3, 5)
    high, three = kernels.split(x)
    first, low, last = three.chunk(3, dim=1)
    assert torch.equal(high, x.bfloat16())
    assert torch.equal(first, high)
    assert torch.equal(last, high)
    assert torch.equal(low, (x - high.float()).bfloat16())
    assert ((high.double() + low.double() - x).abs() <= x.abs() * 2**-16).all()
    norm = a_norm(40, "gelu")
    parts = fast_pass(norm, x, None, True)
    again = kernels.split(fast_pass(norm, x))
    assert torch.equal(parts.high, again.high)
    assert torch.equal(parts.three, again.three)


def test_join_adds_all_and_divides():
    first, rest, onto = (a_map(2, 24, 3, 4, seed=k) for k in range(3))
    first, rest, bias = first.bfloat16(), rest.bfloat16(), torch.randn(24)
    exact = first.float() + rest.float() + bias[:, None, None]
    torch.testing.assert_close(kernels.join(first, rest, bias, None, 1.0), exact)
    found = kernels.join(first, rest, bias, onto, 0.5)
    torch.testing.assert_close(found, (exact + onto) / 2)


@in_bf16
@pytest.mark.parametrize("side,stride", [(3, 1), (3, 2), (1, 1)])
def test_a_convolution_in_parts_is_the_convolution(side, stride):
    torch.manual_seed(0)
    conv = Conv(64, 48, side, stride).requires_grad_(False)
    quick = ConvInParts(conv)
    for shape in ((2, 64, 12, 10), (1, 64, 32, 32)):  # packed anew for another shape
        x = a_map(*shape)
        exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), stride, conv.padding)
        onto = torch.randn_like(exact).float()
        assert (quick(x, None, 1.0) - exact).abs().max() < 2**-14 * exact.abs().max()
        assert (quick(x, onto, 2.0) - (exact + onto) / 2).abs().max() < 2**-14 * exact.abs().max()
        # One part alone would not do.
        rough = F.conv2d(x.bfloat16(), conv.weight.bfloat16(), None, stride, conv.padding)
        assert (rough + conv.bias[:, None, None] - exact).abs().max() > 2**-10 * exact.abs().max()


@pytest.mark.parametrize("shape", [(2, 40, 16, 16), (1, 33, 9, 14), (3, 32, 4, 5), (1, 64, 80, 64)])
def test_a_convolution_in_tiles_is_the_convolution(shape):
    """Sides that tiles do not fill, borders, parts, one picture after another."""
    torch.manual_seed(0)
    conv = Conv(shape[1], 48).requires_grad_(False)
    weight = kernels.prepared(conv.weight)
    assert weight.shape[::2] == (36, shape[1])
    x = a_map(*shape)
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    onto = torch.randn_like(exact).float()
    for plus, factor in ((None, 1.0), (onto, 0.5)):
        found = kernels.convolve(x, weight, conv.bias, plus, factor)
        wanted = (exact if plus is None else exact + plus) * factor
        assert (found - wanted).abs().max() < 2**-15 * exact.abs().max()
    one = kernels.convolve(x[:1], weight, conv.bias, None, 1.0)
    several = kernels.convolve(x, weight, conv.bias, None, 1.0)
    torch.testing.assert_close(several[:1], one, rtol=1e-4, atol=1e-4)


def test_weights_for_tiles_are_those_of_the_paper():
    """G g G^T, each place's matrix in panels, zeros beside the last; backwards, the other way."""
    points = torch.tensor([0, 1, -1, 2, -2], dtype=torch.float64)
    scales = torch.tensor([1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24], dtype=torch.float64)
    g = torch.cat([scales[:, None] * points[:, None] ** torch.arange(3), torch.eye(3)[2:]])
    weight = torch.randn(40, 7, 3, 3, generator=torch.Generator().manual_seed(0))
    for given in (weight, weight.contiguous(memory_format=torch.channels_last)):
        for backwards in (False, True):
            found = kernels.prepared(given, backwards).transpose(1, 2).flatten(2)
            wanted = weight.transpose(0, 1).flip(2, 3) if backwards else weight
            wanted = torch.einsum("ai,ocij,bj->abco", g, wanted.double(), g).flatten(0, 1)
            outside = wanted.shape[2]
            torch.testing.assert_close(found[:, :, :outside], wanted.float())
            assert not found[:, :, outside:].any()


@pytest.mark.parametrize(
    "shape", [(8, 40, 16, 16), (7, 33, 9, 14), (40, 32, 4, 5), (1, 64, 80, 64)]
)
def test_gradients_in_tiles_are_those_of_the_convolution(shape):
    torch.manual_seed(0)
    conv = Conv(shape[1], 48)
    x, onto, gradient = (
        a_map(*shape),
        a_map(shape[0], 48, *shape[2:]),
        a_map(shape[0], 48, *shape[2:], seed=2),
    )

    def learned(conv, dtype):
        given = x.to(dtype, copy=True).requires_grad_()
        conv = copy.deepcopy(conv).to(dtype)
        out = conv(given, onto=onto.to(dtype), divide=2.0)
        out.backward(gradient.to(dtype))
        return out, given.grad, conv.weight.grad, conv.bias.grad

    exact = learned(conv, torch.float64)
    conv.learner = learn_in_tiles
    assert kernels.tiles_of(x) >= FEWEST_LEARNING
    for found, wanted in zip(learned(conv, torch.float32), exact, strict=True):
        assert (found - wanted).abs().max() < 2**-15 * wanted.abs().max()
    # What need not learn is left alone.
    conv.requires_grad_(False)
    given = x.clone().requires_grad_()
    conv(given).sum().backward()
    assert conv.weight.grad is None
    plain = F.conv2d(x.requires_grad_(), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(
        given.grad, torch.autograd.grad(plain.sum(), x)[0], rtol=1e-4, atol=1e-4
    )


def test_small_maps_and_bfloat16_learn_without_tiles(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(kernels, "convolve", never)
    network = UNet(
        UNetConfig(channels=32, multipliers=(1,), blocks=(1,), attention=(False,), text_width=8)
    )
    hasten_learning(network)
    convs = [module for module in network.modules() if isinstance(module, Conv)]
    assert {conv.learner is learn_in_tiles for conv in convs} == {True, False}
    assert all(
        conv.learner is None for conv in convs if conv.in_channels < 32 or conv.stride == (2, 2)
    )
    conv = next(conv for conv in convs if conv.learner)
    conv(a_map(1, conv.in_channels, 16, 16)).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        conv(a_map(4, conv.in_channels, 16, 16)).sum().backward()
    with pytest.raises(AssertionError):
        conv(a_map(4, conv.in_channels, 16, 16))
    slow(network)
    assert all(conv.learner is None for conv in convs)


def test_a_convolution_of_halves_in_tiles_is_more_exact_than_one_written_out():
    torch.manual_seed(0)
    conv = Conv(64, 48).requires_grad_(False).bfloat16()
    x, onto = a_map(2, 64, 16, 12).bfloat16(), a_map(2, 48, 16, 12, seed=1).bfloat16()
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    quick = ConvInTiles(conv, conv)
    found = quick(x, onto, 2.0)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    wanted = ((exact + onto) / 2).float()
    assert (found - wanted).abs().max() <= 1.01 * (wanted.bfloat16() - wanted).abs().max()
    rounded_twice = (conv(x) + onto) / 2
    assert (rounded_twice - wanted).abs().mean() > (found - wanted).abs().mean()
    torch.testing.assert_close(quick(x, None, 1.0).float(), exact.float(), rtol=2**-8, atol=1e-3)


def test_small_maps_and_large_weights_are_not_put_into_tiles():
    conv = Conv(32, 32).requires_grad_(False)
    called = []
    quick = ConvInTiles(conv, lambda x, onto, divide: called.append(x.shape) or x)
    quick(a_map(1, 32, 12, 12), None, 1.0)
    assert len(called) == 1
    assert quick.ready is None
    found = quick(a_map(1, 32, 16, 16), None, 2.0)
    assert len(called) == 1
    torch.testing.assert_close(found, conv(a_map(1, 32, 16, 16)) / 2, rtol=1e-4, atol=1e-4)
    large, strided, narrow = Conv(1024, 1024), Conv(64, 64, 3, 2), Conv(16, 64)
    assert not any(gains_in_tiles(one) for one in (large, strided, narrow, Conv(64, 64, 1)))
    assert gains_in_tiles(conv) != has_matrix_units()
    assert not gains_in_tiles(conv.bfloat16())
    assert gains_in_tiles(Conv(64, 64).bfloat16()) != has_matrix_units()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "number,keys,heads,width",
    [
        *((1024, 1101, 2, 64), (20, 23, 3, 40), (1, 1, 1, 8), (64, 300, 2, 96), (5, 70, 1, 33)),
        (64, 80, 2, 256),
    ],
)
def test_our_attention_is_the_attention(number, keys, heads, width, dtype):
    layer = TextAttention(heads * width, 8, width).to(dtype)
    if not gains_in_attention(layer):
        pytest.skip("This CPU has neither the matrix units nor the vectors for it.")
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, number, heads * width, generator=generator).to(dtype)
    keys_values = torch.randn(2, keys, 2 * heads * width, generator=generator).to(dtype)
    mask = torch.rand(2, keys, generator=generator) < 0.7
    mask[:, keys // 2] = True

    def attended(dtype):
        key, value = split_heads(keys_values.to(dtype), 2 * heads).chunk(2, dim=1)
        query_ = split_heads(query.to(dtype), heads)
        found = F.scaled_dot_product_attention(query_, key, value, mask[:, None, None])
        return found.transpose(1, 2).flatten(2)

    found, exact = kernels.attention(query, keys_values, mask, heads), attended(torch.float64)
    assert found.dtype == dtype
    rough = (attended(torch.bfloat16) - exact).abs().max()
    assert (found - exact).abs().max() <= (1e-4 if dtype == torch.float32 else 1.5 * rough)
    # In float32, bfloat16 alone would not do.
    assert keys == 1 or rough > 1e-3
    # What is masked is not seen, whatever it is.
    keys_values[~mask] = 1e4
    assert torch.equal(kernels.attention(query, keys_values, mask, heads), found)


@pytest.mark.parametrize(
    "number,keys,heads,width",
    [
        *((300, 333, 2, 60), (20, 23, 3, 40), (1, 1, 1, 8), (64, 130, 2, 96), (5, 70, 1, 33)),
        (64, 80, 2, 256),
    ],
)
def test_gradients_of_our_attention_are_those_of_attention(number, keys, heads, width):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, number, heads * width, generator=generator)
    keys_values = torch.randn(2, keys, 2 * heads * width, generator=generator)
    mask = torch.rand(2, keys, generator=generator) < 0.7
    mask[:, keys // 2] = True
    gradient = torch.randn(2, number, heads * width, generator=generator)

    def learned(attend, dtype):
        given = [one.to(dtype, copy=True).requires_grad_() for one in (query, keys_values)]
        attend(*given, mask, heads).backward(gradient.to(dtype))
        return [one.grad for one in given]

    exact = learned(attended, torch.float64)
    for found, wanted in zip(learned(learn_attention, torch.float32), exact, strict=True):
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max() + 1e-6
        assert wanted.abs().max() > 0.1 or keys == 1
    # What is masked learns nothing.
    assert not learned(learn_attention, torch.float32)[1][~mask].any()


def test_a_packed_convolution_is_the_convolution():
    torch.manual_seed(0)
    conv = Conv(8, 12).requires_grad_(False)
    quick = PackedConv(conv)
    for shape in ((2, 8, 6, 5), (1, 8, 9, 9)):
        x, onto = a_map(*shape), a_map(shape[0], 12, *shape[2:])
        with torch.no_grad():
            torch.testing.assert_close(quick(x, None, 1.0), conv(x), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(quick(x, onto, 2.0), (conv(x) + onto) / 2)


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
    level, z = torch.tensor([0.3, -2.0]), a_map(2, 3, 32, 32) / 3
    lowres = LowRes(a_map(2, 3, 32, 32, seed=5) / 3, level) if network.config.lowres else None
    with torch.no_grad():
        plain = network(z, level, text, lowres)
        assert plain.abs().max() > 0.3
        hasten(network)
        found = network(z, level, text, lowres)
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-4)
        assert not torch.equal(found, plain)  # it did take the other way
        some = lowres and LowRes(lowres.image[:1], lowres.level[:1])
        alone = network(z[:1], level[:1], text.select(slice(1)), some)
        torch.testing.assert_close(found[:1], alone, rtol=1e-4, atol=1e-4)
    assert network(z, level, text, lowres).requires_grad  # learning goes the plain way
    slow(network)
    with torch.no_grad():
        assert torch.equal(network(z, level, text, lowres), plain)


def test_without_a_compiler_there_is_one_message(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    kernels.library.cache_clear()
    with pytest.raises(MissingDependency, match=r"no C\+\+ compiler 'no-such-compiler'") as error:
        kernels.library()
    assert "g++" in error.value.hint
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(MissingDependency, match=r"false does not build our kernels"):
        kernels.library()
    assert not list((tmp_path / "open_imagen").iterdir())
    monkeypatch.undo()
    kernels.library.cache_clear()
    assert kernels.library()


@needs_cuda
@pytest.mark.filterwarnings("ignore:TensorFloat32")
def test_recorded_calls_on_a_gpu_are_the_plain_ones():
    """New pictures, levels and texts through one recording; another shape through another."""
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
    quick = copy.deepcopy(network)
    hasten(quick)
    precise = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.inference_mode(), precise:
        for batch in (2, 2, 3, 2):
            text = TextEmbedding(
                torch.randn(batch, 5, 24, device="cuda"),
                torch.rand(batch, 5, device="cuda") < 0.7,
            )
            read, kept = network.read(text), []
            for _ in range(3):  # steps share the text
                z = torch.randn(batch, 3, 16, 16, device="cuda")
                level = torch.randn(batch, device="cuda")
                given = (z, level, read, LowRes(z.flip(0), level))
                kept.append((quick(*given), network(*given)))
            for found, exact in kept:  # none was written over by a later call
                torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
