"""Every kind of damage and of odd captions, in a folder, shards, parquet and at a URL."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from fault_server import serving
from odd_data import BAD_CAPTIONS, DAMAGED, GOOD_CAPTIONS, plain
from open_imagen.data import block_cache, open_source, remote
from open_imagen.data.images import SkippedExample, decode
from open_imagen.training import Trainer, read_recipe
from open_imagen.training.callbacks import Log
from standins import WordEncoder

pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:.* are enlarged")


def odd_examples(number, num_bad):
    """``number`` pictures with usable captions, every kind of damage and of odd caption among
    them, and ``num_bad`` with captions that cannot be used."""
    damaged = [(data, b"damaged", reason) for data, reason in DAMAGED.values()]
    odd = [(plain(k), data, "") for k, (data, _) in enumerate(GOOD_CAPTIONS.values())]
    bad = list(BAD_CAPTIONS.values())
    wrong = [(plain(k), *bad[k % len(bad)]) for k in range(num_bad)]
    usable = [(plain(k), f"caption {k}".encode(), "") for k in range(number)]
    kept = usable[: number - len(damaged) - len(odd)]
    # Spread, so that every shard and batch has some.
    return [one for _, one in sorted(enumerate(kept + damaged + odd + wrong), key=_spread)]


def _spread(numbered):
    return numbered[0] * 7919 % 10007


def folder(path, examples):
    path.mkdir()
    for k, (data, caption, _) in enumerate(examples):
        (path / f"{k:04d}.png").write_bytes(data)
        if caption is not None:
            (path / f"{k:04d}.txt").write_bytes(caption)
    return {"kind": "folder", "path": str(path)}


def shards(path, examples):
    path.mkdir()
    for number in range(4):
        with tarfile.open(path / f"{number:05d}.tar", "w") as tar:
            for k, (data, caption, _) in enumerate(examples[number::4]):
                for suffix, member in (("png", data), ("txt", caption)):
                    if member is not None:
                        header = tarfile.TarInfo(f"{k:04d}.{suffix}")
                        header.size = len(member)
                        tar.addfile(header, io.BytesIO(member))
    return {"kind": "shards", "path": str(path)}


def parquet(path, examples):
    """Columns of text hold what is text alone."""
    pandas = pytest.importorskip("pandas")
    path.mkdir()
    captions = [None if data is None else _as_text(data) for _, data, _ in examples]
    images = [{"bytes": data, "path": None} for data, _, _ in examples]
    pandas.DataFrame({"image": images, "text": captions}).to_parquet(path / "train.parquet")
    return {"kind": "huggingface", "path": str(path)}


def _as_text(data):
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def wanted_counts(examples, kind):
    if kind is parquet:
        texts = [(reason, None if data is None else _as_text(data)) for _, data, reason in examples]
        return Counter(
            "no caption"
            if text is None
            and "image" not in reason
            and "picture" not in reason
            and reason not in ("empty file", "too many pixels")
            else reason
            for reason, text in texts
            if reason or text is None
        )
    return Counter(reason for _, _, reason in examples if reason)


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    block_cache.shared_cache.cache_clear()


@pytest.mark.parametrize("name", DAMAGED)
def test_every_kind_of_damage_is_told_by_its_reason(name):
    data, reason = DAMAGED[name]
    with pytest.raises(SkippedExample) as caught:
        decode(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", [folder, shards])
@pytest.mark.parametrize("name", GOOD_CAPTIONS)
def test_odd_captions_are_read_as_they_are_meant(tmp_path, kind, name):
    data, wanted = GOOD_CAPTIONS[name]
    source = open_source({**kind(tmp_path / "d", [(plain(1), data, "")]), "size": 8})
    assert source.batch(0, 1).captions == [wanted or data.decode()]


@pytest.mark.parametrize("kind", [folder, shards])
@pytest.mark.parametrize("name", BAD_CAPTIONS)
def test_bad_captions_are_told_by_their_reason(tmp_path, kind, name):
    data, reason = BAD_CAPTIONS[name]
    examples = [(plain(1), b"good", ""), (plain(2), data, reason)]
    source = open_source({**kind(tmp_path / "d", examples), "size": 8, "max_bad": 0.9})
    assert set(source.batch(0, 2).captions) == {"good"}
    assert source.skipped == {reason: 1}


@pytest.mark.parametrize("kind", [folder, shards, parquet, "server"])
def test_all_kinds_are_counted_exactly_in_an_epoch(tmp_path, kind):
    examples = odd_examples(120, 20)
    counts_as = shards if kind == "server" else kind
    settings = {**counts_as(tmp_path / "d", examples), "size": 8, "max_bad": 0.9}
    with serving(tmp_path / "d") as server:
        if kind == "server":
            server.every = 5
            settings["path"] = f"{server.url}/{{00000..00003}}.tar"
        source = open_source(settings)
        batch = source.batch(0, len(source))
    wanted = wanted_counts(examples, counts_as)
    assert source.skipped == wanted
    assert sum(wanted.values()) >= 50
    colors = {
        int(c.split()[1]): i
        for c, i in zip(batch.captions, batch.images, strict=True)
        if c.startswith("caption ")
    }
    assert len(colors) > 50
    for k, image in colors.items():
        assert image[:, 4, 4].tolist() == [k % 250, k // 250 * 60, 99]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [folder, shards, parquet, "server"])
def test_a_thousand_odd_images_train_through_with_exact_counts(tmp_path, kind):
    examples = odd_examples(1000, 100)
    counts_as = shards if kind == "server" else kind
    data = counts_as(tmp_path / "d", examples)
    images = 1000 if kind is folder else 1100
    with serving(tmp_path / "d") as server:
        if kind == "server":
            server.every = 5
            data["path"] = f"{server.url}/{{00000..00003}}.tar"
        settings = (
            f"out={tmp_path / 'run'}",
            f"data={{kind='{data['kind']}', path='{data['path']}', size=64, max_bad=0.2}}",
            f"train.images={images}",
            "train.batch_size=100",
            "train.workers=0",  # reads not one batch beyond the epoch
            "train.sample_every=0",
            f"train.save_every={images}",
            "train.log_every=100",
            "train.precision=fp32",
        )
        recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "tiny.toml", settings)
        source = open_source(recipe.data)
        assert len(source) == images
        trainer = Trainer(recipe, source, WordEncoder(), [Log(recipe.folder)])
        assert trainer.fit()
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert last["images_seen"] == images
    assert last["skipped"] == wanted_counts(examples, counts_as)
