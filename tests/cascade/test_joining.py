"""join(): stages of several models as one, and what does not fit is named."""

import json

import pytest
import torch
from typer.testing import CliRunner

import open_imagen as oi
from open_imagen.cli.main import app
from open_imagen.errors import CheckpointError, ConfigError, OpenImagenWarning, UnknownName
from standins import make_cascade, make_stages


def save(folder, stages, encoder="minilm-l6", **more):
    make_cascade(stages, name=folder.name, encoder=encoder, **more).save(folder)
    return folder


def test_one_stage_of_a_shipped_model_joins_a_base_of_ones_own(tmp_path):
    base, _ = make_stages()
    mine = save(tmp_path / "mine", [base], trained={"base": {"images": 3}})
    cascade = oi.join("x", [mine, "scenes:sr256"], device="cpu")
    assert list(cascade.stages) == ["base", "sr256"]
    assert cascade.config.trained["base"] == {"images": 3}
    assert (
        cascade.config.trained["sr256"] == oi.load("scenes", device="cpu").config.trained["sr256"]
    )
    assert cascade.config.world == ""  # the base reads the prompts, and it knows no world
    cascade.save(tmp_path / "joined")
    again = oi.load(tmp_path / "joined", device="cpu").stages["sr256"]
    wanted = oi.load("scenes", device="cpu").stages["sr256"]
    assert again.config.sampling == wanted.config.sampling
    for name, weight in wanted.network.named_parameters():
        assert torch.equal(again.network.get_parameter(name), weight), name


def test_models_may_be_named_in_any_order(tmp_path):
    base, above = make_stages()
    folders = [save(tmp_path / "sr", [above]), save(tmp_path / "base", [base], world="things")]
    cascade = oi.join("x", folders, device="cpu")
    assert list(cascade.stages) == ["base", "sr256"]
    assert cascade.config.world == "things"


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path):
    base, _ = make_stages()
    folder = save(tmp_path / "a:b", [base])
    assert list(oi.join("x", [folder], device="cpu").stages) == ["base"]
    assert list(oi.join("x", [f"{folder}:base"], device="cpu").stages) == ["base"]


def test_what_does_not_fit_is_named(tmp_path):
    base, above = make_stages()
    mine, larger = save(tmp_path / "mine", [base]), save(tmp_path / "sr", [above])
    other = save(tmp_path / "other", [above], encoder="t5-v1_1-base")
    with pytest.raises(CheckpointError, match=r"text encoder minilm-l6, .*other with t5-v1_1-base"):
        oi.join("x", [mine, other])
    wrong_width = save(tmp_path / "wide", [base], encoder="t5-v1_1-base")
    with pytest.raises(CheckpointError, match=r"reads tokens of width 384; .* have 768"):
        oi.join("x", [wrong_width])
    with pytest.raises(CheckpointError, match=r"enlarges 256-pixel .* makes 64-pixel"):
        oi.join("x", [mine, "scenes:sr1024"])
    alpha = save(tmp_path / "alpha", make_stages(image_channels=4)[:1])
    with pytest.raises(CheckpointError, match=r"4 channels \(RGB with alpha\), .* of 3 \(RGB\)"):
        oi.join("x", [alpha, larger])
    with pytest.raises(CheckpointError, match="bring a stage called 'base'"):
        oi.join("x", [mine, mine])
    with pytest.raises(UnknownName, match="no stage of scenes called 'sr265'") as caught:
        oi.join("x", [mine, "scenes:sr265"])
    assert "sr256" in caught.value.hint
    with pytest.raises(UnknownName, match="no model or folder called 'scense'"):
        oi.join("x", [mine, "scense:sr256"])
    for nothing in ([], "scenes"):
        with pytest.raises(ConfigError, match="join needs a list of models"):
            oi.join("x", nothing)


def test_different_numbers_of_letters_are_told(tmp_path):
    mine = save(tmp_path / "mine", make_stages(letters=8)[:1])
    above = save(tmp_path / "sr", make_stages(letters=12)[1:])
    with pytest.warns(OpenImagenWarning, match=r"base of .* reads 8, sr256 of .* reads 12"):
        oi.join("x", [mine, above], device="cpu")


def test_the_command_writes_a_model_and_nothing_else(tmp_path, capsys):
    base, above = make_stages()
    mine, larger = save(tmp_path / "mine", [base]), save(tmp_path / "sr", [above])
    out = tmp_path / "joined"
    arguments = ["join", "x", str(mine), f"{larger}:sr256", "--out", str(out), "--json"]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(told.stdout)["stages"] == {"base": 64, "sr256": 256}
    assert list(oi.load(out, device="cpu").stages) == ["base", "sr256"]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(oi.OpenImagenError, match="exists already"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    failing = ["join", "x", str(mine), str(mine), "--out", str(tmp_path / "new")]
    with pytest.raises(CheckpointError):
        CliRunner().invoke(app, failing, catch_exceptions=False)
    assert sorted(tmp_path.rglob("*")) == before
