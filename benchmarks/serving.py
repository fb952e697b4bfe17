"""Load on `imagen serve`: throughput batched and unbatched, in turn, with waiting times and memory.

Clients are threads of this process, the server is another one, all on loopback and bounded in time.

    python benchmarks/serving.py --seconds 120 --clients 32 --size 64x64
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path


def memory(pid: int) -> float:
    """MiB of a process in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20


def load(url: str, size: str, clients: int, seconds: float) -> list[tuple[int, float]]:
    """(status, seconds) of every request that was begun within the time."""
    answers: list[tuple[int, float]] = []
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        k = 0
        while time.monotonic() < end:
            body = {"prompt": f"a red circle above a blue square {number} {k % 7}", "size": size,
                    "response_format": "url", "seed": k}  # fmt: skip
            request = urllib.request.Request(
                f"{url}/v1/images/generations",
                json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )
            begun = time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=300) as answer:
                    answer.read()
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = error.code
                error.close()
                time.sleep(0.1)
            answers.append((status, time.monotonic() - begun))
            k += 1

    threads = [threading.Thread(target=client, args=(k,)) for k in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def measure(batch: int, options: argparse.Namespace) -> dict[str, object]:
    """One server, one load."""
    words = ["serve", "--port", "0", "--batch-size", str(batch), "--queue", str(options.queue)]
    words += ["--model", options.model, "--keep", "200"]
    command = [sys.executable, "-m", "open_imagen", *words]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    try:
        url = server.stdout.readline().split()[2].rstrip("/")
        load(url, options.size, options.clients, 5)
        before, begun = memory(server.pid), time.monotonic()
        answers = load(url, options.size, options.clients, options.seconds)
        took = time.monotonic() - begun
        after = memory(server.pid)
    finally:
        server.terminate()
        code = server.wait(120)
        server.stdout.close()
    good = sorted(seconds for status, seconds in answers if status == 200)
    return {
        "batch": batch,
        "pictures_per_second": round(len(good) / took, 3),
        "answers": {s: sum(a == s for a, _ in answers) for s in {a for a, _ in answers}},
        "median_seconds": round(statistics.median(good), 2),
        "p95_seconds": round(good[int(0.95 * len(good))], 2),
        "memory_mib": [round(before), round(after)],
        "exit": code,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="scenes")
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--queue", type=int, default=24)
    parser.add_argument("--batches", default="1,8")
    options = parser.parse_args()
    results = [measure(int(batch), options) for batch in options.batches.split(",")]
    for result in results:
        print(json.dumps(result))
    rates = [float(str(result["pictures_per_second"])) for result in results]
    print(f"batched / unbatched: {rates[-1] / rates[0]:.2f}")


if __name__ == "__main__":
    main()
