"""The ComfyUI nodes meet ComfyUI's contract; ComfyUI itself is stood in for by its interface."""

import importlib.util
import inspect
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import open_imagen as oi
from standins import make_cascade, make_stages, save_adapter

NODES = Path(__file__).parents[2] / "integrations" / "comfyui"


class Interrupted(Exception):
    """What ComfyUI raises when the user cancels."""


class Bar:
    def __init__(self, total):
        self.total, self.seen = total, []
        Bar.all.append(self)

    def update_absolute(self, value, total=None, preview=None):
        self.seen.append((value, total, preview))


@pytest.fixture
def comfy(monkeypatch, tmp_path):
    """ComfyUI's modules as far as nodes use them."""
    Bar.all = []
    root, management, utils, paths = (
        types.ModuleType(name)
        for name in ("comfy", "comfy.model_management", "comfy.utils", "folder_paths")
    )
    management.cancelled = False

    def check():
        if management.cancelled:
            raise Interrupted

    management.throw_exception_if_processing_interrupted = check
    management.get_torch_device = lambda: torch.device("cpu")
    utils.ProgressBar = Bar
    root.model_management, root.utils = management, utils
    paths.models_dir = str(tmp_path / "models")
    for module in (root, management, utils, paths):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return root


@pytest.fixture
def package(comfy, monkeypatch):
    """The node package, imported as ComfyUI does: from its folder, under a name of its own."""
    monkeypatch.delitem(sys.modules, "custom_nodes_open_imagen", raising=False)
    monkeypatch.delitem(sys.modules, "custom_nodes_open_imagen.nodes", raising=False)
    spec = importlib.util.spec_from_file_location(
        "custom_nodes_open_imagen", NODES / "__init__.py", submodule_search_locations=[str(NODES)]
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "models" / "open_imagen" / "tiny"
    make_cascade().save(folder)
    return folder


def run(package, name, **inputs):
    """A node's result as ComfyUI gets it."""
    node = package.NODE_CLASS_MAPPINGS[name]
    return getattr(node(), node.FUNCTION)(**inputs)


def test_every_node_meets_the_contract(package, model):
    assert package.NODE_CLASS_MAPPINGS.keys() == package.NODE_DISPLAY_NAME_MAPPINGS.keys()
    every = {**package.NODE_CLASS_MAPPINGS, "OpenImagenEdit": package.nodes.OpenImagenEdit}
    for name, node in every.items():
        inputs = node.INPUT_TYPES()
        assert inputs.keys() <= {"required", "optional", "hidden"}
        given = {**inputs["required"], **inputs.get("optional", {})}
        for key, (kind, *options) in given.items():
            assert isinstance(kind, str | list), (name, key)
            assert all(isinstance(one, dict) for one in options)
            if isinstance(kind, list):
                assert kind
                assert all(isinstance(one, str) for one in kind)
        takes = inspect.signature(getattr(node, node.FUNCTION)).parameters
        assert set(given) == set(takes) - {"self"}
        for key in inputs.get("optional", {}):
            assert takes[key].default is not inspect.Parameter.empty
        assert isinstance(node.RETURN_TYPES, tuple)
        assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
        assert isinstance(node.CATEGORY, str)
    names = package.nodes.OpenImagenLoad.INPUT_TYPES()["required"]["model"][0]
    assert {"scenes", "tiny"} <= set(names)


def test_images_are_those_of_the_library(package, comfy, model):
    [loaded] = run(package, "OpenImagenLoad", model="tiny", precision="fp32")
    image, mask = run(
        package, "OpenImagenGenerate", model=loaded, prompt="a red circle", seed=3, images=2
    )
    wanted = oi.load(model, device="cpu").generate("a red circle", 3, 2)
    assert image.shape == (2, 256, 256, 3)
    assert image.dtype == torch.float32
    assert mask.shape == (2, 256, 256)
    assert mask.abs().max() == 0
    found = image.mul(255).round().to(torch.uint8).movedim(-1, 1)
    assert torch.equal(found, wanted.stages["sr256"])
    base, larger = Bar.all
    assert [value for value, *_ in base.seen] == [1, 2, 3]
    assert base.total == base.seen[-1][1] == 3
    kind, preview, side = larger.seen[-1][2]
    assert (kind, preview.size, side) == ("JPEG", (256, 256), 512)


def test_settings_reach_the_model(package, comfy, model):
    [loaded] = run(package, "OpenImagenLoad", model="scenes", precision="fp32", folder=str(model))
    how = {"model": loaded, "prompt": "a red circle", "seed": 3, "images": 1, "stages": 1}
    image, _ = run(package, "OpenImagenGenerate", **how, steps=5, guidance=1.5, negative="blue")
    wanted = oi.load(model, device="cpu").generate(
        "a red circle",
        3,
        negative="blue",
        stages=1,
        settings={"base": oi.Sampling(steps=5, guidance=1.5)},
    )
    assert image.shape == (1, 64, 64, 3)
    found = image.mul(255).round().to(torch.uint8).movedim(-1, 1)
    assert torch.equal(found, wanted.stages["base"])
    assert package.nodes.OpenImagenLoad.VALIDATE_INPUTS(folder="/nowhere") == (
        "There is no folder /nowhere."
    )


def test_transparency_becomes_a_mask(package, comfy, tmp_path):
    folder = tmp_path / "models" / "open_imagen" / "clear"
    make_cascade(make_stages(image_channels=4)[:1], name="clear").save(folder)
    [loaded] = run(package, "OpenImagenLoad", model="clear", precision="fp32")
    how = {"model": loaded, "prompt": "a red circle", "seed": 3, "images": 1}
    _, mask = run(package, "OpenImagenGenerate", **how, background="transparent")
    wanted = oi.load(folder, device="cpu").generate("a red circle", 3, background="transparent")
    alpha = np.asarray(wanted.images[0])[..., 3] / 255
    np.testing.assert_allclose(mask[0].numpy(), 1 - alpha, atol=1e-6)
    assert mask.std() > 0
    _, opaque = run(package, "OpenImagenGenerate", **how)
    assert opaque.abs().max() == 0


def test_upscaling_takes_and_gives_batches(package, comfy, model):
    [loaded] = run(package, "OpenImagenLoad", model="tiny", precision="fp32")
    small = torch.rand(2, 64, 64, 3)
    image, _ = run(
        package, "OpenImagenUpscale", model=loaded, image=small, prompt="a circle", seed=7
    )
    assert image.shape == (2, 256, 256, 3)
    pil = Image.fromarray(small[1].mul(255).round().to(torch.uint8).numpy())
    wanted = oi.load(model, device="cpu").upscale(pil, "a circle", 8)
    found = image[1:].mul(255).round().to(torch.uint8).movedim(-1, 1)
    assert torch.equal(found, wanted.stages["sr256"])


def test_adapters_are_chained_and_taken_off(package, comfy, model):
    layer = "middle.0.attention.query"
    places = [model.parent / name for name in ("ink", "cats")]
    for seed, place in enumerate(places):
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            f"{layer}.lora_A.weight": torch.randn(2, 64, generator=generator),
            f"{layer}.lora_B.weight": torch.randn(64, 2, generator=generator),
        }
        save_adapter(place, "base", tensors)
    names = package.nodes.OpenImagenAdapter.INPUT_TYPES()["required"]["adapter"][0]
    assert names == ["none", "cats", "ink"]
    [plain] = run(package, "OpenImagenLoad", model="tiny", precision="fp32")
    [one] = run(package, "OpenImagenAdapter", model=plain, adapter="ink", weight=0.7)
    [both] = run(
        package, "OpenImagenAdapter", model=one, adapter="none", weight=0.4, folder=str(places[1])
    )
    assert both.cascade is plain.cascade
    assert run(package, "OpenImagenAdapter", model=one, adapter="ink", weight=0) == (one,)
    how = {"prompt": "a red circle", "seed": 3, "images": 1, "stages": 1}
    found = [
        run(package, "OpenImagenGenerate", model=this, **how)[0] for this in (plain, both, plain)
    ]
    assert torch.equal(found[0], found[2])
    uses = {places[0]: 0.7, places[1]: 0.4}
    adapted = oi.load(model, device="cpu", adapters=uses).generate("a red circle", 3, stages=1)
    images = found[1].mul(255).round().to(torch.uint8).movedim(-1, 1)
    assert torch.equal(images, adapted.stages["base"])


def test_cancelling_ends_the_work(package, comfy, model):
    [loaded] = run(package, "OpenImagenLoad", model="tiny", precision="fp32")
    comfy.model_management.cancelled = True
    with pytest.raises(Interrupted):
        run(package, "OpenImagenGenerate", model=loaded, prompt="a circle", seed=0, images=1)
    assert not Bar.all


def test_edit_hands_over_images_and_masks(package, comfy, model):
    [loaded] = run(package, "OpenImagenLoad", model="tiny", precision="fp32")
    seen = []

    def edit(image, prompt, **more):
        seen.append((image, prompt, more))
        return types.SimpleNamespace(images=[image])

    loaded.cascade.edit = edit
    pictures = torch.rand(2, 32, 48, 3).mul(255).round() / 255
    mask = torch.zeros(1, 32, 48)
    mask[0, :8] = 1
    node = package.nodes.OpenImagenEdit()
    image, _ = node.edit(loaded, pictures, "a blue circle", 0.5, 9, mask, "red")
    torch.testing.assert_close(image, pictures)
    assert [more["seed"] for *_, more in seen] == [9, 10]
    assert all(more["strength"] == 0.5 for *_, more in seen)
    assert all(more["negative"] == "red" for *_, more in seen)
    where = np.asarray(seen[1][2]["mask"])
    assert where.shape == (32, 48)
    assert where[:8].min() == 255
    assert where[8:].max() == 0
    node.edit(loaded, pictures[:1], "a blue circle", 0.5, 9)
    assert seen[-1][2]["mask"] is None


def test_without_the_library_the_way_out_is_told(comfy, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_imagen", None)
    spec = importlib.util.spec_from_file_location(
        "custom_nodes_alone", NODES / "__init__.py", submodule_search_locations=[str(NODES)]
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    with pytest.raises(ImportError, match=r"pip install -r .*requirements\.txt"):
        spec.loader.exec_module(module)
