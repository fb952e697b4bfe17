"""Kill runs at random moments, and see whether they end as if nothing had happened.

    python tests/training/crashes.py --runs 30

A run embeds the captions of tar shards, then trains on them. Each is killed by SIGKILL again and
again: twice at moments drawn at random, once while embeddings are being written, once inside a
save, once where a shard of pictures ends. After every kill the newest checkpoint must load, and in
the end the weights must be those of a run that was never killed, bit by bit.
"""

import argparse
import hashlib
import io
import os
import random
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from PIL import Image

from open_imagen.storage import load_tensors
from open_imagen.text.store import Store, embed, shards
from open_imagen.training.checkpoint import Checkpoints
from open_imagen.training.run import Recipe, read_recipe
from open_imagen.training.trainer import Trainer
from open_imagen.worlds.sources import open_source
from standins import WordEncoder

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny.toml"
SIZES = (7, 12, 5, 16, 20)
"""Examples of each shard: no batch of 8 is of one shard alone."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kills: Counter[str] = Counter()
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder / "data")
        began = time.monotonic()
        attempt(folder, "whole")
        length = time.monotonic() - began
        wanted = result(folder / "whole")
        for number in range(options.runs):
            run = f"run{number:02d}"
            problems = tortured(folder, run, rng, length, kills)
            found = result(folder / run)
            if found != wanted:
                problems.append("other weights")
            failures += bool(problems)
            print(f"{run}: {', '.join(problems) or 'the same bits'}", flush=True)
            shutil.rmtree(folder / run)
    told = ", ".join(f"{count} {where}" for where, count in sorted(kills.items()))
    print(f"{options.runs} runs, {kills.total()} kills ({told}): {failures} failed")
    return int(failures > 0)


def tortured(
    folder: Path, run: str, rng: random.Random, length: float, kills: Counter[str]
) -> list[str]:
    """Kill a run in every way, then let it finish; what went wrong."""
    checkpoints = Checkpoints(folder / run / "checkpoints")
    after = rng.randint(1, 3)
    moments: dict[str, Callable[[], bool]] = {
        "embedding": lambda: any((folder / run / "store").glob(".tokens-*")),
        "in a save": lambda: any(checkpoints.folder.glob(".*.partial/*")),
        "at a shard's end": lambda: len(shard_ends(folder / run)) > after,
        "at random": moment(rng.uniform(0, length)),
        "at random again": moment(rng.uniform(0, length)),
    }
    problems = []
    for where, due in moments.items():
        had = bool(checkpoints.all())
        if attempt(folder, run, due):
            kills[where.removesuffix(" again")] += 1
        whole = checkpoints.all()
        if had and not whole:
            problems.append(f"no checkpoint after a kill {where}")
        if whole:
            for file in whole[-1].glob("*.safetensors"):
                load_tensors(file)  # raises if it is damaged
    attempt(folder, run)
    return problems


def moment(delay: float) -> Callable[[], bool]:
    """Due ``delay`` seconds after it is first asked."""
    start: list[float] = []

    def due() -> bool:
        start.append(time.monotonic())
        return start[-1] - start[0] >= delay

    return due


def attempt(folder: Path, run: str, due: Callable[[], bool] = lambda: False) -> bool:
    """Run in a process of its own until it ends, or is killed because it is ``due``; whether it
    was killed."""
    (folder / run).mkdir(exist_ok=True)
    (folder / run / "ends").unlink(missing_ok=True)
    child = os.fork()  # everything is imported already, and no thread has begun
    if child == 0:
        try:
            job(folder, run)
        except BaseException as error:
            print(f"{run}: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise RuntimeError(f"{run} ended with status {status}")
            return False
        if due():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.0005)


def job(folder: Path, run: str) -> None:
    """What is killed: embed, then train."""
    torch.set_num_threads(1)
    recipe = recipe_of(folder, run)
    source = open_source(recipe.data)
    embed(source.captions(), WordEncoder(), folder / run / "store", per_shard=8)
    before: set[int] = set()

    def note_ends(trainer: Trainer) -> None:
        # Which shards the examples of this step came from: each new one is an end of another.
        places = {source.order[k][0] for k in range(trainer.seen - 8, trainer.seen)}
        fresh = places - before
        if before and fresh:
            with (folder / run / "ends").open("a") as file:
                file.write("x")
        before.update(places)

    Trainer(recipe, source, Store(folder / run / "store"), [note_ends]).fit()


def shard_ends(folder: Path) -> str:
    file = folder / "ends"
    return file.read_text() if file.is_file() else ""


def recipe_of(folder: Path, run: str) -> Recipe:
    return read_recipe(
        RECIPE,
        (
            f"out={folder / run}",
            f'data={{kind="shards", path="{folder / "data"}", size=64, workers=1, window=1}}',
            "train.images=192",
            "train.batch_size=8",
            "train.save_every=32",
            "train.sample_every=0",
            "train.precision=fp32",
            "ema.half_life=50",
        ),
    )


def result(folder: Path) -> str:
    """What identifies the weights of a finished run and its embeddings."""
    digest = hashlib.sha256((folder / "model" / "base" / "model.safetensors").read_bytes())
    for path in shards(folder / "store"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def write_shards(folder: Path) -> None:
    folder.mkdir()
    key = 0
    for number, count in enumerate(SIZES):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for _ in range(count):
                data = io.BytesIO()
                Image.new("RGB", (80, 64), (key * 3, 200 - key * 2, 99)).save(data, format="PNG")
                members = {"png": data.getvalue(), "txt": f"picture number {key}".encode()}
                for suffix, content in members.items():
                    header = tarfile.TarInfo(f"{key:09d}.{suffix}")
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
                key += 1


if __name__ == "__main__":
    sys.exit(main())
