"""The curves of a run for its page: thinned, so that a long run is as quick to show as a short."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_POINTS = 400


class Series:
    """Rows of numbers over images seen; neighbours are averaged when there are many.

    Args:
        max_points: an even number; at it every two neighbours become one.
    """

    def __init__(self, max_points: int = MAX_POINTS) -> None:
        self.max_points = max_points
        self.rows: list[tuple[int, dict[str, float]]] = []
        self._stride = 1
        self._pending: list[tuple[int, dict[str, float]]] = []

    def add(self, images_seen: int, values: Mapping[str, float]) -> None:
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._pending.append((images_seen, finite))
        if len(self._pending) < self._stride:
            return
        self.rows.append(_merged(self._pending))
        self._pending = []
        if len(self.rows) >= self.max_points:
            self.rows = [_merged(self.rows[k : k + 2]) for k in range(0, len(self.rows), 2)]
            self._stride *= 2

    def columns(self) -> dict[str, Any]:
        """{"images": [...], "values": {name: [number or None, ...]}}, the newest row last."""
        rows = [*self.rows, *([_merged(self._pending)] if self._pending else [])]
        names = list(dict.fromkeys(name for _, values in rows for name in values))
        columns = {name: [_rounded(values.get(name)) for _, values in rows] for name in names}
        return {"images": [images for images, _ in rows], "values": columns}


def _merged(rows: list[tuple[int, dict[str, float]]]) -> tuple[int, dict[str, float]]:
    names = dict.fromkeys(name for _, values in rows for name in values)
    means = {}
    for name in names:
        found = [values[name] for _, values in rows if name in values]
        means[name] = sum(found) / len(found)
    return rows[-1][0], means


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a .jsonl file of a run; lines that cannot be read are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("images_seen"), int):
            yield found


def read_series(path: Path) -> Series:
    """The numbers of a .jsonl file; those of inner tables as "table/name"."""
    series = Series()
    for line in read_lines(path):
        series.add(line["images_seen"], flat_numbers(line))
    return series


def flat_numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """
    >>> flat_numbers({"images_seen": 8, "loss": 1.5, "by_time": {"0.5": 2.0}, "note": "x"})
    {'loss': 1.5, 'by_time/0.5': 2.0}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= {f"{name}/{inner}": number for inner, number in flat_numbers(value).items()}
        elif isinstance(value, int | float) and name != "images_seen":
            found[name] = float(value)
    return found
