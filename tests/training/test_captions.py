"""Captions are encoded once and kept on disk: identity, sharing, resume, room, progress."""

import logging
from types import SimpleNamespace

import pytest
import torch

from open_imagen.errors import OutputError, TrainingError
from open_imagen.text.cache import Remembered
from open_imagen.text.store import PackedStore, Store, StoreFirst, embed
from open_imagen.training import text
from open_imagen.training.callbacks.progress import CaptionProgress
from open_imagen.training.text import (
    CaptionEncoder,
    encoder_name,
    estimate_bytes,
    open_store,
    set_name,
)
from standins import WordEncoder

CPU = torch.device("cpu")
PROBES = 2
"""Captions that tell which encoder it is, encoded beside those of the run."""
CAPTIONS = [f"a {'very ' * (k % 5)}red circle {k}" for k in range(300)]


class Counting(WordEncoder):
    """It knows how many captions it has encoded."""

    def __init__(self, name="words", scale=1.0):
        self.name, self.scale, self.encoded = name, scale, 0

    def __call__(self, captions):
        self.encoded += len(captions)
        made = super().__call__(captions)
        return made._replace(tokens=made.tokens * self.scale)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(text, "FEW", 100)
    monkeypatch.setattr(text, "PER_SHARD", 128)


def caption_encoder(encoder, cache, **source):
    return CaptionEncoder(encoder, Described(**source), 0, CPU, False, cache)


class Described(SimpleNamespace):
    """A source of which only its attributes are known."""

    def __len__(self):
        return len(CAPTIONS)


def test_later_runs_read_what_the_first_one_encoded(tmp_path):
    first, second = Counting(), Counting()
    one, other = (caption_encoder(each, str(tmp_path)) for each in (first, second))
    one.warm(CAPTIONS)
    other.warm(reversed(CAPTIONS))  # in any order
    assert first.encoded == len(CAPTIONS) + PROBES
    assert second.encoded == PROBES
    some = CAPTIONS[7:3:-1]
    a, b, wanted = one(some), other(some), WordEncoder()(some)
    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.mask, wanted.mask)
    torch.testing.assert_close(a.tokens, wanted.tokens, rtol=1e-3, atol=1e-3)
    assert first.encoded + second.encoded == len(CAPTIONS) + 2 * PROBES
    assert [path.suffix for path in sorted(tmp_path.rglob("tokens-*"))] == [".safetensors"] * 3


def test_it_is_what_the_run_computed_in_memory(tmp_path):
    kept, remembered = (
        caption_encoder(Counting(), str(tmp_path)),
        Remembered(Counting(), torch.float16),
    )
    kept.warm(CAPTIONS)
    remembered.warm(CAPTIONS)
    assert torch.equal(kept(CAPTIONS[:9]).tokens, remembered(CAPTIONS[:9]).tokens)


def test_a_stopped_run_goes_on_after_its_last_file(tmp_path):
    encoder, seen = Counting(), []

    def stop(done, total):
        seen.append((done, total))
        if done > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caption_encoder(encoder, str(tmp_path)).warm(CAPTIONS, stop)
    again = Counting()
    caption_encoder(again, str(tmp_path)).warm(CAPTIONS, lambda *state: seen.append(state))
    assert again.encoded == len(CAPTIONS) - 128 + PROBES
    assert seen[-1] == (300, 300)
    [first] = tmp_path.iterdir()
    whole = caption_encoder(Counting(), str(tmp_path / "whole"))
    whole.warm(CAPTIONS)
    for one, other in zip(
        *(sorted(f.rglob("tokens-*")) for f in (tmp_path / "whole", first)), strict=False
    ):
        assert one.read_bytes() == other.read_bytes()


def test_another_encoder_or_set_of_captions_has_another_name():
    assert len({set_name(one) for one in (CAPTIONS, CAPTIONS[1:], [*CAPTIONS, "more"])}) == 3
    assert set_name(CAPTIONS) == set_name(reversed(CAPTIONS))
    # Other weights under the same name are another encoder.
    encoders = (WordEncoder(), Counting(scale=1.5), Counting("others"))
    assert len({encoder_name(one) for one in encoders}) == 3
    assert encoder_name(Counting()) == encoder_name(WordEncoder())


def test_a_set_that_has_grown_costs_what_is_new(tmp_path):
    caption_encoder(Counting(), str(tmp_path)).warm(CAPTIONS)
    grown, encoder = [*CAPTIONS[10:], "one more", "and another"], Counting()
    made = caption_encoder(encoder, str(tmp_path))
    made.warm(grown)
    assert encoder.encoded == PROBES + 2
    some = [grown[5], "one more"]
    torch.testing.assert_close(made(some).tokens, WordEncoder()(some).tokens, rtol=1e-3, atol=1e-3)
    assert len(list(tmp_path.glob("*/*/store.json"))) == 2
    other = Counting(scale=2.0)
    caption_encoder(other, str(tmp_path)).warm(grown)
    assert other.encoded == PROBES + len(grown)


def test_prompts_of_samples_are_encoded_beside(tmp_path):
    for prompts in (["a prompt"], ["another prompt", CAPTIONS[0]]):
        encoder = Counting()
        made = caption_encoder(encoder, str(tmp_path))
        made.warm(CAPTIONS, prompts=prompts)
        before = encoder.encoded
        made(prompts)
        assert encoder.encoded == before  # no step waits for them
    assert len(list(tmp_path.glob("*/*/store.json"))) == 1


def test_captions_that_are_not_kept_are_encoded(tmp_path):
    encoder = Counting()
    made = caption_encoder(encoder, str(tmp_path))
    made.warm(CAPTIONS)
    before = encoder.encoded
    mixed = [CAPTIONS[3], "a validation caption", CAPTIONS[5]]
    found, wanted = made(mixed), WordEncoder()(mixed)
    assert torch.equal(found.mask, wanted.mask)
    torch.testing.assert_close(found.tokens, wanted.tokens, rtol=1e-3, atol=1e-3)
    made(mixed)
    assert encoder.encoded == before + 1


def test_few_captions_and_those_of_memory_write_nothing(tmp_path):
    caption_encoder(Counting(), str(tmp_path)).warm(CAPTIONS[:50])
    caption_encoder(Counting(), None).warm(CAPTIONS)
    caption_encoder(Counting(), str(tmp_path), endless_captions=True).warm(CAPTIONS)
    assert not list(tmp_path.iterdir())


def test_the_users_cache_folder_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path))
    caption_encoder(Counting(), "").warm(CAPTIONS)
    assert list(tmp_path.glob("captions/words-*/*/store.json"))


def test_a_store_on_a_device_is_what_it_is_on_disk(tmp_path):
    embed(CAPTIONS, WordEncoder(), tmp_path, per_shard=128, dtype=torch.float16)
    store = Store(tmp_path)
    packed = PackedStore(store, StoreFirst(store, WordEncoder()), CPU)
    for captions in (CAPTIONS[::-37], [CAPTIONS[0]], ["unknown here", CAPTIONS[200]]):
        one, other = packed(captions), StoreFirst(store, WordEncoder())(captions)
        assert torch.equal(one.mask, other.mask)
        assert torch.equal(one.tokens, other.tokens)
    assert store.numbers == 384 * sum(len(caption.split()) for caption in CAPTIONS)


def test_their_size_is_known_before_and_must_fit_the_disk(tmp_path, monkeypatch):
    exact = 2 * 384 * sum(len(caption.split()) for caption in CAPTIONS)
    found = estimate_bytes(CAPTIONS, WordEncoder().num_tokens, 16, 384)
    assert found == pytest.approx(exact, rel=0.05)
    monkeypatch.setattr(text.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match="about 1 MiB; 0 MiB are free") as caught:
        caption_encoder(Counting(), str(tmp_path / "not" / "there")).warm(CAPTIONS)
    assert "train.caption_cache" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_a_large_set_suggests_imagen_embed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(text, "LARGE", 1000)
    with caplog.at_level(logging.INFO, "open_imagen.training"):
        caption_encoder(Counting(), str(tmp_path)).warm(CAPTIONS)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("Encoding 300 captions with words: about 1 MiB in ")
    assert "imagen embed RECIPE" in line


def test_files_that_another_machine_wrote_elsewhere_are_missed(tmp_path, monkeypatch):
    # Two machines without a common folder: this one has only its own half.
    monkeypatch.setattr(text, "world", lambda: SimpleNamespace(rank=0, size=2))
    with pytest.raises(TrainingError, match="of 300 captions that other processes") as caught:
        open_store(Counting(), CAPTIONS, tmp_path)
    assert "train.caption_cache" in caught.value.hint


def test_progress_tells_pace_and_time_left(caplog, monkeypatch):
    now, shown = [0.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("open_imagen.training.callbacks.progress.time", clock)
    for tell in (CaptionProgress(shown.append), CaptionProgress()):
        with caplog.at_level(logging.INFO, "open_imagen.training"):
            for now[0], done in ((0, 0), (10, 870), (31, 2697), (32, 2784), (300, 26000)):
                tell(done, 26000)
    assert shown[1] == "encoding captions: 870 of 26,000, 87/s, 5 min left"
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2  # at most one in half a minute
    assert lines[0].startswith("encoding captions: 2,697 of 26,000, 87/s")


def test_captions_of_millions_of_examples_are_encoded_by_batch(monkeypatch, caplog):
    class Huge:
        def __len__(self):
            return 10**9

        def captions(self):
            raise AssertionError("a billion captions are never listed")

    encoder = CaptionEncoder(WordEncoder(), Huge(), 0, torch.device("cpu"), bf16=False)
    with caplog.at_level("INFO", "open_imagen.training"):
        encoder.warm(Huge().captions)
    assert "1,000,000,000 examples: captions are encoded with each batch" in caplog.text
    plain = WordEncoder()(["a red star"])
    assert torch.equal(encoder(["a red star"]).tokens, plain.tokens)
