"""Edits, variations and records over HTTP: the official client, raw forms, and bad input."""

import base64
import io

import httpx2 as httpx
import numpy as np
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
        assert b"/compositeWithTrainedAlgorithmicMedia" in base64.b64decode(one.b64_json)


def test_streamed_edits_show_the_estimate_in_its_place(serve):
    url, _ = serve()
    image = photo()
    with (
        client_of(url) as client,
        client.images.edit(
            image=io.BytesIO(png(image)), mask=png(masked()), prompt="x", stream=True,
            partial_images=2, extra_body={"stages": 1},
        ) as stream,
    ):  # fmt: skip
        events = list(stream)
    assert [one.type for one in events] == ["image_edit.partial_image"] * 2 + [
        "image_edit.completed"
    ]
    kept = outside((30, 20, 60, 50))
    for event in events:
        assert (event.size, event.background) == ("96x80", "opaque")
        assert np.array_equal(np.asarray(picture_of(event.b64_json))[kept], np.asarray(image)[kept])


def test_several_images_masks_and_sizes(serve):
    url, _ = serve()
    first, second = photo(), photo(64, 64, seed=1)
    with client_of(url) as client:
        reply = client.images.edit(
            image=[png(first), png(second)], prompt="x", n=2,
            extra_body={"strength": 0, "seed": 1, "stages": 1},
        )  # fmt: skip
        assert [one.seed for one in reply.data] == [1, 2, 3, 4]
        for one, image in zip(reply.data, [first, first, second, second], strict=True):
            assert np.array_equal(np.asarray(picture_of(one.b64_json)), np.asarray(image))
        # A size that no stage makes: the image is scaled and cut, and its mask with it.
        reply = client.images.edit(
            image=png(photo(60, 30)), mask=png(masked(60, 30, (20, 0, 40, 15))), prompt="x",
            size="40x40", extra_body={"stages": 1},
        )  # fmt: skip
        made = np.asarray(picture_of(reply.data[0].b64_json))
        cut = photo(60, 30).resize((40, 40), Image.Resampling.BICUBIC, (15, 0, 45, 30))
        assert np.array_equal(made[20:], np.asarray(cut)[20:])
        assert not np.array_equal(made[:20, 7:33], np.asarray(cut)[:20, 7:33])
        assert reply.data[0].record["edit"]["fitted_from"] == "60x30"
        assert reply.size == "40x40"


def test_a_form_by_hand_as_browsers_and_curl_send_it(serve):
    """Nested fields, JSON in text, numbers in text, empty fields; the answer by address."""
    url, _ = serve()
    fields = {
        "prompt": "a red ring", "n": "1", "seed": "3", "stages": "1", "mask": "alpha",
        "settings[base][steps]": "2", "settings[base][timesteps]": "null", "guidance": "",
        "strength": '{"base": 0.9}', "extend": "8,0,0,4", "response_format": "url",
        "negative_prompt": "",
    }  # fmt: skip
    image = photo(mode="RGB").convert("RGBA")
    image.paste((0, 0, 0, 0), (10, 10, 40, 40))
    reply = httpx.post(
        f"{url}/v1/images/edits", data=fields, files={"image": ("a.png", png(image), "image/png")},
        timeout=60,
    )  # fmt: skip
    assert reply.status_code == 200, reply.text[:500]
    one = reply.json()["data"][0]
    assert one["record"]["edit"]["extend"] == [8, 0, 0, 4]
    assert one["record"]["edit"]["strength"] == {"base": 0.9}
    assert one["record"]["settings"]["base"]["steps"] == 2
    file = httpx.get(one["url"])
    with Image.open(io.BytesIO(file.content)) as made:
        assert made.size == (104, 84)
        there = np.asarray(made)[:80, 8:]
    kept = outside((10, 10, 40, 40))
    assert np.array_equal(there[kept], np.asarray(image)[kept])


def test_json_edits_name_images_in_every_way(serve):
    url, _ = serve()
    image = photo(64, 64)
    text = base64.b64encode(png(image)).decode()
    plain = {"prompt": "x", "strength": 0, "stages": 1}

    def made(**body):
        reply = httpx.post(f"{url}/v1/images/edits", json={**plain, **body}, timeout=60)
        assert reply.status_code == 200, reply.text[:500]
        one = reply.json()["data"][0]
        assert np.array_equal(np.asarray(picture_of(one["b64_json"])), np.asarray(image))
        return one["id"]

    saved = made(image=text)
    made(image=f"data:image/png;base64,{text}")
    made(images=[{"image_url": f"data:image/png;base64,{text}"}])
    made(image=saved, markup=None, frame_count=None)
    made(images=[{"file_id": saved, "image_url": None}])
    for field, body in (
        ("image", {"image": "x" * 22}),
        ("image", {"image": {"image_url": "https://example.org/a.png"}}),
        ("image", {"image": {"both": "x"}}),
    ):
        reply = httpx.post(f"{url}/v1/images/edits", json={**plain, **body})
        assert reply.status_code in (400, 404), reply.text[:500]
        assert reply.json()["error"]["param"] == field
