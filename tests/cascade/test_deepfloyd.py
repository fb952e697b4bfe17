"""DeepFloyd IF: folders that diffusers wrote give diffusers' own pictures, and bad ones are named.

Networks, text encoder and tokenizer are tiny and random, but of the real classes and in the real
layout; the chains are whole: text, network, guidance, thresholding, learned variance, noise level.
"""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import open_imagen as oi
from deepfloyd_standins import TEXT, TOKENS, generators, make_pipelines, make_unet
from open_imagen.cascade import deepfloyd
from open_imagen.cascade.io import load, published
from open_imagen.cli import imports
from open_imagen.errors import CheckpointError
from open_imagen.text import encoders


@pytest.fixture(scope="module")
def pipelines():
    return make_pipelines()


@pytest.fixture(scope="module")
def written(pipelines, tmp_path_factory):
    """Both stages as save_pretrained writes them."""
    root = tmp_path_factory.mktemp("if")
    for name, pipeline in zip(("I", "II"), pipelines, strict=True):
        pipeline.save_pretrained(root / name)
    return root


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written, tmp_path / "if")
    return tmp_path / "if"


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"lowres": True},
        {"lowres": True, "cross_only": True},
        {"widths": (32, 64, 96), "layers": [2, 1, 3], "attends": [False, False, True]},
        {"widths": (32, 32, 64, 64), "layers": 2, "attends": [False, True, True, True]},
    ],
    ids=["stage I", "stage II", "cross-only", "uneven", "four levels"],
)
@pytest.mark.parametrize("saved", ["whole", "sharded"])
def test_networks_equal_diffusers(shape, saved, tmp_path):
    theirs = make_unet(**shape)
    size = "10GB" if saved == "whole" else "200KB"
    theirs.save_pretrained(tmp_path / "stage" / "unet", max_shard_size=size)
    assert len(list((tmp_path / "stage" / "unet").glob("*.safetensors"))) == 1 or saved != "whole"
    stage = deepfloyd.read_stage(tmp_path / "stage")
    stage.load_weights(torch.device("cpu"))
    torch.manual_seed(2)
    z, steps = torch.randn(2, 3, 16, 16), torch.tensor([10.0, 870.0])
    tokens = torch.randn(2, 9, TEXT)
    text = oi.types.TextEmbedding(tokens, torch.ones(2, 9, dtype=torch.bool))
    lowres, given = None, z
    if shape.get("lowres"):
        lowres = oi.types.LowRes(torch.randn(2, 3, 16, 16), torch.tensor([250.0, 3.0]))
        given = torch.cat([z, lowres.image], dim=1)
    with torch.no_grad():
        wanted = theirs(given, steps, tokens, class_labels=lowres and lowres.level).sample
        found = stage.network(z, steps, text, lowres)
    assert wanted.abs().max() > 0.5
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


@pytest.fixture
def tiny_encoder(monkeypatch):
    """The row of DeepFloyd's encoder, of the tiny one's width."""
    spec = encoders.ENCODERS["deepfloyd-t5-xxl"]
    tiny = encoders.EncoderSpec(**{**spec.__dict__, "width": TEXT})
    monkeypatch.setitem(encoders.ENCODERS._entries, "deepfloyd-t5-xxl", tiny)


PROMPTS = ["a red circle above a blue square", "A blue Circle  "]


def test_text_is_read_as_diffusers_reads_it(pipelines, folder, tiny_encoder):
    wanted, empty = pipelines[0].encode_prompt(PROMPTS, device="cpu", clean_caption=False)
    cascade = load(folder, device="cpu")
    found = cascade.text(PROMPTS)
    assert found.mask.shape == (2, TOKENS)
    assert found.mask.all()
    torch.testing.assert_close(found.tokens, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(cascade.text([""]).tokens[0], empty[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("weights", [(7.0, 4.0), (1.0, 1.0)], ids=["guided", "not guided"])
def test_whole_pipelines_give_diffusers_pictures(pipelines, folder, tiny_encoder, weights):
    first, second = pipelines
    how = {"output_type": "pt", "clean_caption": False}
    small = first(
        PROMPTS,
        num_inference_steps=12,
        generator=generators(3, 4),
        guidance_scale=weights[0],
        **how,
    ).images
    large = second(
        PROMPTS,
        height=64,
        width=64,
        image=small,
        noise_level=250,
        num_inference_steps=7,
        generator=generators(5, 6),
        guidance_scale=weights[1],
        **how,
    ).images

    cascade = load(folder, device="cpu")
    base, sr = cascade.stages.values()
    assert (base.config.name, sr.config.name) == ("base", "sr64")
    assert (base.config.sampling.threshold_cap, sr.config.sampling.threshold_cap) == (1.5, 1.0)
    assert sr.config.sampling.noise_level == 0.25
    text, empty = cascade.text(PROMPTS), cascade.text([""] * 2)

    first_settings = oi.Sampling(steps=12, guidance=weights[0])
    second_settings = oi.Sampling(steps=7, guidance=weights[1])
    ours = base.sample(text, generators(3, 4), first_settings, negative=empty)
    torch.testing.assert_close(ours, small, rtol=0, atol=1e-3)
    assert (ours[0] - ours[1]).abs().max() > 0.5
    ours = sr.sample(text, generators(5, 6), second_settings, lowres=ours, negative=empty)
    torch.testing.assert_close(ours, large, rtol=0, atol=1e-3)


def test_chosen_steps_give_diffusers_pictures(pipelines, folder, tiny_encoder):
    chosen = [999, 900, 700, 420, 100, 0]
    wanted = pipelines[0](
        PROMPTS[:1],
        timesteps=chosen,
        generator=generators(1),
        output_type="pt",
        clean_caption=False,
    ).images
    cascade = load(folder, device="cpu")
    base = cascade.stages["base"]
    found = base.sample(
        cascade.text(PROMPTS[:1]),
        generators(1),
        oi.Sampling(timesteps=tuple(chosen)),
        negative=cascade.text([""]),
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


def test_a_folder_loads_and_makes_pictures_and_saves_as_ours(folder, tiny_encoder, tmp_path):
    settings = {"base": oi.Sampling(steps=2), "sr64": oi.Sampling(steps=2)}
    cascade = oi.load(folder, device="cpu")
    made = cascade.generate("a red circle", settings=settings)
    assert made.images[0].size == (64, 64)
    cascade.save(tmp_path / "ours")
    shutil.copytree(folder / "I" / "text_encoder", tmp_path / "ours" / "text_encoder")
    shutil.copytree(folder / "I" / "tokenizer", tmp_path / "ours" / "tokenizer")
    again = oi.load(tmp_path / "ours", device="cpu").generate("a red circle", settings=settings)
    assert torch.equal(made.stages["sr64"], again.stages["sr64"])


def test_the_encoder_is_let_go_before_the_networks_come(folder, tiny_encoder):
    settings = {"base": oi.Sampling(steps=1), "sr64": oi.Sampling(steps=1)}
    cascade = oi.load(folder, device="cpu", offload=True)
    here = []

    def look(stage, step, steps, preview):
        loaded = [name for name, one in cascade.stages.items() if not _is_offloaded(one)]
        here.append((loaded, cascade.text.encoder.loaded))

    first = cascade.generate("a red circle", settings=settings, progress=look)
    assert here == [(["base"], False), (["sr64"], False)]
    assert all(_is_offloaded(stage) for stage in cascade.stages.values())
    kept = oi.load(folder, device="cpu", offload=False)
    second = kept.generate("a red circle", settings=settings)
    assert torch.equal(first.stages["sr64"], second.stages["sr64"])


def _is_offloaded(stage):
    return next(stage.parameters()).is_meta


def test_one_stage_alone_is_a_model(folder, tiny_encoder):
    assert list(oi.load(folder / "I", device="cpu").stages) == ["base"]
    assert list(oi.load(folder / "II", device="cpu").stages) == ["sr64"]


def rewritten(file, change):
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def unet_file(folder):
    return folder / "I" / "unet" / "diffusion_pytorch_model.safetensors"


def test_weights_that_are_missing_unknown_or_misshapen_are_listed(folder):
    def spoil(tensors):
        del tensors["conv_in.bias"]
        tensors["extra.weight"] = torch.zeros(3)

    rewritten(unet_file(folder), spoil)
    with pytest.raises(CheckpointError, match=r"conv_in.bias missing; extra.weight unknown"):
        deepfloyd.read(folder)


def test_misshapen_weights_are_listed(folder):
    rewritten(unet_file(folder), lambda t: t.update({"conv_in.bias": torch.zeros(7)}))
    with pytest.raises(CheckpointError, match=r"stem.bias is \[7\], not \[32\]"):
        deepfloyd.read(folder)


def test_a_missing_shard_is_named(folder):
    unet = folder / "I" / "unet"
    unet_file(folder).unlink()
    make_unet().save_pretrained(unet, max_shard_size="200KB")
    deepfloyd.read(folder)
    shard = sorted(unet.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"lacks 1 of .* shards: {shard.name}"):
        deepfloyd.read(folder)


def test_pickles_are_refused_with_the_way_to_convert(folder):
    unet_file(folder).rename(folder / "I" / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="as a pickle only") as caught:
        deepfloyd.read(folder)
    assert "safetensors" in caught.value.hint


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("act_fn", "silu", None),
        ("cross_attention_norm", None, "cross_attention_norm = None"),
        ("resnet_skip_time_act", True, "resnet_skip_time_act"),
        ("down_block_types", ["DownBlock2D", "DownBlock2D"], "down_block_types"),
        ("in_channels", 6, "in_channels = 6"),
        ("norm_num_groups", 8, "norm_num_groups = 8"),
    ],
)
def test_configs_beyond_what_if_has_are_refused_by_name(folder, key, value, message):
    file = folder / "I" / "unet" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, key: value}))
    if message is None:
        deepfloyd.read(folder)
        return
    with pytest.raises(CheckpointError, match=message):
        deepfloyd.read(folder)


def test_without_its_config_the_shape_is_derived(tmp_path):
    theirs = make_unet(widths=(64, 128), layers=[1, 2])
    theirs.save_pretrained(tmp_path / "stage" / "unet")
    wanted = deepfloyd.read_stage(tmp_path / "stage").network_config
    (tmp_path / "stage" / "unet" / "config.json").unlink()
    found = deepfloyd.read_stage(tmp_path / "stage").network_config
    # Heads leave no trace in shapes: the published ones are taken.
    told = {"head_width": wanted.head_width, "pooling_head_width": wanted.pooling_head_width}
    assert type(wanted)(**{**found.__dict__, **told}) == wanted


@pytest.mark.parametrize("clean", [False, True])
def test_the_command_writes_a_model_folder(
    folder, tiny_encoder, tmp_path, clean, capsys, monkeypatch
):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "ours"
    imports.deepfloyd(folder, out, clean, half=False)
    told = capsys.readouterr()
    assert "DeepFloyd IF\nLicense Agreement" in told.err
    assert f"imagen generate PROMPT --model {out}" in told.out
    header = json.loads((out / "cascade.json").read_text())
    assert header["encoder"] == "deepfloyd-t5-xxl" + ("-clean" if clean else "")
    assert header["stages"] == ["base", "sr64"]
    if clean:
        return
    imports.deepfloyd(folder, out, clean, half=False)
    assert "License" not in capsys.readouterr().err  # shown once
    settings = {"base": oi.Sampling(steps=2), "sr64": oi.Sampling(steps=2)}
    ours = oi.load(out, device="cpu").generate("a red circle", settings=settings)
    theirs = oi.load(folder, device="cpu").generate("a red circle", settings=settings)
    assert torch.equal(ours.stages["sr64"], theirs.stages["sr64"])


def test_nothing_is_fetched_for_the_user():
    with pytest.raises(CheckpointError, match="not fetched for you") as caught:
        oi.load("hf:DeepFloyd/IF-I-XL-v1.0")
    assert "hf download DeepFloyd/IF-I-XL-v1.0" in caught.value.hint


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="neither it nor a folder in it has unet/"):
        published(tmp_path)
