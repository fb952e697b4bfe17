"""The API: the official client, proper errors, streams, the gallery, keys, and hostile input."""

import base64
import concurrent.futures
import io
import json
import random
import socket
import string
import threading
import time
import warnings
from urllib.parse import unquote

import httpx2 as httpx
import numpy as np
import openai
import pytest
import torch
from PIL import Image

from open_imagen.errors import ConfigError, DataError, OpenImagenWarning
from open_imagen.server.auth import parse_keys, read_keys
from standins import make_cascade, make_stages

KEY = "sk-a-key-that-is-long-enough"


def client_of(url, key="none", **more):
    more = {"max_retries": 0, **more}
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, **more)


def picture_of(text):
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        image.load()
        return image


def test_the_official_client_makes_one_and_several(serve, tiny):
    url, _ = serve()
    with client_of(url) as client:
        assert [m.id for m in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").owned_by == "open_imagen"
        assert client.models.retrieve("tiny").model_extra["default_stages"] == 2
        reply = client.images.generate(prompt="a red ring", extra_body={"seed": 5})
        assert picture_of(reply.data[0].b64_json).size == (256, 256)
        assert reply.output_format == "png"
        made = tiny.generate("a red ring", seed=5).images[0]
        difference = np.asarray(picture_of(reply.data[0].b64_json)).astype(int) - np.asarray(made)
        assert np.abs(difference).max() <= 1

        reply = client.images.generate(
            prompt="a blue star", model="tiny", n=3, size="64x64", response_format="url",
            quality="high", user="somebody",
            extra_body={"seed": 7, "steps": {"base": 2}, "guidance_scale": 3.0,
                        "negative_prompt": "green"},
        )  # fmt: skip
        assert [one.seed for one in reply.data] == [7, 8, 9]
        record = reply.data[1].record
        assert (record["settings"]["base"]["steps"], record["negative"]) == (2, "green")
        assert list(record["settings"]) == ["base"]
        for one in reply.data:
            file = httpx.get(one.url)
            assert file.headers["content-type"] == "image/png"
            image = Image.open(io.BytesIO(file.content))
            assert image.size == (64, 64)
            assert json.loads(image.info["open_imagen"])["seed"] == one.seed
        for kind in ("jpeg", "webp"):
            reply = client.images.generate(
                prompt="x", size="64x64", output_format=kind, output_compression=80
            )
            image = picture_of(reply.data[0].b64_json)
            assert image.format == kind.upper()
            assert "Steps" in image.getexif().get_ifd(0x8769)[0x9286].decode("utf-16-be", "ignore")


def test_the_official_client_streams_partial_pictures(serve):
    url, _ = serve()
    with client_of(url) as client:
        stream = client.images.generate(
            prompt="a red ring", stream=True, partial_images=2, extra_body={"seed": 5}
        )
        events = list(stream)
        assert [e.type for e in events] == [
            "image_generation.partial_image",
            "image_generation.partial_image",
            "image_generation.completed",
        ]
        assert [e.partial_image_index for e in events[:2]] == [0, 1]
        assert picture_of(events[0].b64_json).size == (64, 64)
        whole = client.images.generate(prompt="a red ring", extra_body={"seed": 5})
        assert np.array_equal(picture_of(events[2].b64_json), picture_of(whole.data[0].b64_json))
        assert events[2].usage.input_tokens == 3


def test_the_official_client_gets_proper_exceptions(serve):
    url, _ = serve(keys=[f"me:{KEY}"])
    with client_of(url, "wrong-key") as client, pytest.raises(openai.AuthenticationError) as info:
        client.images.generate(prompt="x")
    assert info.value.code == "invalid_api_key"
    with client_of(url, KEY) as client:
        with pytest.raises(openai.NotFoundError, match="'dall-e-3' does not exist") as info:
            client.images.generate(prompt="x", model="dall-e-3")
        assert info.value.param == "model"
        for given, message in (
            ({"n": 0}, "n must be a whole number from 1 to 10"),
            ({"n": 1000}, "n must be a whole number from 1 to 10"),
            ({"size": "8x8"}, "multiples of 64.*nearest is 64x64"),
            ({"size": "big"}, "WIDTHxHEIGHT"),
            ({"size": "4096x4096"}, "more than 2,097,152 pixels"),
            ({"prompt": ""}, "prompt"),
            ({"prompt": "  "}, "the prompt is empty"),
            ({"prompt": "x" * 40_000}, "32000"),
            ({"extra_body": {"step": 3}}, "Did you mean 'steps'"),
            ({"extra_body": {"steps": 0}}, "greater than or equal to 1"),
            ({"extra_body": {"steps": "many"}}, "steps"),
            ({"extra_body": {"steps": 3, "num_inference_steps": 4}}, "are the same"),
            ({"extra_body": {"guidance": {"bass": 3}}}, "no stage 'bass'"),
            ({"extra_body": {"sampler": "ddin"}}, "ddin"),
            ({"extra_body": {"settings": {"base": {"step": 3}}}}, "base.step"),
            ({"extra_body": {"seed": -7}}, "seed"),
            ({"extra_body": {"stages": 3}}, "stages = 3"),
            ({"extra_body": {"noise_level": 2}}, "noise_level"),
        ):
            with pytest.raises(openai.BadRequestError, match=message) as info:
                client.images.generate(**{"prompt": "x", **given})
            assert info.value.type == "invalid_request_error", given


def test_a_full_queue_is_a_rate_limit_error_and_clears(serve, tiny):
    url, service = serve(queue_size=2)
    gate, plain = threading.Event(), tiny.draw

    def slow(*arguments):
        assert gate.wait(20)
        return plain(*arguments)

    tiny.draw = slow
    with client_of(url) as client, concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.images.generate, prompt="x", n=2)
        while service.worker.depth < 2:
            time.sleep(0.01)
        with pytest.raises(openai.RateLimitError, match="2 images are waiting") as info:
            client.images.generate(prompt="y")
        assert int(info.value.response.headers["retry-after"]) >= 1
        gate.set()
        assert len(first.result(30).data) == 2
        assert client.images.generate(prompt="y").data


def test_a_client_that_hangs_up_frees_its_place(serve, tiny):
    url, service = serve()
    plain = tiny.draw

    def slow(*arguments):
        time.sleep(0.4)
        return plain(*arguments)

    tiny.draw = slow
    for stream in (False, True):
        with pytest.raises(httpx.TimeoutException):
            httpx.post(
                f"{url}/v1/images/generations",
                json={"prompt": "x", "n": 10, "stream": stream},
                timeout=0.2,
            )
        end = time.monotonic() + 10
        while not service.worker.idle and time.monotonic() < end:
            time.sleep(0.02)
        assert service.worker.idle
    assert len(service.gallery.latest("anyone", 100)) < 20


def test_the_gallery_is_each_keys_own(serve):
    url, _ = serve(keys=[f"me:{KEY}", "you:another-key-of-some-length"])
    with client_of(url, KEY) as client:
        client.images.generate(prompt="mine", size="64x64", n=2)
    mine = {"Authorization": f"Bearer {KEY}"}
    yours = {"Authorization": "Bearer another-key-of-some-length"}
    found = httpx.get(f"{url}/v1/gallery?limit=1", headers=mine).json()
    assert (len(found["data"]), found["more"]) == (1, True)
    before = found["data"][0]["created"]
    older = httpx.get(f"{url}/v1/gallery?before={before}", headers=mine).json()
    assert (len(older["data"]), older["more"]) == (1, False)
    assert httpx.get(f"{url}/v1/gallery", headers=yours).json()["data"] == []
    name = found["data"][0]["id"]
    assert httpx.delete(f"{url}/v1/gallery/{name}", headers=yours).status_code == 404
    assert httpx.post(
        f"{url}/v1/images/upscale", headers=yours, json={"image": name, "prompt": "x"}
    ).status_code == 404  # fmt: skip
    assert httpx.delete(f"{url}/v1/gallery/{name}", headers=mine).json() == {"deleted": True}
    assert httpx.get(found["data"][0]["url"]).status_code == 404


def test_pictures_are_upscaled_from_the_gallery_or_as_sent(serve):
    url, _ = serve()
    with client_of(url) as client:
        made = client.images.generate(prompt="a ring", size="64x64").data[0]
    words = {"prompt": "a ring", "seed": 1}
    kept = httpx.post(f"{url}/v1/images/upscale", json={"image": made.id, **words}, timeout=30)
    sent = httpx.post(
        f"{url}/v1/images/upscale", json={"image": made.b64_json, **words}, timeout=30
    )
    one, two = (picture_of(r.json()["data"][0]["b64_json"]) for r in (kept, sent))
    assert one.size == (256, 256)
    assert np.array_equal(one, two)
    assert kept.json()["data"][0]["record"]["made_by"] == "upscale"
    for image, status in (("x" * 22, 404), ("no base64!", 400), ("aGVsbG8=", 400)):
        reply = httpx.post(f"{url}/v1/images/upscale", json={"image": image, **words})
        assert reply.status_code == status, image
    large = io.BytesIO()
    Image.new("RGB", (1040, 1040)).save(large, format="PNG")  # four times as large: 4160
    text = base64.b64encode(large.getvalue()).decode()
    reply = httpx.post(f"{url}/v1/images/upscale", json={"image": text, **words}, timeout=30)
    assert (reply.status_code, "4160x4160" in reply.text) == (400, True)
    assert "8 times --max-pixels" in reply.text
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, format="PNG")
    text = base64.b64encode(bomb.getvalue()).decode()
    reply = httpx.post(f"{url}/v1/images/upscale", json={"image": text, **words}, timeout=30)
    assert (reply.status_code, "too many pixels" in reply.text) == (400, True)


def test_wrong_requests_get_an_error_object_that_says_the_limit(serve):
    url, _ = serve(body_limit=100_000)
    post = f"{url}/v1/images/generations"
    kind = {"content-type": "application/json"}
    for content, status, message in (
        (b"{", 400, "not valid JSON"),
        (b"", 400, ""),
        (b"[]", 400, ""),
        (b"\xff\xfe\x00", 400, ""),
        (b'{"prompt": "\xff"}', 400, ""),
        (b'{"prompt": "\\ud800"}', 400, "unicode"),
        (b'{"prompt": "' + b"x" * 2_000_000 + b'"}', 413, "100,000 bytes"),
        (b'{"prompt": 3}', 400, "prompt"),
        (b'{"prompt": "x", "n": "2"}', 400, "1 to 10"),
        (b'{"prompt": "x", "n": true}', 400, "1 to 10"),
        (b'{"prompt": "x", "guidance": NaN}', 400, ""),
        (b'{"prompt": "x", "guidance": 1e999}', 400, ""),
        (b'{"prompt": "x", "seed": 99999999999999999999999}', 400, "seed"),
        (b'{"prompt": "x", "size": "64x64\\n"}', 400, "WIDTHxHEIGHT"),
        (b'{"prompt": "x", "settings": {"base": {"steps": 1e9}}}', 400, ""),
        (b'{"prompt": "x", "settings": {"base": {"steps": 100000}}}', 400, "1000"),
    ):
        reply = httpx.post(post, content=content, headers=kind)
        assert reply.status_code == status, (content[:60], reply.text)
        error = reply.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert message in error["message"], (content[:60], error)

    def endless():
        for _ in range(50):
            yield b" " * 10_000

    assert httpx.post(post, content=endless(), headers=kind).status_code == 413
    for path, status in (
        ("/v1/images/files/..%2f..%2fgallery.db", 404),
        ("/v1/images/files/../gallery.db", 404),
        ("/v1/images/files/%00", 404),
        ("/v1/models/other", 404),
        ("/v1/nothing", 404),
        ("/v1/gallery?limit=0", 400),
        ("/v1/gallery?before=nan", 400),
    ):
        reply = httpx.get(url + path)
        assert reply.status_code == status, path
        assert reply.json()["error"]["message"]
    assert httpx.put(post).status_code == 405


def test_fields_without_effect_are_named_in_a_header(serve):
    url, _ = serve()
    reply = httpx.post(
        f"{url}/v1/images/generations",
        json={"prompt": "x", "size": "64x64", "quality": "hd", "style": "vivid"},
        timeout=30,
    )
    assert reply.headers["x-imagen-without-effect"] == "quality, style"
    assert len(reply.headers["x-request-id"]) == 16


def logged(caplog, status):
    return any(record.__dict__.get("status") == status for record in list(caplog.records))


def test_operation_is_watched_without_prompts(serve, caplog):
    url, _ = serve()
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{url}/readyz").json() == {"status": "ready"}
    with caplog.at_level("INFO", "open_imagen.server"):
        httpx.post(
            f"{url}/v1/images/generations",
            json={"prompt": "a secret wish", "size": "64x64"},
            timeout=30,
        )
        # A request is counted and logged once it is over, which may be after its answer is here.
        patience = time.monotonic() + 30
        while time.monotonic() < patience and not logged(caplog, 200):
            time.sleep(0.01)
    text = httpx.get(f"{url}/metrics").text
    assert 'imagen_requests_total{code="200",route="/v1/images/generations"} 1.0' in text
    assert 'imagen_batch_size_count{stage="base"} 1.0' in text
    assert "imagen_images_total 1.0" in text
    assert "secret" not in text
    assert logged(caplog, 200)
    assert all("secret" not in str(r.__dict__) for r in caplog.records)


def test_other_sites_may_not_ask_unless_allowed(serve):
    url, _ = serve()
    ask = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    assert (
        "access-control-allow-origin" not in httpx.options(f"{url}/v1/models", headers=ask).headers
    )
    url, _ = serve(origins=("https://other.example",))
    allowed = httpx.options(f"{url}/v1/models", headers=ask).headers
    assert allowed["access-control-allow-origin"] == "https://other.example"


def test_a_content_filter_sees_words_and_pictures(serve):
    seen = []

    def judge(prompt, image):
        seen.append(image and image.size)
        if prompt == "bad words":
            return "bad words"
        return "bad picture" if image is not None and prompt == "bad picture" else None

    url, service = serve(filter=judge)
    with client_of(url) as client:
        for prompt in ("bad words", "bad picture"):
            with pytest.raises(openai.BadRequestError, match=prompt) as info:
                client.images.generate(prompt=prompt, size="64x64")
            assert info.value.code == "content_policy_violation"
        assert client.images.generate(prompt="good", size="64x64").data
    assert seen == [None, None, (64, 64), None, (64, 64)]
    assert len(service.gallery.latest("anyone", 10)) == 1


def test_a_stopping_server_answers_503(serve):
    url, service = serve()
    service.draining.set()
    with client_of(url) as client, pytest.raises(openai.InternalServerError) as info:
        client.images.generate(prompt="x")
    assert info.value.status_code == 503
    assert httpx.get(f"{url}/readyz").status_code == 503
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_keys_come_from_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# ours\nalice: {KEY}\n\nanother-key-of-some-length # bob\n")
    file.chmod(0o600)
    keys = read_keys(file)
    assert keys.client(KEY).name == "alice"
    assert keys.client("another-key-of-some-length").name.startswith("key-")
    for wrong in ("", KEY[:-1], KEY + "x", "alice", "\ud800", f"alice:{KEY}", f"\ufeff{KEY}"):
        assert keys.client(wrong) is None
    file.write_text("short")
    with pytest.raises(ConfigError, match="16 characters"):
        read_keys(file)
    with pytest.raises(ConfigError, match="holds no key"):
        parse_keys(["# nothing"])
    with pytest.raises(DataError, match="Cannot read"):
        read_keys(tmp_path / "nowhere")
    assert KEY not in repr(keys)


@pytest.mark.parametrize(
    "data",
    [
        f"\ufeffalice:{KEY}\r\n# bob's\r\n\r\nbob:{KEY}2\r\n".encode(),
        f"alice:{KEY}\r\nbob : {KEY}2  # a comment: with a colon".encode("utf-16"),
        f"alice:\t{KEY}\rbob:{KEY}2\r".encode(),
    ],
    ids=["UTF-8 with a mark", "UTF-16", "old Mac line ends"],
)
def test_key_files_are_read_as_editors_write_them(tmp_path, data):
    file = tmp_path / "keys"
    file.write_bytes(data)
    file.chmod(0o600)
    keys = read_keys(file)
    assert keys.names == ["alice", "bob"]
    assert keys.client(f"{KEY}2").name == "bob"


def test_an_owner_is_the_key_and_not_its_line():
    before = parse_keys([KEY, f"bob:{KEY}2", f"{KEY}3"])
    after = parse_keys([f"eve:{KEY}4", f"{KEY}3", f"robert:{KEY}2"])
    for key in (f"{KEY}2", f"{KEY}3"):
        assert before.client(key).owner == after.client(key).owner
    owners = {client.owner for keys in (before, after) for client in keys.clients.values()}
    assert len(owners) == 4
    assert not any(KEY in owner for owner in owners)


@pytest.mark.parametrize(
    "line,message",
    [
        (f"a:b:{KEY}", "only colon"),
        (f"sk#{KEY}", "letters, digits"),
        (f"alice:{KEY} queue=0", "'queue=0' is no limit"),
        (f"alice:{KEY} hours=3", "'hours=3' is no limit"),
        (f"alice:{KEY} {KEY}", "is no limit"),
        ("Schlüssel-mit-Umlaut-darin", "letters, digits"),
    ],
)
def test_a_line_that_could_mean_another_key_is_refused(line, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_keys(["", line])
    assert "Line 2" in str(error.value)


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(ConfigError, match=r"Line 2.*twice"):
        parse_keys([f"alice:{KEY}", f"bob:{KEY}"])


def test_a_key_file_that_others_may_read_is_warned_of(tmp_path):
    file = tmp_path / "keys"
    file.write_text(KEY)
    file.chmod(0o644)
    with pytest.warns(OpenImagenWarning, match="chmod 600"):
        read_keys(file)
    file.chmod(0o640)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_keys(file)


def instantly(stage, orders, watch=None):
    """Black pictures in no time: for tests of what is asked, not of what is drawn."""
    width, height = orders[0].size or (stage.config.resolution,) * 2
    return torch.zeros(len(orders), 3, height, width, dtype=torch.uint8)


def mangled(rng):
    """A request that may be anything."""
    good = {"prompt": "x", "n": 1, "size": "64x64", "steps": 1, "seed": 1, "guidance": 1.0}
    values = [
        None, True, -1, 0, 1e308, 2**70, "", "x" * rng.randrange(50), [], {}, [[]], {"base": 1},
        {"a": {"b": []}}, float("nan"), float("inf"), "\u0000", "\ud83d", "64x64", "0x0", "../..",
    ]  # fmt: skip
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    body = dict(good)
    for _ in range(rng.randrange(1, 4)):
        name = rng.choice([*good, "".join(rng.choices(string.printable, k=4)), "settings",
                           "negative_prompt", "model", "stream", "stages", "n"])  # fmt: skip
        body[name] = rng.choice(values)
    text = json.dumps(body).encode()
    if kind == 1:
        cut = rng.randrange(len(text))
        return text[:cut]
    if kind == 2:
        place = rng.randrange(len(text))
        return text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :]
    return text


@pytest.mark.slow
def test_five_thousand_malformed_requests_break_nothing(serve, tiny):
    tiny.draw = instantly
    url, _ = serve(queue_size=20_000)
    rng = random.Random(0)
    counted = {}
    with httpx.Client(base_url=url, timeout=30) as client:
        for k in range(5000):
            content, path = mangled(rng), "/v1/images/generations"
            if k % 10 == 0:
                path = rng.choice(["/v1/images/upscale", "/v1/models/\u00e9", "/v1/gallery"])
            reply = client.post(path, content=content, headers={"content-type": "application/json"})
            counted[reply.status_code] = counted.get(reply.status_code, 0) + 1
            assert reply.status_code < 500, (content, reply.text)
            if k == 500:
                before = memory()
        assert client.get("/readyz").status_code == 200
    assert counted[400] > 3000
    assert memory() < before + 60e6
    # Lines that are no HTTP at all.
    host, port = url.removeprefix("http://").split(":")
    for _ in range(50):
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(bytes(rng.randrange(256) for _ in range(100)) + b"\r\n\r\n")
    assert httpx.get(f"{url}/healthz").status_code == 200


def memory():
    """Bytes of this process in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.slow
def test_the_description_and_the_server_agree(serve, tiny):
    """schemathesis calls everything that the OpenAPI document describes, in every odd way."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    tiny.draw = instantly
    url, _ = serve(queue_size=20_000)
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    # Whether a setting exists hangs on the model, which a schema cannot say.
    skipped = [schemathesis.checks.positive_data_acceptance]
    called = {}
    for operation in schema.get_all_operations():
        found = operation.ok()

        @settings(
            max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(case=found.as_strategy())
        def agree(case):
            reply = case.call(base_url=url)
            called.setdefault(case.path, set()).add(reply.status_code)
            case.validate_response(reply, excluded_checks=skipped)

        agree()
    assert len(called) == 15
    assert 200 in called["/v1/images/generations"]
    assert all(status < 500 for statuses in called.values() for status in statuses)


def test_headers_say_what_a_prompt_was_read_as(serve):
    reading = make_cascade(make_stages(), world="things")
    url, _ = serve(cascades={"tiny": reading})

    def said(prompt):
        body = {"prompt": prompt, "size": "64x64"}
        reply = httpx.post(f"{url}/v1/images/generations", json=body, timeout=30)
        headers = (reply.headers.get(f"x-imagen-{name}") for name in ("read-as", "hint"))
        return reply.json()["data"][0]["record"], *map(unquote, (text or "" for text in headers))

    record, read_as, hint = said("两只猫")
    assert (record["read_as"], read_as, hint) == ("two cats", "two cats", "")
    record, read_as, hint = said("一只猫和一只麒麟")
    assert (read_as, hint) == ("a cat", "The model does not know: 麒麟.")
    record, read_as, hint = said("a cat")
    assert ("read_as" in record, read_as, hint) == (False, "", "")
