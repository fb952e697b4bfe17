"""A server under half-open connections and large posts without a key: what others notice of it.

    python tests/server/attacks.py --connections 200 --posts 4 --megabytes 30 --seconds 15

Everything goes to a server that this script starts on 127.0.0.1, and ends after the seconds. It
prints how long /healthz took, by how much the server's memory grew, and how long its log became.
"""

import argparse
import contextlib
import json
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from server.process import ServerProcess

KEY = "a-key-that-is-long-enough"


def address_of(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def half_open(url, number):
    """Connections of three kinds: silent, in the middle of a header, in the middle of a body."""
    head = "POST /v1/images/generations HTTP/1.1\r\nHost: localhost\r\n"
    body = f"Content-Length: 1000\r\nAuthorization: Bearer {KEY}\r\n\r\n{{"
    starts = ["", f"{head}X-Half: ", head + body]
    opened = []
    for k in range(number):
        connection = socket.create_connection(address_of(url), timeout=10)
        connection.sendall(starts[k % 3].encode())
        opened.append(connection)
    return opened


def post_without_key(url, size, until, counted, repeat):
    """Send a large body with no key as fast as the server takes it; with ``repeat`` many."""
    head = "POST /v1/images/upscale HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    block = b"[" * 65536
    while time.monotonic() < until and (repeat or not counted):
        with (
            contextlib.suppress(OSError),
            contextlib.closing(socket.create_connection(address_of(url), timeout=10)) as connection,
        ):
            connection.sendall(head.encode())
            for _ in range(size // len(block)):
                connection.sendall(block)
            connection.sendall(b"[" * (size % len(block)))
            counted.append(connection.recv(65536).split(b"\r\n")[0].decode())


def ask(server, until):
    """Milliseconds of each /healthz, sorted, and the most memory that was seen meanwhile."""
    waits, peak = [], server.memory
    while time.monotonic() < until:
        begun = time.monotonic()
        server.get("/healthz", timeout=30)
        waits.append(round(1000 * (time.monotonic() - begun), 1))
        peak = max(peak, server.memory)
        time.sleep(0.02)
    return sorted(waits), peak


def attack(server, connections, posts, size, seconds, repeat):
    """The figures of one attack, beside those of the same time without one."""
    quiet, before = ask(server, time.monotonic() + seconds)
    log_before, counted = server.log_bytes, [[] for _ in range(posts)]
    until = time.monotonic() + seconds
    opened = half_open(server.url, connections)
    threads = [
        threading.Thread(target=post_without_key, args=(server.url, size, until, list_, repeat))
        for list_ in counted
    ]
    for thread in threads:
        thread.start()
    waits, peak = ask(server, until)
    for thread in threads:
        thread.join(60)
    for connection in opened:
        connection.close()
    answers = [answer for list_ in counted for answer in list_]
    return {
        "connections": connections,
        "posts answered": len(answers),
        "answers": sorted(set(answers)),
        "healthz": len(waits),
        "healthz ms median": waits[len(waits) // 2],
        "healthz ms worst": waits[-1],
        "healthz ms median before": quiet[len(quiet) // 2],
        "healthz ms worst before": quiet[-1],
        "memory MiB before": round(before, 1),
        "memory MiB more": round(peak - before, 1),
        "log bytes": server.log_bytes - log_before,
    }


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=200)
    parser.add_argument("--posts", type=int, default=4)
    parser.add_argument("--megabytes", type=float, default=30)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--repeat", action="store_true", help="Post until the time is over.")
    parser.add_argument("--model", default="scenes")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(KEY)
        keys.chmod(0o600)
        with ServerProcess("--model", options.model, "--api-key-file", keys) as server:
            size = int(options.megabytes * 1e6)
            report = attack(
                server, options.connections, options.posts, size, options.seconds, options.repeat
            )
    print(json.dumps(report, indent=2))
    return report


if __name__ == "__main__":
    main()
