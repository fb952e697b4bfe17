"""Kill runs at random moments, damage checkpoints, and see whether runs end as if nothing happened.

    python tests/training/crashes.py --runs 30

A run embeds the captions of tar shards, then trains on them. Each is killed by SIGKILL again and
again: twice at moments drawn at random, once while embeddings are being written, once inside a
save, once where a shard of pictures ends. After every kill the newest checkpoint must be good, and
in the end the weights must be those of a run that was never killed, bit by bit, and every step must
stand once in the log.

After some kills the newest checkpoint is damaged on purpose (truncated, flipped bits, emptied ...).
The run must say so and go on from the one before; what is printed says which runs did.
"""

import argparse
import hashlib
import io
import json
import logging
import os
import random
import re
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

from open_imagen.text.store import Store, embed, shards
from open_imagen.training.callbacks import Log
from open_imagen.training.checkpoint import Checkpoints
from open_imagen.training.integrity import find_damage
from open_imagen.training.loop import Trainer
from open_imagen.training.recipe import Recipe, read_recipe
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
    harms: Counter[str] = Counter()
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
            before = kills.total()
            problems, restarts = tortured(folder, run, rng, length, kills)
            if result(folder / run) != wanted:
                problems.append("other weights")
            if logged(folder / run) != list(range(8, 200, 8)):
                problems.append("the log is not of every step once")
            failures += bool(problems)
            harms.update(what for _, what in restarts)
            how = "; ".join(f"from the one before {name} ({what})" for name, what in restarts)
            print(
                f"{run}: {kills.total() - before} kills, {', '.join(problems) or 'the same bits'}"
                + (f", restarted {how}" if how else ", no checkpoint damaged"),
                flush=True,
            )
            shutil.rmtree(folder / run)
    told, harmed = (
        ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        for counts in (kills, harms)
    )
    print(f"{harms.total()} checkpoints damaged ({harmed})")
    print(f"{options.runs} runs, {kills.total()} kills ({told}): {failures} failed")
    return int(failures > 0)


def tortured(
    folder: Path, run: str, rng: random.Random, length: float, kills: Counter[str]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Kill a run in every way, then let it finish.

    Returns:
        What went wrong, and which checkpoints were damaged, in what way.
    """
    checkpoints = Checkpoints(folder / run / "checkpoints")
    after = rng.randint(1, 3)
    moments: dict[str, Callable[[], bool]] = {
        "embedding": lambda: any((folder / run / "store").glob(".tokens-*")),
        "in a save": lambda: any(checkpoints.folder.glob(".*.partial/*")),
        "at a shard's end": lambda: len(shard_ends(folder / run)) > after,
        "at random": moment(rng.uniform(0, length)),
        "at random again": moment(rng.uniform(0, length)),
    }
    problems: list[str] = []
    restarts: list[tuple[str, str]] = []
    for where, due in moments.items():
        had = bool(checkpoints.all())
        if attempt(folder, run, due):
            kills[where.removesuffix(" again")] += 1
        if len(passed_over(folder / run)) < len(restarts):
            continue  # killed before it came to look at its checkpoints
        whole = checkpoints.all()
        if had and not whole:
            problems.append(f"no checkpoint after a kill {where}")
        if whole and (damage := find_damage(whole[-1])):
            problems.append(f"{whole[-1].name} is damaged after a kill {where}: {damage}")
        if len(whole) > 1 and rng.random() < 0.5:
            restarts.append(damaged(whole[-1], rng))
    attempt(folder, run)
    if not restarts:  # no run without damage: then to the last checkpoint of the finished one
        restarts.append(damaged(checkpoints.all()[-1], rng))
        attempt(folder, run)
    if passed_over(folder / run) != [name for name, _ in restarts]:
        problems.append("not every damaged checkpoint was told of")
    return problems, restarts


def damaged(checkpoint: Path, rng: random.Random) -> tuple[str, str]:
    """Damage a checkpoint; its name, and in what way."""
    what = rng.choice(sorted(DAMAGE))
    DAMAGE[what](checkpoint)
    return checkpoint.name, what


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 16
    path.write_bytes(data)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _tensors(folder: Path) -> Path:
    return next(folder.glob("*.safetensors"))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda folder: _cut(_tensors(folder)),
    "a flipped bit": lambda folder: _flip(_tensors(folder)),
    "an empty file": lambda folder: _tensors(folder).write_bytes(b""),
    "an emptied folder": _empty,
    "no state.json": lambda folder: (folder / "state.json").unlink(),
    "a flipped bit in state.json": lambda folder: _flip(folder / "state.json"),
}


def passed_over(folder: Path) -> list[str]:
    """The checkpoints of which a run has said that it cannot use them."""
    file = folder / "messages"
    said = file.read_text() if file.is_file() else ""
    return re.findall(r"/(\d+) cannot be used .* Resuming from the one before", said)


def logged(folder: Path) -> list[int]:
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["images_seen"] for line in lines]


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
    logging.getLogger("open_imagen").addHandler(logging.FileHandler(folder / run / "messages"))
    recipe = recipe_of(folder, run)
    source = open_source(recipe.data)
    embed(source.captions(), WordEncoder(), folder / run / "store", per_shard=8)
    before: set[int] = set()

    def note_ends(trainer: Trainer) -> None:
        # Which shards the examples of this step came from: each new one is an end of another.
        places = {source.order[k][0] for k in range(trainer.images_seen - 8, trainer.images_seen)}
        fresh = places - before
        if before and fresh:
            with (folder / run / "ends").open("a") as file:
                file.write("x")
        before.update(places)

    log = Log(folder / run)
    log.board = False  # importing TensorBoard takes longer than the run
    Trainer(recipe, source, Store(folder / run / "store"), [note_ends, log]).fit()


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
            "train.log_every=8",
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
