"""Edits, variations and records over HTTP: the official client, raw forms, and bad input."""

import base64
import io
import json

import httpx2 as httpx
import numpy as np
import openai
import pytest
from PIL import Image

from server.test_api import client_of, picture_of


def png(image, **more):
    data = io.BytesIO()
    image.save(data, format="PNG", **more)
    return data.getvalue()


def photo(width=96, height=80, mode="RGB", seed=0):
    random = np.random.default_rng(seed)
    channels = {"RGB": 3, "RGBA": 4}[mode]
    return Image.fromarray(random.integers(0, 256, (height, width, channels), dtype=np.uint8))


def masked(width=96, height=80, box=(30, 20, 60, 50)):
    """A mask as the API has it: transparent where the image is made anew."""
    mask = Image.new("RGBA", (width, height), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), box)
    return mask


def outside(box, width=96, height=80):
    left, top, right, bottom = box
    kept = np.ones((height, width), bool)
    kept[top:bottom, left:right] = False
    return kept


def test_the_official_client_edits_behind_a_mask(serve, tiny):
    url, _ = serve(aliases={"gpt-image-1": "tiny"})
    image, mask = photo(), masked()
    with client_of(url) as client:
        reply = client.images.edit(
            image=png(image), mask=("mask.png", png(mask), "image/png"), prompt="a red ring", n=2,
            model="gpt-image-1", size="auto", quality="high", input_fidelity="high",
            extra_body={"seed": 5, "strength": {"base": 1.0}, "steps": 2, "resample": 1,
                        "settings": {"base": {"guidance": 3.0}}, "negative": "blue"},
        )  # fmt: skip
    assert [one.seed for one in reply.data] == [5, 6]
    assert reply.size == "96x80"
    kept = outside((30, 20, 60, 50))
    own = tiny.edit(
        png(image), "a red ring", mask=png(mask), seed=5, images=2, negative="blue",
        settings={"base": {"steps": 2, "guidance": 3.0}, "sr256": {"steps": 2}},
    )  # fmt: skip
    for one, expected, record in zip(reply.data, own.images, own.records, strict=True):
        pixels = np.asarray(picture_of(one.b64_json))
        assert np.array_equal(pixels[kept], np.asarray(image)[kept])
        assert not np.array_equal(pixels[~kept], np.asarray(image)[~kept])
        assert np.abs(pixels.astype(int) - np.asarray(expected)).max() <= 1
        assert one.record == record
