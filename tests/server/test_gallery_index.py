"""The gallery's index: pages without scans, locks and damage while it is in use, file modes."""

import logging
import os
import sqlite3
import stat
import subprocess
import sys

import httpx2 as httpx
import pytest

from open_imagen.server import gallery_files
from open_imagen.server.gallery import Gallery
from open_imagen.server.gallery_files import GalleryImage
from open_imagen.server.gallery_index import memory_index
from server.test_gallery import fill, image_of, listed, record_of


def image_number(k, owner="me"):
    name = f"{k:022d}"
    return GalleryImage(
        name, f"{name}.png", 1, k, True, owner, float(k), "png", 8, 8, record_of("x")
    )


@pytest.fixture
def large_index():
    index = memory_index()
    with index.transaction():
        for k in range(2000):
            index.insert(image_number(k, owner=("me", "you")[k % 2]))
    return index


def steps_of(index, call):
    """How many instructions of SQLite's machine a call takes, in hundreds."""
    count = [0]

    def step():
        count[0] += 1

    index.connection.set_progress_handler(step, 100)
    call()
    index.connection.set_progress_handler(None, 100)
    return count[0]


def test_pages_and_pruning_read_only_what_they_return(large_index):
    """The work does not grow with the number of images; measured in instructions, not seconds."""
    for call in (
        lambda: large_index.newest("me", 1000.0, 31),
        lambda: large_index.newest("nobody", 1000.0, 31),
        lambda: large_index.oldest_written(3),
        lambda: large_index.get(f"{77:022d}"),
    ):
        assert steps_of(large_index, call) < 20
    assert steps_of(large_index, large_index.counts) > 40  # what a scan takes
    found = large_index.newest("me", 1000.0, 3)
    assert [image.created for image in found] == [998.0, 996.0, 994.0]


def test_adding_an_image_does_not_scan_the_index(tmp_path):
    gallery = Gallery(tmp_path, keep=300)
    with gallery._index.transaction():
        for k in range(300):
            gallery._index.insert(image_number(k))
    gallery._written = 300
    taken = steps_of(
        gallery._index, lambda: gallery.add(image_of("x"), "png", record_of("x"), "me")
    )
    assert taken < 20
    assert gallery._index.counts() == (300, 300)
    assert gallery._index.get(f"{0:022d}") is None  # the oldest has gone
    gallery.close()


def test_all_pages_together_are_all_images(tmp_path):
    gallery = Gallery(tmp_path)
    made = [gallery.add(image_of("x"), "png", record_of("x"), "me") for _ in range(23)]
    for image in made[5:15]:  # removed by hand: whole pages have gone
        gallery_files.image_path(tmp_path, image).unlink()
    found, before = [], None
    while page := gallery.latest("me", 3, before):
        found += page
        before = page[-1].created
    assert [i.id for i in found] == [i.id for i in (made[:5] + made[15:])[::-1]]
    gallery.close()


def test_an_image_that_was_changed_does_not_count_as_written_any_more(tmp_path):
    gallery = Gallery(tmp_path, keep=2)
    first = gallery.add(image_of("x"), "png", record_of("x"), "me")
    gallery_files.image_path(tmp_path, first).write_bytes(image_of("edited by somebody"))
    made = [gallery.add(image_of("x"), "png", record_of("x"), "me") for _ in range(4)]
    assert [i.id for i in gallery.latest("me", 9)] == [made[3].id, made[2].id, first.id]
    assert gallery._index.counts() == (3, 2)
    gallery.close()


LOCKER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=0.1, isolation_level=None)
try:
    connection.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    time.sleep(60)
except sqlite3.OperationalError as error:
    print(error, flush=True)
"""


def lock_from_outside(file):
    process = subprocess.Popen(
        [sys.executable, "-c", LOCKER, file], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def test_other_programs_cannot_lock_an_index_in_use(tmp_path):
    gallery = Gallery(tmp_path)
    process, answer = lock_from_outside(tmp_path / "gallery.db")
    process.communicate()
    assert answer == "database is locked"
    fill(gallery)
    gallery.close()
    assert len(listed(tmp_path, "me", "you")) == 6


def test_an_index_that_is_locked_at_the_start_is_done_without(tmp_path, monkeypatch, caplog):
    gallery = Gallery(tmp_path)
    fill(gallery)
    gallery.close()
    plain = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: plain(*a, **{**k, "timeout": 0.1}))
    process, answer = lock_from_outside(tmp_path / "gallery.db")
    try:
        assert answer == "locked"
        with caplog.at_level(logging.WARNING, "open_imagen.server"):
            gallery = Gallery(tmp_path)
        assert "database is locked" in caplog.text
        assert len(gallery.latest("me", 9)) == 3
        more = gallery.add(image_of("x"), "png", record_of("x"), "me")
        gallery.close()
    finally:
        process.kill()
        process.communicate()
    assert more.id in {image.id for image in listed(tmp_path, "me")}


def damage(gallery):
    """Overwrite all of the index but its first page, and forget what SQLite has read of it."""
    file = gallery.folder / "gallery.db"
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(b"\xa5" * (file.stat().st_size - 4096))
    gallery._index.connection.execute("PRAGMA shrink_memory")
    gallery._index.connection.execute("PRAGMA cache_size = 0")


def test_an_index_that_is_damaged_while_in_use_is_made_again(tmp_path, caplog):
    for use in ("latest", "get", "add", "delete"):
        gallery = Gallery(tmp_path / use)
        made = fill(gallery)
        damage(gallery)
        with caplog.at_level(logging.WARNING, "open_imagen.server"):
            if use == "latest":
                assert len(gallery.latest("me", 9)) == 3
            elif use == "get":
                assert gallery.get(made[0].id) == made[0]
            elif use == "add":
                made.append(gallery.add(image_of("x"), "png", record_of("x"), "me"))
            else:
                assert gallery.delete(made.pop(0))
        assert {i.id for o in ("me", "you") for i in gallery.latest(o, 9)} == {i.id for i in made}
        assert gallery._index.counts() == (len(made), len(made)) == (gallery._written,) * 2
        gallery.close()
        assert len(listed(tmp_path / use, "me", "you")) == len(made)
    assert caplog.text.count("listed again") >= 4


def test_a_damaged_record_is_read_from_its_file_again(tmp_path):
    gallery = Gallery(tmp_path)
    made = fill(gallery)
    gallery._index.connection.execute("UPDATE images SET record = '{'")
    assert gallery.get(made[0].id).record == made[0].record
    gallery.close()


def test_an_index_that_cannot_be_read_is_a_503(serve):
    url, service = serve()

    class Broken:
        def execute(self, *arguments):
            raise sqlite3.OperationalError("disk I/O error")

        def close(self):
            pass

    index = service.gallery._index
    service.gallery._index = replace_connection(index, Broken())
    for path in ("/v1/gallery", f"/v1/images/files/{'a' * 22}.png"):
        reply = httpx.get(f"{url}{path}")
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert reply.json()["error"]["type"] == "server_error"
    body = {"prompt": "a ring", "size": "64x64", "steps": 1}
    reply = httpx.post(f"{url}/v1/images/generations", json=body, timeout=30)
    assert (reply.status_code, reply.json()["data"][0]["saved"]) == (200, False)
    service.gallery._index = index


def replace_connection(index, connection):
    return type(index)(connection)


@pytest.mark.skipif(os.name == "nt", reason="modes are of Unix")
def test_nobody_else_can_read_the_gallery(tmp_path):
    before = os.umask(0)
    try:
        gallery = Gallery(tmp_path / "new")
        fill(gallery)
        gallery.close()
    finally:
        os.umask(before)
    modes = {
        path.relative_to(tmp_path): stat.S_IMODE(path.stat().st_mode)
        for path in [tmp_path / "new", *(tmp_path / "new").rglob("*")]
    }
    assert len(modes) == 6 + 6 + 5
    for path, mode in modes.items():
        assert mode == (0o700 if (tmp_path / path).is_dir() else 0o600), path


def test_an_image_is_flushed_to_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """What was answered is there after a power cut: data before name, name before the answer."""
    log, fsync, rename = [], os.fsync, type(tmp_path).replace

    def flush(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        log.append(kind)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(
        type(tmp_path), "replace", lambda *names: (log.append("rename"), rename(*names))[1]
    )
    gallery = Gallery(tmp_path)
    gallery.add(image_of("x"), "png", record_of("x"), "me")
    gallery.close()
    assert log == ["file", "rename", "folder"] * 2
