"""The guard before both servers: hosts, sites, keys before bodies, sizes, times, connections."""

import asyncio
import json
import logging
import socket
import threading
import time
from contextlib import closing, suppress

import httpx2 as httpx
import pytest
from fastapi import FastAPI, Request

from open_imagen.server.auth import parse_keys
from open_imagen.server.connections import ConnectionLimits
from open_imagen.server.errors import RequestError
from open_imagen.server.guard import Guard, GuardConfig, _Memory, _Reservation, allowed_hosts
from open_imagen.server.logs import JsonLines, LimitRepeats
from open_imagen.server.run import Server
from open_imagen.server.sockets import listen
from server.browser import served

KEY = "a-key-that-is-long-enough"


def echo_app(**settings):
    """An app behind the guard that says how many bytes it was given."""
    app = FastAPI(docs_url=None)
    app.state.reached = []

    @app.post("/v1/echo")
    async def echo(request: Request):
        app.state.reached.append(request.url.path)
        client = request.state.client
        return {"bytes": len(await request.body()), "client": client and client.name}

    @app.get("/healthz")
    async def healthz():
        return {"status": "ok"}

    app.add_middleware(Guard, config=GuardConfig(**settings))
    return app


def raw(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def exchange(url, *parts):
    """Send bytes and read until the server closes."""
    with closing(raw(url)) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def head_of(host="localhost", method="POST", path="/v1/echo", **headers):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize(
    "host,allowed",
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("LOCALHOST.", True),
        ("app.localhost", True),
        ("127.0.0.1:1", True),
        ("[::1]:8000", True),
        ("192.168.1.9", True),
        ("images.example", True),
        ("IMAGES.example:443", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("images.example.evil.example", False),
        ("", False),
    ],
)
def test_only_hosts_of_this_server_are_served(host, allowed):
    """DNS rebinding: a page of a name that leads to 127.0.0.1 must not get anything."""
    app = echo_app(allowed_hosts=("images.example",))
    with served(app) as url:
        answer = exchange(url, head_of(host, Content_Length=0, Connection="close"))
    assert answer.split()[1] == (b"200" if allowed else b"403")
    assert len(app.state.reached) == allowed


def test_which_hosts_are_checked():
    assert allowed_hosts("127.0.0.1", True, ()) == ()
    assert allowed_hosts("0.0.0.0", False, ("A.example",)) == ("a.example",)
    assert allowed_hosts("0.0.0.0", True, ()) is None
    assert allowed_hosts("0.0.0.0", True, ("a",)) == ("a",)


@pytest.mark.parametrize(
    "headers,status",
    [
        ({}, 200),
        ({"Origin": "http://localhost:9"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Origin": "https://proxied.example", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://localhost:9", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_pages_of_other_sites_send_nothing(headers, status):
    with served(echo_app(origins=("https://friend.example",))) as url:
        assert httpx.post(f"{url}/v1/echo", headers=headers).status_code == status
        own = httpx.post(f"{url}/v1/echo", headers={"Origin": url})
        assert own.status_code == 200


def test_the_key_is_checked_before_the_body_is_read():
    app = echo_app(keys=parse_keys([f"me:{KEY}"]), body_limits={"/v1/echo": 1 << 25})
    with served(app) as url:
        # Half of a body: the answer comes although the rest never does.
        with closing(raw(url)) as connection:
            connection.sendall(head_of(Content_Length=30_000_000) + b"x" * 1000)
            assert b" 401 " in connection.recv(4096)
        # Told to wait for it, the client is refused without being asked for the body.
        answer = exchange(url, head_of(Content_Length=30_000_000, Expect="100-continue"))
        assert answer.startswith(b"HTTP/1.1 401 ")
        # One that sends all first still reads why.
        reply = httpx.post(f"{url}/v1/echo", content=b"x" * 5_000_000)
        assert (reply.status_code, reply.json()["error"]["code"]) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert app.state.reached == []
        mine = {"Authorization": f"Bearer {KEY}"}
        reply = httpx.post(f"{url}/v1/echo", content=b"x" * 5_000_000, headers=mine)
        assert reply.json() == {"bytes": 5_000_000, "client": "me"}


def test_bodies_are_limited_by_route():
    app = echo_app(body_limits={"/v1/echo": 1000}, body_limit=100)
    with served(app) as url:
        assert httpx.post(f"{url}/v1/echo", content=b"x" * 1000).json()["bytes"] == 1000
        assert httpx.post(f"{url}/v1/echo", content=b"x" * 1001).status_code == 413
        assert httpx.post(f"{url}/elsewhere", content=b"x" * 101).status_code == 413
        assert httpx.post(f"{url}/elsewhere", content=b"x" * 100).status_code == 404
        chunks = (b"x" * 100 for _ in range(20))
        assert httpx.post(f"{url}/v1/echo", content=chunks).status_code == 413
        answer = exchange(url, head_of(Content_Length="9" * 30))
        assert answer.split()[1] in (b"400", b"413")


def test_json_of_too_many_values_is_refused_before_it_is_parsed():
    app = echo_app(body_limits={"/v1/echo": 10_000_000})
    with served(app) as url:
        for content in (b"[" * 1_000_000, b'{"a":' * 50_000, b"[" + b"1," * 500_000 + b"1]"):
            assert httpx.post(f"{url}/v1/echo", content=content).status_code == 400
        assert httpx.post(f"{url}/v1/echo", content=b"x" * 9_000_000).status_code == 200


def test_bodies_that_stand_still_or_crawl_are_given_up():
    app = echo_app(idle_seconds=0.2, bytes_per_second=1000)
    with served(app) as url:
        answer = exchange(url, head_of(Content_Length=100), b"half")
        assert answer.startswith(b"HTTP/1.1 408 ")
        with closing(raw(url)) as connection:  # a byte now and then is no progress either
            connection.sendall(head_of(Content_Length=1000))
            ended = False
            for _ in range(200):
                try:
                    connection.sendall(b"x")
                except OSError:
                    ended = True
                    break
                time.sleep(0.05)
            assert ended
    assert app.state.reached == []


def test_large_bodies_share_a_bounded_memory():
    async def take_and_give():
        memory = _Memory(10 << 20)
        first, second, small = (_Reservation(memory) for _ in range(3))
        await first.take(8 << 20, 1.0)
        await small.take(1000, 0.0)  # small bodies need none
        with pytest.raises(RequestError, match="too many large requests") as error:
            await second.take(8 << 20, 0.05)
        assert (error.value.status, error.value.retry_after) == (503, 10)
        await second.give()
        waiting = asyncio.create_task(second.take(8 << 20, 10.0))
        await asyncio.sleep(0)
        await first.give()
        await waiting
        await second.give()
        assert memory.free == 10 << 20

    asyncio.run(take_and_give())
    app = echo_app(body_limits={"/v1/echo": 4 << 20}, body_memory=4 << 20, idle_seconds=0.3)
    with served(app) as url, closing(raw(url)) as first:
        first.sendall(head_of(Content_Length=4 << 20) + b"x")  # given up after 0.3 seconds
        reply = httpx.post(f"{url}/v1/echo", content=b"x" * (3 << 20))
        assert reply.json()["bytes"] == 3 << 20


def test_half_open_connections_end_and_hold_nobody_up():
    limits = ConnectionLimits(total=40, per_address=30, header_seconds=0.5)
    with served(echo_app(), limits=limits) as url:
        opened = [raw(url) for _ in range(60)]
        for connection in opened[::2]:
            with suppress(OSError):  # it has given way to a later one
                connection.sendall(b"POST /v1/echo HTTP/1.1\r\nHost: local")
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        ends = []
        for connection in opened:
            try:
                ends.append(connection.recv(100))
            except OSError:
                ends.append(b"")
            connection.close()
        assert all(end == b"" or b" 408 " in end for end in ends)
        assert any(b" 408 " in end for end in ends)


def test_a_connection_that_is_at_work_does_not_give_way():
    limits = ConnectionLimits(total=3, per_address=3)
    with served(echo_app(), limits=limits) as url:
        busy = [raw(url) for _ in range(3)]
        for connection in busy:
            connection.sendall(head_of(Content_Length=4, Expect="100-continue"))
            assert connection.recv(4096).startswith(b"HTTP/1.1 100")  # it is being worked on
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/healthz")
        for connection in busy:
            connection.sendall(b"abcd")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.close()


def test_without_descriptors_the_log_stays_short(caplog, monkeypatch):
    """accept() fails as it does when the process has no descriptor left."""
    fails, plain = [40], asyncio.SelectorEventLoop.sock_accept

    async def sock_accept(loop, listener):
        if fails[0]:
            fails[0] -= 1
            raise OSError(24, "Too many open files")
        return await plain(loop, listener)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "sock_accept", sock_accept)
    monkeypatch.setattr("open_imagen.server.connections.RETRY_SECONDS", 0.01)
    with caplog.at_level(logging.WARNING), served(echo_app()) as url:
        assert httpx.get(f"{url}/healthz", timeout=20).status_code == 200
    assert fails == [0]
    messages = [r.getMessage() for r in caplog.records if "accepted" in r.getMessage()]
    assert messages == ["connections cannot be accepted: Too many open files"]


def test_connections_stay_within_the_descriptors(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    limits = ConnectionLimits(total=512, per_address=256).within_descriptors()
    assert (limits.total, limits.per_address) == (128, 128)


def test_the_end_does_not_wait_for_half_a_body():
    server = Server(echo_app())
    listener = listen("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.config.timeout_graceful_shutdown = 0.2
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    with closing(raw(url)) as connection, closing(raw(url)) as silent:
        connection.sendall(head_of(Content_Length=1000) + b"half")
        silent.sendall(b"GET /heal")
        time.sleep(0.3)
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def test_head_is_get_without_a_body():
    with served(echo_app()) as url:
        reply = httpx.head(f"{url}/healthz")
        assert (reply.status_code, reply.content) == (200, b"")
        assert int(reply.headers["content-length"]) == len(httpx.get(f"{url}/healthz").content)
        assert httpx.head(f"{url}/nothing").status_code == 404


def test_repeated_messages_are_dropped_and_counted():
    now = [0.0]
    limit = LimitRepeats(limit=3, seconds=60, clock=lambda: now[0])

    def passes(message, level=logging.WARNING, **extra):
        record = logging.makeLogRecord({"name": "x", "msg": message, "levelno": level, **extra})
        return limit.filter(record), record

    assert [passes("bad bytes")[0] for _ in range(5)] == [True] * 3 + [False] * 2
    assert passes("something else")[0]
    assert all(passes("request", logging.INFO, status=200)[0] for _ in range(50))
    assert sum(passes("request", logging.INFO, status=401)[0] for _ in range(50)) == 3
    now[0] = 61.0
    kept, record = passes("bad bytes")
    assert kept
    assert json.loads(JsonLines().format(record))["dropped"] == 2
