"""What other programs write, and what is damaged: seen as meant, or left out and counted."""

import io
import json
import os
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.data import open_source
from open_imagen.data.folder_scan import scan
from open_imagen.data.images import SkippedExample, decode
from open_imagen.errors import DataError

IMAGES = Path(__file__).parent / "images"
"""Written by ImageMagick, see make.sh there."""


def png(k, size=(20, 16)):
    data = io.BytesIO()
    Image.new("RGB", size, (10 * k, 0, 99)).save(data, format="PNG")
    return data.getvalue()


def chunk(kind, body):
    """A chunk of a PNG."""
    sum_ = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + sum_


def bomb():
    """A PNG that says of itself that it has 60,000 x 60,000 pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))


def noise():
    """A picture whose file is no shorter than its pixels."""
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


DAMAGED = {
    "zero bytes": (b"", "empty file"),
    "a page of HTML": (b"<!DOCTYPE html><html><title>404</title></html>", "not a picture"),
    "text": (b"version https://git-lfs.github.com/spec/v1\n", "not a picture"),
    "a RIFF header alone": (b"RIFF\x1a\x00\x00\x00WEBPVP8L", None),
    "a JPEG cut short": ((IMAGES / "truncated.jpg").read_bytes(), "damaged picture"),
    "a PNG cut to 200 bytes": (noise()[:200], "damaged picture"),
    "a WebP cut short": ((IMAGES / "animated.webp").read_bytes()[:100], None),
    "a PNG header alone": (png(1)[:33], None),
    "a decompression bomb": (bomb(), "too many pixels"),
}
FOREIGN = {
    "cmyk.jpg": (220, 30, 30),
    "rgb16.png": (220, 30, 30),
    "gray16.png": (127, 127, 127),
    "animated.gif": (220, 30, 30),
    "animated.webp": (220, 30, 30),
    "palette8.bmp": (220, 30, 30),
}


def folder(path, examples, **more):
    path.mkdir()
    for k, (data, caption) in enumerate(examples):
        (path / f"{k:03d}.png").write_bytes(data)
        (path / f"{k:03d}.txt").write_text(caption)
    return {"kind": "folder", "path": str(path), **more}


def shards(path, examples, **more):
    path.mkdir()
    with tarfile.open(path / "00000.tar", "w") as tar:
        for k, (data, caption) in enumerate(examples):
            for suffix, member in (("png", data), ("txt", caption.encode())):
                header = tarfile.TarInfo(f"{k:03d}.{suffix}")
                header.size = len(member)
                tar.addfile(header, io.BytesIO(member))
    return {"kind": "shards", "path": str(path), **more}


def huggingface(path, examples, **more):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    path.mkdir()
    rows = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": data, "path": None} for data, _ in examples],
            "text": [caption for _, caption in examples],
        },
        features=datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")}),
    )
    rows.to_parquet(path / "train.parquet")
    return {"kind": "huggingface", "path": str(path), **more}


KINDS = [folder, shards, huggingface]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("name", FOREIGN)
def test_what_other_programs_write_is_seen_as_meant(name):
    found = decode((IMAGES / name).read_bytes())
    assert found.getpixel((3, 3)) == pytest.approx(FOREIGN[name], abs=2)


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_told_by_its_reason(name):
    data, reason = DAMAGED[name]
    with pytest.raises(SkippedExample) as caught:
        decode(data)
    assert caught.value.reason in ([reason] if reason else ["not a picture", "damaged picture"])


@pytest.mark.parametrize(
    "error", [struct.error, IndexError, KeyError, OverflowError, zlib.error, AssertionError]
)
def test_any_error_of_a_decoder_is_damage(monkeypatch, error):
    def broken(*_):
        raise error("odd")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", broken)
    with pytest.raises(SkippedExample, match="damaged picture"):
        decode(png(1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_costs_no_picture(monkeypatch):
    data = io.BytesIO()
    exif = b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\xff\xff\x01\x12"
    Image.new("RGB", (20, 16), (200, 0, 0)).save(data, format="JPEG", exif=exif)
    assert decode(data.getvalue()).size == (20, 16)

    def broken(*_):
        raise struct.error("odd")

    monkeypatch.setattr("PIL.ImageOps.exif_transpose", broken)
    assert decode(data.getvalue()).size == (20, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_left_out_counted_and_resumed_to_the_bit(tmp_path, kind):
    examples = [(png(k), f"caption {k}") for k in range(20)]
    for k, (data, _) in enumerate(DAMAGED.values()):
        examples.insert(2 * k, (data, "damaged"))
    settings = kind(tmp_path / "d", examples, size=8, max_bad=0.9)
    source = open_source(settings)
    whole = source.batch(0, 2 * len(examples))
    assert sum(source.skipped.values()) == 2 * len(DAMAGED)  # each once an epoch
    assert {reason for _, reason in DAMAGED.values() if reason} <= set(source.skipped)
    assert "damaged" not in whole.captions
    for image, caption in zip(whole.images, whole.captions, strict=True):
        assert (image[0] == 10 * int(caption.split()[1])).all()
    for start, workers in ((0, 1), (7, 3), (31, 2)):
        again = open_source({**settings, "workers": workers}).batch(start, 9)
        assert again.captions == whole.captions[start : start + 9]
        assert torch.equal(again.images, whole.images[start : start + 9])


@pytest.mark.parametrize("kind", KINDS)
def test_crops_and_stand_ins_are_functions_of_the_position(tmp_path, kind):
    examples = [(noise(), f"caption {k}") for k in range(8)] + [(b"", "damaged")] * 3
    settings = kind(tmp_path / "d", examples, size=32, crop=16, lowres=8, max_bad=0.9)
    whole = open_source(settings).batch(0, 22)
    assert whole.images.shape == (22, 3, 16, 16)
    pooled = torch.nn.functional.avg_pool2d(whole.images.float(), 4)
    torch.testing.assert_close(whole.lowres.float(), pooled, rtol=0, atol=0.51)
    again = open_source(settings).batch(13, 5)
    assert torch.equal(again.images, whole.images[13:18])
    assert torch.equal(again.lowres, whole.lowres[13:18])


@pytest.mark.parametrize("kind", KINDS)
def test_too_many_skipped_examples_stop_the_run(tmp_path, kind):
    examples = [(png(k), "good") for k in range(10)] + [(b"", "bad")] * 5
    source = open_source(kind(tmp_path / "d", examples, size=8))
    with pytest.raises(DataError, match=r"skipped \(empty file \d+\), more than data\.max_bad"):
        source.batch(0, 300)


def test_files_that_go_away_while_training_are_left_out(tmp_path):
    examples = [(png(k), f"caption {k}") for k in range(12)]
    settings = folder(tmp_path / "d", examples, size=8, max_bad=0.9)
    source = open_source(settings)
    (tmp_path / "d" / "003.png").unlink()
    (tmp_path / "d" / "004.png").unlink()
    (tmp_path / "d" / "004.png").mkdir()
    (tmp_path / "d" / "005.png").unlink()
    os.mkfifo(tmp_path / "d" / "005.png")  # reading it would wait for ever
    (tmp_path / "d" / "006.png").unlink()
    (tmp_path / "d" / "006.png").symlink_to("006.png")  # reading it fails, whoever runs this test
    batch = source.batch(0, 12)
    reasons = {"missing file": 1, "not a file": 2, "unreadable file": 1}
    assert dict(source.skipped) == reasons
    assert not {f"caption {k}" for k in (3, 4, 5, 6)} & set(batch.captions)


def test_shards_that_go_away_while_training_end_in_a_message(tmp_path):
    source = open_source(shards(tmp_path / "d", [(png(1), "one")], size=8))
    (tmp_path / "d" / "00000.tar").unlink()
    with pytest.raises(DataError, match="missing file"):
        source.batch(0, 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_that_cannot_be_read_are_left_out(tmp_path, monkeypatch, workers):
    examples = [(png(k), f"caption {k}") for k in range(12)]
    settings = huggingface(tmp_path / "d", examples, size=8, workers=workers)
    source = open_source(settings)
    rows = source.rows.rows

    class Damaged:
        def __len__(self):
            return len(rows)

        def __getitem__(self, number):
            if number == 5:
                raise ValueError("a page of the file is damaged")
            return rows[number]

    monkeypatch.setattr(source.rows, "rows", Damaged())
    assert "caption 5" not in source.batch(0, 12).captions
    assert dict(source.skipped) == {"unreadable row": 1}


def test_threads_read_one_stream(tmp_path):
    examples = [(png(k % 20), f"caption {k}") for k in range(40)] + [(b"", "damaged")] * 4
    settings = huggingface(tmp_path / "d", examples, size=8, max_bad=0.9, streaming=True, window=7)
    alone = open_source({**settings, "workers": 1}).batch(0, 88)
    together = open_source({**settings, "workers": 4}).batch(0, 88)
    assert together.captions == alone.captions
    assert torch.equal(together.images, alone.images)


def test_several_sources_leave_damage_out_too(tmp_path):
    sources = {
        name: folder(tmp_path / name, [(b"", "bad"), (png(1), name), (png(2), name)], size=8)
        for name in ("instance", "prior")
    }
    for settings in (
        {"kind": "dreambooth", **sources},
        {"kind": "mixture", "sources": list(sources.values())},
    ):
        source = open_source(settings)
        assert set(source.batch(0, 12).captions) == {"instance", "prior"}
        assert source.skipped["empty file"] >= 2


NO_TEXT = {
    "null": None,
    "a list of other things": [3],
    "a dict": {"en": "a dog"},
    "NaN": float("nan"),
    "a number": 7,
    "half a surrogate pair": "\ud83d",
}


@pytest.mark.parametrize("name", NO_TEXT)
def test_captions_of_shards_that_are_no_text_are_left_out(tmp_path, name):
    rows = [{"alt": f"caption {k}"} for k in range(9)] + [{"alt": NO_TEXT[name]}]
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for k, row in enumerate(rows):
            for suffix, data in (("png", png(k)), ("json", json.dumps(row).encode())):
                header = tarfile.TarInfo(f"{k}.{suffix}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    settings = {"kind": "shards", "path": str(tmp_path / "t.tar"), "caption": "json:alt"}
    source = open_source({**settings, "size": 8, "max_bad": 0.9})
    good = {f"caption {k}" for k in range(9)}
    assert set(source.batch(0, 10).captions) == set(source.captions()) == good
    reason = {"null": "no caption", "half a surrogate pair": "caption not UTF-8"}
    assert {r: n for r, n in source.skipped.items() if n} == {
        reason.get(name, "caption not text"): 1
    }


@pytest.mark.parametrize("values", [[1, 2, 3], [0.5, float("nan"), 1.0], [{"a": "b"}] * 3])
def test_columns_that_are_no_text_are_never_captions(tmp_path, values):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    images = [{"bytes": png(k), "path": None} for k in range(3)]
    rows = datasets.Dataset.from_dict({"image": images, "text": values})
    rows.to_parquet(tmp_path / "train.parquet")
    source = open_source({"kind": "huggingface", "path": str(tmp_path), "size": 8})
    assert list(source.captions()) == []
    with pytest.raises(DataError, match="caption not text"):
        source.batch(0, 1)


def metadata(path, rows):
    path.mkdir(exist_ok=True)
    for k in range(len(rows)):
        (path / f"{k}.png").write_bytes(png(k))
    lines = (json.dumps({"file_name": f"{k}.png", "text": row}) for k, row in enumerate(rows))
    (path / "metadata.jsonl").write_text("\n".join(lines))
    return {"kind": "folder", "path": str(path), "size": 8}


@pytest.mark.parametrize("name", NO_TEXT)
def test_captions_of_metadata_that_are_no_text_are_refused_at_the_start(tmp_path, name):
    settings = metadata(tmp_path, ["a dog", NO_TEXT[name], "a cat"])
    if name == "null":  # it says that there is no caption
        with pytest.raises(DataError, match=r"1 of the pictures .* have no caption, .*1\.png"):
            open_source(settings)
        assert "an animal" in list(open_source({**settings, "caption": "an animal"}).captions())
        return
    with pytest.raises(DataError, match=r"metadata\.jsonl, line 2: caption not"):
        open_source(settings)
    assert len(scan(tmp_path).problems) == 1


def test_of_several_captions_the_first_is_taken(tmp_path):
    source = open_source(metadata(tmp_path, [["a dog", "a small dog"], "a cat"]))
    assert sorted(source.captions()) == ["a cat", "a dog"]


def test_a_line_of_metadata_ends_at_a_line_feed_alone(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1))
    row = {"file_name": "a.png", "text": "one\u2028two\x85three"}
    text = "\ufeff" + json.dumps(row, ensure_ascii=False) + "\r\n"
    (tmp_path / "metadata.jsonl").write_bytes(text.encode())
    assert [entry.caption for entry in scan(tmp_path).entries] == [row["text"]]


@pytest.mark.parametrize("data", [b"\xff\xfa", b"[]", b'{"file_name": null}', b"[" * 100_000])
def test_metadata_that_is_none_is_refused_with_its_name(tmp_path, data):
    (tmp_path / "metadata.jsonl").write_bytes(data)
    with pytest.raises(DataError, match=r"metadata\.jsonl"):
        open_source({"kind": "folder", "path": str(tmp_path)})


def test_a_text_that_is_not_utf_8_is_refused_at_the_start(tmp_path):
    settings = folder(tmp_path / "d", [(png(1), "good"), (png(2), "")], size=8)
    (tmp_path / "d" / "001.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(DataError, match=r"001\.txt is not text in UTF-8"):
        open_source(settings)


def test_a_folder_whose_name_ends_like_a_picture_is_no_picture(tmp_path):
    settings = folder(tmp_path / "d", [(png(1), "good")], size=8)
    (tmp_path / "d" / "set.png").mkdir()
    assert len(open_source(settings)) == 1
