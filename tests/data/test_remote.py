"""Shards at URLs: failures are tried again, bodies resumed, blocks and indexes kept."""

import io
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from fault_server import CUT, HTML, RESET, SHIFTED, SLOW, serving
from open_imagen.data import block_cache, open_source, remote
from open_imagen.data.remote import Remote, shown
from open_imagen.data.shard_names import expand
from open_imagen.errors import ConfigError, DataError, OpenImagenWarning


def noise(k):
    """A picture whose file is about 12 KB."""
    data = io.BytesIO()
    pixels = np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels[:8, :8] = 4 * k
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    monkeypatch.setattr(remote, "LONGEST_PAUSE", 0.01)
    monkeypatch.setattr(block_cache, "BLOCK", 100_000)
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    block_cache.shared_cache.cache_clear()


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    for number in range(3):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for k in range(12 * number, 12 * number + 12):
                for suffix, data in (("png", noise(k)), ("txt", f"caption {k}".encode())):
                    header = tarfile.TarInfo(f"{k:05d}.{suffix}")
                    header.size = len(data)
                    tar.addfile(header, io.BytesIO(data))
    with serving(folder) as server:
        yield server


def opened(server, **more):
    url = f"{server.url}/{{00000..00002}}.tar"
    return open_source({"kind": "shards", "path": url, "size": 16, "timeout": 0.3, **more})


def local(server, **more):
    return open_source({"kind": "shards", "path": str(server.folder), "size": 16, **more})


def same(one, other):
    return torch.equal(one.images, other.images) and one.captions == other.captions


def test_a_server_is_asked_seldom_and_once(served):
    source = opened(served)
    size = sum(path.stat().st_size for path in served.folder.iterdir())
    blocks = sum(-(-p.stat().st_size // block_cache.BLOCK) for p in served.folder.iterdir())
    assert len(served.requests) <= 3 + blocks  # the size of each file, and its blocks
    list(source.captions())
    assert same(source.batch(0, 36), local(served).batch(0, 36))
    assert len(served.requests) == 3 + blocks
    assert served.sent <= size + 3
    again = opened(served)
    assert same(again.batch(20, 30), local(served).batch(20, 30))
    assert len(served.requests) == 3 + blocks  # index and blocks are on disk


@pytest.mark.parametrize("fault", [500, 429, CUT, RESET, SLOW, SHIFTED])
def test_what_fails_every_third_time_is_tried_again(served, fault):
    served.every, served.faults = 3, (fault,)
    assert same(opened(served).batch(0, 40), local(served).batch(0, 40))
    assert served.answers[str(fault)] > 0
    assert not opened(served).skipped


def test_a_body_that_broke_is_resumed_where_it_broke(served):
    served.every, served.faults = 1, (CUT,)  # every answer breaks off half way
    data = Remote(f"{served.url}/00000.tar", tries=20).read(1000, 90_000)
    assert data == (served.folder / "00000.tar").read_bytes()[1000:90_000]
    starts = [int(line.split("=")[1].split("-")[0]) for line in served.requests]
    assert starts == sorted(set(starts))
    assert served.sent == len(data)


def test_a_captive_portal_is_no_data(served):
    source = opened(served)
    for block in (block_cache.cache_directory() / "shards").glob("*/blocks/*.bin"):
        block.unlink()
    served.every, served.faults = 2, (HTML,)
    assert same(source.batch(0, 36), local(served).batch(0, 36))


def test_a_server_without_ranges_gives_its_files_whole(served):
    served.ranges = False
    assert same(opened(served).batch(0, 36), local(served).batch(0, 36))
    assert len(served.requests) == 6
    block_cache.shared_cache.cache_clear()
    (served.folder / "large.tar").write_bytes(bytes(900_000))
    settings = {"kind": "shards", "path": f"{served.url}/large.tar", "cache_gib": 0.0}
    with pytest.raises(DataError, match=r"large\.tar gives whole files alone") as caught:
        open_source(settings)
    assert "data.cache_gib" in caught.value.hint


def test_errors_name_the_url_and_no_secret(served):
    served.every, served.faults = 1, (503,)
    url = served.url.replace("http://", "http://me:secret@") + "/00000.tar?sig=secret"
    with pytest.raises(
        DataError, match=r"00000\.tar\?\.\.\. cannot be read after 3 tries"
    ) as caught:
        open_source({"kind": "shards", "path": url, "tries": 3})
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert len(served.requests) == 3
    assert "data.tries" in caught.value.hint


@pytest.mark.parametrize("status", [401, 403])
def test_refusals_are_not_tried_again(served, status):
    served.every, served.faults = 1, (status,)
    with pytest.raises(DataError, match=f"refused by its server: {status}"):
        opened(served)
    assert len(served.requests) <= 3


def test_a_missing_shard_is_named_at_the_start(served):
    (served.folder / "00001.tar").unlink()
    with pytest.raises(DataError, match=r"00001\.tar cannot be read: missing file"):
        opened(served)


def test_a_shard_that_goes_away_while_training_is_left_out(served):
    source = opened(served, max_bad=0.9, cache_gib=0.0)
    (served.folder / "00001.tar").unlink()
    source.catalog.readers[1].cache._memory.clear()
    batch = source.batch(0, 36)
    assert source.skipped == {"missing file": 12}
    assert not {f"caption {k}" for k in range(12, 24)} & set(batch.captions)


def test_a_file_that_changed_is_not_taken_for_the_old_one(served):
    source = opened(served)
    for block in (block_cache.cache_directory() / "shards").glob("*/blocks/*.bin"):
        block.unlink()
    path = served.folder / "00000.tar"
    path.write_bytes(path.read_bytes() + bytes(10240))
    with pytest.raises(DataError, match=r"00000\.tar has changed since") as caught:
        source.batch(0, 36)
    assert (
        str(source.catalog.readers[0].cache.folder(source.catalog.readers[0].url))
        in caught.value.hint
    )


def test_without_a_disk_blocks_are_in_memory(served, monkeypatch):
    monkeypatch.setattr("open_imagen.data.block_cache.IN_MEMORY", 100)
    source = opened(served, cache_gib=0.0)
    source.batch(0, 36)
    asked = len(served.requests)
    assert same(source.batch(0, 36), local(served).batch(0, 36))
    assert len(served.requests) == asked
    assert not (block_cache.cache_directory()).exists()


def test_a_cache_that_cannot_be_written_costs_no_run(served, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(OpenImagenWarning, match="no longer kept on disk"):
        source = opened(served)
    assert same(source.batch(0, 36), local(served).batch(0, 36))


def test_the_cache_keeps_to_its_limit_and_to_its_own_files(served, monkeypatch):
    monkeypatch.setattr(block_cache, "WRITES_PER_LOOK", 1)
    shards = block_cache.cache_directory() / "shards"
    shards.mkdir(parents=True)
    (shards / "mine.txt").write_text("mine")
    limit = 250_000
    # A window reads whole blocks even if the cache cannot hold all of them.
    source = opened(served, cache_gib=limit / (1 << 30), window=1)
    assert same(source.batch(0, 36), local(served, window=1).batch(0, 36))
    held = sum(path.stat().st_size for path in shards.glob("*/blocks/*.bin"))
    assert 0 < held <= limit + block_cache.BLOCK
    assert (shards / "mine.txt").read_text() == "mine"


def test_random_access_to_more_than_the_cache_holds_reads_single_examples(served, monkeypatch):
    monkeypatch.setattr(block_cache, "IN_MEMORY", 1)
    source = opened(served, cache_gib=1e-5)
    asked, sent = len(served.requests), served.sent
    assert same(source.batch(0, 36), local(served).batch(0, 36))
    assert len(served.requests) - asked == 36  # picture and caption together
    assert served.sent - sent < 36 * 15_000


@pytest.mark.slow
def test_processes_share_index_and_blocks(served, tmp_path):
    script = (
        "import sys; from open_imagen.data import open_source, block_cache\n"
        "block_cache.BLOCK = 100_000\n"
        "source = open_source({'kind': 'shards', 'path': sys.argv[1], 'size': 16})\n"
        "print(source.batch(0, 12).captions)"
    )
    command = [sys.executable, "-c", script, f"{served.url}/00000.tar"]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ), text=True)
        for _ in range(2)
    ]
    outputs = {process.communicate()[0] for process in running}
    assert len(outputs) == 1
    assert "caption" in outputs.pop()
    blocks = -(-(served.folder / "00000.tar").stat().st_size // 100_000)
    assert len([line for line in served.requests if "bytes=0-0" not in line]) == blocks


def test_an_error_page_is_no_shard_and_is_not_kept(served):
    served.every, served.faults = 1, (HTML,)
    with pytest.raises(
        DataError, match=r"00000\.tar is no tar file: it begins with b'<html>Log in"
    ):
        opened(served)
    served.every = 0
    assert same(opened(served).batch(0, 36), local(served).batch(0, 36))


def test_a_damaged_index_on_disk_is_made_again(served):
    opened(served)
    for index in (block_cache.cache_directory() / "shards").glob("*/index.json"):
        assert json.loads(index.read_text())["value"]["whole"]
        index.write_text("{")
    assert same(opened(served).batch(0, 36), local(served).batch(0, 36))


@pytest.mark.parametrize(
    "path, message",
    [
        ("pipe:aws s3 cp s3://b/a.tar -", "output of a command"),
        ("https://h/a.tar.gz", "is compressed"),
        ("https://h/*.tar", "web servers have no list"),
        ("{5..2}.tar", "no range of numbers"),
        ("http://host name/a.tar", "no URL that can be read"),
    ],
)
def test_paths_that_cannot_be_read_say_what_can(path, message):
    with pytest.raises(DataError, match=message) as caught:
        open_source({"kind": "shards", "path": path, "tries": 1})
    assert caught.value.hint or "{" in path or "host name" in path


def test_names_are_expanded(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.tar").touch()
    found = [str(tmp_path / f"{name}.tar") for name in "abc"]
    assert expand(f"{tmp_path}/{{c,a}}.tar") == [found[2], found[0]]
    assert expand((f"{tmp_path}/c.tar", f"{tmp_path}/a.tar")) == [found[2], found[0]]
    assert expand(f"{tmp_path}/a.tar::{tmp_path}/b.tar") == found[:2]
    listed = tmp_path / "list.txt"
    listed.write_text(f"# mine\n{found[0]}\n\nhttps://h/x-{{0..1}}.tar\n")
    assert expand(str(listed)) == [found[0], "https://h/x-0.tar", "https://h/x-1.tar"]
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "a.tar.gz").touch()
    with pytest.raises(DataError, match="no tar file") as caught:
        expand(str(packed))
    assert "compressed" in caught.value.hint


def test_home_folders_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.tar").touch()
    assert expand("~/a.tar") == [str(tmp_path / "a.tar")]


def test_a_compressed_tar_under_a_wrong_name_is_told(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match=r"a\.tar is compressed \(gzip\)"):
        open_source({"kind": "shards", "path": str(tmp_path)})


def test_stores_of_fsspec_are_tried_again(tmp_path, monkeypatch, served):
    import fsspec

    files = fsspec.filesystem("memory")
    data = (served.folder / "00000.tar").read_bytes()
    files.pipe_file("/shards/a.tar", data)
    calls = []
    plain = type(files).cat_file

    def flaky(self, *arguments, **more):
        calls.append(1)
        if len(calls) % 2:
            raise TimeoutError("the store is busy")
        return plain(self, *arguments, **more)

    monkeypatch.setattr(type(files), "cat_file", flaky)
    source = open_source({"kind": "shards", "path": "memory://shards/*.tar", "size": 16})
    assert sorted(source.batch(0, 12).captions) == sorted(f"caption {k}" for k in range(12))
    assert len(calls) == 2 * -(-len(data) // block_cache.BLOCK)


@pytest.mark.parametrize("name, value", [("tries", 0), ("cache_gib", -1.0), ("timeout", 0.0)])
def test_wrong_settings_are_named(name, value):
    with pytest.raises(ConfigError, match=f"data.{name} = "):
        open_source({"kind": "shards", "path": "https://h/a.tar", name: value})


def test_urls_are_shown_without_secrets():
    assert shown("s3://bucket/a.tar") == "s3://bucket/a.tar"
    assert shown("https://u:p@h:8/a.tar?X-Amz-Signature=1#f") == "https://h:8/a.tar?..."
