"""Calls of generate and upscale: values of usual types, callbacks, notebooks, pickles."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

import open_imagen as oi
from open_imagen.cascade.records import read_record
from open_imagen.cascade.runtime import RuntimeConfig
from open_imagen.cascade.sampling import MAX_STEPS, ResolvedSampling, Sampling
from open_imagen.data.original import read_original
from open_imagen.errors import CheckpointError, ConfigError, DataError, SamplingError, UnknownName
from standins import WordEncoder, make_cascade, make_stages

SHORT = {"base": {"steps": 2}, "sr256": {"steps": 1}}


def base_of(made):
    return made.stages["base"]


def test_numbers_may_be_of_numpy_or_torch(cascade):
    plain = cascade.generate(["a"], seed=5, images_per_prompt=2, stages=1, batch_size=2)
    same = cascade.generate(
        np.array(["a"]),
        seed=np.int64(5),
        images_per_prompt=np.int32(2),
        stages=torch.tensor(1),
        batch_size=np.uint8(2),
        settings={"base": {"steps": np.int64(3), "guidance": np.float32(2), "gamma": None}},
    )
    assert torch.equal(base_of(plain), base_of(same))
    assert json.loads(json.dumps(same.records)) == plain.records
    for seeds in ([5, 6], np.array([5, 6]), torch.tensor([5, 6]), range(5, 7)):
        assert torch.equal(base_of(cascade.generate(["a", "a"], seeds, stages=1)), base_of(plain))


def test_a_seed_of_none_is_drawn_and_recorded(cascade):
    one, other = (cascade.generate("a", seed=None, stages=1) for _ in range(2))
    assert one.records[0]["seed"] != other.records[0]["seed"]
    again = cascade.generate("a", seed=one.records[0]["seed"], stages=1)
    assert torch.equal(base_of(one), base_of(again))


def test_settings_may_be_plain_values_or_those_of_a_record(cascade):
    made = cascade.generate("a", settings={"base": Sampling(steps=2, churn=3)}, stages=1)
    plain = cascade.generate("a", settings={"base": {"steps": 2, "churn": 3}}, stages=1)
    again = cascade.generate("a", settings=made.records[0]["settings"], stages=1)
    full = cascade.generate("a", settings={"base": ResolvedSampling(steps=2)}, stages=1)
    assert made.records == plain.records == again.records
    assert full.records[0]["settings"]["base"]["guidance"] == 5.0
    timesteps = np.array([900, 500])
    assert Sampling(timesteps=timesteps).timesteps == (900, 500)


def test_a_size_may_be_a_side_a_pair_or_text(cascade):
    for size in (np.int64(64), [64, 64], "64x64", "64", torch.tensor([64, 64])):
        assert cascade.generate("a", size=size).images[0].size == (64, 64)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"prompts": None}, "prompts = None must be text"),
        ({"prompts": 3}, "prompts = 3 must be text"),
        ({"prompts": {"a": 1}}, "must be text, or a list of texts"),
        ({"prompts": ["a", None]}, r"prompts\[1\] = None must be text, not NoneType"),
        ({"seed": 1.5}, "seed = 1.5 must be a whole number"),
        ({"seed": "7"}, "seed = '7' must be a whole number"),
        ({"seed": True}, "seed = True must be a whole number"),
        ({"seed": [1, 2]}, "There are 2 seeds for 1 images"),
        ({"seed": np.array([0.5])}, r"seed\[0\] = 0.5 must be"),
        ({"images_per_prompt": "2"}, "images_per_prompt = '2'"),
        ({"batch_size": 0}, "batch_size = 0 must be at least 1"),
        ({"negative": ["a"]}, "negative = .* must be text, not list"),
        ({"stages": "base"}, "stages = 'base' must be a whole number"),
        ({"size": "big"}, "size = big is not a size"),
        ({"size": (1, 2, 3)}, "must be a width and a height"),
        ({"size": 64.5}, "size.* = 64.5 must be a whole number"),
        ({"background": 3}, "background = 3"),
        ({"progress": 3}, "progress = 3 must be True, or callable"),
        ({"settings": Sampling(steps=2)}, "must say for which stage"),
        ({"settings": {"steps": 2}}, "no stage called 'steps'"),
        ({"settings": {"base": 3}}, r"settings\['base'\] = 3 must be"),
        ({"settings": {"base": {"step": 2}}}, "no setting called 'base.step'"),
        ({"settings": {"base": {"steps": 2.0}}}, "steps = 2.0 must be a whole number"),
        ({"settings": {"base": {"steps": MAX_STEPS + 1}}}, "steps = 10001 must be .* at most"),
        ({"settings": {"base": {"guidance": "7"}}}, "guidance = '7' must be a number"),
        ({"settings": {"base": {"guidance_low": float("nan")}}}, "guidance_low = nan must be"),
        ({"settings": {"base": {"sampler": 3}}}, "sampler = 3 must be text"),
        ({"settings": {"base": {"timesteps": 5}}}, "timesteps = 5 must be a list"),
    ],
)
def test_other_values_are_errors_that_name_the_argument(cascade, arguments, message):
    with pytest.raises(ConfigError, match=message):
        cascade.generate(**{"prompts": "a", "stages": 1, **arguments})


def test_sampling_itself_takes_usual_values():
    with pytest.raises(ConfigError, match="steps = '20' must be a whole number"):
        Sampling(steps="20")
    with pytest.raises(UnknownName, match="sampler called 'dim'"):
        Sampling(sampler="dim")
    assert type(Sampling(steps=np.int64(3)).steps) is int


def images_of(pixels):
    """The same small image in every form that is taken."""
    array = np.array(pixels)
    yield array
    yield array.transpose(2, 0, 1)
    yield array[None]
    yield torch.from_numpy(array).permute(2, 0, 1)
    yield array / 255
    yield torch.from_numpy(array / 255).float()
    yield array.astype(np.int64)


def test_images_may_be_files_arrays_or_tensors(cascade, tmp_path):
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (70, 80, 3), dtype=np.uint8))
    pixels.save(tmp_path / "small.png")
    wanted = cascade.upscale(pixels, "a", settings=SHORT).stages["sr256"]
    for form in (tmp_path / "small.png", str(tmp_path / "small.png"), *images_of(pixels)):
        assert read_original(form).image == pixels
    made = cascade.upscale(str(tmp_path / "small.png"), "a", settings=SHORT)
    assert torch.equal(made.stages["sr256"], wanted)
    turned = Image.Exif()
    turned[0x0112] = 6
    pixels.save(tmp_path / "turned.jpg", exif=turned)
    assert read_original(tmp_path / "turned.jpg").image.size == (70, 80)
    assert read_original(np.zeros((4, 5))).image.mode == "RGB"
    assert read_original(np.zeros((4, 5, 4), np.uint8)).image.mode == "RGBA"


@pytest.mark.parametrize(
    "image, error, message",
    [
        (None, ConfigError, "image = None is no image"),
        (b"...", DataError, "is not an image that can be read"),
        (7, ConfigError, "image = 7 is no image"),
        (np.zeros((2, 3, 5), np.uint8), ConfigError, r"shape \[2, 3, 5\]"),
        (np.full((9, 9, 3), 2.0), ConfigError, "from 0 to 1, not 2.0 to 2.0"),
        (np.full((9, 9, 3), np.nan), ConfigError, "from 0 to 1"),
        (np.full((9, 9, 3), -1), ConfigError, "from 0 to 255"),
        (np.zeros((9, 9), complex), ConfigError, "array of complex"),
        ("nowhere.png", DataError, "no file nowhere.png"),
    ],
)
def test_what_is_no_image_is_named(cascade, image, error, message):
    with pytest.raises(error, match=message):
        cascade.upscale(image, "a")


def test_a_callback_sees_copies_of_the_estimates(cascade):
    plain = cascade.generate(["a", "b"], settings=SHORT)
    seen = []

    def look(stage, step, steps, preview):
        seen.append((stage, step, steps, tuple(preview.shape)))
        assert not preview.is_inference()
        assert not preview.requires_grad
        preview.zero_()

    made = cascade.generate(["a", "b"], settings=SHORT, progress=look)
    assert seen == [
        ("base", 1, 2, (2, 3, 64, 64)),
        ("base", 2, 2, (2, 3, 64, 64)),
        ("sr256", 1, 1, (2, 3, 256, 256)),
    ]
    for name, images in plain.stages.items():
        assert torch.equal(made.stages[name], images)
    seen.clear()
    cascade.generate(["a", "b"], settings=SHORT, stages=1, batch_size=1, progress=look)
    assert [(step, steps) for _, step, steps, _ in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_callback_may_change_the_estimate(cascade):
    def white(stage, step, steps, preview):
        return torch.ones_like(preview, dtype=torch.float64) if step == steps else None

    made = cascade.generate("a", settings=SHORT, stages=1, progress=white)
    assert base_of(made).min() == 255
    for wrong, message in (
        (torch.ones(3), r"returned \[3\]; it must"),
        ("stop", "returned 'stop'"),
    ):
        with pytest.raises(ConfigError, match=message):
            cascade.generate("a", stages=1, progress=lambda *_, wrong=wrong: wrong)
    with pytest.raises(ConfigError, match="not finite"):
        cascade.generate("a", stages=1, progress=lambda *args: args[3] * float("nan"))


def test_a_callback_may_stop(cascade):
    steps = []

    def stop(stage, step, *_):
        steps.append(step)
        if step == 2:
            raise oi.StopSampling("enough")

    with pytest.raises(oi.StopSampling, match="enough"):
        cascade.generate("a", progress=stop)
    assert steps == [1, 2]
    assert issubclass(oi.StopSampling, oi.OpenImagenError)
    cascade.generate("a", settings=SHORT)  # and the cascade goes on


@pytest.mark.parametrize("where", [0, 1])
def test_numbers_that_are_not_finite_are_an_error_with_stage_and_step(where):
    stages = make_stages()
    next(iter(stages[where].network.parameters())).fill_(float("nan"))
    cascade = make_cascade(stages)
    name, steps = [("base", 3), ("sr256", 2)][where]
    message = f"Stage {name} computed numbers that are not finite .* at step 1 of {steps}"
    with pytest.raises(SamplingError, match=message):
        cascade.generate("a")


def test_the_default_dtype_of_torch_changes_nothing(model_folder, encoder):
    def run():
        cascade = oi.load(model_folder, device="cpu")
        cascade.text.encoder = encoder
        made = cascade.generate(["a b", "c"], negative="d", settings=SHORT)
        up = cascade.upscale(made.images[0], "a", settings={"sr256": {"color_correction": 3.0}})
        return made.stages, up.stages["sr256"]

    (plain, up), kept = run(), torch.get_default_dtype()
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            stages, up_again = run()
        finally:
            torch.set_default_dtype(kept)
        assert torch.equal(up, up_again)
        assert all(torch.equal(stages[name], plain[name]) for name in plain)


def test_two_cascades_of_the_same_stages_leave_each_other_alone():
    stages = make_stages()
    before = [(p.dtype, p.data_ptr(), p.stride()) for s in stages for p in s.parameters()]
    one = make_cascade(stages)
    plain = one.generate("a", settings=SHORT)
    half = make_cascade(stages, runtime=RuntimeConfig(device="cpu", dtype="bf16", fast=True))
    other = half.generate("a", settings=SHORT)
    again = one.generate("a", settings=SHORT)
    assert torch.equal(again.stages["sr256"], plain.stages["sr256"])
    assert not torch.equal(other.stages["sr256"], plain.stages["sr256"])
    assert "precision" not in again.records[0]
    assert other.records[0]["precision"] == "bf16"
    after = [(p.dtype, p.data_ptr(), p.stride()) for s in stages for p in s.parameters()]
    assert before == after
    # The same of stages that are another cascade's: its weights are exact, whatever it computes in.
    exact = make_cascade(list(one.stages.values())).generate("a", settings=SHORT)
    assert torch.equal(exact.stages["sr256"], plain.stages["sr256"])


def test_a_cascade_at_half_precision_saves_exact_weights(model_folder, tmp_path):
    oi.load(model_folder, device="cpu", dtype="bf16").save(tmp_path / "again")
    again, first = (oi.load(folder).model_hash for folder in (tmp_path / "again", model_folder))
    assert again == first


def test_a_cascade_can_be_pickled_and_copied(cascade, model_folder, tmp_path):
    plain = cascade.generate("a", settings=SHORT)
    for again in (pickle.loads(pickle.dumps(cascade)), copy.deepcopy(cascade)):
        made = again.generate("a", settings=SHORT)
        assert torch.equal(made.stages["sr256"], plain.stages["sr256"])
        assert made.records == plain.records
    folder = tmp_path / "model"
    make_cascade().save(folder)
    offloaded = pickle.dumps(oi.load(folder, device="cpu", offload=True))
    assert len(offloaded) < 100_000
    assert pickle.loads(offloaded).config == oi.load(folder).config
    (folder / "base" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="are missing"):
        pickle.loads(offloaded)


def test_a_result_shows_itself_and_saves_its_records(cascade, tmp_path):
    made = cascade.generate(["a <b>", "a <b>"], settings=SHORT, stages=1)
    page = made._repr_html_()
    assert page.count("data:image/png;base64,") == 2
    assert "a &lt;b&gt; (seed 0)" in page
    assert "<b>" not in page
    assert repr(made) == "<GenerationOutput of 2 images 64x64: base>"
    files = [*made.save(tmp_path / "out"), *made.save(tmp_path / "out")]
    names = ["00000-a-b.png", "00001-a-b.png", "00000-a-b-2.png", "00001-a-b-2.png"]
    assert [path.name for path in files] == names
    assert read_record(files[1]) == made.records[1]
    assert "tiny (unsaved): base 64, sr256 256; cpu" in repr(cascade)


def test_devices_and_dtypes_may_be_those_of_torch(model_folder):
    for dtype in ("bf16", "bfloat16", torch.bfloat16):
        runtime = oi.load(model_folder, device=torch.device("cpu"), dtype=dtype).runtime
        assert runtime == RuntimeConfig(device="cpu", dtype="bf16")
    with pytest.raises(UnknownName, match="no dtype called 'float16'"):
        RuntimeConfig(dtype=torch.float16)


def test_progress_true_is_a_bar(cascade, capsys):
    cascade.generate("a", settings=SHORT, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["base", "sr256"]
    assert "] 2/2 " in lines[0]


def test_the_text_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("open_imagen.cascade.prompts.MAX_ENCODED", 3)
    cascade = make_cascade(text=WordEncoder())
    cascade.generate([f"a{k}" for k in range(9)], stages=1, settings=SHORT)
    assert len(cascade.text) == 3
