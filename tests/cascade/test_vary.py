"""Variations: noise on the arc between two seeds, in every stage."""

import numpy as np
import pytest
import torch

from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.variations import MixedNoise, standard_normal
from open_imagen.errors import ConfigError, OpenImagenWarning
from standins import make_cascade


@pytest.fixture(scope="module")
def tiny():
    return make_cascade()


@pytest.fixture(scope="module")
def made(tiny):
    return tiny.generate("a red cat", seed=3, settings={"base": Sampling(steps=4)})


def test_mixed_noise_is_standard_normal_and_on_the_arc():
    def generator(seed):
        return torch.Generator().manual_seed(seed)

    shape, a, b = (200_000,), generator(1), generator(2)
    found = MixedNoise(generator(1), generator(2), 0.3).normal(shape)
    n1, n2 = (standard_normal(shape, one) for one in (a, b))
    assert abs(found.std() - 1) < 0.01
    along = torch.stack([n1, n2]) @ found / shape[0]
    torch.testing.assert_close(along, torch.tensor([0.891, 0.454]), rtol=0, atol=0.02)


def test_the_ends_are_the_two_images(tiny, made):
    record = made.records[0]
    assert np.array_equal(tiny.vary(record, amount=0, seed=9).images[0], made.images[0])
    other = tiny.generate("a red cat", seed=9, settings={"base": Sampling(steps=4)})
    assert np.array_equal(tiny.vary(record, amount=1, seed=9).images[0], other.images[0])


def test_a_larger_amount_is_further_away(tiny, made):
    first = made.stages["base"][0].float()
    apart = [
        float((tiny.vary(made.records[0], amount=a, seed=9).stages["base"][0] - first).abs().mean())
        for a in (0.05, 0.3, 1.0)
    ]
    assert apart == sorted(apart)


def test_variations_of_variations_are_repeated_from_their_records(tiny, made):
    once = tiny.vary(made.records[0], amount=0.3, seed=5, images=2)
    assert [r["variations"] for r in once.records] == [
        [{"seed": 5, "amount": 0.3}],
        [{"seed": 6, "amount": 0.3}],
    ]
    twice = tiny.vary(once.records[1], amount=0.2, seed=8)
    record = twice.records[0]
    assert record["seed"] == 3
    again = tiny.generate(
        record["prompt"],
        seed=record["seed"],
        settings={"base": Sampling(steps=4)},
        variations=[(one["seed"], one["amount"]) for one in record["variations"]],
    )
    assert np.array_equal(again.images[0], twice.images[0])
    alone = tiny.vary(once.records[1], amount=0).stages["base"][0].float()
    assert (alone - once.stages["base"][1].float()).abs().max() <= 1


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_amounts_out_of_range_are_refused(tiny, made, amount):
    with pytest.raises(ConfigError, match="amount ="):
        tiny.vary(made.records[0], amount=amount)


def test_what_was_not_generated_cannot_be_varied(tiny, made):
    edited = tiny.edit(made.images[0], "a cat", strength=0.5).records[0]
    with pytest.raises(ConfigError, match="was made by edit"):
        tiny.vary(edited)
    with pytest.raises(ConfigError, match="lacks settings"):
        tiny.vary({"prompt": "a cat", "seed": 1, "size": "64x64"})


def test_another_model_s_image_is_varied_with_a_warning(tiny, made):
    with pytest.warns(OpenImagenWarning, match="was made by other 123, this is tiny"):
        tiny.vary({**made.records[0], "model": "other", "model_hash": "123"})
