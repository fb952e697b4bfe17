"""The index of shards on disk: the same examples in the same order, whoever built it."""

import io
import json
import pickle
import tarfile
from collections import Counter
from itertools import pairwise

import pytest
import torch
from PIL import Image

from open_imagen.data import open_source
from open_imagen.data.loader import Loader
from open_imagen.data.order import Order, Permutation
from open_imagen.data.shard_index import INDEX, MEMBERS, RECORDS, ShardIndex, digest, shifted
from open_imagen.data.shard_indexing import build_index, part_path, write_part
from open_imagen.data.shard_names import expand
from open_imagen.data.tar import LocalReader
from open_imagen.errors import ConfigError, DataError


def picture(value):
    data = io.BytesIO()
    Image.new("RGB", (12, 10), (value % 256, value // 256, 99)).save(data, "PNG")
    return data.getvalue()


def add(tar, name, data):
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))


def write_shard(path, first, count, form=tarfile.PAX_FORMAT, prefix=""):
    with tarfile.open(path, "w", format=form) as tar:
        for k in range(first, first + count):
            add(tar, f"{prefix}{k:06d}.png", picture(k))
            add(tar, f"{prefix}{k:06d}.txt", f"caption {k}".encode())


@pytest.fixture
def folder(tmp_path):
    """Four shards: plain, of long names, of scattered members and links, and a truncated one."""
    shards = tmp_path / "shards"
    shards.mkdir()
    write_shard(shards / "0.tar", 0, 9)
    write_shard(shards / "1.tar", 100, 5, tarfile.GNU_FORMAT, prefix="x" * 140 + "/")
    with tarfile.open(shards / "2.tar", "w") as tar:
        for k in range(200, 204):
            add(tar, f"{k}.png", picture(k))
        for k in range(200, 204):
            add(tar, f"{k}.txt", f"caption {k}".encode())
        add(tar, "300.png", picture(300))
        link = tarfile.TarInfo("300.txt")
        link.type, link.linkname = tarfile.LNKTYPE, "200.txt"
        tar.addfile(link)
        add(tar, "400.png", picture(400))
        add(tar, "400.txt", b"caption 400")
    write_shard(shards / "3.tar", 500, 4)
    data = (shards / "3.tar").read_bytes()
    (shards / "3.tar").write_bytes(data[: 3 * 4 * 512 + 540])
    return shards


def open_shards(path, **more):
    return open_source(
        {"kind": "shards", "path": str(path), "size": 8, "upscale": True, "max_bad": 1.0, **more}
    )


def build(folder, out, **more):
    return build_index(expand(str(folder)), out, LocalReader, **more)


@pytest.mark.parametrize("window", [0, 2])
def test_an_index_changes_nothing_but_the_start(folder, tmp_path, window):
    built = build(folder, tmp_path / "index")
    scanned = open_shards(folder, window=window)
    indexed = open_shards(folder, window=window, index=str(tmp_path / "index"))
    assert built.examples == len(indexed) == len(scanned) == 9 + 5 + 6 + 3
    assert indexed.skipped == scanned.skipped == Counter({"truncated tar": 1})
    one, other = scanned.batch(7, 60), indexed.batch(7, 60)
    assert torch.equal(one.images, other.images)
    assert one.captions == other.captions
    assert list(scanned.captions()) == list(indexed.captions())
    both = scanned.describe(), indexed.describe()
    assert [{**one, "index": ""} for one in both] == [both[0]] * 2


def test_the_result_does_not_depend_on_who_built_it(folder, tmp_path):
    build(folder, tmp_path / "one")
    build(folder, tmp_path / "many", workers=2)
    first = build(folder, tmp_path / "parts", part=(0, 2))
    assert (first.examples, first.missing) == (None, 2)
    with pytest.raises(DataError, match="no complete index"):
        open_shards(folder, index=str(tmp_path / "parts"))
    assert build(folder, tmp_path / "parts", part=(1, 2)).examples == 23
    for other in ("many", "parts"):
        for path in (tmp_path / "one").iterdir():
            if path.name != ".lock":  # names its holder
                assert path.read_bytes() == (tmp_path / other / path.name).read_bytes()
        assert not (tmp_path / other / "parts").exists()


def test_a_stopped_build_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    out, scanned = tmp_path / "index", []

    def stopping(open_shard, name, path):
        if len(scanned) == 2:
            raise KeyboardInterrupt
        scanned.append(name)
        write_part(open_shard, name, path)

    monkeypatch.setattr("open_imagen.data.shard_indexing.write_part", stopping)
    with pytest.raises(KeyboardInterrupt):
        build(folder, out)
    assert len(scanned) == 2
    scanned[:] = ["another"]
    with pytest.raises(KeyboardInterrupt):
        build(folder, out)
    monkeypatch.undo()
    done = []
    build(folder, out, progress=lambda *counts: done.append(counts))
    assert done == [(4, 4)]
    build(folder, out, progress=lambda *counts: done.append(counts))  # complete: nothing to do
    assert done == [(4, 4)]


def test_a_damaged_part_is_named(folder, tmp_path):
    build(folder, tmp_path / "index", part=(0, 2))
    path = part_path(tmp_path / "index", 0)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"00000000\.bin is damaged"):
        build(folder, tmp_path / "index")


def test_wrong_folders_are_refused(folder, tmp_path):
    out = tmp_path / "index"
    build(folder, out)
    write_shard(folder / "4.tar", 600, 1)
    with pytest.raises(DataError, match=r"of other shards than data\.path names"):
        open_shards(folder, index=str(out))
    with pytest.raises(ConfigError, match="an index of other shards"):
        build(folder, out)
    with pytest.raises(ConfigError, match="not an empty folder"):
        build(folder, folder)
    with pytest.raises(DataError, match="no complete index"):
        open_shards(folder, index=str(tmp_path / "nowhere"))


def test_a_shard_that_changed_is_refused(folder, tmp_path):
    build(folder, tmp_path / "index")
    write_shard(folder / "0.tar", 0, 20)
    with pytest.raises(DataError, match=r"0\.tar has .* bytes; it had"):
        open_shards(folder, index=str(tmp_path / "index")).batch(0, 23)


def test_a_shard_of_the_same_size_with_other_members_is_skipped(folder, tmp_path):
    build(folder, tmp_path / "index")
    path = folder / "0.tar"
    path.write_bytes(bytes(path.stat().st_size))
    source = open_shards(folder, index=str(tmp_path / "index"))
    source.batch(0, 23)
    assert source.skipped["changed shard"] == 9


def test_a_damaged_index_is_refused(folder, tmp_path):
    build(folder, tmp_path / "index")
    records = tmp_path / "index" / RECORDS
    records.write_bytes(records.read_bytes()[:-16])
    with pytest.raises(DataError, match="is damaged"):
        open_shards(folder, index=str(tmp_path / "index"))
    (tmp_path / "index" / INDEX).write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match="its format is 99"):
        open_shards(folder, index=str(tmp_path / "index"))


def test_lines_of_later_shards_are_moved(folder, tmp_path):
    names = [str(folder / "2.tar")] * 1 + [str(folder / "0.tar")]
    build_index(names, tmp_path / "a", LocalReader)
    build_index([str(folder / "0.tar"), names[0]], tmp_path / "b", LocalReader)
    for out, shard in (("a", 0), ("b", 1)):
        order = names if out == "a" else names[::-1]
        index = ShardIndex(tmp_path / out, order)
        found = [index.read(LocalReader(names[0]), shard, k)["txt"] for k in range(6)]
        assert found == [f"caption {k}".encode() for k in (200, 201, 202, 203, 200, 400)]
    two = build_index([names[0], str(folder / "3.tar")], tmp_path / "c", LocalReader)
    assert two.examples == 9
    records = (tmp_path / "a" / RECORDS).read_bytes()
    size = (tmp_path / "a" / MEMBERS).stat().st_size
    assert shifted(records, 0) == records != shifted(records, size)


def test_moved_shards_keep_their_index(folder, tmp_path):
    build(folder, tmp_path / "index")
    before = open_shards(folder).batch(0, 23).captions
    moved = folder.rename(tmp_path / "moved")
    assert open_shards(moved, index=str(tmp_path / "index")).batch(0, 23).captions == before
    assert digest(["a/1.tar"]) == digest(["s3://b/c/1.tar?sign=x"]) != digest(["a/2.tar"])


def test_processes_and_resumed_runs_see_the_same_order(folder, tmp_path):
    build(folder, tmp_path / "index")
    source = open_shards(folder, index=str(tmp_path / "index"))
    whole = Loader(source, 8).after(0)
    captions = [caption for _ in range(8) for caption in next(whole).captions]
    for workers in (0, 2):
        parts = [Loader(source, 8, workers, rank=rank, ranks=2).after(24) for rank in (0, 1)]
        found = [caption for _ in range(5) for part in parts for caption in next(part).captions]
        assert found == captions[24:]
        for part in parts:
            part.close()


def test_opening_shards_is_picklable_for_worker_processes():
    import functools

    from open_imagen.data.shards import open_reader

    assert pickle.dumps(functools.partial(open_reader, cache_gib=1.0))


def inverse(permutation, place):
    """Where a permutation takes ``place`` from: its rounds backwards."""
    mask = (1 << permutation.half) - 1
    while True:
        left, right = place >> permutation.half, place & mask
        for key in reversed(permutation.keys):
            mixed = (left + key) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
            mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
            mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
            left, right = right ^ (mixed ^ mixed >> 31) & mask, left
        place = left << permutation.half | right
        if place < permutation.n:
            return place


def test_a_billion_examples_come_exactly_once_an_epoch():
    """It has an inverse, so no two places share an example."""
    billion = Permutation(10**9, "within 0 0 0")
    for place in (*range(50), *range(10**9 - 50, 10**9), *range(0, 10**9, 40_000_003)):
        assert inverse(billion, billion[place]) == place
    small = Permutation(997, "within 0 0 0")
    assert [inverse(small, small[k]) for k in range(997)] == list(range(997))


def test_a_billion_examples_are_shuffled_evenly():
    order = Order([10_000] * 100_000, seed=3)
    found = [order[k] for k in range(20_000)]
    shards = Counter(shard // 1_000 for shard, _ in found)
    expected = 20_000 / 100
    chi2 = sum((shards[k] - expected) ** 2 / expected for k in range(100))
    assert 60 < chi2 < 150  # 99 degrees of freedom
    numbers = Counter(number // 100 for _, number in found)
    assert 60 < sum((numbers[k] - expected) ** 2 / expected for k in range(100)) < 150
    steps = [(b[0] - a[0]) * 10_000 + b[1] - a[1] for a, b in pairwise(found)]
    near = sum(abs(step) < 10_000_000 for step in steps) / len(steps)
    assert 0.01 < near < 0.03  # neighbours are no nearer than chance: 2 % of the range
