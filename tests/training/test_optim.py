"""The optimiser: its learning-rate curve by hand, Muon's step, clipping."""

import math

import pytest
import torch
from torch import nn

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models import build
from open_imagen.training import optim
from open_imagen.training.optim import (
    Muon,
    OptimConfig,
    clip,
    directions,
    make_optimizer,
    orthogonalized,
)
from standins import needs_cuda


def test_the_rate_rises_stays_and_falls():
    config = OptimConfig(lr=2.0, warmup=100, decay=0.25)
    rates = [config.rate(seen, 1000) for seen in (0, 49, 99, 500, 750, 875, 1000)]
    assert rates == pytest.approx([0.02, 1.0, 2.0, 2.0, 2.0, 1.0, 0.0])
    assert OptimConfig(lr=2.0, warmup=0).rate(0, 10) == 2.0


def test_the_rate_can_fall_like_a_cosine():
    config = OptimConfig(lr=2.0, warmup=0, decay=1.0, curve="cosine")
    rates = [config.rate(seen, 100) for seen in (0, 25, 50, 75, 100)]
    half = 2**-0.5
    assert rates == pytest.approx([2.0, 1 + half, 1.0, 1 - half, 0.0])
    with pytest.raises(UnknownName, match="curve"):
        OptimConfig(curve="cosin")


def test_adafactor_of_matrices_and_vectors_is_torch_s():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizers = [
        make_optimizer(ours, OptimConfig(name="adafactor", lr=1e-2, weight_decay=0.1)),
        torch.optim.Adafactor(theirs.parameters(), lr=1e-2, weight_decay=0.1),
    ]
    for _ in range(5):
        x = torch.randn(7, 5)
        for layer, optimizer in zip((ours, theirs), optimizers, strict=True):
            layer(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-6, atol=1e-7)


def test_adafactor_factors_a_convolution_over_out_and_in_for_each_place_of_its_kernel():
    # Algorithm 4 of Shazeer and Stern 2018 on each of the kernel's nine matrices, written out.
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 6, 3, bias=False)
    optimizer = make_optimizer(layer, OptimConfig(name="adafactor", lr=1e-2))
    sizes = {name: v.numel() for name, v in optimizer.state[layer.weight].items()}
    assert sizes == {"step": 1, "row": 6 * 9, "column": 8 * 9}
    wanted = layer.weight.detach().double()
    row, column = torch.zeros(3, 3, 6), torch.zeros(3, 3, 8)
    for step in range(1, 5):
        layer.weight.grad = gradient = torch.randn(6, 8, 3, 3)
        optimizer.step()
        beta2 = 1 - step**-0.8
        update = torch.empty(6, 8, 3, 3)
        for i in range(3):
            for j in range(3):
                square = gradient[:, :, i, j] ** 2
                row[i, j] = beta2 * row[i, j] + (1 - beta2) * square.mean(1)
                column[i, j] = beta2 * column[i, j] + (1 - beta2) * square.mean(0)
                variance = torch.outer(row[i, j], column[i, j]) / row[i, j].mean()
                update[:, :, i, j] = gradient[:, :, i, j] / variance.sqrt()
        update /= max(1, update.square().mean().sqrt())
        size = max(1e-3, wanted.square().mean().sqrt())
        wanted = wanted - min(1e-2, step**-0.5) * size * update
    torch.testing.assert_close(layer.weight.double(), wanted, rtol=1e-5, atol=1e-6)


def test_orthogonalized_keeps_the_directions_and_levels_the_singular_values():
    torch.manual_seed(0)
    for shape in ((8, 20), (20, 8)):
        matrix = torch.randn(shape)
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        found = left.T @ orthogonalized(matrix).float() @ right.T
        assert found.diagonal().min() > 0.6
        assert found.diagonal().max() < 1.3
        off = found - torch.diag(found.diagonal())
        assert off.abs().max() < 0.15


@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-5])
def test_orthogonalized_is_the_quintic_of_each_singular_value(smallest, monkeypatch):
    monkeypatch.setattr(optim, "has_bf16", lambda device: False)  # which is exact to 1e-2 alone
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 50, generator=generator, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.logspace(0, math.log10(smallest), 12, dtype=torch.float64)
    wanted = values / values.norm()
    for _ in range(5):
        wanted = 3.4445 * wanted - 4.7750 * wanted**3 + 2.0315 * wanted**5
    for one in (left @ values.diag() @ right, (left @ values.diag() @ right).T):
        found = orthogonalized(one)
        exact = left @ wanted.diag() @ right
        exact = exact if one.shape == (12, 50) else exact.T
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (7, 7)])
def test_matrices_of_one_shape_are_orthogonalized_together_as_alone(shape):
    torch.manual_seed(0)
    several = torch.randn(3, *shape)
    found = orthogonalized(several)
    for one, together in zip(several, found, strict=True):
        torch.testing.assert_close(together, orthogonalized(one), rtol=0, atol=1e-2)


def test_directions_are_the_same_together_as_alone():
    torch.manual_seed(0)
    ahead = [torch.randn(shape) for shape in ((4, 6), (6, 4), (4, 2, 1, 3), (4, 6))]
    for one, together in zip(ahead, directions(*ahead), strict=True):
        [alone] = directions(one)
        assert together.shape == one.shape
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)


@needs_cuda
def test_muon_steps_on_a_gpu_as_on_a_cpu():
    """Recorded at the first step, played at the others."""
    torch.manual_seed(0)
    values = [torch.randn(shape) for shape in ((8, 6), (6, 8), (8, 2, 1, 3), (8, 6))]
    ways = {name: [nn.Parameter(one.to(name)) for one in values] for name in ("cpu", "cuda")}
    optimizers = {name: Muon(weights, 0.1, 0.9) for name, weights in ways.items()}
    for _ in range(4):
        gradients = [torch.randn_like(one) for one in values]
        for name, weights in ways.items():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient.to(name)
            optimizers[name].step()
    for here, there in zip(ways["cpu"], ways["cuda"], strict=True):
        torch.testing.assert_close(here, there.cpu(), rtol=0, atol=3e-2)  # bfloat16 there


def test_muon_walks_downhill_on_a_convolution():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3)
    optimizer = Muon([layer.weight], lr=0.1, momentum=0.9)
    goal, losses = torch.randn_like(layer.weight), []
    for _ in range(60):
        loss = (layer.weight - goal).square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_muon_s_first_step_by_hand():
    weight = nn.Parameter(torch.zeros(2, 3))
    weight.grad = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    Muon([weight], lr=0.1, momentum=0.95).step()
    # singular values near 1, times lr * 0.2 * sqrt(3), against the gradient
    step = -weight.detach() / (0.1 * 0.2 * 3**0.5)
    assert step[0, 0].item() == pytest.approx(1, abs=0.35)
    assert step[1, 1].item() == pytest.approx(1, abs=0.35)
    assert step.abs().sum().item() == pytest.approx((step[0, 0] + step[1, 1]).item(), abs=0.02)


def test_muon_takes_inner_matrices_and_adamw_the_rest():
    network = build("tiny-base-64")
    optimizer = make_optimizer(network, OptimConfig(name="muon"))
    names = {id(p): name for name, p in network.named_parameters()}
    muon = {names[id(p)] for p in optimizer.optimizers[1].param_groups[0]["params"]}
    adamw = {names[id(p)] for p in optimizer.optimizers[0].param_groups[0]["params"]}
    assert muon | adamw == set(names.values())
    assert not muon & adamw
    assert {"stem.weight", "head.weight", "norm.weight", "stem.bias"} <= adamw
    assert "down.0.block.conv_in.weight" in muon
    assert set(optimizer.state) == set(network.parameters())


def test_clipping_by_hand():
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert clip([weight], 1.0).item() == pytest.approx(5.0)
    assert weight.grad.tolist() == pytest.approx([0.6, 0.8], abs=1e-5)


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match=r"optim.lr = 0"):
        OptimConfig(lr=0)
    with pytest.raises(UnknownName):
        OptimConfig(name="adam-w")
