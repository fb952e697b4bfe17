"""Narrower weights against those that were widened, and channel by channel."""

import pytest
import torch

from open_imagen.models.layers import ResBlock
from open_imagen.models.narrow import fits, narrowed


def doubled(weight, shape):
    """Every channel twice; what adds them up takes half of each."""
    for side, (n, m) in enumerate(zip(shape, weight.shape, strict=True)):
        if n != m:
            weight = weight.repeat_interleave(2, side)
            if side == 1:
                weight = weight / 2
    return weight


def test_a_block_whose_channels_were_doubled_comes_back_exactly():
    generator = torch.Generator().manual_seed(0)
    narrow, wide = ResBlock(64, 32, 48), ResBlock(128, 64, 96)
    for weight in narrow.parameters():
        torch.nn.init.normal_(weight, generator=generator)
    originals = {name: weight.detach().clone() for name, weight in narrow.named_parameters()}
    with torch.no_grad():
        for name, weight in wide.named_parameters():
            weight.copy_(doubled(originals[name], weight.shape))

    # What is doubled does the same, with a skip beside its input and all.
    x, skip, embedding = (
        torch.randn(2, *shape, generator=generator) for shape in ((32, 4, 4), (32, 4, 4), (48,))
    )
    inputs = torch.cat([part.repeat_interleave(2, 1) for part in (x, skip)], 1)
    expected = narrow(torch.cat([x, skip], 1), embedding)
    found = wide(inputs, embedding.repeat_interleave(2, 1))
    torch.testing.assert_close(found, expected.repeat_interleave(2, 1), rtol=1e-4, atol=1e-3)

    for name, weight in wide.named_parameters():
        assert torch.equal(narrowed(weight.detach(), originals[name].shape), originals[name]), name


def test_channels_stay_each_others_where_maps_are_joined_and_heads_split():
    # 5 to 3, as in a network of 80 channels at 48; two maps of 10 joined, heads of 5.
    alone = narrowed(torch.arange(10.0), (6,))
    assert alone.tolist() == [0, 1, 3, 5, 6, 8]
    joined = narrowed(torch.arange(20.0), (12,))
    assert joined.tolist() == [*alone.tolist(), *(alone + 10).tolist()]
    assert [int(channel) // 5 for channel in alone] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "wider", "expected"),
    [((4, 3), (8, 3), True), ((8, 3), (4, 3), False), ((4,), (4, 1), False)],
)
def test_only_what_is_as_wide_or_wider_fits(shape, wider, expected):
    assert fits(shape, wider) is expected
