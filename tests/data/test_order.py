"""Order without lists: every example once an epoch, shares exact, all a function of k alone."""

import random
from collections import Counter
from itertools import pairwise

import pytest

from open_imagen.data.order import Interleaved, Order, Permutation


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 4097])
def test_a_permutation_takes_every_place_once(n):
    assert sorted(Permutation(n, "a")[k] for k in range(n)) == list(range(n))


def test_permutations_differ_by_key_and_look_random():
    n = 2000
    one, other = ([Permutation(n, key)[k] for k in range(n)] for key in "ab")
    assert one != other
    # As many fixed points and rising neighbours as chance has.
    assert sum(k == place for k, place in enumerate(one)) < 10
    rising = sum(a < b for a, b in pairwise(one))
    assert rising == pytest.approx(n / 2, abs=4 * (n / 12) ** 0.5 + 1)
    # Far-off places go anywhere: chi-squared over an 8 x 8 table, 49 degrees of freedom.
    table = Counter((k * 8 // n, place * 8 // n) for k, place in enumerate(one))
    expected = n / 64
    assert sum((table[a, b] - expected) ** 2 / expected for a in range(8) for b in range(8)) < 95


def test_a_permutation_of_billions_needs_no_list():
    huge = Permutation(10**10 + 7, "a")
    seen = {huge[k] for k in range(1000)}
    assert len(seen) == 1000
    assert max(seen) > 9 * 10**9
    with pytest.raises(IndexError):
        huge[10**10 + 7]


@pytest.mark.parametrize("window", [0, 1, 2, 5])
def test_an_epoch_holds_every_example_once_in_a_new_order(window):
    sizes = [3, 1, 7, 4, 2]
    order = Order(sizes, seed=3, window=window)
    total = sum(sizes)
    epochs = [[order[total * e + k] for k in range(total)] for e in range(3)]
    everything = {(shard, k) for shard, size in enumerate(sizes) for k in range(size)}
    assert all(set(epoch) == everything and len(epoch) == total for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] != [Order(sizes, seed=4, window=window)[k] for k in range(total)]


def test_a_window_keeps_to_so_many_shards_at_a_time():
    sizes = [10] * 12
    order = Order(sizes, seed=0, window=3)
    for begin in range(0, 120, 30):
        assert len({order[k][0] for k in range(begin, begin + 30)}) == 3


def test_places_can_be_asked_for_in_any_order():
    sizes, asked = [5, 6, 7], list(range(60))
    order = Order(sizes, seed=0, window=2)
    straight = [order[k] for k in asked]
    random.Random(0).shuffle(asked)
    assert all(order[k] == straight[k] for k in asked)


def test_shares_are_exact_in_every_block_and_no_stream_skips_or_repeats():
    turns = Interleaved([0.5, 0.3, 0.2], seed=1, block=10)
    found = [turns[k] for k in range(200)]
    for begin in range(0, 200, 10):
        block = Counter(stream for stream, _ in found[begin : begin + 10])
        assert block == {0: 5, 1: 3, 2: 2}
    for stream, share in enumerate((5, 3, 2)):
        places = [place for s, place in found if s == stream]
        assert sorted(places) == list(range(share * 20))


def test_odd_shares_fill_the_block():
    turns = Interleaved([1, 1, 1], seed=0, block=100)
    assert sum(turns.counts) == 100
    assert max(turns.counts) - min(turns.counts) == 1
