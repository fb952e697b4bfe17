"""The optimiser: its learning-rate curve by hand, Muon's step, clipping."""

import json
import math
import sys

import pytest
import torch
import transformers
from torch import nn

from open_imagen.errors import ConfigError, MissingDependency, UnknownName
from open_imagen.models import build
from open_imagen.training.optim import (
    Muon,
    OptimConfig,
    clip,
    count_state,
    make_optimizer,
    muon,
)
from open_imagen.training.optim.muon import muon_updates, orthogonalize
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


def adafactor_as_written(weight, gradients, lr, relative_step=False):
    """Shazeer and Stern 2018: algorithm 4 for matrices, 5 for vectors, step sizes of 6. In float64;
    a convolution [out, in, height, width] is a matrix for each place of its kernel."""
    weight, row, column = weight.detach().double(), 0.0, 0.0
    for t, gradient in enumerate(gradients, start=1):
        rho, beta2 = (min(lr, t**-0.5) if relative_step else lr), 1 - t**-0.8
        alpha = max(1e-3, weight.square().mean().sqrt()) * rho
        square = gradient.double() ** 2 + 1e-30
        if weight.ndim == 1:
            row = beta2 * row + (1 - beta2) * square
            variance = row
        else:
            row = beta2 * row + (1 - beta2) * square.sum(1)
            column = beta2 * column + (1 - beta2) * square.sum(0)
            variance = torch.einsum("o...,i...->oi...", row, column) / row.sum(0)
        update = gradient.double() / variance.sqrt()
        weight = weight - alpha * update / max(1, update.square().mean().sqrt())
    return weight


RMS = [1.0, 1e-2, 2e-4, 2e-6, 1e-8]
SHAPES = [(5,), (7, 5), (6, 8, 3, 3), (3, 16, 3, 3), (2, 2, 3, 3)]


def adafactor_steps(weight, gradients, **settings):
    layer = nn.Module()
    layer.weight = nn.Parameter(weight.clone())
    optimizer = make_optimizer(layer, OptimConfig(name="adafactor", **settings))
    for gradient in gradients:
        layer.weight.grad = gradient.clone()
        optimizer.step()
    return layer.weight.detach()


@pytest.mark.parametrize("rms", RMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("relative_step", [False, True])
def test_adafactor_is_its_authors_at_any_size_of_gradients(shape, rms, relative_step):
    torch.manual_seed(0)
    weight = torch.randn(shape)
    gradients = [rms * torch.randn(shape) * torch.rand(shape) for _ in range(6)]
    settings = {"lr": 0.6, "relative_step": relative_step}  # larger than 1 / sqrt(3)
    found = adafactor_steps(weight, gradients, **settings)
    wanted = adafactor_as_written(weight, gradients, **settings)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rms", RMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_adafactor_is_that_of_transformers(shape, rms):
    torch.manual_seed(0)
    weight = 0.02 * torch.randn(shape)
    gradients = [rms * torch.randn(shape) for _ in range(6)]
    # Theirs factors the last two axes: out and in, as in JAX's layout of convolutions.
    to_last = [*range(2, len(shape)), *range(min(2, len(shape)))]
    theirs = nn.Parameter(weight.permute(to_last).clone())
    optimizer = transformers.Adafactor([theirs], lr=1e-2, relative_step=False, warmup_init=False)
    for gradient in gradients:
        theirs.grad = gradient.permute(to_last).clone()
        optimizer.step()
    wanted = torch.empty_like(weight)
    wanted.permute(to_last).copy_(theirs.detach())
    found = adafactor_steps(weight, gradients, lr=1e-2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-8)


def test_adafactor_makes_no_step_without_a_gradient_and_decays_weights():
    weight = torch.ones(4, 3)
    nothing = [torch.zeros(4, 3)] * 3
    assert torch.equal(adafactor_steps(weight, nothing, lr=0.1), weight)
    found = adafactor_steps(weight, nothing, lr=0.1, weight_decay=0.5)
    torch.testing.assert_close(found, weight * 0.95**3)


def test_adafactor_keeps_rows_and_columns_for_each_place_of_a_kernel():
    layer = nn.Conv2d(8, 6, 3)
    optimizer = make_optimizer(layer, OptimConfig(name="adafactor"))
    sizes = {name: tuple(v.shape) for name, v in optimizer.state[layer.weight].items()}
    assert sizes == {"step": (), "row": (6, 1, 3, 3), "column": (1, 8, 3, 3)}
    sizes = {name: tuple(v.shape) for name, v in optimizer.state[layer.bias].items()}
    assert sizes == {"step": (), "variance": (6,)}
    assert count_state(layer, OptimConfig(name="adafactor")) == 6 * 9 + 8 * 9 + 6


def test_orthogonalized_keeps_the_directions_and_levels_the_singular_values():
    torch.manual_seed(0)
    for shape in ((8, 20), (20, 8)):
        matrix = torch.randn(shape)
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        found = left.T @ orthogonalize(matrix).float() @ right.T
        assert found.diagonal().min() > 0.6
        assert found.diagonal().max() < 1.3
        off = found - torch.diag(found.diagonal())
        assert off.abs().max() < 0.15


@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-5])
def test_orthogonalized_is_the_quintic_of_each_singular_value(smallest, monkeypatch):
    monkeypatch.setattr(muon, "has_bf16", lambda device: False)  # which is exact to 1e-2 alone
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 50, generator=generator, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.logspace(0, math.log10(smallest), 12, dtype=torch.float64)
    wanted = values / values.norm()
    for _ in range(5):
        wanted = 3.4445 * wanted - 4.7750 * wanted**3 + 2.0315 * wanted**5
    for one in (left @ values.diag() @ right, (left @ values.diag() @ right).T):
        found = orthogonalize(one)
        exact = left @ wanted.diag() @ right
        exact = exact if one.shape == (12, 50) else exact.T
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (7, 7)])
def test_matrices_of_one_shape_are_orthogonalized_together_as_alone(shape):
    torch.manual_seed(0)
    several = torch.randn(3, *shape)
    found = orthogonalize(several)
    for one, together in zip(several, found, strict=True):
        torch.testing.assert_close(together, orthogonalize(one), rtol=0, atol=1e-2)


def test_directions_are_the_same_together_as_alone():
    torch.manual_seed(0)
    ahead = [torch.randn(shape) for shape in ((4, 6), (6, 4), (4, 2, 1, 3), (4, 6))]
    for one, together in zip(ahead, muon_updates(*ahead), strict=True):
        [alone] = muon_updates(one)
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


def least_squares():
    """A convex problem with noisy gradients, and its solution."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 4, generator=generator)
    wanted = torch.tensor([1.0, -2.0, 0.5, 3.0])
    return inputs, inputs @ wanted + 0.5 * torch.randn(64, generator=generator), wanted


def test_schedulefree_samples_with_its_authors_average():
    schedulefree = pytest.importorskip("schedulefree")
    inputs, targets, _ = least_squares()
    layer, theirs = nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False)
    theirs.load_state_dict(layer.state_dict())
    ours = make_optimizer(layer, OptimConfig(name="schedulefree", lr=0.1))
    reference = schedulefree.AdamWScheduleFree(theirs.parameters(), lr=0.1, betas=(0.9, 0.99))
    reference.train()
    for step in range(50):
        rows = slice(step % 8 * 8, step % 8 * 8 + 8)
        for network, optimizer in ((layer, ours), (theirs, reference)):
            loss = (network(inputs[rows])[:, 0] - targets[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert torch.equal(layer.weight, theirs.weight)  # y
    [average] = ours.evaluation_weights([layer.weight])
    before = layer.weight.clone()
    reference.eval()
    torch.testing.assert_close(average, theirs.weight.detach(), rtol=0, atol=1e-6)  # x
    assert torch.equal(layer.weight, before)
    assert not torch.equal(average, before)
    assert ours.group_state[0]["k"] == 50


def test_schedulefree_goes_on_from_its_group_state_to_the_bit():
    pytest.importorskip("schedulefree")
    inputs, targets, _ = least_squares()

    def step(layer, optimizer):
        (layer(inputs)[:, 0] - targets).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    config = OptimConfig(name="schedulefree", lr=0.1)
    one, other = nn.Linear(4, 1), nn.Linear(4, 1)
    first = make_optimizer(one, config)
    for _ in range(5):
        step(one, first)
    second = make_optimizer(other, config)
    with torch.no_grad():
        for mine, theirs in zip(other.parameters(), one.parameters(), strict=True):
            mine.copy_(theirs)
            for key, value in first.state[theirs].items():
                second.state[mine][key].copy_(value)
    second.load_group_state(json.loads(json.dumps(first.group_state)))
    for _ in range(5):
        step(one, first)
        step(other, second)
    assert torch.equal(one.weight, other.weight)
    assert first.group_state == second.group_state


def test_schedulefree_needs_no_decay_and_its_package(monkeypatch):
    with pytest.raises(ConfigError, match=r"optim\.decay = 0\.5"):
        OptimConfig(name="schedulefree", decay=0.5)
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(MissingDependency, match="schedulefree") as caught:
        make_optimizer(nn.Linear(2, 2), OptimConfig(name="schedulefree"))
    assert ".[optimizers]" in caught.value.hint


def test_other_optimisers_sample_with_the_weights_themselves():
    layer = nn.Linear(2, 2)
    optimizer = make_optimizer(layer, OptimConfig())
    assert optimizer.evaluation_weights([layer.weight])[0] is layer.weight
    assert optimizer.group_state == [{}]
