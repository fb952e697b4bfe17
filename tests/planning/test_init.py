"""imagen init: recipes fitted to data and machine; and from images to a model without an edit."""

import json
import random
import tomllib

import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

import open_imagen as oi
from open_imagen.cli.main import app
from open_imagen.config import parse
from open_imagen.errors import ConfigError, DataError, OutputError, UnknownName
from open_imagen.planning import machine as machine_module
from open_imagen.planning.folder_facts import look
from open_imagen.planning.init_recipes import init_recipes
from open_imagen.planning.machine import Machine
from open_imagen.training.recipe import Recipe

SLOW = Machine("cpu", 5e10, 8 * 2**30, False)
GPU = Machine("cuda", 2e14, 140 * 2**30, True)
SIZES = [(300, 400), (512, 300), (260, 260), (640, 480), (256, 300), (90, 70)]


def make_images(folder, sizes=SIZES, caption="a {color} circle on plain ground"):
    folder.mkdir(exist_ok=True)
    draw = random.Random(0)
    for k, size in enumerate(sizes):
        color = draw.choice(["red", "green", "blue"])
        image = Image.new("RGB", size, "white")
        width, height = size
        ImageDraw.Draw(image).ellipse((5, 5, width - 5, height - 5), fill=color)
        image.save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(caption.format(color=color, k=k))
    return folder


def resized(facts, **changes):
    return type(facts)(**{**facts.__dict__, **changes})


def test_a_folder_is_described(tmp_path):
    folder = make_images(tmp_path / "photos")
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "broken.txt").write_text('a sign that says "STOP"')
    facts = look(folder)
    assert (facts.images, facts.unreadable, facts.quoted) == (7, 1, 1)
    assert facts.short_sides == (70, 256, 260, 300, 300, 480)
    assert facts.share_of_at_least(256) == 5 / 6
    assert len(facts.examples) == min(4, facts.captions)


def test_recipes_fit_the_machine(tmp_path):
    facts = look(make_images(tmp_path / "photos"))
    base, larger = init_recipes(facts, SLOW, "photos", hours=0.5)
    assert (base.name, larger.name) == ("photos-base", "photos-sr256")
    assert (larger.recipe.stage.lowres, larger.recipe.stage.resolution) == (64, 256)
    assert base.hours <= 0.51
    assert larger.hours <= 0.51
    slow = base.recipe.stage.network["preset"]
    fast = init_recipes(facts, GPU, "photos", hours=8)[0].recipe
    assert (slow, fast.stage.network["preset"]) == ("tiny-base-64", "small-base-64")
    many = resized(facts, images=200_000)
    paper = init_recipes(many, GPU, "photos", hours=200)[0].recipe
    assert paper.stage.network["preset"] == "imagen-base-64-1b"
    assert paper.optim.name == "adamw"
    cramped = Machine("cuda", 2e14, 12 * 2**30, True)
    smaller = init_recipes(many, cramped, "photos", hours=200)[0].recipe
    assert smaller.stage.network["preset"] == "imagen-base-64-300m"
    assert smaller.train.accumulate > 1
    hurried, patient = (init_recipes(facts, SLOW, "x", hours)[1] for hours in (0.1, 30))
    assert hurried.recipe.train.images < patient.recipe.train.images == 100_000
    assert "hours allow no more; 100,000 would be better" in hurried.text


def test_recipes_fit_the_data(tmp_path):
    facts = look(make_images(tmp_path / "photos"))
    middling = resized(facts, short_sides=(100, 130, 200))
    assert [one.name for one in init_recipes(middling, GPU, "x")] == ["x-base", "x-sr128"]
    small = resized(facts, short_sides=(40, 50, 60))
    assert [one.name for one in init_recipes(small, GPU, "x")] == ["x-base"]
    signs = init_recipes(resized(facts, quoted=1, captions=10), GPU, "x")
    assert {one.recipe.stage.network["letters"] for one in signs} == {16}
    t5 = init_recipes(facts, GPU, "x", encoder="t5-v1_1-base", caption='a "photo"')
    for one in t5:
        assert one.recipe.stage.network["text_width"] == 768
        assert one.recipe.data["caption"] == 'a "photo"'


def test_every_setting_has_a_reason_and_lines_are_short(tmp_path):
    facts = look(make_images(tmp_path / "photos"))
    for one in init_recipes(facts, SLOW, "photos"):
        assert parse(Recipe, tomllib.loads(one.text)) == one.recipe
        assert max(map(len, one.text.splitlines())) <= 110
        sections = one.text.split("\n\n")
        assert all(
            "#" in section or section.startswith("[stage]") for section in sections if section
        )


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x"])
def test_wrong_names_and_hours_are_refused(tmp_path, name):
    facts = look(make_images(tmp_path / "photos"))
    with pytest.raises(ConfigError, match="is not the name of a model"):
        init_recipes(facts, SLOW, name)
    for hours in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--hours"):
            init_recipes(facts, SLOW, "x", hours=hours)
    with pytest.raises(UnknownName):
        init_recipes(facts, SLOW, "x", encoder="t6")


def test_folders_that_cannot_be_learned_from_are_refused(tmp_path):
    with pytest.raises(DataError, match="There is no folder"):
        look(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no captioned image"):
        look(tmp_path / "empty")
    (tmp_path / "empty" / "00000.tar").write_bytes(b"")
    with pytest.raises(DataError, match="holds tar files"):
        look(tmp_path / "empty")
    folder = make_images(tmp_path / "photos")
    (folder / "3.txt").unlink()
    with pytest.raises(DataError, match=r"1 of the 6 images .* have no caption") as caught:
        look(folder)
    assert "--caption" in caught.value.hint
    assert look(folder, "a circle").images == 6


@pytest.fixture
def slow_machine(monkeypatch):
    monkeypatch.setattr(machine_module, "measure", lambda device: SLOW)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_nothing_of_the_user_is_overwritten(tmp_path, monkeypatch, slow_machine):
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "My photos!")
    (tmp_path / "my-photos-sr256.toml").write_text("mine")
    with pytest.raises(OutputError, match=r"my-photos-sr256\.toml exists already"):
        run("init", "My photos!")
    assert not (tmp_path / "my-photos-base.toml").exists()
    assert (tmp_path / "my-photos-sr256.toml").read_text() == "mine"


def test_the_speed_of_this_machine_is_measured():
    import torch

    found = machine_module.measure(torch.device("cpu"))
    assert found.device == "cpu"
    assert found.flops > 1e6
    assert found.memory > 0


@pytest.mark.slow
def test_from_images_to_a_model_without_an_edit(tmp_path, monkeypatch, slow_machine):
    """The commands that imagen init prints, with small numbers by --set."""
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "photos", SIZES * 2)
    told = json.loads(run("init", "photos", "--json").stdout)
    assert told["images"] == 12
    *trains, join, generate = [command.split() for command in told["commands"]]
    assert [command[:2] for command in trains] == [["imagen", "train"]] * 2
    for command in trains:
        few = ["--set", "train.images=16", "--set", "train.batch_size=4"]
        run(*command[1:], *few, "--set", "train.sample_every=0", "--set", "optim.warmup=4")
    run(*join[1:])
    model = generate[-1]
    prompt = look(tmp_path / "photos").examples[0]
    run("generate", prompt, "--model", model, "--steps", "2", "--out", "out")
    [file] = (tmp_path / "out").glob("*.png")
    with Image.open(file) as image:
        assert image.size == (256, 256)
    assert list(oi.load(model, device="cpu").stages) == ["base", "sr256"]
