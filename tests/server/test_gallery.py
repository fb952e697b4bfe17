"""The gallery: foreign files stay, a lost index is rebuilt, one holder, full disks, SIGKILL."""

import errno
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx2 as httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from open_imagen.cascade import records
from open_imagen.cascade.records import encoded, save_png
from open_imagen.errors import DataError, OutputError
from open_imagen.server import gallery_files
from open_imagen.server.gallery import Gallery
from open_imagen.server.gallery_index import Index


def record_of(prompt, seed=0):
    return {
        "prompt": prompt, "seed": seed, "size": "8x8", "model": "tiny", "model_hash": "0" * 16,
        "settings": {"base": {"steps": 2}}, "version": "1",
    }  # fmt: skip


def image_of(prompt, kind="png", seed=0):
    return encoded(Image.new("RGB", (8, 8)), record_of(prompt, seed), kind)


def fill(gallery):
    """One image of each format for two owners."""
    return [
        gallery.add(image_of(f"{owner} {kind}", kind), kind, record_of(f"{owner} {kind}"), owner)
        for owner in ("me", "you")
        for kind in ("png", "jpeg", "webp")
    ]


def listed(folder, *owners):
    gallery = Gallery(folder)
    found = [image for owner in owners for image in gallery.latest(owner, 100)]
    gallery.close()
    return found


def contents(folder):
    """Every file and link below a folder with what it holds, but for the gallery's own three."""
    found = {}
    for path in sorted(folder.rglob("*")):
        own = path.name.startswith("gallery.") or path.parent.name == "gallery.entries"
        if path.is_symlink():
            found[path] = os.readlink(path)
        elif not own:
            found[path] = path.read_bytes() if path.is_file() else None
    return found


@pytest.fixture
def foreign(tmp_path):
    """A folder in which others have their files, under every kind of name."""
    images = tmp_path / "pictures"
    (images / "holidays").mkdir(parents=True)
    (images / "empty").mkdir()
    (images / "holidays" / "beach.jpg").write_bytes(b"a photo")
    save_png(Image.new("RGB", (8, 8)), images / "00000-a-red-circle.png", record_of("a red circle"))
    # 22 letters of an id's alphabet, and temporary files of `imagen generate` and of older servers:
    save_png(Image.new("RGB", (8, 8)), images / "00000-a-green-triangle.png", record_of("a green"))
    (images / ".00000-a-green-triangle.png.abcdefgh").write_bytes(b"being written")
    (images / ("A" * 22 + ".png")).write_bytes(b"no image")
    Image.new("RGB", (8, 8)).save(images / "photo.jpg")
    (images / "notes.txt").write_text("mine")
    (images / ".hidden.unfinished").write_text("mine")
    (tmp_path / "outside.png").write_bytes(image_of("outside"))
    (images / "link.png").symlink_to(tmp_path / "outside.png")
    (images / "folder-link").symlink_to(tmp_path)
    (images / "dangling").symlink_to("nowhere")
    os.mkfifo(images / "pipe.png")
    return tmp_path


def test_files_of_others_stay_and_those_with_our_record_are_listed(foreign):
    (foreign / "pictures" / "pipe.png").unlink()  # reading it would block `contents`
    os.utime(foreign / "pictures" / "00000-a-red-circle.png", (4e9, 4e9))  # newer than all others
    before = contents(foreign)
    for _ in range(2):
        gallery = Gallery(foreign, keep=1)
        mine = [gallery.add(image_of("x"), "png", record_of("x"), "anyone") for _ in range(3)]
        prompts = [image.record["prompt"] for image in gallery.latest("anyone", 9)]
        assert sorted(prompts) == ["a green", "a red circle", "x"]  # --keep counts only its own
        assert gallery.delete(mine[-1])
        for image in gallery.latest("anyone", 9):
            assert (image.written, gallery.delete(image)) == (False, False)
        gallery.close()
        assert contents(foreign) == before
        (foreign / "gallery.db").unlink()


def test_a_pipe_in_the_folder_does_not_block_the_start(foreign):
    assert len(listed(foreign, "anyone")) == 2
    assert (foreign / "pictures" / "pipe.png").exists()


@pytest.mark.parametrize(
    "text",
    [
        '{"guidance": NaN}',
        '{"word": "\\ud800"}',
        '{"a":' * 300 + "1" + "}" * 300,
        '{"a":' * 50_000 + "1" + "}" * 50_000,
    ],
    ids=["NaN", "half of a surrogate pair", "nested", "nested beyond parsing"],
)
def test_a_record_that_cannot_be_sent_is_not_listed(tmp_path, text):
    path = tmp_path / "pictures" / "odd.png"
    path.parent.mkdir()
    chunk = PngInfo()
    chunk.add_text("open_imagen", json.dumps(record_of("odd"))[:-1] + f', "more": {text}}}')
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunk)
    for _ in range(2):
        assert listed(tmp_path, "anyone") == []
    assert not list(tmp_path.glob("gallery.db.unusable*"))


def test_names_that_are_not_utf8_are_passed_over(foreign):
    name = os.fsencode(foreign / "pictures") + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(name)).write_bytes(image_of("a name in Latin-1"))
    except OSError:
        pytest.skip("this file system has names in Unicode only")
    assert len(listed(foreign, "anyone")) == 2
    assert os.path.exists(name)


def test_an_image_that_somebody_has_changed_is_theirs(tmp_path):
    gallery = Gallery(tmp_path, keep=2)
    first, second = (gallery.add(image_of("x"), "png", record_of("x"), "me") for _ in range(2))
    paths = [gallery_files.image_path(tmp_path, image) for image in (first, second)]
    save_png(Image.new("RGB", (8, 8), "red"), paths[0], record_of("edited"))
    assert not gallery.delete(first)  # while the server runs
    gallery.close()
    changed = bytearray(paths[1].read_bytes())
    changed[60] ^= 1  # as long as it was
    paths[1].write_bytes(changed)
    gallery = Gallery(tmp_path, keep=1)
    found = {image.id: image for image in gallery.latest("me", 9)}
    assert found[first.id].record["prompt"] == "edited"
    assert not any(gallery.delete(image) for image in found.values())
    gallery.add(image_of("x"), "png", record_of("x"), "me")
    gallery.add(image_of("x"), "png", record_of("x"), "me")
    assert all(path.exists() for path in paths)
    gallery.close()


DAMAGE = {
    "deleted": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "no database": lambda file: file.write_text("not a database, but long enough for one " * 30),
    "cut in a page": lambda file: file.write_bytes(file.read_bytes()[:6000]),
    "cut in the header": lambda file: file.write_bytes(file.read_bytes()[:50]),
    "overwritten": lambda file: file.write_bytes(file.read_bytes()[:4096] + b"\xa5" * 16384),
    "another version": lambda file: change(file, "PRAGMA user_version = 99"),
    "a table lost": lambda file: change(file, "DROP TABLE other_files"),
    "a damaged record": lambda file: change(file, "UPDATE images SET record = '{\"pro'"),
    "rows lost": lambda file: change(file, "DELETE FROM images WHERE owner = 'me'"),
}


def change(file, statement):
    index = sqlite3.connect(file)
    index.execute(statement)
    index.commit()
    index.close()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_lost_or_damaged_index_is_rebuilt(tmp_path, damage, caplog):
    gallery = Gallery(tmp_path)
    fill(gallery)
    gallery.close()
    before = listed(tmp_path, "me", "you")
    assert len(before) == 6
    file = tmp_path / "gallery.db"
    DAMAGE[damage](file)
    damaged = file.read_bytes() if file.exists() else None
    with caplog.at_level(logging.WARNING, "open_imagen.server"):
        assert listed(tmp_path, "me", "you") == before  # id, owner, time, order, record
    aside = [path for path in tmp_path.iterdir() if ".unusable-" in path.name]
    if damage in ("deleted", "empty", "rows lost"):
        assert (aside, caplog.records) == ([], [])
    else:
        assert [path.read_bytes() for path in aside] == [damaged]
        assert aside[0].name in caplog.text
        assert "listed again" in caplog.text
    assert listed(tmp_path, "me", "you") == before


def test_without_entries_the_records_in_the_images_are_enough(tmp_path):
    gallery = Gallery(tmp_path / "g")
    before = fill(gallery)
    gallery.close()
    (tmp_path / "copy" / "pictures").mkdir(parents=True)
    for image in before:
        path = gallery_files.image_path(tmp_path / "g", image)
        copied = tmp_path / "copy" / "pictures" / path.name
        copied.write_bytes(path.read_bytes())
        os.utime(copied, (1e9, 1e9))  # as from an archive: all of one time
    gallery = Gallery(tmp_path / "copy")
    found, before_time = [], None
    while page := gallery.latest("anyone", 2, before_time):
        found += page
        before_time = page[-1].created
    gallery.close()
    assert sorted(i.record["prompt"] for i in found) == sorted(i.record["prompt"] for i in before)
    assert {image.kind for image in found} == {"png", "jpeg", "webp"}
    assert not any(image.written for image in found)


def test_an_index_of_version_1_hands_its_owners_over(tmp_path):
    (tmp_path / "pictures").mkdir()
    index = sqlite3.connect(tmp_path / "gallery.db", isolation_level=None)
    index.execute("PRAGMA journal_mode = WAL")
    index.execute(
        "CREATE TABLE pictures (id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, "
        "kind TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, record TEXT NOT NULL)"
    )
    for k, name in enumerate("ABC"):
        row = (name * 22, "me", 5.0 + k, "jpeg", 8, 8, json.dumps(record_of(name)))
        index.execute("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / f"{name * 22}.jpeg")
    index.close()
    (tmp_path / "pictures" / f"{'C' * 22}.jpeg").unlink()
    found = listed(tmp_path, "me")
    assert [(i.record["prompt"], i.created, i.written) for i in found] == [
        ("B", 6.0, True),
        ("A", 5.0, True),
    ]
    (tmp_path / "gallery.db").unlink()
    assert listed(tmp_path, "me") == found


def test_the_database_of_another_program_is_left_alone(tmp_path):
    change(tmp_path / "gallery.db", "CREATE TABLE albums (name TEXT)")
    before = (tmp_path / "gallery.db").read_bytes()
    with pytest.raises(DataError, match="another program") as error:
        Gallery(tmp_path)
    assert "another folder" in error.value.hint
    assert (tmp_path / "gallery.db").read_bytes() == before


def test_known_files_are_not_read_again(tmp_path, monkeypatch):
    gallery = Gallery(tmp_path)
    fill(gallery)
    gallery.close()
    save_png(Image.new("RGB", (8, 8)), tmp_path / "pictures" / "a.png", record_of("a"))
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "photo.png")
    before = listed(tmp_path, "me", "you", "anyone")
    assert len(before) == 7

    def refuse(*arguments):
        raise AssertionError(f"{arguments} is read")

    monkeypatch.setattr(gallery_files, "read_header", refuse)
    monkeypatch.setattr(gallery_files, "sha256", refuse)
    assert listed(tmp_path, "me", "you", "anyone") == before


def test_headers_are_enough_and_half_images_are_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "open_image", None)  # decodes all of it
    images = tmp_path / "pictures"
    images.mkdir()
    for kind in ("png", "jpeg", "webp"):
        data = image_of(kind, kind)
        (images / f"whole-{kind}.{kind}").write_bytes(data)
        (images / f"half-{kind}.{kind}").write_bytes(data[:-5])
    assert sorted(i.file for i in listed(tmp_path, "anyone")) == [
        "whole-jpeg.jpeg",
        "whole-png.png",
        "whole-webp.webp",
    ]


def test_only_unfinished_files_of_the_gallery_itself_are_removed(tmp_path):
    listed(tmp_path)
    gallery = Gallery(tmp_path)
    kept = fill(gallery)
    gallery.close()
    name = f".imagen-gallery-{'a' * 22}.unfinished"
    for folder in ("pictures", "gallery.entries"):
        (tmp_path / folder / name).write_bytes(b"half")
    (tmp_path / "pictures" / f".imagen-gallery-{'b' * 22}.unfinished").symlink_to(tmp_path)
    (tmp_path / "pictures" / f".imagen-gallery-{'c' * 22}.unfinished").mkdir()
    assert len(listed(tmp_path, "me", "you")) == len(kept)
    left = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert left - {image.file for image in kept} == {
        f".imagen-gallery-{'b' * 22}.unfinished",
        f".imagen-gallery-{'c' * 22}.unfinished",
    }
    assert not (tmp_path / "gallery.entries" / name).exists()


def test_an_entry_outlives_a_folder_of_images_that_is_away(tmp_path):
    gallery = Gallery(tmp_path)
    fill(gallery)
    gallery.close()
    before = listed(tmp_path, "me", "you")
    (tmp_path / "pictures").rename(tmp_path / "away")
    assert listed(tmp_path, "me", "you") == []
    (tmp_path / "pictures").rmdir()
    (tmp_path / "away").rename(tmp_path / "pictures")
    assert listed(tmp_path, "me", "you") == before


def test_images_of_one_moment_have_an_order(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1e9)
    gallery = Gallery(tmp_path)
    made = [gallery.add(image_of("x"), "png", record_of("x"), "me") for _ in range(3)]
    assert [one.id for one in gallery.latest("me", 9)] == [one.id for one in made[::-1]]
    assert gallery.latest("me", 9, made[1].created) == made[:1]
    assert gallery.get("../../etc/passwd") is None
    gallery.close()


def test_one_process_at_a_time_holds_a_gallery(tmp_path):
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from open_imagen.server.gallery import Gallery
        gallery = Gallery(Path(sys.argv[1]))
        print("open", flush=True)
        time.sleep(60)
        """
    )
    holder = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(OutputError) as error:
            Gallery(tmp_path)
        assert f"The gallery {tmp_path} is in use by process {holder.pid} on " in str(error.value)
        assert "--gallery" in error.value.hint
    finally:
        holder.kill()
        holder.communicate()
    Gallery(tmp_path).close()  # the lock died with its holder


class Disk:
    """A disk that is full: whatever writes data fails, names can be removed."""

    def __init__(self, monkeypatch, folder):
        self.monkeypatch, self.folder = monkeypatch, folder
        self.plain = Path.open

    def fill(self):
        plain, folder = self.plain, str(self.folder)

        def opened(path, mode="r", *arguments, **options):
            if str(path).startswith(folder) and set(mode) & set("wxa+"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return plain(path, mode, *arguments, **options)

        self.monkeypatch.setattr(Path, "open", opened)

    def clear(self):
        self.monkeypatch.setattr(Path, "open", self.plain)


class FullIndex:
    """A connection to an index whose disk is full: it can be read only."""

    def __init__(self, index):
        self.index = index

    def execute(self, statement, *values):
        if not statement.startswith("SELECT"):
            raise sqlite3.OperationalError("database or disk is full")
        return self.index.execute(statement, *values)

    def close(self):
        self.index.close()


def test_on_a_full_disk_images_are_answered_and_can_be_removed(serve, monkeypatch, caplog):
    url, service = serve()
    gallery = service.gallery
    disk = Disk(monkeypatch, gallery.folder)
    post = f"{url}/v1/images/generations"
    body = {"prompt": "a ring", "size": "64x64", "steps": 1}
    kept = httpx.post(post, json=body, timeout=30)
    assert "x-imagen-not-saved" not in kept.headers
    assert kept.json()["data"][0]["saved"]
    disk.fill()
    index = gallery._index
    gallery._index = Index(FullIndex(index.connection))
    with caplog.at_level(logging.WARNING, "open_imagen.server"):
        for form in ("b64_json", "url"):
            more = {"n": 2, "response_format": form}
            reply = httpx.post(post, json={**body, **more}, timeout=30)
            assert (reply.status_code, reply.headers["x-imagen-not-saved"]) == (200, "2")
            for one in reply.json()["data"]:
                assert (one["saved"], "url" in one, "id" in one) == (False, False, False)
                assert one["b64_json"]
        text = httpx.post(post, json={**body, "stream": True}, timeout=30).text
    event = json.loads(text.split("event: image_generation.completed\ndata: ")[1])
    assert (event["saved"], "id" in event, bool(event["b64_json"])) == (False, False, True)
    warnings = [r for r in caplog.records if r.message == "an image cannot be saved"]
    assert len(warnings) == 5
    assert all("No space left on device" in r.reason and r.exc_info is None for r in warnings)
    assert "imagen_images_not_saved_total 5.0" in httpx.get(f"{url}/metrics").text
    # Making room works, and what was removed is not shown again.
    found = httpx.get(f"{url}/v1/gallery").json()["data"]
    assert [one["removable"] for one in found] == [True]
    name = found[0]["id"]
    assert httpx.delete(f"{url}/v1/gallery/{name}").json() == {"deleted": True}
    assert httpx.delete(f"{url}/v1/gallery/{name}").status_code == 404
    assert httpx.get(f"{url}/v1/gallery").json()["data"] == []
    assert list((gallery.folder / "pictures").iterdir()) == []
    assert list((gallery.folder / "gallery.entries").iterdir()) == []
    disk.clear()
    gallery._index = index
    assert httpx.post(post, json=body, timeout=30).json()["data"][0]["saved"]


def test_an_image_whose_row_cannot_be_written_leaves_nothing_behind(tmp_path):
    gallery = Gallery(tmp_path)
    gallery._index = Index(FullIndex(gallery._index.connection))
    with pytest.raises(OutputError, match="full"):
        gallery.add(image_of("x"), "png", record_of("x"), "me")
    assert list((tmp_path / "pictures").iterdir()) == []
    assert list((tmp_path / "gallery.entries").iterdir()) == []
    gallery.close()


def test_a_gallery_opens_where_its_index_cannot_be_written(tmp_path, monkeypatch, caplog):
    gallery = Gallery(tmp_path)
    kept = fill(gallery)
    gallery.close()
    (tmp_path / "gallery.db").unlink()
    (tmp_path / "gallery.db").mkdir()  # SQLite cannot open it
    with caplog.at_level(logging.WARNING, "open_imagen.server"):
        gallery = Gallery(tmp_path)
    assert "until the next start" in caplog.text.lower()
    assert len(gallery.latest("me", 9)) == 3
    assert gallery.delete(gallery.latest("me", 1)[0])
    gallery.close()
    (tmp_path / "gallery.db").rmdir()
    assert len(listed(tmp_path, "me", "you")) == len(kept) - 1


def test_an_image_of_others_is_not_removed_over_http(serve, tmp_path):
    folder = tmp_path / "gallery-0" / "pictures"
    folder.mkdir(parents=True)
    save_png(Image.new("RGB", (8, 8)), folder / "00000-a-star.png", record_of("a star"))
    url, _ = serve()
    one = httpx.get(f"{url}/v1/gallery").json()["data"][0]
    assert (one["removable"], one["record"]["prompt"]) == (False, "a star")
    assert "a-star" not in one["url"]  # ids are not to be guessed
    assert httpx.get(one["url"]).content == (folder / "00000-a-star.png").read_bytes()
    reply = httpx.delete(f"{url}/v1/gallery/{one['id']}")
    assert reply.status_code == 403
    assert "00000-a-star.png" in reply.json()["error"]["message"]
    assert (folder / "00000-a-star.png").exists()


WRITER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from server.test_gallery import image_of, record_of
from open_imagen.server import gallery, gallery_files

moment = sys.argv[2]
def die():
    os.kill(os.getpid(), signal.SIGKILL)
opened = gallery.Gallery(Path(sys.argv[1]))
for k in range(3):
    print(opened.add(image_of("x"), "png", record_of("x"), "me").id, flush=True)
if moment == "unfinished":
    Path.replace = lambda *arguments: die()
elif moment == "entry":
    gallery.write = lambda *arguments: die()
elif moment == "image":
    opened._list = lambda *arguments: die()
elif moment == "row":
    opened._prune = die
opened.add(image_of("y"), "png", record_of("y"), "me")
"""


@pytest.mark.parametrize(
    "moment,number", [("unfinished", 3), ("entry", 3), ("image", 4), ("row", 4)]
)
def test_sigkill_at_each_step_of_writing_loses_nothing_that_was_answered(tmp_path, moment, number):
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", WRITER, tmp_path, moment, tests], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = listed(tmp_path, "me")
    assert set(done.stdout.split()) <= {image.id for image in found}
    assert len(found) == number
    assert all(image.written for image in found)
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".unfinished")]
    # A second rebuild, from the files alone, gives the same.
    (tmp_path / "gallery.db").unlink()
    assert listed(tmp_path, "me") == found
