"""Making an atlas: what is drawn, by how many processes, and going on after a stop."""

import hashlib
import io
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from open_imagen.errors import CheckpointError, ConfigError, OutputError
from open_imagen.storage import atomic, read_json, write_json
from open_imagen.worlds.things.art import Art, open_art
from open_imagen.worlds.things.atlas import LARGE, Sprite, atlas_values
from open_imagen.worlds.things.names import Thing, read_names
from open_imagen.worlds.things.rasterize import Rendered, need_resvg, straighten
from open_imagen.worlds.things.sources import SOURCES, Package, Source

SIZES = (64, 256, LARGE)
RENDERING = 1
"""Version of how pictures become pixels; raised where old and new sprites would differ."""
FLUSH = 64
"""Sprites between two times that the state of a run goes to disk."""
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and of how many."""


@dataclass(frozen=True)
class Plan:
    """Everything that an atlas will hold: codes[n] is the Unicode sequence of sprites[n]."""

    sources: list[dict[str, Any]]
    things: list[Thing]
    sprites: list[Sprite]
    codes: list[str]

    @property
    def fingerprint(self) -> str:
        """Of sources and sprites: rendering goes on only where this agrees.

        Labels and tags are not part of it, so that they can change without rendering again.
        """
        drawn = [(s.source, code) for s, code in zip(self.sprites, self.codes, strict=True)]
        return hashlib.sha256(json.dumps([RENDERING, self.sources, drawn]).encode()).hexdigest()


def plan_atlas(
    packages: dict[str, Package], sources: tuple[Source, ...] = SOURCES
) -> tuple[Plan, dict[str, Art]]:
    """The things and sprites that the packages give, and the art by package.

    Raises:
        DataError: a package cannot be read.
    """
    names = next(source for source in sources if not source.style)
    styled = [source for source in sources if source.style]
    things, variants, codes_by_label = read_names(packages[names.package].read(names.files[0]))
    arts = {source.package: open_art(source, packages, codes_by_label) for source in styled}
    drawn = {v.label for v in variants if any(v.code in art.pictures for art in arts.values())}
    things = [thing for thing in things if thing.label in drawn]
    index = {thing.label: number for number, thing in enumerate(things)}
    found = [
        (index[v.label], order, v.gender, v.tone, v.code)
        for v in variants
        for order, source in enumerate(styled)
        if v.code in arts[source.package].pictures
    ]
    sprites, codes = [], []
    for thing, order, gender, tone, code in sorted(found):
        source = styled[order]
        sprites.append(Sprite(thing, source.style, source.package, source.vector, gender, tone))
        codes.append(code)
    about = [
        {"package": s.package, "version": s.version, "style": s.style, "licence": s.licence}
        for s in sources
    ]
    return Plan(about, things, sprites, codes), arts


def build_atlas(
    plan: Plan,
    arts: dict[str, Art],
    out: Path,
    sizes: Sequence[int] = SIZES,
    workers: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> None:
    """Render every sprite at every size and write the atlas folder. Goes on after a stop.

    Raises:
        ConfigError: a size is not one of SIZES.
        OutputError: ``out`` holds another atlas, or cannot be written.
        DataError: a picture cannot be drawn.
    """
    unknown = [size for size in sizes if size not in SIZES]
    if unknown or not sizes:
        raise ConfigError(
            f"--sizes {','.join(map(str, sizes))}: the atlas has sprites of 64, 256 and 1024 "
            "pixels.",
            "Try: --sizes 64,256",
        )
    need_resvg()
    _same_plan(plan, out)
    small = sorted(size for size in set(sizes) if size != LARGE)
    if not small and not (out / "atlas.json").is_file():
        raise ConfigError(
            f"--sizes {LARGE} adds to an atlas, and there is none in {out}.",
            f"Try: --sizes 64,256,{LARGE}",
        )
    if small:
        _render_arrays(plan, arts, out, small, workers, progress)
    if LARGE in sizes:
        _render_large(plan, arts, out, workers, progress)


def _same_plan(plan: Plan, out: Path) -> None:
    """Refuse a folder that holds sprites of another plan; mark an empty one as this plan's."""
    path = out / "rendering.json"
    if path.is_file():
        try:
            same = read_json(path)["plan"] == plan.fingerprint
        except (CheckpointError, KeyError, TypeError):
            same = False
        if not same:
            raise OutputError(
                f"{out} holds an atlas of other pictures or other versions of them.",
                "Choose another folder, or remove this one.",
            )
        return
    if any(out.glob("sprites-*")) or (out / "atlas.json").exists():
        raise OutputError(
            f"{out} holds an atlas without rendering.json, which says what it was made from.",
            "Choose another folder, or remove this one.",
        )
    write_json(path, {"plan": plan.fingerprint})


class _Array:
    """The unfinished sprites of one size.

    sprites-<size>.npy is named rendering-<size>.npy until all are there; boxes-<size>.npy says
    which are, and their width and height.
    """

    def __init__(self, out: Path, size: int, total: int) -> None:
        self.size = size
        self.final, self.part = out / f"sprites-{size}.npy", out / f"rendering-{size}.npy"
        boxes = out / f"boxes-{size}.npy"
        shape = (total, size, size, 4)
        pixels = _resumed(self.final if self.final.is_file() else self.part, shape, np.uint8)
        table = _resumed(boxes, (total, 2), np.float32)
        if pixels is None or table is None:
            self.final.unlink(missing_ok=True)
            pixels = np.lib.format.open_memmap(self.part, "w+", np.uint8, shape)
            table = np.lib.format.open_memmap(boxes, "w+", np.float32, (total, 2))
        self.pixels, self.table = pixels, table
        self.fresh: dict[int, tuple[float, float]] = {}

    def has(self, number: int) -> bool:
        """Whether this sprite is there."""
        return bool(self.table[number, 0] > 0)

    def put(self, number: int, rendered: Rendered) -> None:
        """Take one sprite; it counts after the next ``flush``."""
        self.pixels[number] = rendered.pixels
        self.fresh[number] = rendered.width, rendered.height

    def flush(self) -> None:
        """Write what was put, and only then that it is there."""
        self.pixels.flush()
        for number, box in self.fresh.items():
            self.table[number] = box
        self.table.flush()
        self.fresh = {}

    def finish(self) -> NDArray[np.float32]:
        """Give the array its final name; widths and heights of all sprites."""
        boxes = np.array(self.table)
        del self.pixels, self.table
        if self.part.is_file():
            self.part.replace(self.final)
        return boxes


def _render_arrays(
    plan: Plan,
    arts: dict[str, Art],
    out: Path,
    sizes: Sequence[int],
    workers: int,
    progress: Progress,
) -> None:
    total = len(plan.sprites)
    arrays = [_Array(out, size, total) for size in sizes]
    todo = [number for number in range(total) if not all(array.has(number) for array in arrays)]
    # Whatever has no size comes first, and of that the many skin tones last.
    todo.sort(key=lambda n: (any(a.has(n) for a in arrays), bool(plan.sprites[n].tone)))
    what = f"{' and '.join(map(str, sizes))} pixels"
    done = total - len(todo)
    progress(what, done, total)
    sprites = _pooled(_Worker.render, plan, arts, todo, sizes, workers)
    for number, rendered in zip(todo, sprites, strict=True):
        for array, one in zip(arrays, rendered, strict=True):
            if not array.has(number):
                array.put(number, one)
        done += 1
        if done % FLUSH == 0 or done == total:
            for array in arrays:
                array.flush()
        progress(what, done, total)
    boxes = [array.finish() for array in arrays]
    _write_atlas(plan, out, boxes[-1])


def _resumed(path: Path, shape: tuple[int, ...], kind: type) -> "np.memmap[Any, Any] | None":
    """The array of a run that was stopped, if it is one of this shape."""
    try:
        np.load(path, mmap_mode="r")  # refuses a file that was cut, which "r+" would fill up
        array = np.lib.format.open_memmap(path, "r+")
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape == shape and array.dtype == kind else None


def _write_atlas(plan: Plan, out: Path, boxes: NDArray[np.float32]) -> None:
    """Write atlas.json, with the sizes of the visible parts."""
    sprites = [
        replace(sprite, width=round(float(width), 4), height=round(float(height), 4))
        for sprite, (width, height) in zip(plan.sprites, boxes, strict=True)
    ]
    write_json_compact(out / "atlas.json", atlas_values(plan.sources, plan.things, sprites))


def write_json_compact(path: Path, values: dict[str, Any]) -> None:
    """JSON with one line for each entry of the lists."""
    parts = []
    for name, value in values.items():
        if isinstance(value, list):
            lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in value)
            parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value)}")
    with atomic(path) as temporary:
        temporary.write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


def _render_large(
    plan: Plan, arts: dict[str, Art], out: Path, workers: int, progress: Progress
) -> None:
    """sprites-1024/<number>.webp of the vector art; files that are there are done."""
    folder = out / f"sprites-{LARGE}"
    vector = [number for number, sprite in enumerate(plan.sprites) if sprite.vector]
    todo = [number for number in vector if not (folder / f"{number}.webp").is_file()]
    # In random order, so that a part of them is a fair sample (data.partial_atlas); tones last.
    random.Random(0).shuffle(todo)
    todo.sort(key=lambda number: bool(plan.sprites[number].tone))
    done = len(vector) - len(todo)
    progress(f"{LARGE} pixels", done, len(vector))
    for number, data in zip(
        todo, _pooled(_Worker.encode, plan, arts, todo, (LARGE,), workers), strict=True
    ):
        with atomic(folder / f"{number}.webp") as path:
            path.write_bytes(data)
        done += 1
        progress(f"{LARGE} pixels", done, len(vector))


Job = tuple[str, str, Sequence[int]]
"""Package, Unicode sequence and sizes of a sprite."""
T = TypeVar("T")


def _pooled(
    work: Callable[[Job], T],
    plan: Plan,
    arts: dict[str, Art],
    numbers: Sequence[int],
    sizes: Sequence[int],
    workers: int,
) -> Iterator[T]:
    """``work`` on each sprite, in order, in this process or in several.

    Raises:
        OutputError: a process was killed.
    """
    jobs: list[Job] = [(plan.sprites[n].source, plan.codes[n], sizes) for n in numbers]
    if workers <= 1 or len(jobs) < 2:
        _Worker.arts = arts
        yield from map(work, jobs)
        return
    context = multiprocessing.get_context("spawn")  # this process may have threads
    with ProcessPoolExecutor(workers, context, _Worker.start, (arts,)) as pool:
        waiting = iter(jobs)
        running = [pool.submit(work, job) for job in islice(waiting, 4 * workers)]
        try:
            while running:  # never more than a few ahead of what is written
                yield running.pop(0).result()
                running += [pool.submit(work, job) for job in islice(waiting, 1)]
        except BrokenProcessPool as error:
            raise OutputError(
                "A rendering process was ended, perhaps for lack of memory.",
                "Run the same command with fewer --workers; it goes on where it was.",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


class _Worker:
    """A process that renders; it holds the art."""

    arts: dict[str, Art]

    @classmethod
    def start(cls, arts: dict[str, Art]) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process ends the pool
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # resvg prints panics, which we try again
        cls.arts = arts

    @classmethod
    def render(cls, job: Job) -> list[Rendered]:
        source, code, sizes = job
        return cls.arts[source].render(code, sizes)

    @classmethod
    def encode(cls, job: Job) -> bytes:
        (rendered,) = cls.render(job)
        file = io.BytesIO()
        image = Image.fromarray(straighten(rendered.pixels))
        image.save(file, "WEBP", lossless=True, quality=0, method=0)
        return file.getvalue()
