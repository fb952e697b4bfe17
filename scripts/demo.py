"""What `make demo` runs after installing: a grid of pictures by the shipped model."""

import subprocess
import sys
from pathlib import Path

PROMPTS = [
    "a red circle on a white background",
    "a blue square above a yellow circle",
    "a large purple star on a black background",
    "three green rings on a gray background",
    "an orange triangle to the left of a blue hexagon",
    "a small pink heart on a white background",
    "two brown diamonds on a white background",
    'a sign that says "OPEN"',
    "a green cross and a red square on a gray background",
]


def main() -> int:
    out = Path("pictures/demo")
    print("Making nine pictures of 256x256 ...", flush=True)
    command = [sys.executable, "-m", "open_imagen", "generate", *PROMPTS, "--grid"]
    done = subprocess.run([*command, "--out", str(out), "--seed", "1"], stdout=subprocess.PIPE)
    if done.returncode:
        return done.returncode
    print(f"\nThe pictures are in {out}, all on one sheet in {out / 'grid.png'}.")
    print('Now your own: .venv/bin/imagen generate "a green star above a red ring"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
