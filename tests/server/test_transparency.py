"""The API's background: transparent where the model has alpha, an error where it has not."""

import base64
import io

import httpx2 as httpx
import pytest
from PIL import Image

from standins import make_cascade, make_stages


@pytest.fixture
def with_alpha():
    stages = make_stages(image_channels=4)
    return make_cascade(stages, name="alpha")


def ask(url, **fields):
    body = {"prompt": "a cat", "size": "64x64", "seed": 1, **fields}
    return httpx.post(f"{url}/v1/images/generations", json=body, timeout=60)


def image_of(reply):
    assert reply.status_code == 200, reply.text
    data = base64.b64decode(reply.json()["data"][0]["b64_json"])
    return Image.open(io.BytesIO(data))


def test_a_model_with_alpha_gives_what_is_asked_for(serve, with_alpha):
    url, _ = serve(cascades={"alpha": with_alpha})
    expected = with_alpha.generate("a cat", seed=1, stages=1, background="transparent")
    for kind in ("png", "webp"):
        shown = image_of(ask(url, background="transparent", output_format=kind))
        assert shown.mode == "RGBA"
        assert shown.getchannel("A").tobytes() == expected.images[0].getchannel("A").tobytes()
    for background in ("opaque", "auto", None):
        assert image_of(ask(url, background=background)).mode == "RGB"
    record = ask(url, background="transparent").json()["data"][0]["record"]
    assert record["background"] == "transparent"


def test_transparency_that_cannot_be_had_is_an_error(serve, with_alpha, tiny):
    url, _ = serve(cascades={"tiny": tiny, "alpha": with_alpha})
    for fields in ({"model": "tiny"}, {"model": "alpha", "output_format": "jpeg"}):
        reply = ask(url, background="transparent", **fields)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "background"
