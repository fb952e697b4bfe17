"""Adapters that requests name: the same images as with Cascade.set_adapters, in bounded memory."""

import base64
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import numpy as np
import openai
import pytest
import torch

from open_imagen.cli.serve import parse_adapters
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.server.adapters import AdapterPool, AdaptersBusy
from server.test_api import client_of, picture_of
from server.test_edits import photo, png
from standins import make_cascade, save_adapter

# The official client marks create_variation as deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


@pytest.fixture
def pool(tiny, tmp_path):
    """Two adapters of the base stage."""
    weights = dict(tiny.stages["base"].network.named_parameters())
    layers = [name for name, one in weights.items() if name.endswith(".weight") and one.ndim == 2]
    for seed, name in enumerate(("ink", "cats")):
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for layer in layers[:6]:
            out, inside = weights[layer].shape
            stem = layer.removesuffix(".weight")
            tensors[f"{stem}.lora_A.weight"] = torch.randn(2, inside, generator=generator)
            tensors[f"{stem}.lora_B.weight"] = torch.randn(out, 2, generator=generator)
        save_adapter(tmp_path / name, "base", tensors, 0.2)
    return AdapterPool({name: tmp_path / name for name in ("ink", "cats")})


def test_requests_choose_adapters(serve, tiny, pool, tmp_path):
    url, service = serve(adapters=pool)
    options = {"seed": 3, "stages": 1}
    with client_of(url) as client:
        listed = client.models.retrieve("tiny").model_extra["adapters"]
        assert listed == [{"name": "ink", "stage": "base"}, {"name": "cats", "stage": "base"}]
        plain, inked, both = (
            client.images.generate(prompt="x", extra_body={**options, "adapters": weights})
            for weights in ({}, {"ink": 0.7}, {"ink": 0.7, "cats": -0.5})
        )
        images = [np.asarray(picture_of(one.data[0].b64_json)) for one in (plain, inked, both)]
        with pytest.raises(openai.BadRequestError, match="Did you mean 'ink'") as caught:
            client.images.generate(prompt="x", extra_body={"adapters": {"inks": 1}})
        assert caught.value.param == "adapters"
        # The record names adapters as requests do, and a variation has them again.
        record = inked.data[0].record
        assert [(one["path"], one["weight"]) for one in record["adapters"]] == [("ink", 0.7)]
        file = base64.b64decode(inked.data[0].b64_json)
        same = client.images.create_variation(image=file, extra_body={"amount": 0})
        assert np.array_equal(np.asarray(picture_of(same.data[0].b64_json)), images[1])
        found = httpx.post(f"{url}/v1/images/records", files={"image": ("a.png", file)}).json()
        assert found["model"] == "tiny"
        # A form names them, too.
        edited = client.images.edit(
            image=png(photo()), prompt="x", extra_body={**options, "adapters": {"ink": 0.7}}
        )
        assert edited.data[0].record["adapters"] == record["adapters"]
    alone = make_cascade()
    for weights, image in zip(({}, {"ink": 0.7}, {"ink": 0.7, "cats": -0.5}), images, strict=True):
        alone.set_adapters({tmp_path / name: weight for name, weight in weights.items()})
        expected = alone.generate("x", seed=3, stages=1).images[0]
        assert np.abs(image.astype(int) - np.asarray(expected)).max() <= 1
    assert not np.array_equal(images[0], images[1])
    assert not any(one.users for one in service.adapters._adapted.values())
    assert tiny.model_hash == "unsaved"


def test_adapted_models_share_a_bounded_memory(tiny, pool):
    pool.limit = 2
    with ExitStack() as held, ExitStack() as first:
        ink = pool.take(tiny, {"ink": 1.0}, first)
        assert pool.take(tiny, {"ink": 1.0, "cats": 0.0}, held) is ink
        cats = pool.take(tiny, {"cats": 1.0}, held)
        with pytest.raises(AdaptersBusy):
            pool.take(tiny, {"cats": 0.5}, held)
        assert pool.take(tiny, {"cats": 0.0}, held) is tiny
        first.close()
        with pytest.raises(AdaptersBusy):
            pool.take(tiny, {"cats": 0.5}, held)
    with ExitStack() as held:
        assert pool.take(tiny, {"cats": 0.5}, held) is not cats
        assert pool.take(tiny, {"cats": 1.0}, held) is cats
        with pytest.raises(UnknownName):
            pool.take(tiny, {"other": 1.0}, held)
    assert ink.text is tiny.text


def test_two_requests_make_an_adapted_model_once(tiny, pool):
    made, held = [], ExitStack()

    def take():
        made.append(pool.take(tiny, {"ink": 1.0}, held))

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, made))) == 1
    held.close()


def test_adapters_are_checked_at_the_start(serve, tmp_path):
    save_adapter(
        tmp_path / "other", "base",
        {"no.lora_A.weight": torch.zeros(2, 3), "no.lora_B.weight": torch.zeros(3, 2)},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="--adapter other: it fits none of the models"):
        serve(adapters=AdapterPool({"other": tmp_path / "other"}))
    assert parse_adapters(["ink=runs/a=b"]) == {"ink": Path("runs/a=b")}
    for texts in (["ink"], ["=a"], ["ink=a", "ink=b"], ["in k=a"]):
        with pytest.raises(ConfigError, match="NAME=DIR"):
            parse_adapters(texts)
