"""Folders, tables, photographs and tar files that other programs wrote."""

import shutil
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from open_imagen.data import open_source
from open_imagen.data.files import SUFFIXES
from open_imagen.data.folder_scan import Layout, scan
from open_imagen.data.images import SkippedExample, decode, header_size
from open_imagen.errors import DataError, OpenImagenWarning

FOREIGN = Path(__file__).parents[1] / "foreign"
PHOTOGRAPHS = FOREIGN / "photographs"
ORANGE = (200, 80, 40)


def picture(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 16), (value, 0, 0)).save(path)


def opened(path, **more):
    return open_source({"kind": "folder", "path": str(path), "size": 8, **more})


@pytest.mark.parametrize(
    "name",
    [
        *("adobe-rgb.jpg", "prophoto.png", "srgb.png", "heif.avif", "lzw.tif", "jpeg.jfif"),
        *("jpeg2000.jp2", "plain.ppm", "plain.tga"),
    ],
)
def test_photographs_have_the_colour_that_was_meant(name):
    assert decode((PHOTOGRAPHS / name).read_bytes()).getpixel((3, 3)) == pytest.approx(
        ORANGE, abs=2
    )
    assert Path(name).suffix in SUFFIXES


def test_a_profile_of_a_transparent_image_is_applied_too():
    over_white = [255 + (c - 255) * 128 // 255 for c in ORANGE]
    found = decode((PHOTOGRAPHS / "adobe-rgb-alpha.png").read_bytes()).getpixel((3, 3))
    assert found == pytest.approx(over_white, abs=2)


def test_floats_of_0_to_1_are_seen():
    assert decode((PHOTOGRAPHS / "gray-float.tiff").read_bytes()).getpixel((3, 3))[0] > 90


def test_a_turned_photograph_has_its_own_width(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (24, 16)).save(tmp_path / "turned.jpg", exif=exif)
    data = (tmp_path / "turned.jpg").read_bytes()
    assert header_size(data) == decode(data).size == (16, 24)


def test_a_damaged_profile_costs_no_image(tmp_path):
    image = Image.new("RGB", (8, 8), ORANGE)
    image.save(tmp_path / "a.png", icc_profile=b"no profile at all")
    assert decode((tmp_path / "a.png").read_bytes()).getpixel((3, 3)) == ORANGE


def test_formats_that_are_not_read_are_counted_and_named(tmp_path):
    picture(tmp_path / "a.png")
    shutil.copy(PHOTOGRAPHS / "heif.heic", tmp_path / "IMG_0001.HEIC")
    shutil.copy(PHOTOGRAPHS / "heif.heic", tmp_path / "IMG_0002.HEIC")
    (tmp_path / "drawing.svg").write_text("<svg/>")
    with pytest.warns(OpenImagenWarning, match=r"formats that are not read: 2 \.heic, 1 \.svg"):
        assert len(opened(tmp_path, caption="x")) == 1
    with pytest.raises(SkippedExample, match="not a picture"):
        decode((PHOTOGRAPHS / "heif.heic").read_bytes())


def test_every_suffix_is_read(tmp_path):
    for name in ("a.gif", "b.TIF", "c.tiff", "d.avif", "e.jfif", "f.JPG", "g.webp", "h.bmp"):
        kind = {"jfif": "JPEG", "tif": "TIFF", "jpg": "JPEG"}.get(
            name[2:].lower(), name[2:].upper()
        )
        Image.new("RGB", (8, 8), ORANGE).save(tmp_path / name, format=kind)
    assert len(opened(tmp_path, caption="x").batch(0, 8).captions) == 8


def test_what_systems_and_notebooks_leave_behind_is_passed_over(tmp_path):
    picture(tmp_path / "a.png")
    for name in ("._a.png", ".ipynb_checkpoints/a-checkpoint.png", "__MACOSX/a.png", ".b/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7 Mac OS X")
    picture(tmp_path / "set.png" / "inside.png")  # a folder that is named as a picture
    source = opened(tmp_path, caption="x")
    assert [entry.image.name for entry in source.entries] == ["a.png", "inside.png"]
    source.batch(0, 4)
    assert not source.skipped


def test_links_to_folders_are_followed_and_circles_end(tmp_path):
    data = tmp_path / "data"
    picture(tmp_path / "elsewhere" / "a.png")
    picture(data / "b.png")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "circle").symlink_to(data)
    (data / "gone.png").symlink_to(tmp_path / "nothing.png")
    source = opened(data, caption="x", max_bad=0.9)
    assert sorted(e.image.name for e in source.entries) == ["a.png", "b.png", "gone.png"]
    source.batch(0, 3)
    assert source.skipped == {"missing file": 1}


def test_caption_files_are_found_as_systems_spell_them(tmp_path):
    names = {"UPPER.PNG": "upper.txt", "b.jpg": "b.jpg.txt", "c.png": "c.caption"}
    names["caf\u00e9.png"] = unicodedata.normalize("NFD", "caf\u00e9.txt")
    for image, text in names.items():
        picture(tmp_path / image)
        (tmp_path / text).write_text(image)
    assert {e.image.name: e.caption for e in scan(tmp_path).entries} == {n: n for n in names}


def test_home_folders_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    picture(tmp_path / "mine" / "a.png")
    assert opened("~/mine", caption="x").batch(0, 1).captions == ["x"]


@pytest.fixture
def pictures(tmp_path):
    """The pictures that the tables of foreign/metadata name; one in macOS's spelling."""
    accented = unicodedata.normalize("NFD", "caf\u00e9.png")
    for k, name in enumerate(("train/a.png", "train/b.png", accented, "d.png")):
        picture(tmp_path / name, 50 * k)
    return tmp_path


@pytest.mark.parametrize(
    "table, name",
    [
        ("with-index.csv", "metadata.csv"),
        ("excel-germany.csv", "metadata.csv"),
        ("records.jsonl", "metadata.jsonl"),
        ("powershell.jsonl", "metadata.jsonl"),
        ("table.parquet", "metadata.parquet"),
    ],
)
def test_tables_of_pandas_are_read(pictures, table, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    shutil.copy(FOREIGN / "metadata" / table, pictures / name)
    found = scan(pictures)
    assert not found.problems
    captions = {unicodedata.normalize("NFC", e.image.name): e.caption for e in found.entries}
    assert captions == {
        "a.png": "a cat, sitting",
        "b.png": 'the word "hi"',
        "caf\u00e9.png": "a caf\u00e9 in\ntwo lines",
    }
    assert [path.name for path in found.without_caption] == ["d.png"]
    both = scan(pictures, Layout(columns=("text", "text2"))).entries
    assert {e.image.name: e.captions for e in both}["d.png"] == ("", "dee")
    source = opened(pictures, caption_columns=["text", "text2"], where="score > 5")
    assert sorted(e.image.name for e in source.entries) == ["a.png", "b.png"]


def test_tables_in_subfolders_and_other_columns_are_read(tmp_path):
    for folder in ("one", "two"):
        picture(tmp_path / folder / "a.png")
        (tmp_path / folder / "metadata.csv").write_text(f"image,label\na.png,{folder}\n")
    settings = {"caption_columns": ["label"], "file_column": "image"}
    assert sorted(opened(tmp_path, **settings).captions()) == ["one", "two"]
    with pytest.raises(DataError, match="no column 'file_name'; it has image, label") as caught:
        opened(tmp_path)
    assert "data.file_column" in caught.value.hint
    with pytest.raises(DataError, match="no column 'text' of captions") as caught:
        opened(tmp_path, file_column="image")
    assert "data.caption_columns to one of: label" in caught.value.hint


def test_pictures_that_a_table_does_not_list_are_named(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "b.txt").write_text("bee")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "ay"}\n')
    with pytest.warns(
        OpenImagenWarning, match=r"1 pictures that the metadata does not list.*c\.png"
    ):
        assert sorted(opened(tmp_path).captions()) == ["ay", "bee"]
    assert sorted(opened(tmp_path, caption="x").captions()) == ["ay", "bee", "x"]


def test_a_few_bad_captions_are_left_out_and_counted(tmp_path):
    for k in range(30):
        picture(tmp_path / f"{k}.png")
        (tmp_path / f"{k}.txt").write_bytes(b"\xff" if k == 3 else b"fine")
    source = opened(tmp_path)
    assert len(source) == 29
    assert source.skipped == {"caption not UTF-8": 1}
    with pytest.raises(DataError, match=r"1 of the captions in .*3\.txt is not text in UTF-8"):
        opened(tmp_path, max_bad=0.03)


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar", "v7"])
def test_shards_of_gnu_tar_are_read(form):
    path = str(FOREIGN / "shards" / f"{form}.tar")
    source = open_source({"kind": "shards", "path": path, "size": 8})
    number = 3 if form in ("gnu", "posix") else 2
    batch = source.batch(0, number)
    wanted = [(40, "caption 1"), (80, "caption 1"), (120, "caption 3")][:number]
    assert (
        sorted((int(i[0, 4, 4]), c) for i, c in zip(batch.images, batch.captions, strict=True))
        == wanted
    )
    assert not source.skipped
    settings = {"kind": "shards", "path": path, "size": 8, "where": "score >= 2"}
    filtered = open_source(settings)
    assert (filtered.batch(0, number).images[:, 0, 4, 4] >= 80).all()
    assert filtered.skipped == {"left out by data.where": 1}


def test_packed_shards_are_told():
    with pytest.raises(DataError, match="compressed"):
        open_source({"kind": "shards", "path": str(FOREIGN / "shards" / "packed.tar.zst")})
