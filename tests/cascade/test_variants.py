"""A few-step student as a named adapter of its base: exact weights, defaults, records, files."""

import json

import pytest
import torch

import open_imagen as oi
from open_imagen.cascade.folder import Adapter, CascadeConfig, read_header, write_folder
from open_imagen.cascade.io import load
from open_imagen.cascade.joining import join
from open_imagen.cascade.sampling import Sampling
from open_imagen.errors import CheckpointError, UnknownName
from open_imagen.storage import load_tensors, read_json, write_json
from standins import WordEncoder, make_cascade, make_stages

STUDENT = Sampling(steps=2, guidance=3.0, sampler="ddim", threshold="static")


def student(rank=2):
    generator = torch.Generator().manual_seed(5)
    [base, _] = make_stages()
    weights = dict(base.network.named_parameters())
    layer = next(name for name, w in weights.items() if w.ndim == 4 and "block" in name)
    weight = weights[layer]
    a = torch.randn(rank, *weight.shape[1:], generator=generator) / 10
    b = torch.randn(weight.shape[0], rank, 1, 1, generator=generator) / 10
    layer = layer.removesuffix(".weight")
    tensors = {
        f"{layer}.lora_A.weight": a,
        f"{layer}.lora_B.weight": b,
        "norm.weight": torch.full_like(weights["norm.weight"], 1.5),
    }
    made = Adapter(
        "base", 0.5, tensors, name="few-step", distilled_guidance=3.0, sampling=STUDENT,
        trained={"images": 7},
    )  # fmt: skip
    return made, f"{layer}.weight", weight + 0.5 * (b.flatten(1) @ a.flatten(1)).view_as(weight)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("variants") / "model"
    config = CascadeConfig(name="both", encoder="minilm-l6")
    write_folder(place, config, make_stages(), torch.float32, [student()[0]])
    return place


def opened(folder, **more):
    cascade = load(folder, device="cpu", **more)
    cascade.text.encoder = WordEncoder()
    return cascade


def test_the_default_is_the_base_with_its_adapter_merged(folder):
    cascade = opened(folder)
    stage, (_, name, changed) = cascade.stages["base"], student()
    assert stage.config.distilled_guidance == 3.0
    assert stage.config.sampling == Sampling(**{**STUDENT.given(), "adapter": "few-step"})
    own = dict(make_stages()[0].network.named_parameters())
    merged = dict(stage.network.named_parameters())
    assert merged.keys() == own.keys()  # a plain network: sampling costs no more than the base's
    assert not any(torch.nn.utils.parametrize.is_parametrized(m) for m in stage.modules())
    torch.testing.assert_close(merged[name], changed, rtol=0, atol=1e-6)
    assert (merged["norm.weight"] == 1.5).all()
    others = own.keys() - {name, "norm.weight"}
    assert all(torch.equal(merged[one], own[one]) for one in others)
    undistilled = cascade.stage("base", "none")
    assert undistilled is cascade.variants["base"].own
    undistilled.load_weights(torch.device("cpu"))
    for one, weight in undistilled.network.named_parameters():
        assert torch.equal(weight, own[one])


def test_the_undistilled_model_draws_what_it_drew(folder):
    plain = make_cascade(name="plain")
    wanted = plain.generate("a b", seed=3, stages=1)
    cascade = opened(folder)
    few = cascade.generate("a b", seed=3, stages=1)
    found = cascade.generate("a b", seed=3, stages=1, settings={"base": Sampling(adapter="none")})
    assert torch.equal(found.stages["base"], wanted.stages["base"])
    assert not torch.equal(few.stages["base"], wanted.stages["base"])
    settings = [made.records[0]["settings"]["base"] for made in (few, found, wanted)]
    assert [one.get("adapter") for one in settings] == ["few-step", "none", None]
    assert [one["steps"] for one in settings] == [2, 3, 3]  # each with its own defaults
    again = cascade.generate("a b", seed=3, stages=1)
    assert torch.equal(again.stages["base"], few.stages["base"])


def test_the_student_needs_one_evaluation_a_step_and_its_base_two(folder):
    cascade = opened(folder)
    sizes = []
    for name in ("few-step", "none"):
        cascade.stage("base", name).network.register_forward_pre_hook(
            lambda module, args: sizes.append(len(args[0]))
        )
    cascade.generate("a b", stages=1)
    assert sizes == [1, 1]
    sizes.clear()
    cascade.generate("a b", stages=1, settings={"base": Sampling(adapter="none")})
    assert sizes == [2, 2, 2]


def test_images_with_and_without_the_adapter_share_no_batch(folder):
    cascade = opened(folder)
    one, other = (
        cascade.complete_settings(cascade.chosen(1), {"base": Sampling(adapter=name, steps=2)})
        for name in ("few-step", "none")
    )
    assert one["base"].together != other["base"].together
    # A stage without adapters has none, whatever is asked: --undistilled is for all stages.
    given = {"sr256": Sampling(adapter="none")}
    assert cascade.complete_settings(cascade.chosen(2), given)["sr256"].adapter == ""


def test_saved_and_joined_models_keep_both(folder, tmp_path):
    cascade = opened(folder)
    cascade.save(tmp_path / "again")
    for file in ("base/model.safetensors", "base/few-step/adapter.safetensors"):
        one, other = load_tensors(folder / file), load_tensors(tmp_path / "again" / file)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_json(tmp_path / "again" / "cascade.json") == read_json(folder / "cascade.json")
    assert opened(tmp_path / "again").model_hash == cascade.model_hash
    assert read_header(folder)["adapters"] == {"base": ["few-step"]}
    facts = read_json(folder / "base" / "few-step" / "adapter.json")
    assert facts["distilled_guidance"] == 3.0
    assert facts["trained"] == {"images": 7}
    both = join("joined", [tmp_path / "again"], device="cpu")
    assert list(both.variants["base"].stages) == ["few-step", "none"]
    both.save(tmp_path / "half", torch.float16)
    half = load_tensors(tmp_path / "half" / "base" / "few-step" / "adapter.safetensors")
    assert {tensor.dtype for tensor in half.values()} == {torch.float16}


def test_the_hash_names_the_adapter_too(folder, tmp_path):
    cascade = opened(folder)
    cascade.save(tmp_path / "other")
    file = tmp_path / "other" / "base" / "few-step" / "adapter.json"
    write_json(file, {**read_json(file), "scale": 0.25})
    assert opened(tmp_path / "other").model_hash != cascade.model_hash


def test_offloaded_variants_draw_the_same(folder):
    kept, offloaded = opened(folder), opened(folder, offload=True)
    for adapter in (None, "none"):
        settings = {"base": Sampling(adapter=adapter)}
        one, other = (c.generate("a b", settings=settings, stages=1) for c in (kept, offloaded))
        assert torch.equal(one.stages["base"], other.stages["base"])
    assert all(
        p.is_meta
        for v in offloaded.variants.values()
        for one in v.stages.values()
        for p in one.parameters()
    )


def test_a_style_adapter_is_added_to_both(folder, tmp_path):
    name = "norm.bias"
    [base, _] = make_stages()
    value = torch.full_like(dict(base.network.named_parameters())[name], 0.25)
    from open_imagen.cascade.folder import write_adapter

    write_adapter(tmp_path / "style", Adapter("base", 1.0, {name: value}))
    cascade = opened(folder, adapters=[tmp_path / "style"])
    for adapter in ("few-step", "none"):
        stage = cascade.stage("base", adapter)
        stage.load_weights(torch.device("cpu"))
        assert torch.equal(dict(stage.network.named_parameters())[name], value)
    assert (dict(cascade.stages["base"].network.named_parameters())["norm.weight"] == 1.5).all()


def test_a_named_adapter_alone_is_put_on_a_model_without(folder, model_folder):
    cascade = opened(model_folder, adapters=[folder / "base" / "few-step"])
    assert cascade.stages["base"].config.distilled_guidance == 3.0
    assert list(cascade.variants["base"].stages) == ["few-step", "none"]


def test_what_does_not_fit_is_named(folder, tmp_path):
    cascade = opened(folder)
    with pytest.raises(UnknownName, match="called 'fw-step'"):
        cascade.generate("a", settings={"base": Sampling(adapter="fw-step")})
    cascade.save(tmp_path / "bad")
    header = tmp_path / "bad" / "cascade.json"
    values = read_json(header)
    for adapters in ({"base": ["../x"]}, {"base": "few-step"}, ["base"]):
        header.write_text(json.dumps({**values, "adapters": adapters}))
        with pytest.raises(CheckpointError, match="list of names"):
            load(tmp_path / "bad", device="cpu")
    header.write_text(json.dumps({**values, "adapters": {"base": ["gone"]}}))
    with pytest.raises(CheckpointError, match="gone"):
        load(tmp_path / "bad", device="cpu")
    header.write_text(json.dumps(values))
    file = tmp_path / "bad" / "base" / "few-step" / "adapter.json"
    facts = read_json(file)
    write_json(file, {**facts, "stage": "sr256"})
    with pytest.raises(CheckpointError, match="not what"):
        load(tmp_path / "bad", device="cpu")
    write_json(file, {**facts, "sampling": {"stesp": 3}})
    with pytest.raises(CheckpointError, match="stesp"):
        load(tmp_path / "bad", device="cpu")


def test_the_python_api_takes_the_choice(folder):
    assert oi.Sampling(adapter="none").given() == {"adapter": "none"}
