"""How long the command takes from nothing: its help, and a first picture by the shipped model."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 5
COMMANDS = {
    "imagen --help": ["--help"],
    "imagen generate": ["generate", "a red circle on a white background", "--out"],
}


def seconds(words: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "open_imagen", *words], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, words in COMMANDS.items():
            full = [*words, folder] if words[-1] == "--out" else words
            times = [seconds(full) for _ in range(RUNS)]
            print(
                f"{name:18} median {statistics.median(times):.2f} s, "
                f"from {min(times):.2f} to {max(times):.2f} ({RUNS} runs)"
            )
        assert len(list(Path(folder).iterdir())) == RUNS


if __name__ == "__main__":
    main()
