"""Data and stage are compared before the first step: sides, channels, captions, text."""

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.config import parse
from open_imagen.data import SOURCES
from open_imagen.errors import ConfigError, DataError, UnknownName
from open_imagen.models import registry
from open_imagen.training import data_check
from open_imagen.training.data_check import check_batch, check_data, check_examples, check_text
from open_imagen.training.loop import Trainer
from open_imagen.training.recipe import read_recipe
from open_imagen.types import Batch
from open_imagen.worlds.sources import open_source
from standins import Pids, WordEncoder

RECIPES = Path(__file__).parents[2] / "recipes"
BASE, SR, SR1024 = (RECIPES / f"tiny{name}.toml" for name in ("", "-sr256", "-sr1024"))


def write_folder(path):
    path.mkdir()
    Image.new("RGB", (80, 80), "red").save(path / "a.png")
    (path / "a.txt").write_text("a red square")
    return {"kind": "folder", "path": str(path)}


def write_shards(path):
    write_folder(path)
    with tarfile.open(path / "t.tar", "w") as tar:
        for suffix in ("png", "txt"):
            tar.add(path / f"a.{suffix}", f"a.{suffix}")
    return {"kind": "shards", "path": str(path)}


def write_rows(path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    path.mkdir()
    data = io.BytesIO()
    Image.new("RGB", (80, 80)).save(data, format="PNG")
    images = [{"bytes": data.getvalue(), "path": None}]
    datasets.Dataset.from_dict({"image": images, "text": ["a"]}).to_parquet(path / "t.parquet")
    return {"kind": "huggingface", "path": str(path)}


def settings_of(kind, path, monkeypatch, **more):
    """Settings of each kind of data with the same sides, and the section that says them."""
    if kind == "shapes":
        return {"kind": "shapes", **more}, "data"
    if kind == "folder":
        return {**write_folder(path), **more}, "data"
    if kind == "shards":
        return {**write_shards(path), **more}, "data"
    if kind == "huggingface":
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", path.parent / "cache")
        return {**write_rows(path), **more}, "data"
    good = {"kind": "shapes", "size": 64}
    if kind == "mixture":
        bad = {**write_folder(path), **more, "weight": 2.0}
        return {"kind": "mixture", "sources": [good, bad]}, "data.sources[1]"
    return {"kind": "dreambooth", "instance": good, "prior": {**write_folder(path), **more}}, (
        "data.prior"
    )


@pytest.mark.parametrize(
    "kind", ["shapes", "folder", "shards", "huggingface", "mixture", "dreambooth"]
)
def test_every_kind_of_data_is_compared_with_the_stage(kind, tmp_path, monkeypatch):
    stage = read_recipe(BASE).stage
    good, _ = settings_of(kind, tmp_path / "good", monkeypatch, size=64)
    source = open_source(good)
    check_data(stage, source)
    check_examples(stage, source)
    bad, section = settings_of(kind, tmp_path / "bad", monkeypatch, size=32)
    with pytest.raises(ConfigError) as caught:
        check_data(stage, open_source(bad))
    assert str(caught.value) == (
        f"{section}.size = 32 does not fit stage.resolution = 64: set {section}.size = 64."
    )


MISFITS = {
    "a base with low-resolution inputs": (
        *(BASE, {"size": 64, "lowres": 16}),
        "data.lowres = 16 does not fit stage.lowres = 0 of a base stage: set data.lowres = 0",
    ),
    "super-resolution with a recipe of a base": (
        *(BASE, {"size": 256, "lowres": 64}),
        "data.lowres = 64 does not fit stage.lowres = 0 of a base stage: set data.lowres = 0",
    ),
    "super-resolution without": (
        *(SR, {"size": 256}),
        "data.lowres = 0 does not fit stage.lowres = 64: set data.lowres = 64",
    ),
    "another factor": (
        *(SR, {"size": 256, "lowres": 128}),
        "data.lowres = 128 does not fit stage.lowres = 64: set data.lowres = 64.",
    ),
    "crops of images that are larger than the stage's": (
        *(SR, {"size": 512, "crop": 256, "lowres": 64}),
        "set data.lowres = 128, because data.size = 512 and stage.resolution = 256.",
    ),
    "another side": (
        *(SR, {"size": 128, "lowres": 64}),
        "data.size = 128 does not fit stage.resolution = 256: set data.size = 256",
    ),
    "crops of a base": (
        *(BASE, {"size": 64, "crop": 32}),
        "data.crop = 32 does not fit stage.resolution = 64: a base stage",
    ),
    "crops that are too large": (
        *(SR, {"size": 512, "crop": 512, "lowres": 128}),
        "data.size = 512 does not fit stage.resolution = 256",
    ),
    "crops larger than the stage": (
        *(SR, {"size": 1024, "crop": 512, "lowres": 256}),
        "data.crop = 512 does not fit stage.resolution = 256: set data.crop = 256",
    ),
    "crops of larger images": (
        *(SR, {"size": 512, "crop": 128, "lowres": 128}),
        "data.crop = 128 does not fit stage.resolution = 256 with data.size = 512",
    ),
    "crops that the network cannot halve": (
        *(SR, {"size": 256, "crop": 100, "lowres": 64}),
        "multiples of 32: set data.crop = 96",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_messages_name_both_settings_and_the_way_out(name, tmp_path):
    path, data, message = MISFITS[name]
    config = read_recipe(path)
    source = open_source({"kind": "shapes", "num_captions": 5, **data})
    with pytest.raises(ConfigError) as caught:
        check_data(config.stage, source)
    assert message in str(caught.value)
    with pytest.raises(ConfigError):  # every run goes through it
        Trainer(config, source, WordEncoder())


@pytest.mark.parametrize(
    "path, data",
    [
        (BASE, {"size": 64}),
        (BASE, {"size": 72, "crop": 64}),
        (SR, {"size": 256, "lowres": 64}),
        (SR, {"size": 256, "crop": 128, "lowres": 64}),
        (SR, {"size": 512, "crop": 256, "lowres": 128}),
        (SR1024, {"size": 1024, "crop": 256, "lowres": 256}),
    ],
)
def test_what_fits_is_learned_from(path, data):
    stage = read_recipe(path).stage
    source = open_source({"kind": "shapes", "num_captions": 5, **data})
    check_data(stage, source)
    check_examples(stage, source)


def leaf(settings, section):
    """A source that was never opened: its data need not be on this machine."""
    config_class, source_class = SOURCES[settings["kind"]]
    config, channels = (
        parse(config_class, settings, f"{section}."),
        getattr(source_class, "channels", 3),
    )
    return SimpleNamespace(config=config, channels=channels, captions=lambda: iter(["a"]))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_our_recipes_pass(path):
    try:
        config = read_recipe(path)
    except (UnknownName, DataError) as error:
        pytest.skip(f"it begins from what is not here: {error}")
    for section in ("data", "validation"):
        if settings := getattr(config, section):
            check_data(config.stage, leaf(settings, section), section)


def test_sides_that_the_network_cannot_halve_are_named_before_the_data():
    stage = read_recipe(BASE, ("stage.resolution=63",)).stage
    with pytest.raises(ConfigError, match=r"multiples of 16: set stage\.resolution = 64"):
        check_data(stage, open_source({"kind": "shapes", "size": 64, "num_captions": 5}))
    with pytest.raises(ConfigError, match="lowres = -64 must be at least 0"):
        read_recipe(SR, ("stage.lowres=-64",))


def test_crops_need_a_network_that_is_not_told_positions(tmp_path):
    network = "stage.network={preset='small-base-64', lowres=true, positions=4}"
    config = read_recipe(SR, (network,))
    with pytest.raises(ConfigError, match=r"data\.crop = 128 .* stage\.network\.positions = 4"):
        check_data(config.stage, open_source(config.data))


@pytest.mark.parametrize(
    "path, setting, message",
    [
        (BASE, "stage.lowres=16", "stage.lowres = 16 does not fit stage.network 'tiny-base-64'"),
        (SR, "stage.lowres=0", "stage.lowres = 0 does not fit stage.network 'tiny-sr-256'"),
    ],
)
def test_a_stage_and_its_network_agree_on_what_they_enlarge(path, setting, message):
    config = read_recipe(path, (setting,))
    with pytest.raises(ConfigError, match=message):
        check_data(config.stage, open_source(config.data))


def test_parts_of_a_mixture_are_of_one_side():
    sized = {"kind": "shapes", "size": 256, "lowres": 64}
    parts = [{**sized, "crop": crop} for crop in (128, 64)]
    source = open_source({"kind": "mixture", "sources": parts})
    message = r"data\.sources\[1\] have sides of 64 and those of data\.sources\[0\] of 128"
    with pytest.raises(ConfigError, match=message):
        check_data(read_recipe(SR).stage, source)


@pytest.mark.parametrize("of_data, of_network", [(3, 4), (4, 3)])
def test_channels_are_compared(monkeypatch, of_data, of_network):
    config = read_recipe(BASE)
    source = open_source(config.data)
    monkeypatch.setattr(source, "channels", of_data, raising=False)

    def resolve(settings):
        name, network = registry.resolve(settings)
        own = {**vars(network), "divisor": network.divisor, "image_channels": of_network}
        return name, SimpleNamespace(**own)

    monkeypatch.setattr(data_check, "resolve", resolve)
    message = rf"have {of_data} channels .* stage\.network\.image_channels = {of_network}: set"
    with pytest.raises(ConfigError, match=message):
        check_data(config.stage, source)


def test_there_must_be_a_caption(tmp_path):
    settings = {**write_shards(tmp_path / "d"), "caption": "json:text", "size": 64}
    with pytest.raises(DataError, match="no usable caption in data"):
        check_data(read_recipe(BASE).stage, open_source(settings))


def test_the_text_encoder_fits_the_network():
    encoder = WordEncoder()
    encoder.width = 512
    with pytest.raises(ConfigError, match=r"width 512, .* stage\.network\.text_width = 384"):
        check_text(read_recipe(BASE).stage, encoder)


class Images(Pids):
    """A source of somebody's own, without settings."""

    def __init__(self, shape, lowres=None, dtype=torch.uint8):
        self.shape, self.lowres, self.dtype = shape, lowres, dtype

    def captions(self):
        return iter(["a"])

    def batch(self, index, size):
        lowres = torch.zeros(size, *self.lowres, dtype=torch.uint8) if self.lowres else None
        return Batch(torch.zeros(size, *self.shape, dtype=self.dtype), ["a"] * size, index, lowres)

    plan = None


@pytest.mark.parametrize(
    "path, source, message",
    [
        (BASE, Images((3, 32, 32)), r"\[1, 3, 32, 32\] uint8; stage.resolution = 64"),
        (BASE, Images((4, 64, 64)), "stage.network.image_channels = 3"),
        (BASE, Images((3, 64, 64), dtype=torch.float32), "float32, not"),
        (BASE, Images((3, 64, 64), (3, 16, 16)), "with a low-resolution input; stage.lowres = 0"),
        (SR, Images((3, 256, 256)), "with no low-resolution input; stage.lowres = 64"),
        (SR, Images((3, 256, 256), (3, 32, 32)), "enlarge 4 times"),
        (SR, Images((3, 100, 100), (3, 25, 25)), "multiples of 32"),
    ],
)
def test_the_first_batch_of_any_source_is_looked_at(path, source, message):
    stage = read_recipe(path).stage
    check_data(stage, source)
    with pytest.raises(DataError, match=message):
        check_batch(stage, source.batch(0, 1))


def test_a_run_looks_at_its_first_batch(tmp_path):
    config = read_recipe(BASE, (f"out={tmp_path / 'run'}", "train.prompts=[]"))
    with pytest.raises(DataError, match=r"stage\.resolution = 64 needs 64x64"):
        Trainer(config, Images((3, 32, 32)), WordEncoder()).fit()


def test_super_resolution_is_learned_from_a_folder_as_the_docs_say(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for k in range(3):
        Image.fromarray(pixels).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(f"picture {k}")
    (folder / "2.png").write_bytes(b"<html>")
    docs = (RECIPES.parent / "docs" / "tutorials" / "own-images.md").read_text()
    words = docs.split("For super-resolution")[1].split("```toml")[1].split("```")[0]
    recipe = SR.read_text()
    begin, end = recipe.index("[data]"), recipe.index("[train]")
    path = tmp_path / "mine.toml"
    path.write_text(recipe[:begin] + words.replace("photos", str(folder)) + recipe[end:])
    config = read_recipe(path, (f"out={tmp_path / 'run'}", "train.images=16"))
    assert config.data["kind"] == "folder"
    source = open_source(config.data)
    assert Trainer(config, source, WordEncoder()).fit()
    assert source.skipped["not a picture"] > 0
    assert (tmp_path / "run" / "model" / "sr256" / "model.safetensors").is_file()
