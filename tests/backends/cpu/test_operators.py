"""CPU operators: each beside torch, with its gradients, NaN, wrong inputs and opcheck."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from open_imagen.backends.cpu import operators
from open_imagen.models.attention import multi_head_attention, split_heads
from open_imagen.models.layers import Conv, NormAct

bf16_attention = pytest.mark.skipif(
    not operators.attention_kind(torch.bfloat16), reason="no bfloat16 attention on this CPU"
)


def random_map(*shape, seed=0):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return (3 * x + 1).to(memory_format=torch.channels_last)


def random_norm(channels, activation, over="groups"):
    norm = NormAct(channels, activation, over)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm.requires_grad_(False)


def fused(norm, x, scale_shift=None, operator=operators.norm_act):
    groups = norm.num_groups if norm.over == "groups" else operators.PER_PIXEL
    given = (groups, norm.eps, norm.weight, norm.bias, norm.activation, scale_shift)
    return operator(x, *given)


def transform(weight, transposed=False):
    return operators.winograd_transform_weights(weight, transposed)


def convolve(x, conv, residual=None, scale=1.0):
    given = (x, conv.weight, conv.bias, residual, scale)
    return operators.winograd_conv2d(*given, transform(conv.weight), False)


@pytest.mark.parametrize("activation", ["", "silu", "gelu"])
@pytest.mark.parametrize("shape", [(2, 64, 8, 8), (3, 20, 5, 7), (1, 96, 1, 130)])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("over", ["groups", "pixel"])
def test_one_pass_is_norm_scale_shift_and_activation(activation, shape, scaled, over):
    torch.manual_seed(0)
    x, norm = random_map(*shape), random_norm(shape[1], activation, over)
    scale_shift = torch.randn(shape[0], 2 * shape[1]) if scaled else None
    found = fused(norm, x, scale_shift)
    torch.testing.assert_close(found, norm(x, scale_shift), rtol=1e-5, atol=5e-6)


def test_activations_are_exact_far_from_zero_too():
    """A norm that changes nothing: rows of mean 0 and variance 1, moved by the shift."""
    x = torch.tensor([1.0, -1.0]).repeat(64).view(1, 1, 8, 16)
    for activation, exact in (("silu", F.silu), ("gelu", F.gelu)):
        norm = NormAct(1, activation).requires_grad_(False)
        norm.eps = 0.0
        for place in (-120.0, -30.0, -5.6, -2.0, 0.0, 0.5, 4.0, 30.0, 120.0):
            found = fused(norm, x, torch.tensor([[0.0, place]]))
            torch.testing.assert_close(found, exact(x + place), rtol=1e-6, atol=2e-6)


def test_a_large_mean_costs_no_precision():
    x, norm = random_map(2, 32, 16, 16) / 3 + 30, random_norm(32, "")
    exact = F.group_norm(
        x.double(), norm.num_groups, norm.weight.double(), norm.bias.double(), norm.eps
    )
    assert (fused(norm, x) - exact).abs().max() < 1e-3


@pytest.mark.parametrize("over", ["groups", "pixel"])
def test_bfloat16_maps_stay_bfloat16(over):
    torch.manual_seed(0)
    x, norm = random_map(2, 32, 4, 4), random_norm(32, "silu", over)
    found = fused(norm, x.bfloat16())
    assert found.dtype == torch.bfloat16
    exact = norm(x.bfloat16().float())
    assert torch.equal(found, exact.bfloat16()) or (found - exact).abs().max() < 0.02


def test_split_bfloat16_holds_sixteen_bits():
    x = random_map(2, 40, 3, 5)
    high, stacked = operators.bfloat16_split(x)
    first, low, last = stacked.chunk(3, dim=1)
    assert torch.equal(high, x.bfloat16())
    assert torch.equal(first, high)
    assert torch.equal(last, high)
    assert torch.equal(low, (x - high.float()).bfloat16())
    assert ((high.double() + low.double() - x).abs() <= x.abs() * 2**-16).all()
    norm = random_norm(40, "gelu")
    split = fused(norm, x, operator=operators.norm_act_split)
    again = operators.bfloat16_split(fused(norm, x))
    assert all(torch.equal(one, other) for one, other in zip(split, again, strict=True))


def test_merge_adds_everything_and_scales():
    first, rest, residual = (random_map(2, 24, 3, 4, seed=k) for k in range(3))
    first, rest, bias = first.bfloat16(), rest.bfloat16(), torch.randn(24)
    exact = first.float() + rest.float() + bias[:, None, None]
    torch.testing.assert_close(operators.bfloat16_merge(first, rest, bias, None, 1.0), exact)
    found = operators.bfloat16_merge(first, rest, bias, residual, 0.5)
    torch.testing.assert_close(found, (exact + residual) / 2)


@pytest.mark.parametrize("shape", [(2, 40, 16, 16), (1, 33, 9, 14), (3, 32, 4, 5), (1, 64, 80, 64)])
def test_winograd_is_the_convolution(shape):
    """Sides that tiles do not fill, borders, blocks, one image after another."""
    torch.manual_seed(0)
    conv = Conv(shape[1], 48).requires_grad_(False)
    assert transform(conv.weight).shape[::2] == (36, shape[1])
    x = random_map(*shape)
    exact = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    residual = torch.randn_like(exact).float()
    for plus, factor in ((None, 1.0), (residual, 0.5)):
        found = convolve(x, conv, plus, factor)
        wanted = (exact if plus is None else exact + plus) * factor
        assert (found - wanted).abs().max() < 2**-15 * exact.abs().max()
    one = convolve(x[:1], conv)
    several = convolve(x, conv)
    torch.testing.assert_close(several[:1], one, rtol=1e-4, atol=1e-4)


def test_transformed_weights_are_those_of_the_paper():
    """G g G^T, each point's matrix in panels, zeros beside the last; transposed, the other way."""
    points = torch.tensor([0, 1, -1, 2, -2], dtype=torch.float64)
    scales = torch.tensor([1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24], dtype=torch.float64)
    g = torch.cat([scales[:, None] * points[:, None] ** torch.arange(3), torch.eye(3)[2:]])
    weight = torch.randn(40, 7, 3, 3, generator=torch.Generator().manual_seed(0))
    for given in (weight, weight.contiguous(memory_format=torch.channels_last)):
        for transposed in (False, True):
            found = transform(given, transposed).transpose(1, 2).flatten(2)
            wanted = weight.transpose(0, 1).flip(2, 3) if transposed else weight
            wanted = torch.einsum("ai,ocij,bj->abco", g, wanted.double(), g).flatten(0, 1)
            outside = wanted.shape[2]
            torch.testing.assert_close(found[:, :, :outside], wanted.float())
            assert not found[:, :, outside:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "number,keys,heads,width",
    [
        *((1024, 1101, 2, 64), (20, 23, 3, 40), (1, 1, 1, 8), (64, 300, 2, 96), (5, 70, 1, 33)),
        (64, 80, 2, 256),
    ],
)
def test_attention_is_torch_s(number, keys, heads, width, dtype):
    if not operators.attention_kind(dtype):
        pytest.skip(f"no attention kernel for {dtype} on this CPU")
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

    found, exact = operators.attention(query, keys_values, mask, heads), attended(torch.float64)
    assert found.dtype == dtype
    rough = (attended(torch.bfloat16) - exact).abs().max()
    assert (found - exact).abs().max() <= (1e-4 if dtype == torch.float32 else 1.5 * rough)
    # In float32, bfloat16 alone would not do.
    assert keys == 1 or rough > 1e-3
    # What is masked is not seen, whatever it is.
    keys_values[~mask] = 1e4
    assert torch.equal(operators.attention(query, keys_values, mask, heads), found)


@pytest.mark.parametrize(
    "number,keys,heads,width",
    [
        *((300, 333, 2, 60), (20, 23, 3, 40), (1, 1, 1, 8), (64, 130, 2, 96), (5, 70, 1, 33)),
        (64, 80, 2, 256),
    ],
)
def test_gradients_of_attention_are_torch_s(number, keys, heads, width):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, number, heads * width, generator=generator)
    keys_values = torch.randn(2, keys, 2 * heads * width, generator=generator)
    mask = torch.rand(2, keys, generator=generator) < 0.7
    mask[:, keys // 2] = True
    gradient = torch.randn(2, number, heads * width, generator=generator)

    def gradients(attend, dtype):
        given = [one.to(dtype, copy=True).requires_grad_() for one in (query, keys_values)]
        attend(*given, mask, heads).backward(gradient.to(dtype))
        return [one.grad for one in given]

    exact = gradients(multi_head_attention, torch.float64)
    for found, wanted in zip(gradients(operators.attention, torch.float32), exact, strict=True):
        assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max() + 1e-6
        assert wanted.abs().max() > 0.1 or keys == 1
    # What is masked has no gradient.
    assert not gradients(operators.attention, torch.float32)[1][~mask].any()


def differentiable(*tensors):
    return [None if one is None else one.detach().clone().requires_grad_() for one in tensors]


def attention_inputs(queries=5, keys=7, heads=2, width=9, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, queries, heads * width, generator=generator)
    keys_values = torch.randn(2, keys, 2 * heads * width, generator=generator)
    mask = torch.rand(2, keys, generator=generator) < 0.6
    mask[:, keys // 2] = True
    return query.to(dtype), keys_values.to(dtype), mask, heads


def calls():
    """Every operator with inputs that it takes, by a name for each."""
    x, y, z = (random_map(2, 6, 5, 7, seed=k) for k in range(3))
    per_channel, scale_shift = torch.randn(6), torch.randn(2, 12)
    weight = torch.randn(6, 6, 3, 3)
    norm = ("silu", *differentiable(scale_shift))
    for groups in (3, 0):
        given = (*differentiable(x), groups, 1e-5, *differentiable(per_channel, per_channel), *norm)
        yield f"norm_act {groups}", operators.norm_act, given
        if groups:
            yield "norm_act_split", operators.norm_act_split, given
    yield (
        "norm_act bfloat16",
        operators.norm_act,
        (x.bfloat16(), 3, 1e-5, per_channel, per_channel, "gelu", None),
    )
    yield "bfloat16_split", operators.bfloat16_split, tuple(differentiable(x))
    parts = differentiable(x.bfloat16(), y.bfloat16(), per_channel, z)
    yield "bfloat16_merge", operators.bfloat16_merge, (*parts, 0.5)
    for transposed in (False, True):
        yield (
            f"winograd_transform_weights {transposed}",
            operators.winograd_transform_weights,
            (*differentiable(weight), transposed),
        )
        given = (*differentiable(x, weight, per_channel, y), 0.5, None, transposed)
        yield f"winograd_conv2d {transposed}", operators.winograd_conv2d, given
    yield (
        "winograd_conv2d transformed",
        operators.winograd_conv2d,
        (x, weight, None, None, 1.0, transform(weight), False),
    )
    yield (
        "winograd_conv2d_weight_grad",
        operators.winograd_conv2d_weight_grad,
        tuple(differentiable(x, y)),
    )
    query, keys_values, mask, heads = attention_inputs()
    tensors = (*differentiable(query, keys_values), mask, heads)
    yield "attention", operators.attention, tensors
    given = (query, keys_values, mask, heads, torch.randn_like(query))
    yield "attention_backward", operators.attention_backward, given


@pytest.mark.parametrize(
    "operator,given", [pytest.param(operator, given, id=name) for name, operator, given in calls()]
)
# What torch.compile makes of the backward pass of a fake tensor; not of our operators.
@pytest.mark.filterwarnings("ignore:.*non-leaf Tensor:UserWarning")
def test_operators_are_proper_torch_operators(operator, given):
    """Schema, fake implementation, autograd, and tracing as torch.compile does it."""
    torch.library.opcheck(getattr(torch.ops.open_imagen, operator.__name__).default, given)


@pytest.mark.parametrize("groups", [4, 0])
@pytest.mark.parametrize("activation", ["", "silu", "gelu"])
def test_gradients_of_norm_act_are_torch_s(groups, activation):
    x, weight, bias = random_map(2, 8, 3, 4), torch.randn(8), torch.randn(8)
    scale_shift, grad = torch.randn(2, 16), torch.randn(2, 8, 3, 4)
    norm = NormAct(8, activation, "groups" if groups else "pixel")
    norm.num_groups = groups or 1

    def written_out(x, weight, bias, scale_shift):
        parameters = {"weight": weight, "bias": bias}
        return torch.func.functional_call(norm, parameters, (x, scale_shift))

    exact = differentiable(x, weight, bias, scale_shift)
    written_out(*exact).backward(grad)
    found = differentiable(x, weight, bias, scale_shift)
    x, weight, bias, scale_shift = found
    operators.norm_act(x, groups, norm.eps, weight, bias, activation, scale_shift).backward(grad)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_gradients_of_split_bfloat16_are_those_of_its_roundings():
    x, y, bias = random_map(2, 6, 3, 4), random_map(2, 6, 3, 4, seed=1), torch.randn(6)

    def written_out(x, y, bias):
        high = x.bfloat16()
        low = (x - high).bfloat16()
        stacked = torch.cat([high, low, high], dim=1)
        rest = stacked.unflatten(1, (3, 6)).sum(1)
        return high, stacked, (y + high + rest + bias[:, None, None]) * 0.5

    def ours(x, y, bias):
        high, stacked = operators.bfloat16_split(x)
        rest = stacked.unflatten(1, (3, 6)).sum(1)
        return high, stacked, operators.bfloat16_merge(high, rest, bias, y, 0.5)

    grads = []
    for function in (written_out, ours):
        leaves = differentiable(x, y, bias)
        sum(out.float().square().sum() for out in function(*leaves)).backward()
        grads.append([leaf.grad for leaf in leaves])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.1)


def test_gradients_of_transformed_weights_and_of_weight_gradients_are_exact():
    """Each is linear: its gradient is its transpose."""
    generator = torch.Generator().manual_seed(0)
    for transposed in (False, True):
        weight, other = (
            torch.randn(40, 7, 3, 3, generator=generator, requires_grad=True) for _ in range(2)
        )
        out = transform(weight, transposed)
        grad = torch.randn(out.shape, generator=generator)
        [found] = torch.autograd.grad(out, weight, grad)
        expected = (transform(other.detach(), transposed) * grad).sum()
        torch.testing.assert_close((found * other).sum(), expected, rtol=1e-4, atol=1e-3)
    x, grad = differentiable(random_map(2, 5, 6, 7), random_map(2, 4, 6, 7, seed=1))
    weight = torch.randn(4, 5, 3, 3, generator=generator)
    found = torch.autograd.grad(operators.winograd_conv2d_weight_grad(x, grad), (x, grad), weight)
    product = (F.conv2d(x, weight, padding=1) * grad).sum()
    for one, other in zip(found, torch.autograd.grad(product, (x, grad)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


ODD_NAN = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)[0]
"""A NaN whose bits overflow when they are rounded like a number's."""


@pytest.mark.parametrize("nan", [math.nan, ODD_NAN], ids=["nan", "odd nan"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_goes_through_attention_as_through_torch_s(dtype, nan):
    if not operators.attention_kind(dtype):
        pytest.skip(f"no attention kernel for {dtype} on this CPU")
    for place in ("query", "visible key", "masked key", "visible value", "score"):
        query, keys_values, mask, heads = attention_inputs(40, 70, 2, 16, dtype)
        visible, masked = mask[0].nonzero()[0], (~mask[0]).nonzero()[0]
        if place == "query":
            query[0, 3, 5] = torch.as_tensor(nan).to(dtype)
        elif place == "score":  # inf - inf
            query[0, 3, :2], keys_values[0, visible, :2] = (
                math.inf,
                torch.tensor([1, -1.0]).to(dtype),
            )
        else:
            row = masked if "masked" in place else visible
            keys_values[0, row, 40 if "value" in place else 7] = torch.as_tensor(nan).to(dtype)
        found = operators.attention(query, keys_values, mask, heads)
        exact = multi_head_attention(query, keys_values, mask, heads)
        assert torch.equal(found.isnan(), exact.isnan()), place
        assert exact.isnan().any() == (place != "masked key"), place
        assert not found[1].isnan().any()
        ours, torch_s = (
            [grad.isnan() for grad in gradients_of_squares(attend, query, keys_values, mask, heads)]
            for attend in (operators.attention, multi_head_attention)
        )
        assert torch.equal(ours[0], torch_s[0]), place
        assert ours[1].any() == torch_s[1].any(), place


def gradients_of_squares(attend, query, keys_values, mask, heads):
    leaves = differentiable(query, keys_values)
    attend(*leaves, mask, heads).square().sum().backward()
    return [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("nan", [math.nan, ODD_NAN], ids=["nan", "odd nan"])
def test_nan_goes_through_every_operator_on_maps(nan):
    x = random_map(2, 32, 8, 8)
    x[0, 3, 2, 2] = nan
    weight = torch.randn(32, 32, 3, 3)
    conv = F.conv2d(x, weight, padding=1)
    for dtype in (torch.float32, torch.bfloat16):
        given = (x.to(dtype), weight, None, None, 1.0, None, False)
        found = operators.winograd_conv2d(*given)
        assert found[0].isnan()[conv[0].isnan()].all()  # and in the rest of its tile
        assert not found[1].isnan().any()
        for activation in ("", "silu", "gelu"):
            for over in ("groups", "pixel"):
                norm = random_norm(32, activation, over)
                found = fused(norm, x.to(dtype))
                assert torch.equal(found.isnan(), norm(x).isnan()), (dtype, activation, over)
    high, stacked = fused(norm, x, operator=operators.norm_act_split)
    assert torch.equal(high.isnan(), norm(x).isnan())
    high, stacked = operators.bfloat16_split(x)
    assert torch.equal(high.isnan(), x.isnan())
    assert torch.equal(stacked.isnan(), x.isnan().repeat(1, 3, 1, 1))
    assert operators.bfloat16_merge(high, high, torch.zeros(32), x, 1.0)[0, 3, 2, 2].isnan()
    assert operators.winograd_conv2d_weight_grad(x, x).isnan()[3].any()


def test_where_every_key_is_masked_all_count_alike_as_in_torch():
    query, keys_values, mask, heads = attention_inputs(20, 23, 3, 8)
    mask[0] = False
    grad = torch.randn(query.shape, generator=torch.Generator().manual_seed(1))
    results = []
    for attend in (operators.attention, multi_head_attention):
        leaves = differentiable(query, keys_values)
        out = attend(*leaves, mask, heads)
        out.backward(grad)
        results.append([out, *(leaf.grad for leaf in leaves)])
    for found, exact in zip(*results, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)


WRONG = {
    "not a map": ("norm_act", {0: torch.ones(2, 6, 5)}, ValueError, r"x must be \[B, C, H, W\]"),
    "dtype of a map": (
        "norm_act",
        {0: torch.ones(2, 6, 5, 7).double()},
        TypeError,
        "x is torch.fl",
    ),
    "groups": ("norm_act", {1: 4}, ValueError, "groups = 4 must divide the 6 channels"),
    "activation": ("norm_act", {5: "relu"}, ValueError, "activation 'relu' must be one of"),
    "norm's weight": ("norm_act", {3: torch.ones(5)}, ValueError, r"weight is \[5\]"),
    "scale_shift": ("norm_act", {6: torch.ones(2, 6)}, ValueError, r"must be \[2, 12\]"),
    "split bfloat16": (
        "bfloat16_split",
        {0: torch.ones(1, 1, 1, 1).half()},
        TypeError,
        "x is torch",
    ),
    "merge float32": ("bfloat16_merge", {0: torch.ones(2, 6, 5, 7)}, TypeError, "first is torch"),
    "merge's rest": (
        "bfloat16_merge",
        {1: torch.ones(2, 6, 5, 6).bfloat16()},
        ValueError,
        "rest is",
    ),
    "1x1": ("winograd_conv2d", {1: torch.ones(6, 6, 1, 1)}, ValueError, r"\[O, C, 3, 3\]"),
    "channels": ("winograd_conv2d", {0: torch.ones(2, 5, 5, 7)}, ValueError, "x has 5 channels"),
    "bias": ("winograd_conv2d", {2: torch.ones(7)}, ValueError, r"bias is \[7\]"),
    "residual": ("winograd_conv2d", {3: torch.ones(1, 6, 5, 7)}, ValueError, "residual is"),
    "transformed": ("winograd_conv2d", {5: torch.ones(36, 6, 6)}, ValueError, "transformed is"),
    "gradient": (
        "winograd_conv2d_weight_grad",
        {1: torch.ones(2, 6, 5, 6)},
        ValueError,
        r"grad is \[2, 6, 5, 6\]",
    ),
    "heads": ("attention", {3: 4}, ValueError, "heads = 4 must divide the 18 channels"),
    "no keys": ("attention", {2: torch.ones(2, 0).bool()}, ValueError, "at least one key"),
    "mask": ("attention", {2: torch.ones(2, 7)}, TypeError, "mask is torch.float32"),
    "keys": ("attention", {1: torch.ones(2, 7, 35)}, ValueError, r"must be \[2, 7, 36\]"),
    "query": ("attention", {0: torch.ones(2, 5, 18).half()}, TypeError, "query is torch.float16"),
}


@pytest.mark.parametrize("name,changes,kind,words", list(WRONG.values()), ids=list(WRONG))
def test_wrong_inputs_are_refused_and_named(name, changes, kind, words):
    given = next(given for label, _, given in calls() if label.split()[0] == name)
    changed = [changes.get(k, one) for k, one in enumerate(given)]
    with pytest.raises(kind, match=words), torch.no_grad():
        getattr(operators, name)(*changed)


def test_empty_batches_give_empty_results():
    x, weight = torch.zeros(0, 6, 5, 7), torch.randn(6, 6, 3, 3)
    assert operators.winograd_conv2d(x, weight, None, None, 1.0, None, False).shape == x.shape
    assert not operators.winograd_conv2d_weight_grad(x, x).any()
    assert fused(random_norm(6, "silu"), x).shape == x.shape
    query = torch.zeros(0, 5, 18)
    mask = torch.ones(0, 7, dtype=torch.bool)
    assert operators.attention(query, torch.zeros(0, 7, 36), mask, 2).shape == query.shape


def test_a_kernel_without_memory_says_so(monkeypatch):
    class NoMemory:
        def __getattr__(self, name):
            return lambda *given: 1

    monkeypatch.setattr(operators.common, "library", NoMemory)
    with pytest.raises(MemoryError, match="open_imagen::bfloat16_split: there is not enough"):
        operators.bfloat16_split(torch.ones(1, 2, 3, 4))


def test_inference_mode_gives_the_same_and_counters_see_the_operators():
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, operator, types, given=(), kwargs=None):
            names.append(str(operator))
            return operator(*given, **(kwargs or {}))

    names = []
    query, keys_values, mask, heads = attention_inputs()
    expected = operators.attention(query, keys_values, mask, heads)
    with torch.inference_mode():
        assert torch.equal(operators.attention(query, keys_values, mask, heads), expected)
        with Names():
            assert torch.equal(operators.attention(query, keys_values, mask, heads), expected)
    assert "open_imagen.attention.default" in names
