"""How long the command takes from nothing: its help, and a first picture by the shipped model."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measuring import Table, alternate, script

PROMPT = "a red circle on a white background"


def measure(rounds: int) -> Iterator[Table]:
    table = Table(
        "Cold start",
        "Whole commands, started and ended; seconds.",
        ["command", "median", "least", "most"],
    )
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "imagen --help": ["--help"],
            "imagen generate": ["generate", PROMPT, "--out", folder],
            "imagen generate --fast": ["generate", PROMPT, "--out", folder, "--fast"],
        }

        def run(words: list[str]) -> None:
            command = [sys.executable, "-m", "open_imagen", *words]
            subprocess.run(command, check=True, capture_output=True)

        ways = {name: lambda words=words: run(words) for name, words in commands.items()}
        taken = alternate(ways, rounds)
        for name, median in table.keep(taken).items():
            table.rows.append([name, median, min(taken[name]), max(taken[name])])
        assert len(list(Path(folder).glob("*.png"))) >= rounds
    yield table


if __name__ == "__main__":
    script(measure, __doc__, rounds={"type": int, "default": 5})
