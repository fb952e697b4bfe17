"""A web server on loopback that serves a folder and fails now and then, as networks do."""

import contextlib
import http.server
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

CUT = "cut"
"""End the connection in the middle of the body."""
SLOW = "slow"
"""Send no byte for longer than the client waits."""
RESET = "reset"
"""Close the connection without an answer."""
HTML = "html"
"""Answer 200 with a page of HTML, as a captive portal does."""
SHIFTED = "shifted"
"""Answer with another range than was asked for."""


@dataclass
class FaultServer:
    """What the server does; tests change it while it runs."""

    folder: Path
    faults: tuple[int | str, ...] = (500, CUT, 503, RESET, 429)
    """Statuses and kinds of failure, taken in turn."""
    every: int = 0
    """Every so many answers fail; 0 for none."""
    ranges: bool = True
    pause: float = 0.5
    """Seconds of a slow answer."""
    requests: list[str] = field(default_factory=list)
    """The path and range of each."""
    answers: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, line: str) -> int | str | None:
        with self.lock:
            self.requests.append(line)
            number = len(self.requests)
            if not self.every or number % self.every:
                return None
            fault = self.faults[number // self.every % len(self.faults)]
            self.answers[str(fault)] += 1
            return fault


class Handler(http.server.BaseHTTPRequestHandler):
    faults: FaultServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.answer()

    def answer(self):
        server, wanted = self.faults, self.headers.get("Range")
        fault = server.next_fault(f"{self.path} {wanted}")
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            if fault == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            return
        if fault == RESET:
            self.close_connection = True
            return
        if fault == HTML:
            self.body(200, b"<html>Log in, please</html>", {})
            return
        path = server.folder / self.path.split("?")[0].lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        if not (server.ranges and wanted):
            self.body(200, data, {}, fault)
            return
        start, end = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        if start >= len(data):
            self.send_error(416)
            return
        start = max(0, start - 1) if fault == SHIFTED else start
        part = data[start : end + 1]
        place = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        self.body(206, part, {"Content-Range": place}, fault)

    def body(self, status, data, headers, fault=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"1"')
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if fault == SLOW:
            time.sleep(self.faults.pause)
        if fault in (CUT, SLOW):
            self.close_connection = True
            data = data[: (len(data) + 1) // 2]
        with self.faults.lock:  # before the client can have it all
            self.faults.sent += len(data)
        self.wfile.write(data)


@contextlib.contextmanager
def serving(folder):
    """Serve a folder until the block ends."""
    server = FaultServer(folder)
    handler = type("Bound", (Handler,), {"faults": server})
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    listening.daemon_threads = True
    server.url = f"http://127.0.0.1:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
