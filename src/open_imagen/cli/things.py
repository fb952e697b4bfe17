"""imagen data things: the art to an atlas, with progress."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from open_imagen.errors import ConfigError

if TYPE_CHECKING:
    from open_imagen.worlds.things.build import Progress

SHOWN = 20
"""Pairs of look-alikes that are listed."""
EVERY = 15.0
"""Seconds between two lines where standard error is no terminal."""


def make_atlas(out: Path, art: Path | None, sizes: str, workers: int, as_json: bool) -> None:
    """Fetch or read the packages, render, and report."""
    from open_imagen.worlds.things import sources
    from open_imagen.worlds.things.atlas import Atlas
    from open_imagen.worlds.things.build import build_atlas, plan_atlas
    from open_imagen.worlds.things.look_alikes import look_alikes
    from open_imagen.worlds.things.rasterize import need_resvg

    chosen = read_sizes(sizes)
    if workers < 0:
        raise ConfigError(f"--workers {workers} must be at least 0.", "0 takes all cores.")
    need_resvg()
    began = time.monotonic()
    packages = sources.open_packages(art, _line, sources.SOURCES)
    plan, arts = plan_atlas(packages, sources.SOURCES)
    with rendering_progress() as progress:
        build_atlas(plan, arts, out, chosen, workers or _cores(), progress)
    atlas = Atlas.open(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    pairs = look_alikes(atlas)
    report = {
        "out": str(out),
        "things": len(atlas.things),
        "sprites": len(atlas.sprites),
        "styles": dict(Counter(sprite.style for sprite in atlas.sprites)),
        "groups": dict(Counter(thing.group for thing in atlas.things)),
        "look_alikes": len(pairs),
        "bytes": size,
        "seconds": round(time.monotonic() - began, 1),
    }
    for pair in pairs[:SHOWN]:
        _line(f"in the style {pair.style}, {pair.first} and {pair.second} look alike")
    if as_json:
        print(json.dumps(report))
        return
    print(
        f"{len(atlas.things):,} things, {len(atlas.sprites):,} sprites, "
        f"{size / 2**20:,.0f} MiB in {out}"
    )


def read_sizes(text: str) -> list[int]:
    """Read a list of sizes: "64,256" -> [64, 256].

    Raises:
        ConfigError: these are no numbers.
    """
    try:
        return sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError as error:
        raise ConfigError(f"--sizes {text} must be numbers.", "Try: --sizes 64,256") from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _line(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=sys.stderr, flush=True)


@contextmanager
def rendering_progress() -> "Iterator[Progress]":
    """A bar on a terminal; elsewhere a dated line every so often."""
    if not sys.stderr.isatty():
        last = [0.0]

        def told(what: str, done: int, total: int) -> None:
            now = time.monotonic()
            if done == total or now - last[0] >= EVERY:
                last[0] = now
                _line(f"{what}: {done:,} of {total:,} sprites")

        yield told
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:
        tasks = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield update
