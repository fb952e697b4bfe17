"""DeepFloyd IF in the form of April 2023: the folders that diffusers 0.16.1 wrote, all variants."""

import inspect
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file

import open_imagen as oi
from open_imagen.cascade import deepfloyd
from open_imagen.cascade.io import load
from open_imagen.cli import imports
from open_imagen.errors import CheckpointError, MissingDependency, OpenImagenError
from open_imagen.models import deepfloyd as networks
from open_imagen.storage import find_weights, load_tensors
from open_imagen.text import encoders, files

FOREIGN = Path(__file__).parents[1] / "foreign" / "deepfloyd-2023"
PROMPTS = ["a red circle above a blue square", "a blue circle"]
LATER = {
    "addition_time_embed_dim": 32,
    "attention_type": "gated",
    "dropout": 0.1,
    "encoder_hid_dim_type": "image_proj",
    "num_attention_heads": 8,
    "reverse_transformer_layers_per_block": [2, 1],
    "transformer_layers_per_block": 2,
}
"""Keys of U-Nets that diffusers added after 0.16, at values that are not their defaults."""


@pytest.fixture(autouse=True)
def tiny_encoder(monkeypatch, tmp_path_factory):
    """The row of DeepFloyd's encoder, of the tiny one's width, and no other encoder at hand."""
    tiny = encoders.EncoderSpec(**{**encoders.ENCODERS["deepfloyd-t5-xxl"].__dict__, "width": 24})
    monkeypatch.setitem(encoders.ENCODERS._entries, "deepfloyd-t5-xxl", tiny)
    monkeypatch.setattr(files, "_from_hub", lambda origin, local: None)
    monkeypatch.delenv(files.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path):
    for name in ("I", "II"):
        shutil.copytree(FOREIGN / name, tmp_path / "if" / name)
    return tmp_path / "if"


@pytest.fixture(scope="module")
def drawn():
    return load_file(FOREIGN / "drawn.safetensors")


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def changed(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def both_stages(cascade):
    """Pictures of both stages in the steps that make.py took."""
    base, sr = cascade.stages.values()
    text, empty = cascade.text(PROMPTS), cascade.text([""] * 2)
    small = base.sample(text, generators(3, 4), oi.Sampling(steps=12), negative=empty)
    large = sr.sample(text, generators(5, 6), oi.Sampling(steps=7), lowres=small, negative=empty)
    return small, large


def test_text_is_encoded_as_in_2023(folder, drawn):
    cascade = load(folder, device="cpu")
    torch.testing.assert_close(cascade.text(PROMPTS).tokens, drawn["tokens"], rtol=0, atol=1e-5)
    torch.testing.assert_close(cascade.text([""]).tokens, drawn["empty"][:1], rtol=0, atol=1e-5)


def test_whole_pipelines_draw_what_diffusers_drew_in_2023_and_draws_now(folder, drawn):
    how = {"output_type": "pt", "clean_caption": False}
    first = IFPipeline.from_pretrained(folder / "I", variant="fp16", dtype=torch.float32)
    second = IFSuperResolutionPipeline.from_pretrained(
        folder / "II",
        variant="fp16",
        dtype=torch.float32,
        text_encoder=first.text_encoder,
        tokenizer=first.tokenizer,
    )
    small = first(PROMPTS, num_inference_steps=12, generator=generators(3, 4), **how).images
    large = second(
        PROMPTS,
        image=small,
        noise_level=250,
        num_inference_steps=7,
        generator=generators(5, 6),
        **how,
    ).images
    ours = both_stages(load(folder, device="cpu"))
    for found, now, then in zip(ours, (small, large), ("small", "large"), strict=True):
        assert now.std() > 0.3
        torch.testing.assert_close(found, now, rtol=0, atol=5e-4)
        torch.testing.assert_close(found, drawn[then], rtol=0, atol=5e-4)


def test_the_defaults_are_those_of_the_installed_diffusers():
    for kind, defaults in (
        (UNet2DConditionModel, networks.DEFAULTS),
        (DDPMScheduler, deepfloyd.SCHEDULER),
    ):
        parameters = inspect.signature(kind.__init__).parameters
        assert set(defaults) == set(parameters) - {"self"}
        for key in set(defaults) - {"down_block_types", "up_block_types"}:
            assert defaults[key] == parameters[key].default, key


def test_later_keys_at_their_defaults_change_nothing(folder):
    plain = deepfloyd.read(folder)
    config = folder / "I" / "unet" / "config.json"
    assert not LATER.keys() & json.loads(config.read_text()).keys()
    changed(config, **{key: networks.DEFAULTS[key] for key in LATER}, added_tomorrow=None)
    changed(
        folder / "I" / "scheduler" / "scheduler_config.json",
        timestep_spacing="leading",
        steps_offset=0,
        rescale_betas_zero_snr=False,
        added_tomorrow=False,
    )
    again = deepfloyd.read(folder)
    assert [one.config for one in again.stages] == [one.config for one in plain.stages]
    changed(config, encoder_hid_dim_type="text_proj", only_cross_attention=[False, False])
    changed(config, sample_size=[16, 16], attention_head_dim=[8, 8])
    assert deepfloyd.read(folder).stages[0].config == plain.stages[0].config


@pytest.mark.parametrize("key, value", [*LATER.items(), ("added_tomorrow", "on")])
def test_later_keys_at_other_values_are_refused_by_name(folder, key, value):
    changed(folder / "I" / "unet" / "config.json", **{key: value})
    with pytest.raises(CheckpointError, match=f"{key} = "):
        deepfloyd.read(folder)


@pytest.mark.parametrize(
    "key, value",
    [
        ("encoder_hid_dim", None),
        ("in_channels", None),
        ("out_channels", 3),
        ("block_out_channels", 32),
        ("layers_per_block", [1, 1, 1]),
        ("sample_size", [16, 32]),
        ("only_cross_attention", [True, False]),
        ("down_block_types", ["SimpleCrossAttnDownBlock2D", "ResnetDownsampleBlock2D"]),
        ("addition_embed_type_num_heads", 5),
        ("up_block_types", [["ResnetUpsampleBlock2D"], None]),
        ("act_fn", None),
    ],
)
def test_configs_of_other_networks_are_refused_by_name(folder, key, value):
    changed(folder / "I" / "unet" / "config.json", **{key: value})
    with pytest.raises(CheckpointError, match=f"{key} = "):
        deepfloyd.read(folder)


@pytest.mark.parametrize(
    "key, value",
    [
        ("timestep_spacing", "backwards"),
        ("timestep_spacing", ["leading"]),
        ("steps_offset", 1),
        ("rescale_betas_zero_snr", True),
        ("variance_type", "fixed_small"),
        ("trained_betas", [0.1, 0.2]),
        ("clip_sample_range", 2.0),
        ("beta_schedule", "linear"),
        ("_class_name", "DDIMScheduler"),
        ("added_tomorrow", 3),
    ],
)
def test_schedulers_that_step_otherwise_are_refused_by_name(folder, key, value):
    changed(folder / "II" / "scheduler" / "scheduler_config.json", **{key: value})
    with pytest.raises(CheckpointError, match=f"{key} = "):
        deepfloyd.read(folder)


def test_a_missing_key_of_the_scheduler_has_its_default(folder):
    file = folder / "I" / "scheduler" / "scheduler_config.json"
    settings = json.loads(file.read_text())
    del settings["dynamic_thresholding_ratio"], settings["sample_max_value"]
    file.write_text(json.dumps(settings))
    sampling = deepfloyd.read(folder).stages[0].config.sampling
    assert (sampling.percentile, sampling.threshold_cap) == (99.5, 1.0)
    del settings["beta_schedule"]
    file.write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match="beta_schedule = 'linear'"):
        deepfloyd.read(folder)


def test_the_noise_of_stage_two_is_checked_too(folder):
    file = folder / "II" / "image_noising_scheduler" / "scheduler_config.json"
    changed(file, beta_schedule="linear")
    with pytest.raises(CheckpointError, match=r"image_noising_scheduler.*beta_schedule = 'linear'"):
        deepfloyd.read(folder)


def test_the_third_stage_is_named_as_another_model(folder):
    shutil.copytree(folder / "II", folder / "III")
    changed(folder / "III" / "model_index.json", _class_name="StableDiffusionUpscalePipeline")
    with pytest.raises(CheckpointError, match="III is a StableDiffusionUpscalePipeline"):
        deepfloyd.read(folder)


FULL, HALF, BRAIN = "full precision", "float16", "bfloat16"
WHOLE, SHARDS = ["t5/whole/model.safetensors"], ["t5/shards/model*"]
WHOLE_HALF, SHARDS_HALF = ["t5/whole/model.fp16.safetensors"], ["I/text_encoder/model*"]
INDEX = ["t5/shards/model.safetensors.index.json"]


@pytest.mark.parametrize(
    "patterns, half, wanted",
    [
        (WHOLE, False, f"model.safetensors ({FULL})"),
        (SHARDS, False, f"model.safetensors.index.json ({FULL}, 4 shards)"),
        (WHOLE_HALF, False, f"model.fp16.safetensors ({HALF})"),
        (SHARDS_HALF, False, f"model.safetensors.index.fp16.json ({HALF}, 2 shards)"),
        (WHOLE + SHARDS_HALF, False, f"model.safetensors ({FULL}); not read: "),
        (WHOLE + SHARDS_HALF, True, f"index.fp16.json ({HALF}, 2 shards); not read: "),
        (SHARDS + WHOLE_HALF, False, f"index.json ({FULL}, 4 shards); not read: model.fp16"),
        # What a download of *.json and *.fp16* brings: the index of shards that are not there.
        (INDEX + SHARDS_HALF, False, f"model.safetensors.index.fp16.json ({HALF}, 2 shards)"),
        (["bf16"], False, f"model.bf16.safetensors ({BRAIN})"),
    ],
)
def test_every_variant_of_the_text_encoder(folder, drawn, patterns, half, wanted):
    place = folder / "I" / "text_encoder"
    for file in place.glob("model*"):
        file.unlink()
    for file in (file for pattern in patterns for file in FOREIGN.glob(pattern)):
        shutil.copy(file, place)
    if patterns == ["bf16"]:
        tensors = load_tensors(FOREIGN / "t5" / "whole" / "model.safetensors")
        halved = {name: tensor.bfloat16() for name, tensor in tensors.items()}
        save_file(halved, place / "model.bf16.safetensors", {"format": "pt"})
    found = deepfloyd.find_encoder(deepfloyd.read(folder, half))
    assert wanted in str(found)
    cascade = load(folder, device="cpu")
    tolerance = 0.05 if patterns == ["bf16"] else 1e-5
    torch.testing.assert_close(
        cascade.text(PROMPTS).tokens, drawn["tokens"], rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("variant", ["", "fp16", "bf16"])
@pytest.mark.parametrize("sharded", [False, True])
def test_every_variant_of_the_networks(folder, variant, sharded):
    unet = folder / "I" / "unet"
    tensors = load_tensors(unet / "diffusion_pytorch_model.fp16.safetensors")
    dtype = {"": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[variant]
    network = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(unet))
    network.load_state_dict(tensors)
    (unet / "diffusion_pytorch_model.fp16.safetensors").unlink()
    size = "500KB" if sharded else "10GB"
    network.to(dtype).save_pretrained(unet, variant=variant or None, max_shard_size=size)
    found = find_weights(unet, deepfloyd.WEIGHTS)
    assert (found.variant, found.index is not None) == (variant, sharded)
    stage = deepfloyd.read_stage(folder / "I")
    stage.load_weights(torch.device("cpu"))
    torch.testing.assert_close(
        stage.network.stem.weight.float(), tensors["conv_in.weight"].to(dtype).float()
    )


def test_half_of_a_download_gives_way_to_a_whole_variant(folder):
    unet = folder / "I" / "unet"
    index = {"weight_map": {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    (unet / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    assert find_weights(unet, deepfloyd.WEIGHTS).variant == "fp16"
    deepfloyd.read(folder)


@pytest.mark.parametrize("content", [[], {}, {"weight_map": {"a": "../../b.safetensors"}}])
def test_a_broken_index_is_named(folder, content):
    index = folder / "I" / "text_encoder" / "model.safetensors.index.fp16.json"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"index.fp16.json does not say"):
        deepfloyd.read(folder)


def test_the_import_at_half_precision_draws_the_same(folder, tmp_path, capsys):
    shutil.copy(FOREIGN / "t5" / "whole" / "model.safetensors", folder / "I" / "text_encoder")
    out = tmp_path / "ours"
    imports.deepfloyd(folder, out, clean=False, half=True)
    told = capsys.readouterr().err
    assert "diffusion_pytorch_model.fp16.safetensors (float16)" in told
    assert "model.safetensors.index.fp16.json (float16, 2 shards); not read: model.saf" in told
    assert sorted(path.name for path in (out / "text_encoder").iterdir()) == [
        "config.json",
        "model.fp16-00001-of-00002.safetensors",
        "model.fp16-00002-of-00002.safetensors",
        "model.safetensors.index.fp16.json",
    ]
    ours, theirs = (
        both_stages(oi.load(out, device="cpu")),
        both_stages(oi.load(folder, device="cpu")),
    )
    for found, wanted in zip(ours, theirs, strict=True):
        assert torch.equal(found, wanted)


TEXT = Path("I", "text_encoder")


@pytest.mark.parametrize(
    "lost, message",
    [
        (TEXT / "config.json", r"text_encoder lacks config\.json"),
        (TEXT / "model.fp16-00002-of-00002.safetensors", r"shards: model\.fp16-00002-of-00002"),
        (TEXT / "model.safetensors.index.fp16.json", r"lacks model\.safetensors\.index\.fp16"),
        (TEXT, "No folder here has text_encoder/ with weights"),
        (Path("I", "tokenizer", "spiece.model"), "neither tokenizer.json nor spiece.model"),
        (Path("I", "tokenizer"), "neither tokenizer.json nor spiece.model"),
        (Path("II", "unet", "diffusion_pytorch_model.fp16.safetensors"), "II/unet has no weights"),
    ],
)
def test_the_import_fails_where_a_file_is_missing(folder, tmp_path, lost, message):
    place = folder / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises((CheckpointError, MissingDependency), match=message) as caught:
        imports.deepfloyd(folder, tmp_path / "ours", clean=False, half=True)
    assert caught.value.hint
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize(
    "broken, content, message",
    [
        (TEXT / "config.json", "{}", "model_type = None"),
        (TEXT / "config.json", '{"model_type": "t5", "num_heads": "many"}', "no T5 encoder"),
        (TEXT / "model.fp16-00001-of-00002.safetensors", "x", "truncated or damaged"),
        (Path("I", "tokenizer", "spiece.model"), "x", "tokenizer .*spiece.model is damaged"),
        (Path("I", "tokenizer", "tokenizer.json"), "x", "tokenizer .*tokenizer.json is damaged"),
        (Path("I", "unet", "config.json"), "[]", "unet/config.json holds no settings"),
        (Path("I", "model_index.json"), "[", "model_index.json is not valid JSON"),
    ],
)
def test_the_import_names_a_damaged_file(folder, tmp_path, broken, content, message):
    (folder / broken).write_text(content)
    with pytest.raises(OpenImagenError, match=message):
        imports.deepfloyd(folder, tmp_path / "ours", clean=False, half=False)
    assert not (tmp_path / "ours").exists()


def test_the_import_names_packages_that_are_missing(folder, tmp_path, monkeypatch):
    (folder / "I" / "tokenizer" / "spiece.model").write_text("x")
    monkeypatch.setattr(files, "_importable", lambda module: module != "sentencepiece")
    with pytest.raises(MissingDependency, match="without: sentencepiece") as caught:
        imports.deepfloyd(folder, tmp_path / "ours", clean=False, half=False)
    assert caught.value.hint == "Run: pip install sentencepiece"


def test_a_text_encoder_that_lacks_weights_or_fits_no_stage_is_refused(folder, tmp_path):
    shard = folder / TEXT / "model.fp16-00002-of-00002.safetensors"
    tensors = load_tensors(shard)
    kept = tensors.pop("encoder.final_layer_norm.weight")
    save_file(tensors, shard)
    with pytest.raises(CheckpointError, match=r"encoder\.final_layer_norm\.weight missing"):
        imports.deepfloyd(folder, tmp_path / "ours", clean=False, half=False)
    # Not filled with random numbers where the folder is used as it is.
    with pytest.raises(CheckpointError, match=r"encoder\.final_layer_norm\.weight missing"):
        load(folder, device="cpu").text(PROMPTS)
    save_file({**tensors, "encoder.final_layer_norm.weight": kept}, shard)
    imports.deepfloyd(folder, tmp_path / "ours", clean=False, half=False)
    changed(folder / TEXT / "config.json", d_model=32)
    with pytest.raises(CheckpointError, match=r"is \[128, 24\], not \[128, 32\]"):
        imports.deepfloyd(folder, tmp_path / "ours", clean=False, half=False)


def test_a_text_encoder_elsewhere_on_this_machine_will_do(folder, tmp_path, monkeypatch, capsys):
    elsewhere = tmp_path / "t5"
    shutil.copytree(folder / TEXT, elsewhere)
    shutil.copy(folder / "I" / "tokenizer" / "spiece.model", elsewhere)
    monkeypatch.setenv(files.FOLDER_VARIABLE, str(elsewhere))
    imports.deepfloyd(folder / "II", tmp_path / "ours", clean=False, half=True)
    assert f"stays where it is: {elsewhere}" in capsys.readouterr().err
