"""imagen serve as a process of its own, for tests and scripts."""

import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path


class ServerProcess:
    """A server on a free port of loopback, ended with the block."""

    def __init__(self, *words, environment=None):
        command = [sys.executable, "-m", "open_imagen", "serve", "--port", "0", "--device", "cpu"]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - end() closes it
        self.process = subprocess.Popen(
            [*command, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )
        found = re.search(r"http://\S+?(?=/\s)", self.process.stdout.readline())
        self.url = found and found[0]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()

    def end(self):
        """Kill it if it still runs, and return its log."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self.process.stdout.close()
        self.log.seek(0)
        text = self.log.read()
        self.log.close()
        return text

    @property
    def log_bytes(self):
        return Path(f"/proc/{self.process.pid}/fd/2").stat().st_size

    @property
    def memory(self):
        """MiB of it in memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * 4096 / 2**20

    def get(self, path, timeout=60, key=None):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()

    def generate(self, timeout=120, **body):
        """Images with their bytes and ids, as the server answers them."""
        request = urllib.request.Request(
            f"{self.url}/v1/images/generations",
            json.dumps({"prompt": "a ring", "size": "64x64", "steps": 1, **body}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.loads(answer.read())["data"]
