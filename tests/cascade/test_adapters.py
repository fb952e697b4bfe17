"""Several adapters with weights, put on and off without loading the model again."""

import copy
import json

import pytest
import torch

import open_imagen as oi
from open_imagen.cascade.adapters import read_weighted, split_weight
from open_imagen.cascade.folder import write_adapter
from open_imagen.errors import CheckpointError, ConfigError
from standins import make_cascade, save_adapter

LAYERS = {
    "base": "middle.0.attention.query",
    "sr256": "up.0.level.attention.out",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted") / "tiny"
    make_cascade().save(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory, model):
    """Two of the base, in the folder of a run and alone, and one of the super-resolution."""
    root, network = tmp_path_factory.mktemp("adapters"), oi.load(model, device="cpu").stages
    places = {"ink/adapter": "base", "cats": "base", "sharp": "sr256"}
    for seed, (name, stage) in enumerate(places.items()):
        generator = torch.Generator().manual_seed(seed)
        layer = LAYERS[stage]
        out, inside = network[stage].network.get_parameter(f"{layer}.weight").shape
        tensors = {
            f"{layer}.lora_A.weight": torch.randn(2, inside, generator=generator),
            f"{layer}.lora_B.weight": torch.randn(out, 2, generator=generator),
        }
        save_adapter(root / name, stage, tensors, 0.5)
    return root


def weights(cascade):
    return {
        f"{name}.{key}": tensor.detach().clone()
        for name, stage in cascade.stages.items()
        for key, tensor in stage.network.named_parameters()
    }


def expected(plain, adapters, uses):
    """W + sum of weight * scale * B A, written out."""
    found = dict(plain)
    for name, weight in uses.items():
        stage = "sr256" if name == "sharp" else "base"
        [one] = read_weighted([adapters / name])
        layer = LAYERS[stage]
        a, b = (one.adapter.tensors[f"{layer}.lora_{part}.weight"] for part in "AB")
        key = f"{stage}.{layer}.weight"
        found[key] = found[key] + weight * 0.5 * b @ a
    return found


@pytest.mark.parametrize("fast", [False, True])
def test_adapters_go_on_and_off(model, adapters, fast):
    cascade = oi.load(model, device="cpu", fast=fast)
    text = cascade.text(["a", "red", "circle"])
    plain, first_hash = weights(cascade), cascade.model_hash
    before = {name: id(p) for name, p in cascade.stages["base"].network.named_parameters()}

    def prediction():
        torch.manual_seed(0)
        z, level = torch.randn(3, 3, 64, 64), torch.zeros(3)
        with torch.inference_mode():
            return cascade.stages["base"].network(z, level, text)

    untouched, hashes = prediction(), {first_hash}
    for uses in ({"ink": 0.7, "cats": -0.4, "sharp": 1.0}, {"cats": 2.0}, {"ink": 0.7}):
        cascade.set_adapters({adapters / name: weight for name, weight in uses.items()})
        for name, tensor in expected(plain, adapters, uses).items():
            torch.testing.assert_close(weights(cascade)[name], tensor, rtol=0, atol=1e-6)
        loaded = oi.load(
            model,
            device="cpu",
            fast=fast,
            adapters=[f"{adapters / k}:{w}" for k, w in uses.items()],
        )
        assert loaded.model_hash == cascade.model_hash
        assert all(torch.equal(w, weights(cascade)[name]) for name, w in weights(loaded).items())
        assert (prediction() - untouched).abs().max() > 1e-3
        hashes.add(cascade.model_hash)
    assert len(hashes) == 4
    cascade.set_adapters()
    assert cascade.model_hash == first_hash
    assert all(torch.equal(tensor, plain[name]) for name, tensor in weights(cascade).items())
    assert torch.equal(prediction(), untouched)
    assert before == {n: id(p) for n, p in cascade.stages["base"].network.named_parameters()}


def test_offloaded_stages_come_back_with_their_adapters(model, adapters):
    cascade = oi.load(model, device="cpu", offload=True)
    plain = weights(oi.load(model, device="cpu"))
    cascade.set_adapters({adapters / "ink": 0.7})
    stage = cascade.stages["base"]
    for _ in range(2):
        stage.load_weights(torch.device("cpu"))
        wanted = expected(plain, adapters, {"ink": 0.7})
        name = LAYERS["base"] + ".weight"
        torch.testing.assert_close(stage.network.get_parameter(name), wanted[f"base.{name}"])
        stage.offload()
    cascade.set_adapters()
    stage.load_weights(torch.device("cpu"))
    assert torch.equal(stage.network.get_parameter(name), plain[f"base.{name}"])


def test_records_say_which_adapters_a_picture_had(model, adapters):
    cascade = oi.load(model, device="cpu", adapters={str(adapters / "cats"): 0.5})
    made = cascade.generate("a red circle", stages=1, settings={"base": oi.Sampling(steps=1)})
    [told] = made.records[0]["adapters"]
    assert told == {"path": str(adapters / "cats"), "weight": 0.5, "hash": told["hash"]}
    assert len(told["hash"]) == 12
    json.dumps(made.records)


def test_copies_keep_their_adapters_and_can_take_them_off(model, adapters):
    cascade = oi.load(model, device="cpu", adapters={adapters / "ink": 0.7})
    other = copy.deepcopy(cascade)
    assert other.model_hash == cascade.model_hash
    assert all(torch.equal(w, weights(cascade)[name]) for name, w in weights(other).items())
    other.set_adapters()
    plain = oi.load(model, device="cpu")
    assert other.model_hash == plain.model_hash
    assert all(torch.equal(w, weights(plain)[name]) for name, w in weights(other).items())


def test_weights_that_an_adapter_saves_whole_are_mixed(model, tmp_path):
    cascade = oi.load(model, device="cpu")
    before = weights(cascade)["base.norm.weight"]
    whole = before + torch.randn(before.shape, generator=torch.Generator().manual_seed(0))
    save_adapter(tmp_path / "whole", "base", {"norm.weight": whole})
    for weight, wanted in ((1.0, whole), (0.25, 0.75 * before + 0.25 * whole)):
        cascade.set_adapters({tmp_path / "whole": weight})
        torch.testing.assert_close(weights(cascade)["base.norm.weight"], wanted)


def test_an_adapter_with_a_name_is_no_addition(model, adapters, tmp_path):
    [ink] = read_weighted([adapters / "ink"])
    write_adapter(tmp_path / "named", ink.adapter._replace(name="few-step"))
    with pytest.raises(ConfigError, match=r"not with the weight 0\.5"):
        oi.load(model, device="cpu", adapters={tmp_path / "named": 0.5})
    cascade = oi.load(model, device="cpu", adapters=[tmp_path / "named", adapters / "cats"])
    assert cascade.stage("base").config.sampling.adapter == "few-step"
    with pytest.raises(ConfigError, match="is the named adapter 'few-step'"):
        cascade.set_adapters([tmp_path / "named"])
    # What is added is added to both variants of the stage.
    key = LAYERS["base"] + ".weight"
    alone = oi.load(model, device="cpu", adapters=[adapters / "cats"])
    own = cascade.stage("base", "none")
    own.load_weights(torch.device("cpu"))
    assert torch.equal(own.network.get_parameter(key), weights(alone)[f"base.{key}"])
    both = oi.load(model, device="cpu", adapters=[adapters / "ink", adapters / "cats"])
    torch.testing.assert_close(weights(cascade)[f"base.{key}"], weights(both)[f"base.{key}"])


def test_weights_behind_a_folder(tmp_path):
    assert split_weight("a/b:0.7") == ("a/b", 0.7)
    assert split_weight("a/b") == ("a/b", 1.0)
    assert split_weight("a/b:-1") == ("a/b", -1.0)
    assert split_weight("c:/a") == ("c:/a", 1.0)
    (tmp_path / "x:2").mkdir()
    assert split_weight(tmp_path / "x:2") == (str(tmp_path / "x:2"), 1.0)
    with pytest.raises(ConfigError, match="is 'much', not a number"):
        split_weight(f"{tmp_path}:much")


def test_what_cannot_be_put_on_changes_nothing(model, adapters, tmp_path):
    cascade = oi.load(model, device="cpu")
    cascade.set_adapters({adapters / "ink": 0.7})
    before, told = weights(cascade), cascade.model_hash
    save_adapter(tmp_path / "other", "base", {"x.lora_A.weight": torch.ones(1, 2)})
    save_adapter(tmp_path / "missing", "sr1024", {"x.lora_A.weight": torch.ones(1)})
    for wrong, message in (
        ({adapters / "cats": float("nan")}, "is nan, not a number"),
        ([adapters / "cats", tmp_path / "other"], "not one of this network: x"),
        ([tmp_path / "missing"], "of stage 'sr1024'; the model has base, sr256"),
        ([tmp_path / "nowhere"], "nowhere"),
    ):
        with pytest.raises((ConfigError, CheckpointError), match=message):
            cascade.set_adapters(wrong)
    assert cascade.model_hash == told
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(cascade).items())
