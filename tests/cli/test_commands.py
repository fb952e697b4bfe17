"""The commands: what they write and print, and a clear refusal for every kind of bad input."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from open_imagen.cascade.records import read_record
from open_imagen.cli import options
from open_imagen.config import DEFAULT_MODEL
from standins import make_cascade, make_stages

RECIPES = Path(__file__).parents[2] / "recipes"
PROMPT = "a red circle on a white background"


def opened(path):
    with Image.open(path) as image:
        image.load()
    return image


def test_generate_writes_pictures_that_repeat(imagen, tmp_path):
    made = imagen("generate", PROMPT, "--out", tmp_path / "a", "--seed", 7, "--steps", "base=2")
    assert made.code == 0, made.err
    [path] = made.out.split()
    assert opened(path).size == (256, 256)

    shown = imagen("show", path, "--json")
    record = json.loads(shown.out)
    assert (record["prompt"], record["seed"]) == (PROMPT, 7)
    assert record["settings"]["base"]["steps"] == 2
    assert f"{PROMPT}\nSteps: " in imagen("show", path).out

    again = imagen("generate", "--from", path, "--out", tmp_path / "again.png")
    assert again.code == 0, again.err
    assert opened(tmp_path / "again.png").tobytes() == opened(path).tobytes()


def test_a_picture_in_bfloat16_repeats_in_bfloat16(imagen, tmp_path):
    files = [tmp_path / f"{name}.png" for name in ("half", "again", "whole")]
    few = ("--stages", 1, "--steps", 2)
    made = [
        imagen("generate", PROMPT, *few, "--precision", "bf16", "-o", files[0]),
        imagen("generate", "--from", files[0], "-o", files[1]),
        imagen("generate", "--from", files[0], "--precision", "fp32", "-o", files[2]),
    ]
    assert [one.code for one in made] == [0, 0, 0], made
    half, again, whole = (opened(file).tobytes() for file in files)
    assert half == again
    assert half != whole
    refused = imagen("generate", PROMPT, "--precision", "bf32")
    assert refused.code == 2
    assert "There is no precision called 'bf32'." in refused.err


def test_generate_speaks_json_alone_on_standard_output(imagen, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a blue star\n\na green ring\n")
    made = imagen(
        "generate",
        PROMPT,
        "--prompts",
        prompts,
        "--stages",
        1,
        "-n",
        2,
        "--json",
        "--out",
        tmp_path / "out",
        "--grid",
    )
    result = json.loads(made.out)
    assert [p["seed"] for p in result["pictures"]] == [0, 1, 2, 3, 4, 5]
    assert all(Path(p["file"]).is_file() for p in result["pictures"])
    assert opened(result["grid"]).size == (3 * 72 + 8, 2 * 72 + 8)
    assert result["seconds"] > 0


def test_existing_pictures_are_not_overwritten(imagen, tmp_path):
    for _ in range(2):
        imagen("generate", PROMPT, "--stages", 1, "--out", tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_a_grid_can_be_the_one_file(imagen, tmp_path):
    made = imagen("generate", "a", "b", "--stages", 1, "--grid", "--out", tmp_path / "g.png")
    assert made.code == 0, made.err
    assert list(tmp_path.iterdir()) == [tmp_path / "g.png"]


@pytest.mark.filterwarnings("ignore:The prompt has")
@pytest.mark.parametrize("name, kind", [("x.jpg", "JPEG"), ("x.JPEG", "JPEG"), ("x.webp", "WEBP")])
def test_a_file_has_the_format_of_its_suffix_and_repeats(imagen, tmp_path, name, kind):
    prompt = "a red circle " * 3_000  # more than the EXIF of a JPEG holds
    made = imagen("generate", prompt, "--stages", 1, "--seed", 3, "--out", tmp_path / name)
    assert made.code == 0, made.err
    with Image.open(tmp_path / name) as image:
        assert (image.format, image.size) == (kind, (64, 64))
    assert read_record(tmp_path / name)["seed"] == 3
    assert imagen("generate", "--from", tmp_path / name, "-o", tmp_path / "again.png").code == 0


def test_image_files_that_cannot_be_written_are_refused_before_any_work(imagen, tmp_path):
    refused = imagen("generate", PROMPT, "--out", tmp_path / "x.gif")
    assert refused.code == 2
    assert "not as .gif" in refused.err
    assert not list(tmp_path.iterdir())
    refused = imagen("generate", PROMPT, "--out", tmp_path / "x.jpg", "--background", "transparent")
    assert "JPEG has no transparency" in refused.err
    made = imagen("generate", PROMPT, "--stages", 1, "--out", tmp_path / "v1.5")
    assert len(list((tmp_path / "v1.5").glob("*.png"))) == 1, made.err


def test_a_prompt_without_quotes_is_told(imagen, tmp_path, monkeypatch):
    words = ("a", "red", "circle")
    made = imagen("generate", *words, "--stages", 1, "--out", tmp_path)
    assert made.code == 0
    assert "These are 3 prompts" in made.err
    assert 'imagen generate "a red circle"' in made.err
    assert "These are" not in imagen("generate", "a cat", "a dog", "--stages", 1).err
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    here = tmp_path / "asked"
    monkeypatch.setattr(options, "is_interactive", lambda: True)
    assert imagen("generate", *words, "--stages", 1, "--out", here).code == 1
    assert not here.exists()


def test_upscale_enlarges(imagen, tmp_path):
    Image.new("RGB", (70, 70), "red").save(tmp_path / "small.png")
    made = imagen("upscale", tmp_path / "small.png", "--prompt", "red", "-o", tmp_path / "o.png")
    assert made.code == 0, made.err
    assert opened(tmp_path / "o.png").size == (280, 280)
    refused = imagen("generate", "--from", tmp_path / "o.png")
    assert refused.code == 2
    assert "was made by upscale" in refused.err


def test_models_are_listed_and_described(imagen, model_folder):
    listing = imagen("models")
    assert "imagen-base-64" in listing.out
    assert json.loads(imagen("models", "--json").out)["presets"]["tiny-base-64"]
    assert "parameters" in imagen("models", "imagen-sr-256").out
    assert "minilm-l6" in imagen("models", model_folder).out


def test_a_size_is_asked_for_and_repeated(imagen, tmp_path):
    made = imagen("generate", PROMPT, "--size", "128x64", "-o", tmp_path / "a.png")
    assert made.code == 0, made.err
    assert opened(tmp_path / "a.png").size == (128, 64)
    again = imagen("generate", "--from", tmp_path / "a.png", "-o", tmp_path / "b.png")
    assert again.code == 0, again.err
    assert opened(tmp_path / "b.png").tobytes() == opened(tmp_path / "a.png").tobytes()
    refused = imagen("generate", PROMPT, "--size", "130x64")
    assert refused.code == 2
    assert "The nearest is 128x64." in refused.err
    assert "is not a size" in imagen("generate", PROMPT, "--size", "wide").err


def test_a_network_is_described_block_by_block(imagen):
    told = imagen("models", "tiny-sr-256").out
    assert "GFLOP per image" in told
    assert "down.0" in told
    facts = json.loads(imagen("models", "tiny-sr-256", "--json").out)
    assert sum(row["parameters"] for row in facts["blocks"]) == facts["parameters"]


def test_a_run_is_planned(imagen):
    told = imagen("plan", "imagen-base-64", "--gpu", "h100", "--gpus", 256)
    assert told.code == 0, told.err
    assert "it fits" in told.out
    assert "IT DOES NOT FIT" in imagen("plan", "imagen-base-64", "--gpu", "rtx4090").out
    facts = json.loads(imagen("plan", RECIPES / "tiny.toml", "--gpus", 1, "--json").out)
    assert facts["images"] == 3000
    refused = imagen("plan", "imagen-base-64", "--gpu", "h10")
    assert refused.code == 2
    assert "Did you mean 'h100'?" in refused.err


def test_small_runs_and_this_machine_are_planned(imagen):
    tiny = imagen("plan", RECIPES / "tiny.toml", "--gpus", 1, "--gpu", "rtx3060")
    assert tiny.code == 0, tiny.err
    assert "too small to keep the accelerators busy" in tiny.out
    assert "0.0" not in tiny.out
    here = imagen("plan", RECIPES / "tiny.toml", "--gpu", "here", "--json")
    found = json.loads(here.out)
    assert (found["number"], found["dollars"]) == (1, 0)
    assert 0 < found["images_per_second"] < 1e5


def test_images_too_small_for_the_network_are_refused(imagen):
    small = ("stage.resolution=16", "data.size=16", "data.num_captions=10", "name=small")
    settings = [word for one in small for word in ("--set", one)]
    refused = imagen("train", RECIPES / "tiny.toml", *settings)
    assert refused.code == 2
    assert "The image is too small for this network" in refused.err
    assert not Path("runs").exists()


def test_shards_are_checked_and_told_of(imagen, tmp_path):
    folder = tmp_path / "data"
    imagen("data", "shapes", "--count", 6, "--out", folder)
    (folder / "0000002.png").write_bytes(b"no picture")
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "00000.tar", "w") as tar:
        for file in sorted(folder.glob("0*")):
            tar.add(file, file.name)
    report = json.loads(imagen("data", "check", tmp_path / "tars", "--json").out)
    assert (report["usable"], report["skipped"]) == (5, {"not a picture": 1})
    assert "usable" in imagen("data", "check", tmp_path / "tars" / "00000.tar").out
    refused = imagen("data", "check", tmp_path / "tars" / "9.tar")
    assert refused.code == 1
    assert "no tar file" in refused.err


def test_captions_are_embedded_once_and_trained_with(imagen, tmp_path):
    recipe = tmp_path / "short.toml"
    text = (RECIPES / "tiny.toml").read_text().replace("num_captions = 500", "num_captions = 9")
    recipe.write_text(text)
    out = tmp_path / "embeddings"
    made = imagen("embed", recipe, "--out", out, "--json")
    assert made.code == 0, made.err
    report = json.loads(made.out)
    assert report["embedded"] == report["captions"] > 9  # the prompts of the samples, too
    assert report["bytes_per_caption"] < 77 * 2 * 384 / 4
    assert json.loads(imagen("embed", recipe, "--out", out, "--json").out)["embedded"] == 0
    settings = (f"embeddings={out}", f"out={tmp_path / 'run'}", "train.images=16")
    words = [part for setting in settings for part in ("--set", setting)]
    trained = imagen("train", recipe, *words)
    assert trained.code == 0, trained.err
    refused = imagen("train", recipe, *words, "--set", "encoder=t5-small")
    assert refused.code == 2
    assert "made by minilm-l6, not by t5-small" in refused.err
    assert "--encoder is missing" in imagen("embed", tmp_path, "--out", out).err


def test_a_folder_that_is_no_deepfloyd_model_is_refused(imagen, tmp_path):
    for folder, message in ((tmp_path, "has unet/"), (tmp_path / "none", "There is no folder")):
        refused = imagen("import", "deepfloyd", folder, "--out", tmp_path / "out")
        assert refused.code == 1
        assert message in refused.err


def test_scenes_are_written_checked_and_trained_on(imagen, tmp_path):
    folder = tmp_path / "data"
    assert imagen("data", "shapes", "--count", 20, "--size", 64, "--out", folder).code == 0
    assert len(list(folder.glob("*.png"))) == len(list(folder.glob("*.txt"))) == 20
    report = json.loads(imagen("data", "check", folder, "--json").out)
    assert (report["images"], report["usable"], report["skipped"]) == (20, 20, {})

    words = ["train", RECIPES / "tiny.toml"]
    for setting in (
        "data={kind='folder', path='" + str(folder) + "', size=64}",
        f"out={tmp_path / 'run'}",
        "train.images=32",
        "train.sample_every=16",
        "stage.sampling.steps=1",
    ):
        words += ["--set", setting]
    dry = imagen(*words, "--dry-run")
    assert dry.code == 0, dry.err
    assert "images = 32" in dry.out
    assert not (tmp_path / "run").exists()
    trained = imagen(*words)
    assert trained.code == 0, trained.err
    made = imagen("generate", PROMPT, "-o", tmp_path / "p.png", model=tmp_path / "run" / "model")
    assert made.code == 0, made.err
    assert opened(tmp_path / "p.png").size == (64, 64)


def test_evaluations_in_another_precision_say_so(imagen, tmp_path):
    words = ("evaluate", "shapes", "--count", 1, "--categories", "single", "--stages", 1)
    done = imagen(*words, "--precision", "bf16", "--out", tmp_path / "s")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "s" / "report.json").read_text())["precision"] == "bf16"
    refused = imagen(*words, "--out", tmp_path / "s")
    assert (refused.code, "another evaluation" in refused.err) == (2, True)


def test_evaluate_scenes_prints_a_table(imagen, tmp_path):
    words = ("evaluate", "shapes", "--count", 2, "--categories", "single,size", "--stages", 1)
    table = imagen(*words)
    assert table.code == 0, table.err
    assert "single" in table.out
    assert "size" in table.out
    report = json.loads(imagen(*words, "--json", "--out", tmp_path / "e").out)
    assert report["categories"]["size"]["of"] == 2
    assert (tmp_path / "e" / "report.json").is_file()


BAD = {
    "an empty prompt": (["generate", ""], 2, "The prompt is empty"),
    "no prompt": (["generate"], 2, "The prompt is empty"),
    "no steps": (["generate", "a", "--steps", "0"], 2, "steps = 0 must be at least 1"),
    "steps that are no number": (["generate", "a", "--steps", "many"], 2, "not a whole number"),
    "negative guidance": (["generate", "a", "--guidance", "-1"], 2, "guidance = -1.0"),
    "NaN guidance": (["generate", "a", "--guidance", "nan"], 2, "guidance = nan"),
    "an unknown sampler": (["generate", "a", "--sampler", "dimm"], 2, "no sampler called 'dimm'"),
    "an unknown stage": (["generate", "a", "--steps", "bse=3"], 2, "no stage called 'bse'"),
    "an unknown threshold": (["generate", "a", "--threshold", "x"], 2, "no threshold called 'x'"),
    "too much noise": (["generate", "a", "--noise-level", "2"], 2, "noise_level = 2.0"),
    "too many stages": (["generate", "a", "--stages", "9"], 2, "stages = 9"),
    "an unknown option": (["generate", "a", "--stepz", "9"], 2, "--stepz"),
    "an unknown device": (["generate", "a", "--device", "gpu"], 2, "device 'gpu'"),
    "a missing picture": (["show", "none.png"], 1, "There is no file none.png"),
    "a missing prompt file": (["generate", "--prompts", "none.txt"], 1, "Cannot read none.txt"),
    "a missing recipe": (["train", "none.toml"], 2, "Cannot read none.toml"),
    "a missing data folder": (["data", "check", "none"], 1, "There is no folder none"),
    "an unknown category": (["evaluate", "shapes", "--categories", "x"], 2, "category called 'x'"),
    "no pictures to render": (["data", "shapes", "--count", "0", "--out", "x"], 2, "--count 0"),
}


@pytest.mark.parametrize("words, code, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused(imagen, tmp_path, monkeypatch, words, code, message):
    monkeypatch.chdir(tmp_path)
    found = imagen(*words)
    assert found.code == code
    assert message in found.err
    assert "Traceback" not in found.err
    assert not list(tmp_path.rglob("*.png"))


def test_models_that_are_none_are_refused(imagen, tmp_path):
    unknown = imagen("generate", "a", model="scenez")
    assert (unknown.code, "no model or folder called 'scenez'" in unknown.err) == (2, True)
    (tmp_path / "empty").mkdir()
    empty = imagen("generate", "a", model=tmp_path / "empty")
    assert (empty.code, "is not a model" in empty.err) == (1, True)


@pytest.mark.parametrize("damage", ["missing", "truncated", "corrupt", "newer"])
def test_damaged_models_are_refused(imagen, model_folder, tmp_path, damage):
    import shutil

    folder = tmp_path / "m"
    shutil.copytree(model_folder, folder)
    weights = folder / "sr256" / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "corrupt":
        weights.write_bytes(b"\xff" * 4000)
    else:
        header = json.loads((folder / "cascade.json").read_text())
        (folder / "cascade.json").write_text(json.dumps({**header, "format": 99}))
    found = imagen("generate", "a", "--out", tmp_path / "out", model=folder)
    assert found.code == 1
    message = {"missing": "missing", "newer": "format 99"}.get(damage, "truncated or damaged")
    assert message in found.err


def test_a_file_that_is_no_picture_is_refused(imagen, tmp_path):
    (tmp_path / "a.png").write_text("not a picture")
    for words in (["upscale", tmp_path / "a.png", "--prompt", "a"], ["show", tmp_path / "a.png"]):
        found = imagen(*words)
        assert found.code == 1
        assert "that can be read" in found.err


def test_an_output_that_cannot_be_written_is_refused_before_any_work(imagen, tmp_path):
    (tmp_path / "file").write_text("kept")
    blocked = imagen("generate", "a", "--out", tmp_path / "file" / "below")
    assert (blocked.code, "Cannot write" in blocked.err) == (1, True)
    a_file = imagen("generate", "a", "--out", tmp_path / "file")
    assert (a_file.code, "is a file" in a_file.err) == (2, True)
    many = imagen("generate", "a", "b", "--out", tmp_path / "one.png")
    assert (many.code, "there are 2 pictures" in many.err) == (2, True)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("words", [["--dry-run"], []])
def test_data_that_do_not_fit_the_stage_are_refused(imagen, tmp_path, words):
    setting = "data={kind='shapes', size=32, num_captions=5}"
    out = f"out={tmp_path / 'run'}"
    refused = imagen("train", RECIPES / "tiny.toml", "--set", setting, "--set", out, *words)
    assert refused.code == 2
    assert "data.size = 32 does not fit stage.resolution = 64: set data.size = 64" in refused.err
    assert not (tmp_path / "run").exists()


def test_an_alignment_score_is_refused_where_no_judge_knows_the_truth(imagen, tmp_path):
    words = ("--dry-run", "--set", "train.align_every=8", "--set")
    data = f"data={{kind='folder', path='{tmp_path}', size=64}}"
    done = imagen("train", RECIPES / "tiny.toml", *words, data)
    assert done.code
    assert "train.align_every = 8: there is no alignment score" in done.err
    assert imagen("train", RECIPES / "tiny.toml", *words, "train.align_prompts=1").code == 0


def test_validation_data_are_compared_with_the_stage(imagen):
    setting = "validation={kind='shapes', size=64, lowres=16}"
    refused = imagen("train", RECIPES / "tiny.toml", "--set", setting, "--dry-run")
    assert refused.code == 2
    assert "validation.lowres = 16 does not fit stage.lowres = 0" in refused.err


def test_a_dry_run_compares_the_encoder_with_the_network(imagen):
    refused = imagen("train", RECIPES / "tiny.toml", "--set", "encoder=t5-v1_1-xxl", "--dry-run")
    assert refused.code == 2
    assert "width 4096, which does not fit stage.network.text_width = 384" in refused.err


def test_damage_in_a_folder_is_reported_and_wrong_captions_refused(imagen, tmp_path):
    for name in "abc":
        Image.new("RGB", (64, 64)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "b.png").write_bytes(b"<html>")
    (tmp_path / "c.png").write_bytes(b"")
    checked = imagen("data", "check", tmp_path, "--json")
    report = json.loads(checked.out)
    assert (checked.code, report["images"], report["usable"]) == (0, 3, 1)
    assert report["skipped"] == {"not a picture": 1, "empty file": 1}
    assert "b.png: not a picture" in checked.err
    rows = [{"file_name": "a.png", "text": "a"}, {"file_name": "b.png", "text": {"en": "b"}}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    checked = imagen("data", "check", tmp_path, "--json")
    assert (checked.code, json.loads(checked.out)["wrong_caption"]) == (1, 1)
    assert "metadata.jsonl, line 2: caption not text" in checked.err


def test_data_without_captions_is_refused(imagen, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    checked = imagen("data", "check", tmp_path)
    assert (checked.code, "have no caption" in checked.err) == (1, True)
    setting = "data={kind='folder', path='" + str(tmp_path) + "'}"
    trained = imagen("train", RECIPES / "tiny.toml", "--set", setting)
    assert (trained.code, "have no caption" in trained.err) == (1, True)


def test_a_recipe_with_an_unknown_key_is_refused(imagen):
    found = imagen("train", RECIPES / "tiny.toml", "--set", "train.batchsize=3")
    assert found.code == 2
    assert "There is no setting called 'train.batchsize'." in found.err
    assert "Did you mean 'train.batch_size'?" in found.err


@pytest.mark.filterwarnings("always:The prompt")
def test_a_prompt_beyond_the_encoder_is_cut_with_a_warning(imagen, tmp_path):
    words = " ".join(["red"] * 200)
    made = imagen("generate", words, "--stages", 1, "--out", tmp_path / "p.png")
    assert made.code == 0
    assert "Warning: The prompt has 202 tokens; minilm-l6 reads 128, so the last 74" in made.err


def test_debug_shows_the_traceback(model_folder):
    found = subprocess.run(
        [sys.executable, "-m", "open_imagen", "--debug", "show", "none.png"],
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    assert found.returncode == 1
    assert "Traceback" in found.stderr


def test_a_run_is_averaged_again_and_an_adapter_is_put_on(imagen, tmp_path, model_folder):
    settings = [
        f"out={tmp_path / 'run'}",
        f"train.init={model_folder}",
        "train.images=32",
        "train.precision=fp32",
        "train.sample_every=0",
        "data.num_captions=5",
        "stage={name='base'}",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    kept = ("--set", "ema.sigma_rel=[0.05, 0.1]", "--set", "ema.snapshot_every=16")
    assert imagen("train", RECIPES / "tiny.toml", *words, *kept).code == 0
    made = imagen("ema", tmp_path / "run", "--sigma-rel", 0.08, "--out", tmp_path / "mine")
    assert made.code == 0, made.err
    assert "sigma_rel = 0.08 at 32 images" in made.out
    picture = ("generate", PROMPT, "--steps", 2, "--stages", 1)
    assert imagen(*picture, "--out", tmp_path / "a", model=tmp_path / "mine").code == 0
    for words_, message in (
        (("ema", tmp_path / "run", "--sigma-rel", 0.5), "must be above 0 and below"),
        (("ema", tmp_path / "mine", "--sigma-rel", 0.1), "recipe.toml"),
    ):
        refused = imagen(*words_, "--out", tmp_path / "no")
        assert refused.code in (1, 2)
        assert message in refused.err

    words[1] = f"out={tmp_path / 'tuned'}"
    assert imagen("train", RECIPES / "tiny.toml", *words, "--set", "adapter.rank=1").code == 0
    refused = imagen("ema", tmp_path / "tuned", "--sigma-rel", 0.1, "--out", tmp_path / "no")
    assert refused.code == 2
    assert "trained an adapter" in refused.err
    adapter = tmp_path / "tuned" / "adapter"
    put_on = imagen(*picture, "--adapter", adapter, "--out", tmp_path / "b", "--json")
    plain = imagen(*picture, "--out", tmp_path / "c", "--json")
    hashes = [json.loads(one.out)["pictures"][0]["model_hash"] for one in (put_on, plain)]
    assert hashes[0] != hashes[1]
    assert imagen(*picture, "--adapter", tmp_path, "--out", tmp_path / "d").code == 1


@pytest.mark.filterwarnings("always:The model knows")
def test_a_prompt_of_another_language_is_read_and_a_hint_given(imagen, tmp_path):
    folder = tmp_path / "model"
    make_cascade(make_stages(), world="things").save(folder)
    done = imagen(
        "generate", "两只猫", "a xylophone", "--stages", 1, "--out", tmp_path / "p", model=folder
    )
    assert done.code == 0
    assert "read as: two cats\n" in done.err
    [warning] = [line for line in done.err.splitlines() if line.startswith("Warning: ")]
    assert warning.startswith("Warning: The model knows nothing in 'a xylophone': nearest known")
    records = [read_record(path) for path in sorted((tmp_path / "p").iterdir())]
    assert {record.get("read_as") for record in records} == {"two cats", None}


def test_a_model_that_is_named_is_taken_even_if_it_is_the_default(imagen, tmp_path):
    imagen("generate", PROMPT, "--stages", 1, "--out", tmp_path / "a.png")
    again = ("generate", "--from", tmp_path / "a.png", "--out", tmp_path / "b.png")
    named = imagen(*again, "--model", DEFAULT_MODEL, model=None)
    assert named.code == 0, named.err
    assert "was made by tiny" in named.err
    assert read_record(tmp_path / "b.png")["model"] == DEFAULT_MODEL
