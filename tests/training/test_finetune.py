"""Starting from a model: its stage by itself, adapters alone and merged, weights of examples."""

import json

import pytest
import torch

import open_imagen as oi
from open_imagen.errors import CheckpointError, ConfigError, UnknownName
from open_imagen.models.lora import adapter_of, trainable_of
from open_imagen.storage import load_tensors
from open_imagen.training.loop import Trainer
from open_imagen.training.recipe import read_recipe
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

TINY = """
name = "tuned"
[data]
kind = "shapes"
num_captions = 10
[train]
images = {images}
batch_size = 8
save_every = 16
precision = "fp32"
init = "{init}"
[optim]
lr = 1e-3
warmup = 0
[ema]
half_life = 20
"""


@pytest.fixture
def recipe(tmp_path, model_folder):
    def make(*settings, images=32, init=model_folder):
        file = tmp_path / "tuned.toml"
        file.write_text(TINY.format(images=images, init=init))
        return read_recipe(file, (f"out={tmp_path / 'run'}", *settings))

    return make


def train(config):
    made = Trainer(config, open_source(config.data), WordEncoder())
    made.fit()
    return made


def test_a_recipe_may_leave_the_stage_to_its_model(recipe, model_folder):
    config = recipe()
    assert (config.stage.name, config.stage.resolution) == ("base", 64)
    assert config.stage.sampling.steps == 3
    assert config.encoder == "minilm-l6"
    assert recipe("stage.name=sr256").stage.lowres == 64
    assert recipe("stage.sampling.steps=7").stage.sampling.steps == 7
    with pytest.raises(UnknownName, match="stage"):
        recipe("stage.name=sr257")


ADAPTER = ("adapter.rank=2", "adapter.alpha=4")


def test_an_adapter_is_saved_alone_and_merges_to_the_exported_model(recipe, tmp_path, model_folder):
    made = train(recipe(*ADAPTER))
    base = load_tensors(model_folder / "base" / "model.safetensors")
    own = load_tensors(tmp_path / "run" / "adapter" / "adapter.safetensors")
    learned = sum(tensor.numel() for tensor in own.values())
    assert learned < 0.05 * sum(tensor.numel() for tensor in base.values())
    merged = load_tensors(tmp_path / "run" / "model" / "base" / "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], merged[name])}
    assert changed == {f"{name.split('.lora_')[0]}.weight" for name in own}
    # Put onto the model it was made for, it gives what was exported.
    cascade = oi.load(model_folder, device="cpu", adapters=[tmp_path / "run" / "adapter"])
    found = dict(cascade.stages["base"].network.named_parameters())
    for name, tensor in merged.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)
    assert cascade.model_hash != oi.load(model_folder, device="cpu").model_hash
    assert all(name in found for name in base)
    frozen = dict(made.network.named_parameters())
    still = "stem.weight"
    assert torch.equal(frozen[still], base[still])


def test_an_adapter_s_run_resumes_to_the_bit(recipe, tmp_path):
    train(recipe(*ADAPTER, f"out={tmp_path / 'a'}"))
    train(recipe(*ADAPTER, f"out={tmp_path / 'b'}", images=16))
    train(recipe(*ADAPTER, f"out={tmp_path / 'b'}"))
    one, other = (load_tensors(tmp_path / run / "adapter" / "adapter.safetensors") for run in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(ConfigError, match=r"adapter\.rank: 2 in the checkpoint, 0 in the recipe"):
        train(recipe(f"out={tmp_path / 'b'}"))


def test_a_super_resolution_stage_is_adapted_as_well(recipe, tmp_path, model_folder):
    data = "data={kind='shapes', size=256, crop=64, lowres=64, num_captions=5}"
    train(recipe(*ADAPTER, "stage.name=sr256", data, images=8))
    adapter = tmp_path / "run" / "adapter"
    plain, adapted = (
        dict(oi.load(model_folder, device="cpu", adapters=a).stages["sr256"].named_parameters())
        for a in ([], [adapter])
    )
    assert any(not torch.equal(plain[name], tensor) for name, tensor in adapted.items())
    assert json.loads((adapter / "adapter.json").read_text())["stage"] == "sr256"


def test_adapters_that_cannot_be_used_are_refused(recipe, tmp_path, model_folder):
    with pytest.raises(ConfigError, match="needs a model to adapt"):
        recipe(*ADAPTER, "train.init=", "stage={name='base', resolution=64}")
    with pytest.raises(ConfigError, match="does not go with"):
        recipe(*ADAPTER, "train.parallel=fsdp")
    with pytest.raises(CheckpointError, match=r"adapter\.json"):
        oi.load(model_folder, device="cpu", adapters=[tmp_path])
    train(recipe(*ADAPTER, images=8))
    folder = tmp_path / "run" / "adapter"
    facts = json.loads((folder / "adapter.json").read_text())
    (folder / "adapter.json").write_text(json.dumps({**facts, "stage": "sr1024"}))
    with pytest.raises(CheckpointError, match="of stage 'sr1024'"):
        oi.load(model_folder, device="cpu", adapters=[folder])


def test_weights_of_examples_scale_their_loss(recipe):
    config = recipe("optim.clip=1e9")
    made = Trainer(config, open_source(config.data), WordEncoder())
    batch = made.source.batch(0, 8)
    gradients = {}
    made.optimizer.step = lambda: gradients.update(
        {name: p.grad.clone() for name, p in made.network.named_parameters()}
    )
    found = []
    for weights in (None, torch.ones(8), torch.full((8,), 0.25)):
        made.step(type(batch)(batch.images, batch.captions, 0, None, weights))
        found.append(dict(gradients))
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name])
        torch.testing.assert_close(found[2][name], 0.25 * gradient, rtol=1e-4, atol=1e-6)


def test_snapshots_of_averages_are_kept_and_make_a_model(recipe, tmp_path):
    from open_imagen.training.posthoc_ema import reconstruct

    made = train(recipe("ema.sigma_rel=[0.05, 0.1]", "ema.snapshot_every=16"))
    names = sorted(path.name for path in (tmp_path / "run" / "posthoc_ema").iterdir())
    assert names == [
        f"{seen:012d}-{length:.3f}.safetensors" for seen in (16, 32) for length in (0.05, 0.1)
    ]
    weights, _ = reconstruct(tmp_path / "run" / "posthoc_ema", 0.1)
    for name, tensor in made.ema.profiles[0.1].items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-5)


def test_alignment_is_watched_with_the_averaged_weights(recipe, tmp_path):
    from open_imagen.training.callbacks import Alignment

    seen = []

    def score(draw):
        pictures = draw(["a red circle", "a blue ring"])
        seen.append(pictures)
        return {"single": 0.5}

    config = recipe("train.align_every=16")
    watching = Alignment(tmp_path / "run", score)
    made = Trainer(config, open_source(config.data), WordEncoder(), [watching])
    made.fit()
    lines = (tmp_path / "run" / "alignment.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"images_seen": 16, "single": 0.5},
        {"images_seen": 32, "single": 0.5},
    ]
    assert seen[0].shape == (2, 3, 64, 64)
    assert seen[0].dtype == torch.uint8
    # The last look is of the model that was exported.
    folder = tmp_path / "run" / "model"
    cascade = oi.load(folder, device="cpu")
    text = WordEncoder()(["a red circle", "a blue ring"])
    with torch.inference_mode():
        again = cascade.stages["base"].sample(
            text, [torch.Generator().manual_seed(k) for k in range(2)]
        )
    assert (again.add(1).mul(127.5) - seen[1].float()).abs().max() < 1.0


STUDENT = (
    "distill.guidance=3.0",
    "distill.backward=true",
    "adapter.rank=2",
    'adapter.targets=["all"]',
    'adapter.modules_to_save=["*norm*"]',
    "adapter.name=few-step",
    "stage.sampling={steps=2, guidance=3.0, sampler='ddim', threshold='static'}",
)


def test_a_few_step_student_is_an_adapter_of_its_undistilled_base(recipe, tmp_path, model_folder):
    config = recipe(*STUDENT, f"distill.teacher={model_folder}", images=8)
    made = train(config)
    assert made.stage.config.distilled_guidance == 3.0
    base = load_tensors(model_folder / "base" / "model.safetensors")
    model = tmp_path / "run" / "model"
    kept = load_tensors(model / "base" / "model.safetensors")
    assert all(torch.equal(base[name], kept[name]) for name in base)
    adapter = load_tensors(model / "base" / "few-step" / "adapter.safetensors")
    whole = {name for name in adapter if ".lora_" not in name}
    assert whole == {name for name in base if "norm" in name}
    assert any(not torch.equal(adapter[name], base[name]) for name in whole)
    cascade = oi.load(model, device="cpu")
    stage = cascade.stages["base"]
    assert (stage.config.distilled_guidance, stage.config.sampling.steps) == (3.0, 2)
    assert cascade.stage("base", "none").config.sampling.steps == 3
    # The merged weights are what the run sampled and exported.
    found = dict(stage.network.named_parameters())
    with made.averaged():
        for name, module in made.network.named_modules():
            if torch.nn.utils.parametrize.is_parametrized(module):
                weight = found[f"{name}.weight"]
                torch.testing.assert_close(weight, module.weight, rtol=0, atol=1e-6)
    for name in whole:
        assert torch.equal(found[name], adapter[name])
    facts = json.loads((model / "base" / "few-step" / "adapter.json").read_text())
    assert facts["trained"]["distill"]["guidance"] == 3.0
    # The model is a beginning for further training: of the undistilled base.
    again = recipe(init=model)
    assert again.stage.distilled_guidance == 1.0
    assert again.stage.sampling.steps == 3


def test_an_adapter_goes_on_from_another(recipe, tmp_path, model_folder):
    teacher = f"distill.teacher={model_folder}"
    train(recipe(*STUDENT, teacher, f"out={tmp_path / 'a'}", images=8))
    first = load_tensors(tmp_path / "a" / "adapter" / "adapter.safetensors")
    begun = f"adapter.init={tmp_path / 'a' / 'adapter'}"
    config = recipe(*STUDENT, teacher, begun, f"out={tmp_path / 'b'}", images=8)
    made = Trainer(config, open_source(config.data), WordEncoder())
    own = adapter_of(trainable_of(made.network))
    assert own.keys() == first.keys()
    assert all(torch.equal(own[name], first[name]) for name in own)
    config = recipe(*STUDENT, teacher, begun, "adapter.rank=3", f"out={tmp_path / 'c'}")
    with pytest.raises(ConfigError, match=r"adapter\.init has not the layers and rank"):
        Trainer(config, open_source(config.data), WordEncoder())


def test_a_student_s_run_resumes_to_the_bit(recipe, tmp_path, model_folder):
    settings = (*STUDENT, f"distill.teacher={model_folder}")
    train(recipe(*settings, f"out={tmp_path / 'a'}", images=24))
    train(recipe(*settings, f"out={tmp_path / 'b'}", images=16))
    train(recipe(*settings, f"out={tmp_path / 'b'}", images=24))
    one, other = (load_tensors(tmp_path / run / "adapter" / "adapter.safetensors") for run in "ab")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


WRONG_ADAPTERS = {
    ("adapter.name=none",): "adapter.name = 'none'",
    ("adapter.name='../x'",): r"adapter.name = '../x'",
    ("adapter.rank=0", "adapter.name=a"): "adapter.name needs an adapter",
    ("adapter.modules_to_save=['nrom*']",): "no weight is called 'nrom*'",
    ("adapter.name=a", "stage.schedule.logsnr_min=-8.0"): "stage.schedule",
    ("adapter.name=a", "stage.network.dropout=0.1"): "stage.network",
}


@pytest.mark.parametrize("settings", WRONG_ADAPTERS, ids=" ".join)
def test_settings_of_adapters_that_make_no_sense_are_named(recipe, settings):
    with pytest.raises(ConfigError) as caught:  # noqa: PT012
        config = recipe(*ADAPTER, *settings)
        Trainer(config, open_source(config.data), WordEncoder())
    assert WRONG_ADAPTERS[settings] in str(caught.value)
