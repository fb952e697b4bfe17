"""Cascades: reproducible pictures, folders that come back as they were, damage that is named."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from open_imagen.cascade.augmentation import Augmentation
from open_imagen.cascade.folder import FORMAT
from open_imagen.cascade.io import load
from open_imagen.cascade.joining import join
from open_imagen.cascade.records import (
    encoded,
    open_image,
    parameters,
    read_header,
    read_record,
    save_png,
)
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    OpenImagenWarning,
    UnknownName,
)
from open_imagen.models.layers import Conv
from open_imagen.text.cache import Remembered
from standins import WordEncoder, make_cascade, make_stages

PROMPTS = ["a red circle", "a blue square above a green star"]


def close(one, other):
    torch.testing.assert_close(one.float(), other.float(), rtol=0, atol=1)  # of 255


def test_pictures_are_prompt_major_and_seeds_count_up(cascade):
    made = cascade.generate(PROMPTS, seed=5, images_per_prompt=2)
    assert [r["prompt"] for r in made.records] == [PROMPTS[0]] * 2 + [PROMPTS[1]] * 2
    assert [r["seed"] for r in made.records] == [5, 6, 7, 8]
    assert made.stages["base"].shape == (4, 3, 64, 64)
    assert made.stages["sr256"].shape == (4, 3, 256, 256)
    assert made.stages["sr256"].dtype == torch.uint8
    assert [image.size for image in made.images] == [(256, 256)] * 4


def test_a_picture_depends_on_its_seed_and_prompt_alone(cascade):
    many = cascade.generate(PROMPTS, seed=5, images_per_prompt=2)
    again = cascade.generate(PROMPTS, seed=5, images_per_prompt=2)
    alone = cascade.generate(PROMPTS[1], seed=7)
    small = cascade.generate(PROMPTS, seed=5, images_per_prompt=2, batch_size=1)
    assert torch.equal(many.stages["sr256"], again.stages["sr256"])
    close(alone.stages["sr256"][0], many.stages["sr256"][2])
    close(small.stages["sr256"], many.stages["sr256"])
    assert not torch.equal(many.stages["base"][0], many.stages["base"][1])


@pytest.mark.parametrize("in_turns", [False, True])
def test_fast_pictures_are_the_same_pictures(model_folder, encoder, in_turns):
    plain = load(model_folder, device="cpu")
    fast = load(model_folder, device="cpu", fast=True, offload=in_turns)
    for one in (plain, fast):
        one.text = Remembered(encoder)
    for _ in range(2):  # stages that take turns are made fast again
        made = fast.generate(PROMPTS, seed=5)
        close(made.stages["sr256"], plain.generate(PROMPTS, seed=5).stages["sr256"])
    assert all(type(stage.network.head) is not Conv for stage in fast.stages.values()) or in_turns
    assert all(type(stage.network.head) is Conv for stage in plain.stages.values())


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("in_turns", [False, True])
def test_bfloat16_pictures_are_nearly_the_same_and_say_so(model_folder, encoder, fast, in_turns):
    exact = load(model_folder, device="cpu")
    half = load(model_folder, device="cpu", offload=in_turns, fast=fast, dtype="bf16")
    for one in (exact, half):
        one.text = Remembered(encoder)
    made, wanted = half.generate(PROMPTS, seed=5), exact.generate(PROMPTS, seed=5)
    for name, stage in half.stages.items():
        if not in_turns:
            assert {p.dtype for p in stage.network.parameters()} == {torch.bfloat16}
        away = (made.stages[name].float() - wanted.stages[name].float()).abs()
        assert 0 < away.mean() < 4, name  # of 255; random weights magnify what is rounded
    assert made.records[0]["precision"] == "bf16"
    assert "precision" not in wanted.records[0]
    with pytest.raises(UnknownName, match="precision called 'bf61'"):
        load(model_folder, device="cpu", dtype="bf61")


def test_a_negative_prompt_without_guidance_is_refused(cascade):
    off = {"base": Sampling(guidance=1.0)}
    with pytest.raises(ConfigError, match=r"'blue' would change nothing.*base, sr256 is 1"):
        cascade.generate(PROMPTS[0], negative="blue", settings=off)
    cascade.generate(PROMPTS[0], negative="", settings=off, stages=1)
    low = {"base": {"guidance": 0.5}}
    with pytest.raises(ConfigError, match=r"'blue' would be drawn.*base = 0\.5"):
        cascade.generate(PROMPTS[0], negative="blue", settings=low, stages=1)


def test_fewer_stages_give_the_same_base(cascade):
    base = cascade.generate(PROMPTS, stages=1)
    assert list(base.stages) == ["base"]
    assert torch.equal(base.stages["base"], cascade.generate(PROMPTS).stages["base"])
    assert base.images[0].size == (64, 64)


def test_settings_and_negative_prompts_matter_and_are_recorded(cascade):
    plain = cascade.generate(PROMPTS[0])
    other = cascade.generate(
        PROMPTS[0], negative="blue", settings={"base": Sampling(steps=5, sampler="ddim")}
    )
    assert not torch.equal(plain.stages["base"], other.stages["base"])
    record = other.records[0]
    assert record["negative"] == "blue"
    assert record["settings"]["base"]["steps"] == 5
    assert record["settings"]["base"]["guidance"] == 2.0
    assert record["settings"]["sr256"]["steps"] == 2
    json.dumps(record, allow_nan=False)


def test_progress_runs_to_the_end_of_each_stage(cascade):
    told = []
    cascade.generate(
        PROMPTS, batch_size=1, progress=lambda s, k, n, x: told.append((s, k, n, x.shape[-1]))
    )
    assert [t for t in told if t[1] == t[2]] == [("base", 6, 6, 64), ("sr256", 4, 4, 256)]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": ""}, "prompt is empty"),
        ({"prompts": ["a", " "]}, "prompt is empty"),
        ({"prompts": []}, "no prompt"),
        ({"prompts": "a", "stages": 3}, "stages = 3"),
        ({"prompts": "a", "stages": 0}, "stages = 0"),
        ({"prompts": "a", "seed": -1}, "seed = -1"),
        ({"prompts": "a", "images_per_prompt": 0}, "images_per_prompt = 0"),
        ({"prompts": "a", "settings": {"bas": Sampling()}}, "no stage called 'bas'"),
    ],
)
def test_wrong_calls_are_named(cascade, arguments, message):
    with pytest.raises(ConfigError, match=message):
        cascade.generate(**arguments)


def test_stages_must_follow_each_other(encoder):
    base, above = make_stages()
    with pytest.raises(CheckpointError, match="enlarges 64-pixel pictures, but sr256 makes 256"):
        make_cascade([above, above], name="odd", encoder="words")
    with pytest.raises(ConfigError, match="cannot make them from text alone"):
        make_cascade([above], name="odd", encoder="words", text=encoder).generate("a")
    with pytest.raises(ConfigError, match="no super-resolution stage"):
        make_cascade([base], name="odd", encoder="words", text=encoder).upscale(
            Image.new("RGB", (64, 64)), "a"
        )


@pytest.mark.parametrize("size", [(64, 128), (192, 64)])
def test_pictures_of_any_legal_size_go_through_every_stage(cascade, size):
    made = cascade.generate("a red circle", size=size)
    assert made.images[0].size == size
    assert made.records[0]["size"] == f"{size[0]}x{size[1]}"
    assert made.stages["base"].shape == (1, 3, size[1] // 4, size[0] // 4)


def test_a_base_alone_makes_any_multiple_of_eight(cascade):
    made = cascade.generate("a red circle", size=(40, 24), stages=1)
    assert made.images[0].size == (40, 24)


@pytest.mark.parametrize(
    "size, stages, near", [((250, 256), 2, "256x256"), ((30, 8), 1, "32x16"), ((0, 64), 2, "64x64")]
)
def test_other_sizes_are_refused_with_the_nearest(cascade, size, stages, near):
    with pytest.raises(ConfigError, match="size = ") as caught:
        cascade.generate("a red circle", size=size, stages=stages)
    assert caught.value.hint == f"The nearest is {near}."


def test_a_model_runs_its_default_stages_unless_a_number_or_a_size_asks_for_others(
    cascade, encoder, tmp_path
):
    folder = tmp_path / "m"
    make_cascade(make_stages(), text=encoder, default_stages=1).save(folder)
    again = load(folder, device="cpu")
    assert again.config.default_stages == 1
    again.text = Remembered(encoder)
    small = again.generate("a red circle")
    assert list(small.stages) == ["base"]
    whole = again.generate("a red circle", stages=2)
    assert list(whole.stages) == ["base", "sr256"]
    assert torch.equal(small.stages["base"], whole.stages["base"])
    asked = again.generate("a red circle", size=(256, 256))
    assert torch.equal(asked.stages["sr256"], whole.stages["sr256"])
    assert again.generate("a red circle", size=(32, 32)).images[0].size == (32, 32)
    assert again.upscale(small.images[0], "a red circle").images[0].size == (256, 256)


def test_more_noise_than_was_trained_is_warned_of(encoder):
    base, above = make_stages()
    modest = replace(above.config, augmentation=Augmentation(highest=0.3))
    cascade = make_cascade([base, Stage(modest)], encoder="words", text=encoder)
    cascade.generate("a", settings={"sr256": Sampling(steps=1, noise_level=0.3)})
    with pytest.warns(UserWarning, match="noise_level = 0.4, but sr256 of 'tiny' has learned"):
        cascade.generate("a", settings={"sr256": Sampling(steps=1, noise_level=0.4)})


def test_default_stages_must_be_there():
    for number in (0, 3):
        with pytest.raises(CheckpointError, match=f"default_stages = {number} must be between 1"):
            make_cascade(make_stages(), name="odd", encoder="words", default_stages=number)


def test_an_encoder_of_another_width_is_refused():
    class Narrow(WordEncoder):
        width = 24

    with pytest.raises(CheckpointError, match="tokens of width 384; those of words have 24"):
        make_cascade(make_stages(), name="odd", encoder="words", text=Narrow()).generate("a")


def test_a_folder_comes_back_as_it_was(cascade, encoder, tmp_path):
    cascade.save(tmp_path / "m")
    back = load(tmp_path / "m", device="cpu")
    assert back.model_hash != cascade.model_hash == "unsaved"
    assert back.model_hash == load(tmp_path / "m").model_hash
    again = make_cascade(list(back.stages.values()), text=encoder)
    assert torch.equal(
        again.generate(PROMPTS).stages["sr256"], cascade.generate(PROMPTS).stages["sr256"]
    )
    assert again.stages["base"].config.sampling == cascade.stages["base"].config.sampling


def test_half_precision_weights_are_close(cascade, encoder, tmp_path):
    cascade.save(tmp_path / "half", torch.float16)
    cascade.save(tmp_path / "full")
    sizes = [
        (tmp_path / kind / "base" / "model.safetensors").stat().st_size for kind in ("half", "full")
    ]
    assert sizes[0] < 0.6 * sizes[1]
    half = load(tmp_path / "half", device="cpu").stages["base"]
    own = cascade.stages["base"]
    for one, other in zip(half.parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_folders_of_single_stages_join_to_a_cascade(tmp_path):
    base, above = make_stages()
    make_cascade([base], name="one", trained={"base": {"images": 3}}).save(tmp_path / "one")
    make_cascade([above], name="two").save(tmp_path / "two")
    both = join("both", [tmp_path / "one", tmp_path / "two"], device="cpu")
    assert list(both.stages) == ["base", "sr256"]
    assert both.config.trained == {"base": {"images": 3}}
    make_cascade([above], name="other", encoder="t5-v1_1-base").save(tmp_path / "other")
    with pytest.raises(CheckpointError, match="stages of one cascade share one"):
        join("both", [tmp_path / "one", tmp_path / "other"])


def damaged(model_folder, tmp_path, damage):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        load(folder, device="cpu")
    return str(caught.value)


def rewrite(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_damage_is_named(model_folder, tmp_path):
    weights = "base/model.safetensors"
    cases = {
        "are missing": lambda f: (f / weights).unlink(),
        "truncated or damaged": lambda f: (f / weights).write_bytes(
            (f / weights).read_bytes()[:-100]
        ),
        "is not a model": lambda f: (f / "cascade.json").unlink(),
        "not valid JSON": lambda f: (f / "cascade.json").write_text("{"),
        "lacks: stages": lambda f: rewrite(f / "cascade.json", lambda v: v.pop("stages")),
        f"reads up to {FORMAT}": lambda f: rewrite(
            f / "cascade.json", lambda v: v.update(format=FORMAT + 1)
        ),
        "do not fit the network": lambda f: rewrite(
            f / "base" / "config.json", lambda v: v["network"].update(channels=64)
        ),
        "There is no setting called": lambda f: rewrite(
            f / "base" / "config.json", lambda v: v.update(rezolution=64)
        ),
        "Cannot read": lambda f: shutil.rmtree(f / "sr256"),
    }
    for number, (message, damage) in enumerate(cases.items()):
        assert message in damaged(model_folder, tmp_path / str(number), damage)


def test_a_model_that_does_not_exist_is_met_with_a_suggestion():
    with pytest.raises(UnknownName, match="no model or folder called 'scenez'"):
        load("scenez")


def test_records_come_back_from_pictures(cascade, tmp_path):
    made = cascade.generate(PROMPTS[1], seed=3, negative="a, b")
    path = tmp_path / "p.png"
    save_png(made.images[0], path, made.records[0])
    assert read_record(path) == json.loads(json.dumps(made.records[0]))
    image = open_image(path)
    assert image.info["parameters"] == parameters(made.records[0])
    assert "Negative prompt: a, b" in image.info["parameters"]
    assert "Seed: 3" in image.info["parameters"]
    assert "trainedAlgorithmicMedia" in image.info["XML:com.adobe.xmp"]
    assert torch.equal(
        torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8),
        made.stages["sr256"][0].permute(1, 2, 0).flatten(),
    )


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_records_come_back_from_each_format(cascade, tmp_path, kind):
    made = cascade.generate("a", seed=3, stages=1)
    # The longest prompt that the server takes is more than one segment of a JPEG holds.
    for prompt in ("quotes \" ' & <tag/> /> \n \0 \u732b", "\u732b" * 32_000):
        record = json.loads(json.dumps({**made.records[0], "prompt": prompt}))
        path = tmp_path / "image"
        path.write_bytes(encoded(made.images[0], record, kind))
        assert read_record(path) == record
        assert read_header(path) == (kind, 64, 64, record)
        assert b"trainedAlgorithmicMedia" in path.read_bytes()


def test_pictures_that_are_none_or_have_no_record_are_named(tmp_path):
    path = tmp_path / "p.png"
    with pytest.raises(DataError, match="There is no file"):
        open_image(path)
    path.write_text("not a picture")
    with pytest.raises(DataError, match="is not a picture"):
        open_image(path)
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(DataError, match="carries no record"):
        read_record(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match="damaged"):
        open_image(path)


def test_a_model_of_a_world_reads_prompts_and_says_so(tmp_path, encoder):
    folder = tmp_path / "model"
    make_cascade(make_stages(), text=encoder, world="things").save(folder)
    assert json.loads((folder / "cascade.json").read_text())["world"] == "things"
    ours = load(folder, device="cpu")
    ours.text = Remembered(encoder)
    made = ours.generate(["两只猫", "two cats"], seed=[3, 3], stages=1, negative="一只狗")
    assert torch.equal(made.stages["base"][0], made.stages["base"][1])
    assert made.records[0]["prompt"] == "两只猫"
    assert made.records[0]["read_as"] == "two cats"
    assert "read_as" not in made.records[1]
    assert ours.text.knows(["two cats", "a dog"])
    with pytest.warns(OpenImagenWarning, match="does not know 'trampoline': nearest known words"):
        ours.generate("a cat on a trampoline", stages=1)
    again = tmp_path / "again"
    ours.save(again)
    assert load(again, device="cpu").config.world == "things"


def test_join_keeps_the_world(tmp_path, encoder):
    base, larger = make_stages()
    for name, stage, world in (("base", base, "things"), ("sr", larger, "")):
        make_cascade([stage], name=name, text=encoder, world=world).save(tmp_path / name)
    both = join("both", [tmp_path / "base", tmp_path / "sr"], device="cpu")
    assert both.config.world == "things"
    assert both.prompts.world is not None


def test_a_world_of_a_newer_version_is_passed_over(encoder):
    newer = make_cascade(make_stages(), text=encoder, world="oceans")
    assert newer.prompts.world is None
    assert newer.read("两只猫").prompt == "两只猫"
    assert newer.hint("a trampoline") is None
