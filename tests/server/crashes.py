"""Kill a server under load again and again: no image that was answered as saved may be lost.

    python tests/server/crashes.py --kills 20

Clients ask for images as fast as they are answered, and note the id and the SHA-256 of each that
came with status 200 and "saved". At a random moment the server is killed by SIGKILL. Between kills
the index is lost, damaged, or left as it is; a second server is started on the same gallery and
must refuse. Every so often the disk is full (a small file system in memory, where one may be
mounted). In the end every image that was noted must be listed and have the bytes that were
answered.
"""

import argparse
import base64
import collections
import contextlib
import hashlib
import http.client
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from server.process import ServerProcess

GONE = (OSError, http.client.HTTPException, ValueError)
"""What a client sees when its server is killed: no connection, or half an answer."""


def load(server, clients, noted, stop):
    """Clients that ask until the server is gone."""

    def client():
        while not stop.is_set():
            try:
                images = server.generate(n=2, timeout=60)
            except urllib.error.HTTPError as error:
                error.close()
                time.sleep(0.05)
                continue
            except GONE:
                return
            for image in images:
                if image["saved"]:
                    data = base64.b64decode(image["b64_json"])
                    noted[image["id"]] = hashlib.sha256(data).hexdigest()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    return threads


def harm_index(folder, rng):
    """What happens to the index while no server runs."""
    file, harm = folder / "gallery.db", rng.choice(["nothing", "lost", "damaged", "cut"])
    if not file.exists():
        return "nothing"
    if harm == "lost":
        file.unlink()
        with contextlib.suppress(OSError):
            file.with_name("gallery.db-journal").unlink()
    elif harm == "damaged":
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.seek(rng.randrange(size))
            opened.write(rng.randbytes(min(5000, size)))
    elif harm == "cut":
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size // 2)
    return harm


def second_server_refuses(words):
    """Whether another server on the same gallery ends with a message."""
    command = [sys.executable, "-m", "open_imagen", "serve", "--port", "0", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode == 1 and "is in use by process" in done.stderr


def check(server, noted):
    """What is wrong in the end: images that are missing, or are not what was answered."""
    faults, listed, before = [], set(), ""
    while True:
        page = json.loads(server.get(f"/v1/gallery?limit=100{before}"))
        listed |= {image["id"] for image in page["data"]}
        if not page["more"]:
            break
        before = f"&before={page['data'][-1]['created']!r}"
    for name, digest in noted.items():
        if name not in listed:
            faults.append(f"{name} is not listed")
            continue
        if hashlib.sha256(server.get(f"/v1/images/files/{name}.png")).hexdigest() != digest:
            faults.append(f"{name} has other bytes")
    return faults


def kills(number, model, folder, clients, rng):
    """Kill servers under load; the faults that were found, and counts of what happened."""
    words = ["--model", model, "--gallery", folder, "--keep", 1_000_000]
    noted, counts, faults = {}, collections.Counter(), []
    for k in range(number):
        counts[f"index {harm_index(folder, rng)}"] += 1
        with ServerProcess(*words) as server:
            if server.url is None:
                return [f"start {k} failed: {server.end()[-2000:]}"], counts, noted
            stop, known = threading.Event(), len(noted)
            threads = load(server, clients, noted, stop)
            end = time.monotonic() + 60
            while len(noted) == known and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 1.0))
            if k % 5 == 0:
                refused = second_server_refuses(words)
                counts["second servers refused"] += refused
                faults += [] if refused else [f"a second server was started beside number {k}"]
            server.process.kill()
            stop.set()
            for thread in threads:
                thread.join(60)
        counts["kills"] += 1
        print(f"kill {k + 1} of {number}: {len(noted)} images noted", file=sys.stderr, flush=True)
    with ServerProcess(*words) as server:
        faults += check(server, noted)
    return faults, counts, noted


def full_disk(model, mount):
    """Images answered while the disk fills up, is full, and has been made room on."""
    faults = []
    with ServerProcess("--model", model, "--gallery", mount) as server:
        answers = [image for _ in range(40) for image in server.generate(n=4)]
        saved = {image["id"] for image in answers if image["saved"]}
        lost = [image for image in answers if not image["saved"]]
        if not lost or not all(image["b64_json"] for image in answers):
            faults.append("the disk did not fill up, or an answer had no bytes")
        listed = {i["id"] for i in json.loads(server.get("/v1/gallery?limit=100"))["data"]}
        faults += [f"{name} is lost" for name in saved - listed]
    with ServerProcess("--model", model, "--gallery", mount) as server:
        listed = {i["id"] for i in json.loads(server.get("/v1/gallery?limit=100"))["data"]}
        faults += [f"{name} is lost after a restart" for name in saved - listed]
    return faults, {"images saved": len(saved), "answered without being saved": len(lost)}


@contextlib.contextmanager
def small_disk(size):
    """A small file system in memory; None where none may be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
        try:
            mounted = subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            mounted = False
        if not mounted:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        faults, counts, noted = kills(
            options.kills,
            options.model,
            Path(folder) / "gallery",
            options.clients,
            random.Random(options.seed),
        )
    report = {**counts, "images answered as saved": len(noted)}
    with small_disk("400k") as mount:
        if mount is None:
            report["full disk"] = "not tried: no file system can be mounted here"
        else:
            more, report["full disk"] = full_disk(options.model, mount)
            faults += more
    print(json.dumps({**report, "faults": faults}, indent=2))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
