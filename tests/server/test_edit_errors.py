"""Edits that cannot be served are refused with an error that names the field."""

import base64
import io
import struct
import zlib

import httpx2 as httpx
import numpy as np
import openai
import pytest
from PIL import Image

from open_imagen.server.forms import form_values
from open_imagen.server.limits import PixelBudget
from server.test_api import client_of
from server.test_edits import masked, photo, png
from standins import make_cascade, make_stages


def file_of(image, kind, **more):
    data = io.BytesIO()
    image.save(data, format=kind, **more)
    return data.getvalue()


def bomb(width, height):
    """A PNG of a few bytes whose header promises many pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


GIF = file_of(photo(), "GIF", save_all=True, append_images=[photo(seed=1)], duration=100)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
FULL, EMPTY = masked(box=(0, 0, 96, 80)), masked(box=(0, 0, 0, 0))
BAD = [
    # field, part of the message, files, fields
    ("image", "image", {}, {}),
    ("image", "not an image", {"image": b"hello"}, {}),
    ("image", "damaged", {"image": png(photo())[:900]}, {}),
    ("image", "the limit is", {"image": bomb(5000, 4000)}, {}),
    ("image", "too many pixels", {"image": bomb(60_000, 60_000)}, {}),
    ("image", "animation of 2 frames", {"image": GIF}, {}),
    ("image", "is EPS", {"image": EPS}, {}),
    ("mask", "64x64, the image 96x80", {"mask": png(masked(64, 64))}, {}),
    ("mask", "empty", {"mask": png(EMPTY.convert("RGB"))}, {}),
    ("mask", "whole image", {"mask": png(FULL)}, {}),
    ("mask", "not an image", {"mask": b"hello"}, {}),
    ("mask", "the limit is", {"mask": bomb(5000, 4000)}, {}),
    ("mask", "no transparent pixels", {}, {"mask": "alpha"}),
    ("strength", "less than or equal to 1", {}, {"strength": "1.01"}),
    ("strength", "greater than or equal to 0", {}, {"strength": "-0.1"}),
    ("strength", "", {}, {"strength": "nan"}),
    ("strength", "strength = 0 of sr256, the last stage", {}, {"strength": '{"sr256": 0}'}),
    ("strength", "strength = 0 would leave", {}, {"strength": "0", "extend": "8,0,0,0"}),
    ("strength", "'elsewhere'", {}, {"strength": '{"elsewhere": 0.5}'}),
    ("extend", "four numbers", {}, {"extend": "8,0"}),
    ("image", "extends them", {}, {"extend": "0,900000,0,0"}),
    ("extend", "the limit is", {}, {"extend": "5000,4000,0,0"}),
    ("extend", "longer than 16,383", {}, {"extend": "20000,0,0,0"}),
    ("size", "at most", {}, {"size": "20000x20"}),
    ("image", "a side", {"image": bomb(20_000, 20)}, {}),
    ("extend", "integer", {}, {"extend": "a,b"}),
    ("resample", "less than or equal", {}, {"resample": "21"}),
    ("resample", "times the steps", {}, {"resample": "20", "steps": "999"}),
    ("known", "", {}, {"known": "else"}),
    ("n", "from 1 to 10", {}, {"n": "11"}),
    ("size", "at least 16", {}, {"size": "8x8"}),
    ("size", "more than", {}, {"size": "4096x4096"}),
    ("size", "WIDTHxHEIGHT", {}, {"size": "large"}),
    ("markup", "cannot be served", {"markup": png(masked())}, {}),
    ("frame_count", "cannot be served", {}, {"frame_count": "4"}),
    ("frame_duration_ms", "cannot be served", {}, {"frame_duration_ms": "40"}),
    ("svg", "cannot be served", {}, {"svg[model]": "some"}),
    ("output_format", "png, jpeg or webp", {}, {"output_format": "gif"}),
    ("output_format", "png, jpeg or webp", {}, {"output_format": "svg"}),
    ("background", "no transparency", {}, {"background": "transparent"}),
    ("strenght", "Did you mean 'strength'", {}, {"strenght": "1"}),
    ("settings", "steps", {}, {"settings[base][steps]": "many"}),
    ("settings", "not valid JSON", {}, {"settings": "{"}),
    ("prompt", "empty", {}, {"prompt": " "}),
    ("n", "sent twice", {}, {"n": ["1", "2"]}),
    ("model", "does not exist", {}, {"model": "dall-e-9"}),
    ("stages", "", {}, {"stages": "3"}),
]


@pytest.mark.parametrize("field, message, files, fields", BAD, ids=range(len(BAD)))
def test_a_bad_edit_names_its_field(bad_server, field, message, files, fields):
    files = {"image": png(photo()), **files} if (field, message) != ("image", "image") else {}
    reply = httpx.post(
        f"{bad_server}/v1/images/edits",
        data={"prompt": "x", **fields},
        files={name: ("a.png", data) for name, data in files.items()} or {"user": (None, "me")},
        timeout=30,
    )
    assert reply.status_code in (400, 404), reply.text[:500]
    error = reply.json()["error"]
    assert error["param"] == field, error
    assert message in error["message"], error
    assert error["type"] == "invalid_request_error"


@pytest.fixture(scope="module")
def bad_server(tmp_path_factory):
    from open_imagen.server.api import make_app
    from open_imagen.server.gallery import Gallery
    from open_imagen.server.middleware import Counters
    from open_imagen.server.service import Service
    from open_imagen.server.worker import Worker
    from server.browser import served

    cascades, counters = {"tiny": make_cascade()}, Counters()
    worker = Worker(cascades, 4, 64, counters)
    gallery = Gallery(tmp_path_factory.mktemp("gallery"))
    service = Service(cascades=cascades, worker=worker, gallery=gallery, counters=counters)
    with served(make_app(service)) as url:
        yield url
        assert worker.idle
        assert service.upload_budget.free == service.upload_budget.size
    worker.close(30)
    gallery.close()


@pytest.mark.parametrize(
    "image, mode",
    [
        (file_of(photo().convert("CMYK"), "JPEG"), "RGB"),
        (file_of(Image.new("I;16", (96, 80), 40_000), "PNG"), "RGB"),
        (file_of(photo().convert("P"), "PNG"), "RGB"),
        (file_of(photo(mode="RGBA"), "WEBP", lossless=True), "RGBA"),
        (file_of(photo(), "GIF"), "RGB"),
    ],
    ids=["CMYK", "16 bits", "palette", "WebP with alpha", "still GIF"],
)
def test_odd_images_come_back_as_they_are_at_strength_0(bad_server, image, mode):
    with client_of(bad_server) as client:
        reply = client.images.edit(image=image, prompt="x", extra_body={"strength": 0, "stages": 1})
    made = Image.open(io.BytesIO(base64.b64decode(reply.data[0].b64_json)))
    assert (made.size, made.mode) == ((96, 80), mode)


def test_strength_1_makes_all_of_it_anew(bad_server):
    with client_of(bad_server) as client:
        made = [
            client.images.edit(
                image=png(photo(seed=seed)), prompt="x",
                extra_body={"strength": 1, "stages": 1, "seed": 3},
            )
            for seed in (0, 1)
        ]  # fmt: skip
    one, other = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(reply.data[0].b64_json))), float)
        for reply in made
    )
    assert (
        np.abs(one - other).mean() < 20
    )  # only a trace of the originals, which have nothing alike


@pytest.mark.parametrize(
    "kind, body",
    [
        ("application/json", b"{"),
        ("application/json", b"[1]"),
        ("text/plain", b"hello"),
        ("application/x-www-form-urlencoded", b"prompt=x"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\n"),
        ("multipart/form-data; boundary=x",
         b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=x", b"--x\r\n" * 300),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a'
         b'[b][c][d][e][f]"\r\n\r\n1\r\n--x--'),
        ("multipart/form-data; boundary=x",
         b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\r\n--x--'),
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_an_error_object(bad_server, kind, body):
    for route in ("edits", "variations", "upscale", "records"):
        reply = httpx.post(
            f"{bad_server}/v1/images/{route}", content=body, headers={"content-type": kind}
        )
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["message"]


def test_a_model_without_a_base_edits_nothing(serve):
    url, _ = serve(cascades={"enlarger": make_cascade(make_stages()[1:], name="enlarger")})
    with client_of(url) as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(image=png(photo()), prompt="x")
    assert caught.value.param == "model"
    assert "upscale" in caught.value.message


def test_uploads_of_all_requests_share_a_bounded_memory(serve):
    budget = PixelBudget(96 * 80 + 100)
    url, _ = serve(upload_budget=budget)
    assert budget.take(200)
    with client_of(url) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.images.edit(image=png(photo()), prompt="x")
        assert caught.value.response.headers["retry-after"] == "10"
        budget.give(200)
        client.images.edit(image=png(photo()), prompt="x", extra_body={"strength": 0})
        with pytest.raises(openai.BadRequestError, match="together"):
            client.images.edit(image=[png(Image.new("L", (4000, 4000)))] * 3, prompt="x")
        with pytest.raises(openai.BadRequestError, match="times, are more than 10"):
            client.images.edit(image=[png(photo())] * 4, prompt="x", n=3)
        with pytest.raises(openai.BadRequestError, match="one mask for each"):
            client.images.edit(image=[png(photo())] * 2, mask=png(masked()), prompt="x")
    assert budget.free == budget.size


def test_an_extension_takes_memory_too(serve):
    budget = PixelBudget(500 * 500 - 1)
    url, _ = serve(upload_budget=budget)
    with client_of(url) as client, pytest.raises(openai.InternalServerError):
        client.images.edit(
            image=png(photo(10, 10)), prompt="x", extra_body={"extend": [490, 0, 0, 490]}
        )
    assert budget.free == budget.size


def test_images_of_other_keys_are_not_edited(serve):
    keys = ["sk-a-key-that-is-long-enough", "sk-another-key-long-enough"]
    url, _ = serve(keys=keys)
    with client_of(url, keys[0]) as mine, client_of(url, keys[1]) as other:
        body = {"prompt": "x", "image": "", "strength": 0, "stages": 1}
        body["image"] = (
            mine.images.edit(
                image=png(photo()), prompt="x", extra_body={"strength": 0, "stages": 1}
            )
            .data[0]
            .id
        )
        for client, status in ((mine, 200), (other, 404)):
            headers = {"Authorization": f"Bearer {client.api_key}"}
            reply = httpx.post(f"{url}/v1/images/edits", json=body, headers=headers, timeout=30)
            assert reply.status_code == status, reply.text[:500]
    assert httpx.post(f"{url}/v1/images/edits", json=body).status_code == 401


def test_the_filter_sees_what_is_sent(serve):
    seen = []

    def refuses(prompt, image):
        seen.append(None if image is None else image.size)
        return "too dark" if image is not None and not np.asarray(image).any() else None

    url, service = serve(filter=refuses)
    with client_of(url) as client, pytest.raises(openai.BadRequestError, match="too dark"):
        client.images.edit(image=png(Image.new("RGB", (64, 64))), prompt="x")
    assert seen == [None, (64, 64)]
    assert service.upload_budget.free == service.upload_budget.size


def test_files_may_hold_any_bytes_and_json_may_not_pass_for_a_form(bad_server):
    """The guard counts the values of JSON, not the commas of a bitmap."""
    commas = file_of(Image.new("RGB", (100, 100), (44, 44, 44)), "BMP")
    reply = httpx.post(
        f"{bad_server}/v1/images/edits", data={"prompt": "x", "strength": "0"},
        files={"image": ("a.bmp", commas)}, timeout=30,
    )  # fmt: skip
    assert reply.status_code == 200, reply.text[:500]
    values = b'{"prompt": "x", "settings": {"base": {"timesteps": [' + b"1," * 30_000 + b"1]}}}"
    form = ("content-type", "multipart/form-data; boundary=x")
    json = ("content-type", "application/json")
    for route in ("edits", "generations"):
        for headers in ([json], [json, form], [form, json]):
            reply = httpx.post(
                f"{bad_server}/v1/images/{route}", content=values, headers=headers, timeout=30
            )
            assert "more than 20,000 values" in reply.text
        reply = httpx.post(f"{bad_server}/v1/images/{route}", content=values, headers=[form])
        assert reply.status_code == 400


PARTS = [
    (b'name="a"\r\n\r\n1', {"a": "1"}),
    (b'name="a"\r\n\r\n', {}),
    (b'name="a"; filename=""\r\n\r\n', {}),
    (b'name="prompt"\r\n\r\n', {"prompt": ""}),
    (b"name=a\r\n\r\n1", {"a": "1"}),
    (b'filename="b\\"; name=c"; name="a"\r\n\r\n\x00\r\n--xy\r\n', {"a": b"\x00\r\n--xy\r\n"}),
    (b'name="a"\r\nContent-Type: image/png\r\n\r\n\xff', {"a": b"\xff"}),
    (b'name="a"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xa4', {"a": "ä"}),
    (b'name="image[]"; filename="a"\r\n\r\n1', {"image": [b"1"]}),
    (b'name="image[0]"; filename="a"\r\n\r\n1', {"image": [b"1"]}),
    (b'name="settings[base][steps]"\r\n\r\n2', {"settings": {"base": {"steps": 2}}}),
    (b'name="settings[base][sampler]"\r\n\r\nddim', {"settings": {"base": {"sampler": "ddim"}}}),
    (b'name="settings"\r\n\r\n{"base": {"steps": 2}}', {"settings": {"base": {"steps": 2}}}),
    (b'name="extend[]"\r\n\r\n2', {"extend": [2]}),
]


@pytest.mark.parametrize("part, values", PARTS, ids=range(len(PARTS)))
def test_a_part_of_a_form(part, values):
    body = b"\r\n--x \r\ncontent-disposition: form-data; " + part + b"\r\n--x--\r\n"
    kind = 'multipart/form-data; boundary="x"'
    read = form_values(body, kind, frozenset({"image"}), frozenset({"settings", "extend"}))
    assert read == values
