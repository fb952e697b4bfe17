"""Accelerated layers: each beside the plain one, in inference and training."""

import copy

import pytest
import torch
import torch.nn.functional as F

from open_imagen.backends.accelerate import accelerate, restore
from open_imagen.backends.cpu import operators
from open_imagen.backends.cpu.layers import (
    MIN_TILES_TRAINING,
    PackedConv2d,
    SplitBfloat16Conv2d,
    TrainableWinogradConv2d,
    WinogradConv2d,
    gains_by_winograd,
    has_amx,
    replace_class,
)
from open_imagen.models.layers import Conv
from open_imagen.models.lora import LoraConfig, adapt
from open_imagen.models.unet import UNet, UNetConfig

needs_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bfloat16"
)


def random_map(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (3 * x + 1).to(memory_format=torch.channels_last)


def accelerated(conv, cls):
    found = copy.deepcopy(conv)
    replace_class(found, cls)
    return found


@needs_bf16
@torch.no_grad()
@pytest.mark.parametrize("side,stride", [(3, 1), (3, 2), (1, 1)])
def test_a_split_bfloat16_convolution_is_the_convolution(side, stride):
    torch.manual_seed(0)
    conv = Conv(64, 48, side, stride).requires_grad_(False)
    fast = accelerated(conv, SplitBfloat16Conv2d)
    for shape in ((2, 64, 12, 10), (1, 64, 32, 32)):  # packed anew for another shape
        x = random_map(*shape)
        exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), stride, conv.padding)
        residual = torch.randn_like(exact).float()
        assert (fast(x) - exact).abs().max() < 2**-14 * exact.abs().max()
        largest, added = exact.abs().max(), (exact + residual) / 2
        assert (fast(x, residual, 2.0) - added).abs().max() < 2**-14 * largest
        # bfloat16 alone would not do.
        rough = F.conv2d(x.bfloat16(), conv.weight.bfloat16(), None, stride, conv.padding)
        assert (rough + conv.bias[:, None, None] - exact).abs().max() > 2**-10 * exact.abs().max()


@pytest.mark.parametrize(
    "shape", [(8, 40, 16, 16), (7, 33, 9, 14), (40, 32, 4, 5), (1, 64, 80, 64)]
)
def test_gradients_by_winograd_are_those_of_the_convolution(shape):
    torch.manual_seed(0)
    conv = Conv(shape[1], 48)
    x, residual, gradient = (
        random_map(*shape),
        random_map(shape[0], 48, *shape[2:]),
        random_map(shape[0], 48, *shape[2:], seed=2),
    )

    def gradients(conv, dtype):
        given = x.to(dtype, copy=True).requires_grad_()
        conv = copy.deepcopy(conv).to(dtype)
        out = conv(given, residual=residual.to(dtype), divisor=2.0)
        out.backward(gradient.to(dtype))
        return out, given.grad, conv.weight.grad, conv.bias.grad

    exact = gradients(conv, torch.float64)
    replace_class(conv, TrainableWinogradConv2d)
    assert operators.number_of_tiles(x) >= MIN_TILES_TRAINING
    for found, wanted in zip(gradients(conv, torch.float32), exact, strict=True):
        assert (found - wanted).abs().max() < 2**-15 * wanted.abs().max()
    # Frozen weights get no gradient.
    conv.requires_grad_(False)
    given = x.clone().requires_grad_()
    conv(given).sum().backward()
    assert conv.weight.grad is None
    plain = F.conv2d(x.requires_grad_(), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(
        given.grad, torch.autograd.grad(plain.sum(), x)[0], rtol=1e-4, atol=1e-4
    )


def test_small_maps_and_bfloat16_train_without_winograd(monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(operators, "winograd_conv2d", never)
    network = UNet(
        UNetConfig(channels=32, multipliers=(1,), blocks=(1,), attention=(False,), text_width=8)
    )
    accelerate(network, "training")
    convs = [module for module in network.modules() if isinstance(module, Conv)]
    assert {type(conv) is TrainableWinogradConv2d for conv in convs} == {True, False}
    assert all(
        type(conv) is Conv for conv in convs if conv.in_channels < 32 or conv.stride == (2, 2)
    )
    conv = next(conv for conv in convs if type(conv) is TrainableWinogradConv2d)
    conv(random_map(1, conv.in_channels, 16, 16)).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        conv(random_map(4, conv.in_channels, 16, 16)).sum().backward()
    with pytest.raises(AssertionError):
        conv(random_map(4, conv.in_channels, 16, 16))
    restore(network)
    assert all(type(conv) is Conv for conv in convs)


@torch.no_grad()
def test_winograd_in_bfloat16_is_more_exact_than_a_direct_convolution():
    torch.manual_seed(0)
    conv = Conv(64, 48).requires_grad_(False).bfloat16()
    x, residual = random_map(2, 64, 16, 12).bfloat16(), random_map(2, 48, 16, 12, seed=1).bfloat16()
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    fast = accelerated(conv, WinogradConv2d)
    found = fast(x, residual, 2.0)
    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    wanted = ((exact + residual) / 2).float()
    assert (found - wanted).abs().max() <= 1.01 * (wanted.bfloat16() - wanted).abs().max()
    rounded_twice = (conv(x) + residual) / 2
    assert (rounded_twice - wanted).abs().mean() > (found - wanted).abs().mean()
    torch.testing.assert_close(fast(x).float(), exact.float(), rtol=2**-8, atol=1e-3)


@torch.no_grad()
def test_small_maps_and_large_weights_do_without_winograd(monkeypatch):
    conv = Conv(32, 32).requires_grad_(False)
    called = []
    monkeypatch.setattr(
        PackedConv2d, "packed_forward", lambda self, x, *given: called.append(x.shape) or x
    )
    fast = accelerated(conv, WinogradConv2d)
    fast(random_map(1, 32, 12, 12))
    assert len(called) == 1
    assert fast.transformed is None
    found = fast(random_map(1, 32, 16, 16), None, 2.0)
    assert len(called) == 1
    torch.testing.assert_close(found, conv(random_map(1, 32, 16, 16)) / 2, rtol=1e-4, atol=1e-4)
    large, strided, narrow = Conv(1024, 1024), Conv(64, 64, 3, 2), Conv(16, 64)
    assert not any(gains_by_winograd(one) for one in (large, strided, narrow, Conv(64, 64, 1)))
    assert gains_by_winograd(conv) != has_amx()
    assert not gains_by_winograd(conv.bfloat16())
    assert gains_by_winograd(Conv(64, 64).bfloat16()) != has_amx()


def test_a_packed_convolution_is_the_convolution():
    torch.manual_seed(0)
    conv = Conv(8, 12).requires_grad_(False)
    fast = accelerated(conv, PackedConv2d)
    for shape in ((2, 8, 6, 5), (1, 8, 9, 9)):
        x, residual = random_map(*shape), random_map(shape[0], 12, *shape[2:])
        with torch.no_grad():
            torch.testing.assert_close(fast(x), conv(x), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(fast(x, residual, 2.0), (conv(x) + residual) / 2)


def test_an_adapted_convolution_trains_by_winograd_with_its_adapter():
    """A parametrised layer has a class of its own, which stays in force."""
    network = torch.nn.ModuleList([Conv(32, 32)])
    adapt(network, LoraConfig(rank=2, targets=("all",)))
    torch.nn.init.normal_(network[0].parametrizations.weight[0].B)
    plain, original = copy.deepcopy(network[0]), type(network[0])
    names = list(network.state_dict())
    accelerate(network, "training")
    assert isinstance(network[0], TrainableWinogradConv2d)
    assert list(network.state_dict()) == names
    x = random_map(4, 32, 16, 16)
    for conv in (plain, network[0]):
        conv(x).square().mean().backward()
    for (name, one), (_, other) in zip(
        plain.named_parameters(), network[0].named_parameters(), strict=True
    ):
        if one.requires_grad:
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-4, msg=name)
    restore(network)
    assert type(network[0]) is original


def test_restoring_leaves_nothing_behind():
    network = UNet(
        UNetConfig(channels=32, multipliers=(1,), blocks=(1,), attention=(True,), text_width=8)
    )
    network.requires_grad_(False).eval()
    before = {name: (type(m), set(m.__dict__)) for name, m in network.named_modules()}
    names = list(network.state_dict())
    for mode in ("inference", "training", "inference"):
        accelerate(network, mode)
        changed = [m for name, m in network.named_modules() if type(m) is not before[name][0]]
        assert changed
        assert list(network.state_dict()) == names
    restore(network)
    restore(network)
    assert {name: (type(m), set(m.__dict__)) for name, m in network.named_modules()} == before


def test_an_accelerated_layer_can_be_copied():
    conv = accelerated(Conv(32, 32).requires_grad_(False), WinogradConv2d)
    x = random_map(1, 32, 16, 16)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(conv)(x), conv(x))
