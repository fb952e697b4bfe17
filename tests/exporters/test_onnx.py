"""ONNX files of stages: onnxruntime predicts the same, and the loop of the docs draws the same."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import open_imagen as oi
from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import ConfigError
from open_imagen.exporters.onnx_export import METADATA, Traced, input_names
from standins import WordEncoder, make_cascade, make_stages, save_adapter

ort = pytest.importorskip("onnxruntime")
DOCS = Path(__file__).parents[2] / "docs" / "guides" / "exporting.md"


def make_tiny(**network):
    return make_cascade(make_stages(**network))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    cascade, folder = make_cascade(), tmp_path_factory.mktemp("onnx") / "out"
    oi.export(cascade, folder, format="onnx")
    return cascade, folder


def inputs_of(stage, batch, length):
    torch.manual_seed(batch * 100 + length)
    side, mask = stage.config.resolution, torch.ones(batch, length, dtype=torch.bool)
    mask[0, 1:] = False
    every = {
        "z": torch.randn(batch, stage.channels, side, side),
        "level": torch.linspace(-8, 8, batch),
        "tokens": torch.randn(batch, length, 384) * mask[..., None],
        "mask": mask,
        "letters": torch.randint(0, 96, (batch, stage.letters)),
        "lowres_image": torch.randn(batch, stage.channels, side, side),
        "lowres_level": torch.linspace(-2, 4, batch),
    }
    return {name: every[name] for name in input_names(stage)}


def compare(stage, file, shapes):
    session = ort.InferenceSession(file)
    for batch, length in shapes:
        inputs = inputs_of(stage, batch, length)
        with torch.no_grad():
            wanted = Traced(stage)(*inputs.values())
        [found] = session.run(None, {name: one.numpy() for name, one in inputs.items()})
        assert wanted.abs().max() > 0.1
        torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0, atol=1e-4)


def test_onnxruntime_predicts_the_same_for_any_batch_and_length(exported):
    cascade, folder = exported
    compare(cascade.stages["base"], folder / "base.onnx", [(2, 8), (1, 1), (3, 13)])
    compare(cascade.stages["sr256"], folder / "sr256.onnx", [(1, 5)])


def test_alpha_and_letters_and_a_static_length(tmp_path):
    cascade = make_tiny(image_channels=4, letters=5)
    oi.export(cascade, tmp_path / "out", format="onnx", text_length=6)
    for name, stage in cascade.stages.items():
        compare(stage, tmp_path / "out" / f"{name}.onnx", [(1, 6)])
    session = ort.InferenceSession(tmp_path / "out" / "base.onnx")
    shapes = {one.name: one.shape for one in session.get_inputs()}
    assert shapes["tokens"] == ["batch", 6, 384]
    assert shapes["z"] == ["batch", 4, 64, 64]
    with pytest.raises(ConfigError, match="float32"):
        oi.export(cascade, tmp_path / "half", format="onnx", half=True)
    with pytest.raises(ConfigError, match="text_length = 0"):
        oi.export(cascade, tmp_path / "half", format="onnx", text_length=0)
    assert not (tmp_path / "half").exists()


def test_metadata_says_how_to_sample(exported):
    cascade, folder = exported
    for name, stage in cascade.stages.items():
        session = ort.InferenceSession(folder / f"{name}.onnx")
        facts = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
        assert facts == json.loads((folder / f"{name}.json").read_text())
        assert facts["prediction"] == "v"
        assert facts["schedule"]["name"] == "cosine"
        assert facts["text_encoder"]["repository"] == "sentence-transformers/all-MiniLM-L6-v2"
        levels = stage.config.sampling.resolve().levels(stage.config.schedule)
        assert [one["logsnr"] for one in facts["noise_levels"]] == [*levels[:-1], None]
        assert facts["noise_levels"][-1]["sigma"] == 0
        assert ("augmentation" in facts) == bool(stage.config.lowres)


def test_the_loop_of_the_docs_draws_the_same(exported, monkeypatch):
    cascade, folder = exported
    [code] = re.findall(r"```python\n(# ONNX loop.*?)```", DOCS.read_text(), re.DOTALL)
    text = WordEncoder()(["a red circle", "a large blue square"])
    noise = {
        name: torch.stack(
            [torch.randn(stage.channels, *[stage.config.resolution] * 2, generator=g) for g in gs]
        ).numpy()
        for name, stage in cascade.stages.items()
        for gs in [[torch.Generator().manual_seed(k) for k in (1, 2)]]
    }
    names: dict = {}
    exec(compile(code, str(DOCS), "exec"), names)
    small = names["sample"](
        folder / "base.onnx", text.tokens.numpy(), text.mask.numpy(), noise["base"]
    )
    how = Sampling(sampler="ddim")
    generators = [torch.Generator().manual_seed(k) for k in (1, 2)]
    wanted = cascade.stages["base"].sample(text, generators, how)
    np.testing.assert_allclose(small, wanted.numpy(), rtol=0, atol=1e-4)
    generators = [torch.Generator().manual_seed(k) for k in (1, 2)]
    larger = cascade.stages["sr256"].sample(text, generators, how, lowres=wanted)
    [first, second] = [torch.Generator().manual_seed(k) for k in (1, 2)]
    drawn = [[torch.randn(3, 256, 256, generator=g).numpy() for _ in "zc"] for g in (first, second)]
    z, condition = (np.stack(one) for one in zip(*drawn, strict=True))
    found = names["sample"](
        folder / "sr256.onnx", text.tokens.numpy(), text.mask.numpy(), z, small, condition
    )
    np.testing.assert_allclose(found, larger.numpy(), rtol=0, atol=1e-4)


def test_adapters_are_in_the_file(tmp_path):
    make_cascade(make_stages()[:1]).save(tmp_path / "tiny")
    layer = "middle.0.attention.query"
    tensors = {
        f"{layer}.lora_A.weight": torch.randn(2, 64),
        f"{layer}.lora_B.weight": torch.randn(64, 2),
    }
    save_adapter(tmp_path / "ink", "base", tensors)
    adapted = oi.load(tmp_path / "tiny", device="cpu", adapters=[tmp_path / "ink"])
    oi.export(adapted, tmp_path / "out", format="onnx")
    compare(adapted.stages["base"], tmp_path / "out" / "base.onnx", [(1, 4)])
