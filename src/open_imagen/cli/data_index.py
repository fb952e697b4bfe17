"""imagen data index: an index of tar shards on disk."""

import functools
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from open_imagen.cli.measuring import counting
from open_imagen.config import read_toml
from open_imagen.data.shard_indexing import build_index
from open_imagen.data.shard_names import expand
from open_imagen.data.shards import ShardsConfig, open_reader
from open_imagen.errors import ConfigError


def make_index(data: str, out: Path, workers: int, part: str, as_json: bool) -> None:
    """Build or complete an index.

    Raises:
        ConfigError: an option is wrong, or the folder is of other shards.
        DataError: a shard cannot be read.
    """
    if workers < 0:
        raise ConfigError(f"--workers {workers} must be at least 0.")
    number, parts = _parse_part(part)
    paths, options = _shards(data)
    names = expand(paths)
    cache_gib, tries, timeout = options
    open_shard = functools.partial(
        open_reader, cache_gib=cache_gib, tries=int(tries), timeout=timeout
    )
    with counting("shards") as progress:
        built = build_index(
            names,
            out,
            open_shard,
            workers or os.cpu_count() or 1,
            (number - 1, parts),
            lambda done, total: progress("shards", done, total),
        )
    if as_json:
        print(json.dumps({"index": str(out), **built._asdict()}))
    elif built.examples is not None:
        print(f'{built.examples:,} examples in {built.shards:,} shards; data.index = "{out}"')
    elif built.missing:
        print(
            f"{built.missing:,} of {built.shards:,} shards are not indexed yet: run the other "
            "parts, then this again.",
            file=sys.stderr,
        )
    else:
        print(f"Another process is completing {out}.", file=sys.stderr)


def _parse_part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--part {text!r} is no part.", "Write K/N, as in 1/4, with K up to N.")
    return int(match[1]), int(match[2])


def _shards(data: str) -> tuple[str | tuple[str, ...], list[float]]:
    """The paths of shards, and how URLs among them are read."""
    settings: dict[str, Any] = {}
    path: str | tuple[str, ...] = data
    if data.endswith(".toml"):
        settings = read_toml(Path(data)).get("data", {})
        found = settings.get("path")
        if settings.get("kind") != "shards" or not isinstance(found, str | list):
            raise ConfigError(
                f"{data} has no shards: data.kind is {settings.get('kind')!r}.",
                "Name a recipe with data.kind = 'shards', or the tar files themselves.",
            )
        path = found if isinstance(found, str) else tuple(found)
    defaults = ShardsConfig(path=path)
    names = ("cache_gib", "tries", "timeout")
    return path, [settings.get(name, getattr(defaults, name)) for name in names]
