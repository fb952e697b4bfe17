"""Tar shards: read as tarfile reads them, every example once, damage counted by reason."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.data import open_source
from open_imagen.data.shard_names import expand
from open_imagen.data.tar import LocalReader, scan
from open_imagen.errors import ConfigError, DataError, OpenImagenWarning
from open_imagen.training import Trainer, read_recipe
from open_imagen.training.callbacks import Log
from standins import WordEncoder


def picture(value=0, size=(40, 30), mode="RGB", kind="PNG", **more):
    data = io.BytesIO()
    Image.new(mode, size, value).save(data, format=kind, **more)
    return data.getvalue()


def colour(k):
    return (k % 7 * 30, k // 7 * 30, 99)


def good(k, **more):
    """The members of a usable example whose picture says which it is."""
    return {"png": picture(colour(k), **more), "txt": f"caption {k}\n".encode(), "json": b"{}"}


def write(path, examples, form=tarfile.USTAR_FORMAT):
    with tarfile.open(path, "w", format=form) as tar:
        for key, members in examples.items():
            for suffix, data in members.items():
                header = tarfile.TarInfo(f"{key}.{suffix}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))


@pytest.fixture
def folder(tmp_path):
    """Three shards of 10, 1 and 12 examples, as img2dataset names them."""
    begin = 0
    for number, count in enumerate((10, 1, 12)):
        examples = {f"{number:05d}{k:04d}": good(k) for k in range(begin, begin + count)}
        write(tmp_path / f"{number:05d}.tar", examples)
        begin += count
    return tmp_path


def open_shards(path, **more):
    return open_source({"kind": "shards", "path": str(path), "size": 8, **more})


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_index_is_tarfile_s(tmp_path, form):
    keys = ["a", "sub/b", "long/" + "x" * 90 + "/" + "k" * 120 if form else "c", "d.e"]
    if form != tarfile.USTAR_FORMAT:
        keys.append("\u00e9t\u00e9" * 40)
    write(tmp_path / "t.tar", {key: good(1) for key in keys if len(key) < 100 or form}, form)
    reader = LocalReader(str(tmp_path / "t.tar"))
    found = scan(reader)
    assert found.whole
    wanted = {}
    with tarfile.open(tmp_path / "t.tar") as tar:
        for member in tar:
            wanted[member.name] = (member.offset_data, member.size)
    ours = {
        f"{example.key}.{suffix}": place
        for example in found.examples
        for suffix, place in example.members.items()
    }
    assert ours == wanted


@pytest.mark.parametrize("window", [0, 2])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_example_comes_once_an_epoch_and_is_a_function_of_its_position(
    folder, window, workers
):
    source = open_shards(folder, window=window, workers=workers)
    assert len(source) == 23
    epochs = [source.batch(23 * e, 23) for e in range(2)]
    for epoch in epochs:
        assert sorted(epoch.captions) == sorted(f"caption {k}" for k in range(23))
        for image, caption in zip(epoch.images, epoch.captions, strict=True):
            wanted = torch.tensor(colour(int(caption.split()[1])), dtype=torch.uint8)
            assert (image == wanted[:, None, None]).all()
    assert epochs[0].captions != epochs[1].captions
    again = open_shards(folder, window=window, workers=1).batch(17, 11)
    assert again.captions == (epochs[0].captions + epochs[1].captions)[17:28]
    assert sorted(source.captions()) == sorted(epochs[0].captions)


def test_ranks_share_a_global_batch_without_overlap(folder):
    whole = open_shards(folder).batch(4, 8)
    parts = [open_shards(folder).batch(4 + 4 * rank, 4) for rank in range(2)]
    assert whole.captions == parts[0].captions + parts[1].captions


def test_crops_and_their_low_resolution_fit_each_other(folder):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, format="PNG")
    (folder / "n").mkdir()
    write(folder / "n" / "t.tar", {"a": {"png": data.getvalue(), "txt": b"noise"}})
    source = open_shards(folder / "n", size=64, crop=32, lowres=16)
    batch = source.batch(0, 6)
    assert batch.images.shape == (6, 3, 32, 32)
    pooled = torch.nn.functional.avg_pool2d(batch.images.float(), 4)
    torch.testing.assert_close(batch.lowres.float(), pooled, rtol=0, atol=0.51)
    assert len({bytes(image.numpy().tobytes()) for image in batch.images}) > 1
    assert torch.equal(source.batch(3, 1).images[0], batch.images[3])


def test_captions_can_come_from_the_json(folder):
    (folder / "j").mkdir()
    members = {"jpg": picture(kind="JPEG"), "json": json.dumps({"alt": "from json"}).encode()}
    write(folder / "j" / "t.tar", {"a": members})
    assert open_shards(folder / "j", caption="json:alt").batch(0, 1).captions == ["from json"]
    with pytest.raises(DataError, match="no caption"):
        open_shards(folder / "j").batch(0, 1)


def exif_rotated():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (0, 0, 20, 20))
    data = io.BytesIO()
    wide.save(data, format="JPEG", exif=exif, quality=95)
    return data.getvalue()


def sixteen_bits():
    data = io.BytesIO()
    values = np.full((20, 20), 32896, dtype=np.uint16)
    Image.fromarray(values).save(data, format="PNG")
    return data.getvalue()


def palette_with_alpha():
    image = Image.new("P", (20, 20), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    data = io.BytesIO()
    image.save(data, format="PNG", transparency=0)
    return data.getvalue()


def animated():
    frames = [Image.new("P", (20, 20), k) for k in range(2)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 0, 255])
    data = io.BytesIO()
    frames[0].save(data, format="GIF", save_all=True, append_images=frames[1:])
    return data.getvalue()


ODD = {
    "CMYK": (picture((0, 255, 255, 0), mode="CMYK", kind="JPEG"), (254, 0, 0), 3),
    "sixteen bits": (sixteen_bits(), (128, 128, 128), 1),
    "palette with alpha": (palette_with_alpha(), (255, 255, 255), 0),
    "animated": (animated(), (255, 0, 0), 0),
    "transparent": (picture((255, 0, 0, 0), mode="RGBA"), (255, 255, 255), 0),
    "grey": (picture(77, mode="L"), (77, 77, 77), 0),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_pictures_are_seen_as_they_are_meant(tmp_path, kind):
    data, wanted, tolerance = ODD[kind]
    write(tmp_path / "t.tar", {"a": {"png": data, "txt": b"odd"}})
    found = open_shards(tmp_path).batch(0, 1).images[0, :, 4, 4].tolist()
    assert found == pytest.approx(wanted, abs=tolerance)


def test_a_rotated_photograph_is_turned_upright(tmp_path):
    write(tmp_path / "t.tar", {"a": {"jpg": exif_rotated(), "txt": b"odd"}})
    image = open_shards(tmp_path).batch(0, 1).images[0]
    assert image[2, 1, 4] > 200  # blue is above, red below
    assert image[0, 6, 4] > 200


def noisy_jpeg():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, format="JPEG")
    return data.getvalue()


BAD = {
    "empty file": {"jpg": b"", "txt": b"a"},
    "not a picture": {"jpg": b"<html>not found</html>", "txt": b"a"},
    "damaged picture": {"jpg": noisy_jpeg()[:1500], "txt": b"a"},
    "too many pixels": {"png": picture(size=(300, 300), mode="1"), "txt": b"a"},
    "caption not UTF-8": {"png": picture(), "txt": b"caf\xe9"},
    "empty caption": {"png": picture(), "txt": b" \n"},
    "no caption": {"png": picture(), "json": b"{}"},
    "no picture": {"txt": b"a", "json": b"{}"},
}


def cut_short(path, member):
    """A tar that ends inside this member."""
    with tarfile.open(path) as tar:
        end = tar.getmember(member).offset_data + 10
    path.write_bytes(path.read_bytes()[:end])


def test_what_cannot_be_used_is_left_out_and_counted_by_reason(tmp_path):
    planted = {}
    examples = {f"{k:04d}": good(k) for k in range(100)}
    for number, (reason, members) in enumerate(BAD.items()):
        planted[reason] = 1 + number % 3
        for k in range(planted[reason]):
            examples[f"bad{number}{k}"] = members
    write(tmp_path / "00000.tar", examples)
    # A download that broke off: the header of the third example promises more than there is.
    write(tmp_path / "00001.tar", {f"1{k}": good(k) for k in range(100, 103)})
    cut_short(tmp_path / "00001.tar", "1102.png")
    planted["truncated tar"] = 1

    source = open_shards(tmp_path, max_bad=0.5, max_pixels=80_000, workers=2)
    assert len(source) == 100 + sum(planted.values()) - 1 + 2
    epoch = source.batch(0, len(source))
    assert dict(source.skipped) == planted
    usable = {f"caption {k}" for k in range(102)}
    assert set(epoch.captions) == usable
    # Stand-ins depend on the position alone, too.
    again = open_shards(tmp_path, max_bad=0.5, max_pixels=80_000).batch(40, 30)
    assert again.captions == epoch.captions[40:70]


def test_a_run_goes_through_two_per_cent_of_damage_of_twelve_kinds(tmp_path):
    odd = {f"odd{k}": {"png": data, "txt": b"odd"} for k, (data, *_) in enumerate(ODD.values())}
    odd = {key: odd[key] for key in list(odd)[:4]}  # CMYK, sixteen bits, palette, animated
    odd["turned"] = {"jpg": exif_rotated(), "txt": b"odd"}
    kinds = ["empty file", "not a picture", "too many pixels", "caption not UTF-8", "empty caption"]
    bad = {f"bad {kind}": BAD[kind] for kind in [*kinds, "no picture"]}  # and a truncated tar
    members = [*({f"{k:04d}": good(k % 49)} for k in range(600 - len(odd) - len(bad)))]
    for k, (key, one) in enumerate({**odd, **bad}.items()):
        members.insert(50 * k + 7, {key: one})
    for number in range(0, 600, 100):
        shard = {key: m for one in members[number : number + 100] for key, m in one.items()}
        write(tmp_path / f"{number // 100:05d}.tar", shard)
    cut_short(tmp_path / "00005.tar", f"{next(iter(members[-1]))}.png")

    settings = (
        f"out={tmp_path / 'run'}",
        f"data={{kind='shards', path='{tmp_path}', size=64, max_pixels=80_000}}",
        "train.images=600",
        "train.batch_size=100",
        "train.sample_every=0",
        "train.save_every=600",
        "train.log_every=100",
        "train.precision=fp32",
    )
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "tiny.toml", settings)
    source = open_source(recipe.data)
    assert len(source) == 599
    with pytest.warns(OpenImagenWarning, match=r"smaller than\s+data.size = 64 and are enlarged"):
        assert Trainer(recipe, source, WordEncoder(), [Log(recipe.folder)]).fit()
    last_line = (tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1]
    wanted = dict.fromkeys([*kinds, "no picture", "truncated tar"], 1)
    found = json.loads(last_line)["skipped"]
    # One epoch and the first example of the next, which may be one of them again.
    first = source.skipped - Counter(wanted)
    assert sum(first.values()) <= 1
    assert {kind: n - first[kind] for kind, n in found.items()} == wanted


def test_too_many_skipped_examples_stop_the_run_with_the_counts(tmp_path):
    examples = {f"{k:04d}": good(k) for k in range(80)}
    examples |= {f"bad{k}": BAD["not a picture"] for k in range(40)}
    write(tmp_path / "t.tar", examples)
    source = open_shards(tmp_path)
    source.batch(0, 100)
    with pytest.raises(DataError, match=r"skipped \(not a picture \d+\), more than") as caught:
        source.batch(100, 140)
    assert "data.max_bad" in caught.value.hint


@pytest.mark.parametrize(
    "settings, error, message",
    [
        ({"path": "nowhere/*.tar"}, DataError, "no tar file"),
        ({"path": ".", "lowres": 3}, ConfigError, "must divide"),
        ({"path": ".", "crop": 16}, ConfigError, "data.crop = 16"),
        ({"path": ".", "max_bad": 2.0}, ConfigError, "data.max_bad = 2"),
        ({"path": ".", "workers": 0}, ConfigError, "data.workers"),
        ({"path": "nothing://x/t.tar"}, DataError, "cannot be read"),
    ],
)
def test_wrong_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        open_source({"kind": "shards", "size": 8, **settings})


def test_shards_that_hold_nothing_are_told(tmp_path):
    write(tmp_path / "t.tar", {})
    with pytest.raises(DataError, match="no example"):
        open_shards(tmp_path)


def test_shards_are_read_from_urls(folder):
    url = f"file://{folder}/{{00000..00002}}.tar"
    assert expand(url)[2].endswith("/00002.tar")
    assert open_shards(url).batch(0, 9).captions == open_shards(folder).batch(0, 9).captions


def test_a_mixture_takes_turns_in_exact_shares(folder, tmp_path):
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "t.tar", {f"o{k}": good(k + 30) for k in range(5)})
    settings = {
        "kind": "mixture",
        "sources": [
            {"kind": "shards", "path": str(folder), "size": 8, "weight": 3.0},
            {"kind": "shards", "path": str(tmp_path / "other"), "size": 8},
        ],
    }
    source = open_source(settings)
    assert len(source) == 28
    captions = [c for k in range(0, 1000, 100) for c in source.batch(k, 100).captions]
    others = [c for c in captions if int(c.split()[1]) >= 30]
    assert len(others) == 250
    assert source.batch(510, 20).captions == captions[510:530]
    with pytest.raises(ConfigError, match="weight above 0"):
        open_source({**settings, "sources": [{**settings["sources"][1], "weight": 0.0}]})
