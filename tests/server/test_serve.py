"""The command: SIGTERM finishes what runs, SIGKILL breaks nothing, wrong settings are refused."""

import json
import logging
import os
import signal
import socket
import sys
import threading
import time

import httpx2 as httpx
import pytest

from open_imagen.cli import main as door
from open_imagen.server.gallery import Gallery
from server import attacks, crashes
from server.process import ServerProcess


@pytest.fixture(autouse=True)
def logging_as_before():
    """The command sets up logging for its process, which here is the tests'."""
    root, ours = logging.getLogger(), logging.getLogger("open_imagen")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


@pytest.fixture
def running(model_folder, tmp_path):
    started = []

    def start(*words):
        started.append(
            ServerProcess("--model", model_folder, "--gallery", tmp_path / "gallery", *words)
        )
        return started[-1]

    yield start
    for one in started:
        if not one.log.closed:
            one.end()


def ask(url, **body):
    body = {"prompt": "a ring", "response_format": "url", **body}
    return httpx.post(f"{url}/v1/images/generations", json=body, timeout=120)


@pytest.mark.slow
def test_sigterm_finishes_what_runs_refuses_what_comes_and_ends_with_0(running):
    server = running()
    assert ask(server.url).status_code == 200
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server.url, n=4, steps=60)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    while "imagen_queue_depth 12.0" not in httpx.get(f"{server.url}/metrics").text:
        time.sleep(0.02)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    late = ask(server.url)
    assert (late.status_code, late.json()["error"]["type"]) == (503, "server_error")
    assert httpx.get(f"{server.url}/readyz").status_code == 503
    for thread in threads:
        thread.join(120)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert all(len(answer.json()["data"]) == 4 for answer in answers)
    assert server.process.wait(30) == 0
    log = server.end()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert sum(line.get("status") == 200 for line in lines) >= 4
    assert "a ring" not in log


@pytest.mark.slow
def test_after_sigkill_the_gallery_opens_with_whole_pictures_only(running, tmp_path):
    server = running()
    first = ask(server.url).json()["data"][0]
    stop = threading.Event()

    def hammer():
        while not stop.is_set():
            try:
                ask(server.url, n=10, size="64x64", steps=1)
            except httpx.HTTPError:
                return

    thread = threading.Thread(target=hammer)
    thread.start()
    while len(list((tmp_path / "gallery" / "pictures").iterdir())) < 40:
        time.sleep(0.01)
    server.process.kill()
    stop.set()
    thread.join(20)
    server.end()
    again = running()
    found = httpx.get(f"{again.url}/v1/gallery?limit=100").json()["data"]
    assert len(found) >= 39
    for one in found:
        file = httpx.get(one["url"].replace(server.url, again.url))
        assert file.content.startswith(b"\x89PNG")
        assert file.content.endswith(b"IEND\xaeB`\x82")
    names = {one["id"] for one in found}
    assert first["id"] in names
    assert {p.name.split(".")[0] for p in (tmp_path / "gallery" / "pictures").iterdir()} == names


def test_a_gallery_in_use_is_refused_before_a_model_is_loaded(monkeypatch, capsys, tmp_path):
    gallery = Gallery(tmp_path)
    words = ["imagen", "serve", "--port", "0", "--model", "none", "--gallery", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        door.main()
    gallery.close()
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert f"The gallery {tmp_path} is in use by process {os.getpid()} on " in said
    assert "choose another folder with --gallery" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "words,message",
    [
        (("--model", "scene"), "Did you mean 'scenes'"),
        (("--port", "99999"), "Cannot listen on"),
        (("--host", "203.0.113.7"), "Cannot listen on"),
        (("--api-key-file", "nowhere"), "Cannot read the key file"),
        (("--filter", "nowhere:judge"), "cannot be loaded"),
        (("--filter", "json:judge"), "cannot be loaded"),
        (("--deadline", "0"), "--deadline must be above 0"),
        (("--batch-size", "0"), "--batch-size and --queue at least 1"),
        (("--max-queued", "0"), "--max-queued"),
        (("--grace", "-1"), "--grace at least 0"),
        (("--alias", "gpt-image-1"), "--alias gpt-image-1 is not ALIAS=MODEL"),
        (("--root-path", "imagen"), "--root-path imagen is no path"),
    ],
)
def test_wrong_settings_are_refused(monkeypatch, capsys, words, message):
    monkeypatch.setattr(sys, "argv", ["imagen", "serve", "--port", "0", *words])
    with pytest.raises(SystemExit) as end:
        door.main()
    assert end.value.code in (1, 2)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_sigterm_ends_within_the_grace_although_half_a_body_is_open(running):
    server = running("--grace", "1")
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as half:
        half.sendall(b"POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 100\r\n\r\n{")  # fmt: skip
        answers = []
        thread = threading.Thread(target=lambda: answers.append(ask(server.url, n=10, steps=900)))
        thread.start()
        while "imagen_queue_depth 10.0" not in httpx.get(f"{server.url}/metrics").text:
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        thread.join(60)
    assert answers[0].status_code == 503
    assert "work was given up" in server.end()


@pytest.mark.slow
def test_killed_servers_lose_no_image_that_was_answered(model_folder):
    assert crashes.main(["--kills", "2", "--clients", "2", "--model", str(model_folder)]) == 0


@pytest.mark.slow
def test_half_open_connections_and_large_posts_cost_little(model_folder):
    words = ["--connections", "30", "--posts", "2", "--megabytes", "4", "--seconds", "2"]
    report = attacks.main([*words, "--model", str(model_folder)])
    assert report["answers"] == ["HTTP/1.1 401 Unauthorized"]
    assert report["healthz"] > 0
    assert report["memory MiB more"] < 50
    assert report["log bytes"] < 1_000_000
