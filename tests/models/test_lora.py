"""Low-rank adapters: nothing at first, W + scale B A then, alone on disk, merged on demand."""

import pytest
import torch
from torch import nn

from open_imagen.errors import CheckpointError, ConfigError
from open_imagen.models import build
from open_imagen.models.lora import (
    LoraConfig,
    LowRankChange,
    Merged,
    adapt,
    adapter_of,
    change,
    frozen_of,
    trainable_of,
)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.ModuleDict({"query": nn.Linear(5, 4)})
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x, image):
        return self.attention["query"](x), self.conv(image)


@pytest.fixture
def two():
    torch.manual_seed(0)
    return Two()


def test_an_adapter_starts_as_nothing_and_only_it_learns(two):
    x, image = torch.randn(2, 5), torch.randn(2, 3, 4, 4)
    before = two(x, image)
    assert adapt(two, LoraConfig(rank=2, targets=("all",))) == ["attention.query", "conv"]
    for one, other in zip(before, two(x, image), strict=True):
        assert torch.equal(one, other)
    learning = {name for name, p in two.named_parameters() if p.requires_grad}
    assert all(".parametrizations.weight.0." in name for name in learning)
    assert len(learning) == 4


def test_what_an_adapted_layer_computes_is_w_plus_scale_b_a(two):
    linear, conv = two.attention["query"], two.conv
    weights = linear.weight.detach().clone(), conv.weight.detach().clone()
    adapt(two, LoraConfig(rank=2, alpha=6.0, targets=("all",)))  # a scale of 3
    for parameter in two.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    pair = linear.parametrizations.weight[0]
    assert pair.A.shape == (2, 5)
    assert pair.B.shape == (4, 2)
    torch.testing.assert_close(linear.weight, weights[0] + 3 * pair.B @ pair.A)
    # Of a convolution: first the low-rank convolution A, then B from channel to channel.
    pair = conv.parametrizations.weight[0]
    assert pair.A.shape == (2, 3, 3, 3)
    assert pair.B.shape == (6, 2, 1, 1)
    image = torch.randn(1, 3, 5, 5)
    inner = nn.functional.conv2d(nn.functional.conv2d(image, pair.A), pair.B)
    wanted = nn.functional.conv2d(image, weights[1], conv.bias) + 3 * inner
    torch.testing.assert_close(conv(image), wanted)


def test_only_the_layers_that_are_meant_change():
    network = build("tiny-base-64")
    names = adapt(network, LoraConfig(rank=1, targets=("query", "text_keys_values")))
    assert names
    assert {name.rsplit(".", 1)[1] for name in names} == {"query", "text_keys_values"}
    with pytest.raises(ConfigError, match="names no layer"):
        adapt(build("tiny-base-64"), LoraConfig(rank=1, targets=("atention",)))


def test_merging_gives_the_weights_of_the_adapted_network(two):
    adapt(two, LoraConfig(rank=2, alpha=4.0, targets=("all",)))
    for parameter in two.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter)
    adapter = adapter_of(trainable_of(two))
    assert set(adapter) == {
        f"{layer}.lora_{part}.weight" for layer in ("attention.query", "conv") for part in "AB"
    }
    frozen = dict(frozen_of(two))
    shapes = {name: tuple(tensor.shape) for name, tensor in frozen.items()}
    plain = Two()
    plain.load_state_dict(dict(Merged(frozen.items(), [LowRankChange(adapter, shapes, 2.0)])))
    x, image = torch.randn(2, 5), torch.randn(2, 3, 4, 4)
    for one, other in zip(two(x, image), plain(x, image), strict=True):
        torch.testing.assert_close(one, other)


def test_a_change_is_b_times_a():
    a, b = torch.randn(2, 5), torch.randn(4, 2)
    torch.testing.assert_close(change(a, b, 0.5), 0.5 * b @ a)


def test_an_adapter_of_another_network_is_refused(two):
    shapes = {name: tuple(p.shape) for name, p in two.named_parameters()}
    for adapter in (
        {
            "conv.lora_A.weight": torch.zeros(2, 4, 3, 3),
            "conv.lora_B.weight": torch.zeros(6, 2, 1, 1),
        },
        {"other.lora_A.weight": torch.zeros(2, 4), "other.lora_B.weight": torch.zeros(6, 2)},
        {"conv.lora_A.weight": torch.zeros(2, 3, 3, 3)},
        {},
    ):
        with pytest.raises(CheckpointError, match="not one of this network"):
            LowRankChange(adapter, shapes, 1.0)


def test_weights_that_are_saved_whole_replace_those_of_the_network(two):
    adapt(two, LoraConfig(rank=1, targets=("all",), modules_to_save=("conv.*",)))
    adapter = adapter_of(trainable_of(two))
    assert set(adapter) == {
        *(f"attention.query.lora_{part}.weight" for part in "AB"),
        *("conv.weight", "conv.bias"),
    }
    plain = Two()
    shapes = {name: tuple(weight.shape) for name, weight in plain.named_parameters()}
    whole = {"conv.bias": torch.full_like(plain.conv.bias, 2.0)}
    found = dict(Merged(plain.named_parameters(), [LowRankChange(whole, shapes, 1.0)]))
    assert (found["conv.bias"] == 2).all()
    assert torch.equal(found["conv.weight"], plain.conv.weight)
    with pytest.raises(CheckpointError, match=r"conv\.bias"):
        LowRankChange({"conv.bias": torch.zeros(1)}, shapes, 1.0)
