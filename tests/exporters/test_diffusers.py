"""Export to diffusers: its own classes where they can, else a module in the folder; same images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from typer.testing import CliRunner

import open_imagen as oi
from deepfloyd_standins import TEXT, generators, make_pipelines
from open_imagen.cascade import deepfloyd
from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.folder import CascadeConfig
from open_imagen.cascade.runtime import RuntimeConfig
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.cli.main import app
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError, OutputError, UnknownName
from open_imagen.exporters.deepfloyd_export import differences
from open_imagen.storage import load_tensors
from open_imagen.text import encoders
from standins import WordEncoder, make_cascade, make_stages, save_adapter

PROMPTS = ["a red circle above a blue square", 'a sign that says "CAT"']


@pytest.fixture(autouse=True)
def modules_of_this_test(tmp_path, monkeypatch):
    """Where diffusers copies the modules of folders."""
    import diffusers.utils.dynamic_modules_utils as dynamic

    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    for name in [name for name in sys.modules if name.startswith("diffusers_modules")]:
        monkeypatch.delitem(sys.modules, name)


def load(folder, **more):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, **more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def same(found, wanted):
    """uint8 images of two whole loops: the same, but where a value lies between two of them."""
    apart = (found.int() - wanted.int()).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 5e-3


VARIANTS = {
    "plain": {},
    "alpha": {"image_channels": 4},
    "letters": {"letters": 6},
}


def make_variant(name):
    """With the real text encoder, for which `make_cascade` has a stand-in."""
    config = CascadeConfig(name="tiny", encoder="minilm-l6")
    return Cascade(config, make_stages(**VARIANTS[name]), RuntimeConfig(device="cpu"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_whole_loops_are_the_same(variant, tmp_path):
    cascade = make_variant(variant)
    oi.export(cascade, tmp_path / "out")
    pipeline = load(tmp_path / "out")
    made = cascade.generate(PROMPTS, seed=5)
    same(pipeline(PROMPTS, seed=5, output_type="pt").images, made.stages["sr256"])
    more = cascade.generate(PROMPTS[0], 3, 2, negative="blue", stages=1)
    images = pipeline(
        PROMPTS[0],
        seed=3,
        num_images_per_prompt=2,
        negative_prompt="blue",
        num_stages=1,
        output_type="pt",
    ).images
    same(images, more.stages["base"])
    [one] = pipeline(PROMPTS[0], generator=generators(3), num_stages=1).images
    assert one.size == (64, 64)
    assert one.mode == "RGB"
    if variant == "alpha":
        [one] = pipeline(PROMPTS[0], num_stages=1, background="transparent").images
        [wanted] = cascade.generate(PROMPTS[0], stages=1, background="transparent").images
        assert one.mode == wanted.mode == "RGBA"


@pytest.mark.parametrize("variant", VARIANTS)
def test_stages_agree_before_they_are_rounded(variant, tmp_path):
    cascade = make_variant(variant)
    oi.export(cascade, tmp_path / "out", text_encoder=False)
    text = WordEncoder()(PROMPTS)
    small = torch.rand(2, cascade.stages["base"].channels, 64, 64) * 2 - 1
    for stage in load(tmp_path / "out").cascade_stages():
        ours, lowres = cascade.stages[stage.config.name], small if stage.config.lowres else None
        wanted = ours.sample(text, generators(1, 2), lowres=lowres)
        found = stage.sample(text, generators(1, 2), lowres=lowres)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


SAMPLERS = ["ddpm", "ddim", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "heun", "heun_sde"]


def test_every_sampler_and_setting_is_there(tmp_path):
    cascade = make_variant("plain")
    oi.export(cascade, tmp_path / "out", text_encoder=False)
    text, pipeline = WordEncoder()(PROMPTS), load(tmp_path / "out")
    stage = pipeline.cascade_stages()[0]
    for sampler in SAMPLERS:
        how = {"sampler": sampler, "steps": 3, "guidance": 3.0, "guidance_rescale": 0.5}
        wanted = cascade.stages["base"].sample(text, generators(1, 2), Sampling(**how))
        found = pipeline(
            PROMPTS,
            seed=[1, 2],
            prompt_embeds=text.tokens,
            prompt_mask=text.mask,
            num_stages=1,
            settings={"base": how},
            output_type="pt",
        ).images
        same(found, wanted.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8))
    assert stage.config.sampling.given() == cascade.stages["base"].config.sampling.given()


def test_adapters_and_distilled_guidance_are_in_what_is_exported(tmp_path):
    base = make_stages()[0]
    few = Sampling(timesteps=(999, 600, 200), guidance=2.0, sampler="dpmpp_2m_sde")
    config = StageConfig(**{**base.config.__dict__, "distilled_guidance": 2.0, "sampling": few})
    student = Stage(config)
    student.network.load_state_dict(base.network.state_dict())
    student.eval().requires_grad_(False)
    make_cascade([student], name="student").save(tmp_path / "student")
    layer = "middle.0.attention.query"
    out, inside = base.network.get_parameter(f"{layer}.weight").shape
    tensors = {
        f"{layer}.lora_A.weight": torch.randn(2, inside),
        f"{layer}.lora_B.weight": torch.randn(out, 2),
    }
    save_adapter(tmp_path / "ink", "base", tensors)
    cascade = oi.load(tmp_path / "student", device="cpu", adapters={tmp_path / "ink": 0.5})
    oi.export(cascade, tmp_path / "out")
    made = cascade.generate(PROMPTS)
    assert len(made.records) == 2
    same(load(tmp_path / "out")(PROMPTS, output_type="pt").images, made.stages["base"])
    plain = oi.load(tmp_path / "student", device="cpu").generate(PROMPTS).stages["base"]
    assert (plain.int() - made.stages["base"].int()).abs().max() > 10


def test_two_exports_in_one_process_do_not_disturb_each_other(tmp_path):
    plain, letters = make_variant("plain"), make_variant("letters")
    oi.export(plain, tmp_path / "one", text_encoder=False)
    oi.export(letters, tmp_path / "two", text_encoder=False)
    first, _ = load(tmp_path / "one"), load(tmp_path / "two")
    text = WordEncoder()(PROMPTS)
    how = {"prompt_embeds": text.tokens, "prompt_mask": text.mask, "output_type": "pt"}
    wanted = plain.stages["base"].sample(text, generators(0, 1))
    same(
        first(PROMPTS, num_stages=1, **how).images,
        wanted.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8),
    )


def test_the_folder_needs_nothing_of_ours(tmp_path):
    """In a process that cannot import open_imagen, with the shipped model and its text encoder."""
    assert (
        CliRunner()
        .invoke(
            app,
            ["export", "scenes", "--to", "diffusers", "--out", str(tmp_path / "out")],
            catch_exceptions=False,
        )
        .stdout.startswith(str(tmp_path / "out"))
    )
    script = f"""
import sys
sys.modules["open_imagen"] = None
import torch, diffusers
pipe = diffusers.DiffusionPipeline.from_pretrained(
    {str(tmp_path / "out")!r}, custom_pipeline={str(tmp_path / "out")!r}, trust_remote_code=True)
images = pipe({PROMPTS!r}, seed=5, num_stages=1, output_type="pt").images
torch.save(images, {str(tmp_path / "images.pt")!r})
"""
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, capture_output=True)
    wanted = oi.load("scenes", device="cpu").generate(PROMPTS, seed=5, stages=1)
    same(torch.load(tmp_path / "images.pt"), wanted.stages["base"])
    code = [path.read_text() for path in Path(tmp_path / "out").rglob("*.py")]
    assert code
    for text in code:
        assert "import open_imagen" not in text
        assert "from open_imagen" not in text


def test_half_precision_and_a_named_text_encoder(tmp_path):
    cascade = make_variant("plain")
    oi.export(cascade, tmp_path / "out", half=True, text_encoder=False)
    pipeline = load(tmp_path / "out", dtype=torch.float32)
    assert pipeline.unet.dtype == torch.float32
    with pytest.raises(ValueError, match="has no text encoder; it was trained with minilm-l6"):
        pipeline(PROMPTS)
    index = json.loads((tmp_path / "out" / "model_index.json").read_text())
    assert index["encoder"]["repository"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path):
    cascade = make_variant("plain")
    with pytest.raises(UnknownName, match="no export format called 'difusers'"):
        oi.export(cascade, tmp_path / "out", format="difusers")
    with pytest.raises(UnknownName, match="no model or folder called 'scense'"):
        oi.export("scense", tmp_path / "out")
    own = make_cascade(make_stages())
    with pytest.raises(ConfigError, match="a WordEncoder given in Python"):
        oi.export(own, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        oi.export(cascade, tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def published_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("if")
    for name, pipeline in zip(("I", "II"), make_pipelines(), strict=True):
        pipeline.save_pretrained(root / name)
    return root


@pytest.fixture
def tiny_encoder(monkeypatch):
    spec = encoders.ENCODERS["deepfloyd-t5-xxl"]
    tiny = encoders.EncoderSpec(**{**spec.__dict__, "width": TEXT})
    monkeypatch.setitem(encoders.ENCODERS._entries, "deepfloyd-t5-xxl", tiny)


def test_networks_of_if_become_its_own_pipelines(published_folder, tiny_encoder, tmp_path):
    cascade = oi.load(published_folder, device="cpu")
    assert differences(cascade) == []
    oi.export(cascade, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.py"))
    for theirs, ours in (("I", "base"), ("II", "sr64")):
        file = Path("unet") / "diffusion_pytorch_model.safetensors"
        wanted = load_tensors(published_folder / theirs / file)
        found = load_tensors(tmp_path / "out" / ours / file)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())
    base = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out" / "base")
    larger = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out" / "sr64")
    assert type(base) is diffusers.IFPipeline
    assert type(larger) is diffusers.IFSuperResolutionPipeline
    for pipeline in (base, larger):
        pipeline.set_progress_bar_config(disable=True)
    how = {"output_type": "pt", "clean_caption": False}
    # Little guidance: with much of it, random networks make pictures of rounding errors.
    how["guidance_scale"] = 2.0
    small = base(PROMPTS, num_inference_steps=12, generator=generators(3, 4), **how).images
    large = larger(
        PROMPTS,
        height=64,
        width=64,
        image=small,
        noise_level=250,
        num_inference_steps=7,
        generator=generators(5, 6),
        **how,
    ).images
    text, empty = cascade.text(PROMPTS), cascade.text([""] * 2)
    ours = cascade.stages["base"].sample(
        text, generators(3, 4), Sampling(steps=12, guidance=2.0), negative=empty
    )
    torch.testing.assert_close(ours, small, rtol=0, atol=1e-4)
    ours = cascade.stages["sr64"].sample(
        text, generators(5, 6), Sampling(steps=7, guidance=2.0), lowres=small, negative=empty
    )
    torch.testing.assert_close(ours, large, rtol=0, atol=1e-4)
    # And what was exported is read again as what it was.
    again = deepfloyd.read(tmp_path / "out")
    for stage, wanted in zip(again.stages, cascade.stages.values(), strict=True):
        assert stage.config == wanted.config


@pytest.mark.parametrize(
    "change, told",
    [
        ({"sampling": Sampling(sampler="ddim")}, "sampler = 'ddim'"),
        ({"unconditional": "zero"}, "zero text"),
        ({"distilled_guidance": 3.0}, "distilled_guidance = 3.0"),
        ({"schedule": Schedule(name="cosine")}, "schedule = cosine"),
        ({"objective": Objective(prediction="v")}, "prediction = v"),
    ],
)
def test_what_ifs_classes_cannot_express_is_named(published_folder, tiny_encoder, change, told):
    cascade = oi.load(published_folder / "I", device="cpu")
    stage = cascade.stages["base"]
    stage.config = StageConfig(**{**stage.config.__dict__, **change})
    assert any(told in one for one in differences(cascade))


def test_a_cascade_that_is_nearly_if_gets_a_pipeline_of_its_own(
    published_folder, tiny_encoder, tmp_path
):
    cascade = oi.load(published_folder, device="cpu")
    for name, stage in cascade.stages.items():
        sampling = Sampling(sampler="ddim", steps=4, guidance=3.0, noise_level=0.25)
        stage.config = StageConfig(**{**stage.config.__dict__, "sampling": sampling})
        assert differences(cascade), name
    oi.export(cascade, tmp_path / "out")
    made = cascade.generate(PROMPTS, seed=2)
    same(load(tmp_path / "out")(PROMPTS, seed=2, output_type="pt").images, made.stages["sr64"])
