"""What the server does beside drawing: names, sizes, limits, previews, prefixes, pages, the end."""

import asyncio
import base64
import io
import json
import queue
import re
import threading
import time

import httpx2 as httpx
import numpy as np
import openai
import pytest
from PIL import Image

from open_imagen.cascade.io import load
from open_imagen.cascade.vary import crop_centre
from open_imagen.cli.serve import check_root_path, load_models, parse_aliases
from open_imagen.errors import CheckpointError, ConfigError
from open_imagen.server.auth import Client
from open_imagen.server.jobs import Failed, Finished
from open_imagen.server.limits import ImagesPerHour
from open_imagen.server.run import finish_work
from server.test_api import KEY, client_of, instantly
from server.test_worker import Gate, job_of
from standins import WordEncoder


def generate(url, **body):
    body = {"prompt": "a ring", "size": "64x64", "seed": 1, **body}
    return httpx.post(f"{url}/v1/images/generations", json=body, timeout=60)


def image_of(reply):
    assert reply.status_code == 200, reply.text
    return Image.open(io.BytesIO(base64.b64decode(reply.json()["data"][0]["b64_json"])))


def events_of(reply):
    lines = reply.text.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def test_previews_pass_the_content_filter(serve):
    """What the filter refuses is not shown as a preview, either; what it lets pass is."""
    for refused in (True, False):
        seen = []

        def judge(prompt, image, refused=refused, seen=seen):
            seen.append(image and image.size)
            return "bad" if refused and image is not None else None

        url, _ = serve(filter=judge)
        events = events_of(generate(url, stream=True, previews=5, steps=6))
        kinds = [event["type"].split(".")[-1] for event in events]
        assert len(seen) == 7  # the prompt, five previews, the image
        if refused:
            assert kinds == ["error"]
            assert events[0]["error"]["code"] == "content_policy_violation"
        else:
            assert kinds == ["partial_image"] * 5 + ["completed"]
            assert [e["partial_image_index"] for e in events[:5]] == list(range(5))


@pytest.fixture
def secret_folder(tiny, tmp_path):
    tiny.save(tmp_path / "secret-place" / "model")
    return tmp_path / "secret-place" / "model"


def with_words(cascade):
    """The same with an encoder that needs no files."""
    cascade.text.encoder = WordEncoder()
    return cascade


def test_a_model_of_a_folder_has_the_name_of_its_records(serve, secret_folder, monkeypatch):
    monkeypatch.setattr("open_imagen.cascade.io.load", lambda *a, **k: with_words(load(*a, **k)))
    cascades = load_models([str(secret_folder), str(secret_folder)], "cpu", False, "fp32")
    assert list(cascades) == ["tiny", "tiny-2"]
    url, _ = serve(cascades=cascades)
    models = httpx.get(f"{url}/v1/models")
    record = generate(url, model="tiny").json()["data"][0]["record"]
    assert record["model"] == "tiny"
    assert record["model_hash"] == models.json()["data"][0]["hash"]
    missing = generate(url, model=str(secret_folder))
    assert missing.status_code == 404
    assert "there are: tiny, tiny-2." in missing.json()["error"]["message"]
    assert "secret-place" not in models.text + httpx.get(f"{url}/openapi.json").text


def test_what_concerns_the_servers_files_is_not_told_to_clients(serve, tiny, caplog):
    def fails(*arguments):
        raise CheckpointError("The weights /secret-place/model.safetensors are damaged.")

    tiny.draw = fails
    url, _ = serve()
    reply = generate(url)
    assert (reply.status_code, "secret-place" in reply.text) == (500, False)
    assert "the server's log says why" in reply.json()["error"]["message"]
    assert any("secret-place" in str(r.__dict__.get("reason")) for r in caplog.records)


def test_a_prompt_that_was_cut_is_named_in_a_header(serve):
    url, _ = serve()
    long = " ".join(f"word{k}" for k in range(20))
    headers = generate(url, prompt=long, negative_prompt=f"{long} more").headers
    assert headers["x-imagen-prompt-cut"] == (
        "prompt: only the first 16 of 20 tokens were read; "
        "negative_prompt: only the first 16 of 21 tokens were read"
    )
    assert "x-imagen-prompt-cut" not in generate(url, prompt="a short one").headers


@pytest.mark.parametrize(
    "size,made",
    [("1040x656", "1088x704"), ("1536x1024", None), ("1792x1024", None), ("72x64", "128x64")],
)
def test_sizes_that_the_stages_cannot_make_are_cropped(serve, tiny, size, made):
    tiny.draw = lambda stage, requests, watch=None: instantly_any(stage, requests)
    url, _ = serve()
    reply = generate(url, size=size)
    assert "x".join(map(str, image_of(reply).size)) == size == reply.json()["size"]
    record = reply.json()["data"][0]["record"]
    assert (record["size"], record.get("cropped_from")) == (size, made)


def instantly_any(stage, requests):
    """Black images of the right size: from the text, or from the stage before."""
    lowres = requests[0].below
    if lowres is None:
        return instantly(stage, requests)
    scale = stage.config.resolution // stage.config.lowres
    return lowres.new_zeros(len(requests), 3, *(side * scale for side in lowres.shape[1:]))


def test_cropping_takes_the_middle():
    pixels = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(10, 12, 3)
    image = Image.fromarray(pixels)
    assert np.array_equal(np.asarray(crop_centre(image, (8, 4))), pixels[3:7, 2:10])
    assert crop_centre(image, None) is image


def test_sizes_beyond_the_limit_name_it(serve):
    url, _ = serve()
    error = generate(url, size="3840x2160").json()["error"]
    assert (error["param"], "--max-pixels" in error["message"]) == ("size", True)


def test_aliases_are_models_to_clients(serve):
    url, _ = serve(aliases={"gpt-image-1": "tiny"})
    with client_of(url) as client:
        assert [m.id for m in client.models.list()] == ["tiny", "gpt-image-1"]
        assert client.models.retrieve("gpt-image-1").model_extra["alias_of"] == "tiny"
        assert "alias_of" in client.models.retrieve("tiny").model_extra
        made = client.images.generate(prompt="x", model="gpt-image-1", size="64x64")
        assert made.data[0].record["model"] == "tiny"
        with pytest.raises(openai.NotFoundError, match="there are: tiny, gpt-image-1"):
            client.images.generate(prompt="x", model="gpt-image-2")
    with pytest.raises(ConfigError, match="there is no model 'other'"):
        serve(aliases={"a": "other"})
    with pytest.raises(ConfigError, match="own name"):
        serve(aliases={"tiny": "tiny"})


def test_wrong_aliases_and_prefixes_are_refused():
    assert parse_aliases(["a=b", "gpt-image-1=c=d"]) == {"a": "b", "gpt-image-1": "c=d"}
    for wrong in (["a"], ["=b"], ["a="], ["a=b", "a=c"]):
        with pytest.raises(ConfigError, match="--alias"):
            parse_aliases(wrong)
    assert [check_root_path(path) for path in ("", "/", "/a/", "/a/b")] == ["", "", "/a", "/a/b"]
    for wrong in ("a", "/a b", '/a"', "//", "http://a"):
        with pytest.raises(ConfigError, match="--root-path"):
            check_root_path(f"{wrong}x" if wrong == "//" else wrong)


def test_behind_a_proxy_with_a_prefix_all_addresses_have_it(serve):
    url, _ = serve(root_path="/imagen", keys=[f"me:{KEY}"])
    mine = {"Authorization": f"Bearer {KEY}"}
    for prefix in ("", "/imagen"):  # with and without proxies that cut it off
        assert httpx.get(f"{url}{prefix}/v1/models").status_code == 401
        assert httpx.get(f"{url}{prefix}/v1/models", headers=mine).status_code == 200
        assert '<base href="/imagen/">' in httpx.get(f"{url}{prefix}/").text
        body = {"prompt": "a ring", "size": "64x64", "response_format": "url"}
        reply = httpx.post(
            f"{url}{prefix}/v1/images/generations", json=body, headers=mine, timeout=30
        )
        address = reply.json()["data"][0]["url"]
        assert address.startswith(f"{url}/imagen/v1/images/files/")
        assert httpx.get(address).status_code == 200


def test_pages_need_nothing_from_other_sites(serve):
    url, _ = serve()
    for path in ("/", "/docs"):
        page = httpx.get(f"{url}{path}")
        assert page.status_code == 200
        outside = re.findall(r"""(?:src|href)=["'](https?:|//)|@import|url\(["']?http""", page.text)
        assert not outside
        assert not re.search(r"""fetch\(["']/|["']/v1/images/files""", page.text)
        assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "/v1/images/generations" in httpx.get(f"{url}/openapi.json").json()["paths"]


def test_head_is_answered(serve):
    url, _ = serve()
    address = generate(url, response_format="url").json()["data"][0]["url"]
    for path in ("/", "/docs", "/healthz", "/v1/models", "/v1/gallery"):
        assert httpx.head(f"{url}{path}").status_code == 200
    reply = httpx.head(address)
    assert (reply.status_code, reply.content) == (200, b"")
    assert int(reply.headers["content-length"]) == len(httpx.get(address).content)


def test_each_key_has_its_limits(serve, tiny):
    keys = [f"few:{KEY}1 images-per-hour=3", f"many:{KEY}2", f"small:{KEY}3 queue=2"]
    url, _ = serve(keys=keys)

    def ask(number, n):
        headers = {"Authorization": f"Bearer {KEY}{number}"}
        body = {"prompt": "x", "size": "64x64", "steps": 1, "n": n}
        return httpx.post(f"{url}/v1/images/generations", json=body, headers=headers, timeout=30)

    assert ask(1, 2).status_code == 200
    refused = ask(1, 2)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1190 <= int(refused.headers["retry-after"]) <= 1200  # one of three an hour
    assert ask(1, 1).status_code == 200
    assert ask(2, 5).status_code == 200
    refused = ask(3, 3)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "client_limit")
    assert ask(3, 2).status_code == 200


def test_images_per_hour_refill_evenly():
    now = [1000.0]
    rate = ImagesPerHour(6, clock=lambda: now[0])
    me, you = (Client(name, name, name) for name in ("me", "you"))
    assert rate.wait(me, 6) == 0
    rate.count(me, 6)
    assert (rate.wait(me, 1), rate.wait(me, 3), rate.wait(you, 6)) == (600, 1800, 0)
    now[0] += 600
    assert (rate.wait(me, 1), rate.wait(me, 2)) == (0, 600)
    now[0] += 36_000
    assert rate.wait(me, 7) == 600  # nothing is saved up beyond an hour's


def test_a_stream_whose_client_has_gone_leaves_nothing_behind(serve, tiny):
    url, service = serve()
    gate = Gate(tiny)
    for _ in range(3):
        with httpx.Client() as client, pytest.raises(httpx.TimeoutException):
            client.post(
                f"{url}/v1/images/generations",
                json={"prompt": "x", "stream": True, "size": "64x64"},
                timeout=0.2,
            )
    gate.open.set()
    end = time.monotonic() + 20
    while service.busy and time.monotonic() < end:
        time.sleep(0.02)
    assert not service.busy


def test_the_end_waits_for_work_but_only_so_long(serve, tiny):
    _, service = serve()
    gate, events = Gate(tiny), queue.Queue()
    service.worker.submit(job_of(tiny, events.put, ("slow",), stages=1))
    assert gate.entered.wait(20)
    begun = time.monotonic()
    threading.Timer(0.5, gate.open.set).start()  # the step ends after the bound
    asyncio.run(finish_work(service, 0.1)())
    assert service.draining.is_set()
    service.worker.close(30)
    kinds = [type(e) for e in list(events.queue) if isinstance(e, Failed | Finished)]
    assert kinds == [Failed]
    assert time.monotonic() - begun < 25


def test_a_client_is_told_when_the_server_stops_before_its_image_is_done(serve, tiny):
    url, service = serve()
    gate, replies = Gate(tiny), []
    thread = threading.Thread(target=lambda: replies.append(generate(url)))
    thread.start()
    assert gate.entered.wait(20)
    service.worker.abort()
    gate.open.set()
    thread.join(30)
    assert (replies[0].status_code, replies[0].headers["retry-after"]) == (503, "5")
    assert not service.pending
