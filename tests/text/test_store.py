"""Embeddings on disk: the encoder's own, once each, whole after any stop, refused when wrong."""

import pytest
import torch

from open_imagen.errors import CheckpointError, ConfigError, DataError
from open_imagen.text.store import Store, embed, shards
from standins import WordEncoder

CAPTIONS = [
    f"a {colour} {shape} number {k}"
    for k in range(30)
    for colour, shape in (("red", "circle"), ("blue", "square"), ("red", "circle"))
]
DISTINCT = sorted(set(CAPTIONS))


def files(folder):
    return {path.name: path.read_bytes() for path in shards(folder)}


def test_what_is_looked_up_is_what_the_encoder_says(tmp_path):
    assert embed(CAPTIONS, WordEncoder(), tmp_path) == len(DISTINCT)
    store = Store(tmp_path)
    assert len(store) == len(DISTINCT)
    some = ["a red circle number 3", "a blue square number 29"]
    found, wanted = store(some), WordEncoder()(some)
    assert found.tokens.dtype == torch.float32
    assert torch.equal(found.mask, wanted.mask)
    torch.testing.assert_close(found.tokens, wanted.tokens.bfloat16().float(), rtol=0, atol=0)
    assert store.num_tokens(some[0]) == 5
    assert (store.name, store.width, store.max_length) == ("words", 384, 16)


def test_a_second_pass_finds_nothing_to_do_and_more_is_added(tmp_path):
    embed(CAPTIONS[:50], WordEncoder(), tmp_path)
    before = files(tmp_path)
    assert embed(CAPTIONS[:50], WordEncoder(), tmp_path) == 0
    assert files(tmp_path) == before
    embed(CAPTIONS, WordEncoder(), tmp_path)
    assert all(caption in Store(tmp_path) for caption in CAPTIONS)
    assert len(Store(tmp_path)) == len(DISTINCT)


class Stops(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_stopped_and_run_again_it_writes_the_same_bits(tmp_path, after):
    many = [f"caption {k}" for k in range(200)]
    embed(many, WordEncoder(), tmp_path / "whole", per_shard=64)
    calls = []

    class Stopping(WordEncoder):
        def __call__(self, captions):
            calls.append(captions)
            if len(calls) > after + 1:  # the first call is the probe
                raise Stops
            return super().__call__(captions)

    with pytest.raises(Stops):
        embed(many, Stopping(), tmp_path / "part", per_shard=64)
    assert len(shards(tmp_path / "part")) == after
    embed(many, WordEncoder(), tmp_path / "part", per_shard=64)
    assert files(tmp_path / "part") == files(tmp_path / "whole")


def test_ranks_share_the_captions_without_overlap(tmp_path):
    done = [embed(CAPTIONS, WordEncoder(), tmp_path, rank, 3) for rank in range(3)]
    assert sum(done) == len(DISTINCT)
    assert all(done)
    assert len(Store(tmp_path)) == len(DISTINCT)


def test_it_is_small(tmp_path):
    embed(CAPTIONS, WordEncoder(), tmp_path)
    size = sum(path.stat().st_size for path in shards(tmp_path))
    assert size < len(DISTINCT) * 77 * 2 * 384 / 6


def test_captions_that_were_never_embedded_are_named(tmp_path):
    embed(CAPTIONS, WordEncoder(), tmp_path)
    with pytest.raises(DataError, match="do not hold the caption 'a green hat'") as caught:
        Store(tmp_path)(["a green hat"])
    assert "imagen embed" in caught.value.hint


def test_another_encoder_is_refused(tmp_path):
    embed(CAPTIONS, WordEncoder(), tmp_path)

    class Other(WordEncoder):
        name = "others"

    class Changed(WordEncoder):
        def __call__(self, captions):
            text = super().__call__(captions)
            return text._replace(tokens=text.tokens * 1.1)

    for encoder in (Other(), Changed()):
        with pytest.raises(ConfigError, match="holds embeddings by words"):
            embed(CAPTIONS, encoder, tmp_path)
    with pytest.raises(ConfigError, match="made by words, not by t5"):
        Store(tmp_path).check("t5")


def test_damage_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot read"):
        Store(tmp_path)
    embed(CAPTIONS, WordEncoder(), tmp_path)
    [shard] = shards(tmp_path)
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        Store(tmp_path)
    assert "imagen embed again" in caught.value.hint


def test_a_memory_with_a_limit_keeps_the_latest_captions():
    from open_imagen.text.cache import Remembered

    memory = Remembered(WordEncoder(), limit=2)
    first = memory(["a red ring"])
    assert (memory.length("a red ring"), memory.length("else")) == (3, 0)
    memory(["b", "c"])
    assert (len(memory), memory.knows(["b", "c"]), memory.knows(["a red ring"])) == (2, True, False)
    many = memory([f"{k} words" for k in range(5)])
    assert many.tokens.shape == (5, 2, 384)
    assert torch.equal(memory(["a red ring"]).tokens, first.tokens)


def test_missing_captions_are_counted(tmp_path):
    captions = [f"caption {k}" for k in range(200)]
    embed(captions[:150], WordEncoder(), tmp_path, per_shard=64)
    store = Store(tmp_path)
    assert store.count_missing(captions) == 50
    assert store.count_missing(captions[:150]) == 0
    assert store.count_missing(captions[150:]) == 50
    store._keys = store._keys[:0]
    assert store.count_missing(captions) == 200
