"""index.html: one file that shows how a run goes, rewritten while it trains."""

import json
import logging
import math
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from open_imagen.config import plain, to_toml
from open_imagen.errors import ConfigError, OutputError
from open_imagen.storage import write_text
from open_imagen.training.loop import Trainer
from open_imagen.training.run_series import Series, flat_numbers, read_series
from open_imagen.training.sample_tiles import SampleTiles
from open_imagen.training.throughput import peak_flops, training_flops

log = logging.getLogger("open_imagen.training")

NAME = "index.html"
MARK = '<meta name="generator" content="open-imagen run page">'
"""By which a page is known as one of ours, which may be overwritten."""
TEMPLATE = Path(__file__).with_name("page.html")
EVERY = 10.0
"""Seconds between two versions of the page, at least."""
PACE_LINES = 20
"""Log lines over which the pace for the time left is measured, pauses for sampling included."""
FIRST = ("kind", "path", "examples", "shards", "images", "pairs")
"""What is shown of the data first, where a source says it."""


class Page:
    """Writes the page after the log lines of a run, and when the run ends.

    It holds the curves of log.jsonl and of the other records, and the sampled images.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.folder = folder
        self._tiles = SampleTiles(folder)
        self._series: Series | None = None
        self._costs: dict[str, float] = {}
        self._pace: deque[tuple[int, float]] = deque(maxlen=PACE_LINES)
        self._written = 0.0
        self._is_ours = True

    def __call__(self, trainer: Trainer) -> None:
        if not trainer.world.is_main_process:
            return
        is_first = self._series is None
        if is_first:
            self._begin(trainer)
        if trainer.is_log_due:
            self._add(trainer)
        sampled = trainer.is_due(trainer.config.sample_every)
        if (
            is_first
            or sampled
            or (trainer.is_log_due and time.monotonic() - self._written >= EVERY)
        ):
            self._write(trainer, "running")

    def close(self, trainer: Trainer, error: BaseException | None) -> None:
        if not trainer.world.is_main_process or not trainer.folder.is_locked:
            return
        if self._series is None:
            self._begin(trainer)
        if error is not None:
            interrupted = isinstance(error, KeyboardInterrupt)
            state, message = ("stopped", "") if interrupted else ("failed", str(error))
        else:
            complete = trainer.images_seen >= trainer.total_images
            state, message = ("finished" if complete else "stopped"), ""
        self._write(trainer, state, message)

    def _begin(self, trainer: Trainer) -> None:
        self._is_ours = not self.path.exists() or MARK in self.path.read_text(
            encoding="utf-8", errors="replace"
        )
        if not self._is_ours:
            log.warning("%s is not ours and is left as it is: the run has no page.", self.path)
        self._series = Series()
        earlier = read_series(self.folder / "log.jsonl")
        # The line of this step, if the log has written it already, is added by this callback.
        for images, values in earlier.rows:
            if images < trainer.images_seen:
                self._series.add(images, values)
        self._costs = _costs(trainer)

    def _add(self, trainer: Trainer) -> None:
        assert self._series is not None
        self._pace.append((trainer.images_seen, time.monotonic()))
        metrics = trainer.metrics
        values = flat_numbers(
            {
                "loss": metrics.loss,
                "grad_norm": metrics.grad_norm,
                "lr": metrics.lr,
                "images_per_second": metrics.images_per_second,
                "loss_by_logsnr": metrics.loss_by_logsnr,
            }
        )
        self._series.add(trainer.images_seen, values)

    def _write(self, trainer: Trainer, state: str, message: str = "") -> None:
        self._written = time.monotonic()
        if not self._is_ours:
            return
        data = {**self._describe(trainer), "state": state, "message": message}
        text = TEMPLATE.read_text(encoding="utf-8")
        # "<" never ends the script that holds the data.
        encoded = json.dumps(_finite(data), ensure_ascii=False).replace("<", "\\u003c")
        try:
            write_text(self.path, text.replace("/*DATA*/null", encoded, 1))
        except OutputError as error:  # training goes on without
            log.warning("The page of the run cannot be written: %s", error)

    def _seconds_left(self, trainer: Trainer) -> float | None:
        if len(self._pace) < 2:
            return None
        (first, begin), (last, end) = self._pace[0], self._pace[-1]
        left = max(0, trainer.total_images - trainer.images_seen)
        return left * (end - begin) / max(1, last - first)

    def _describe(self, trainer: Trainer) -> dict[str, Any]:
        assert self._series is not None
        metrics, pace = trainer.metrics, trainer.metrics.images_per_second
        records = ("validation", "alignment", "held_out")
        return {
            "name": trainer.recipe.name,
            "stage": _stage_line(trainer),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "every": EVERY,
            "seconds_between": trainer.config.log_every / pace if pace else 0.0,
            "images_seen": trainer.images_seen,
            "total_images": trainer.total_images,
            "seconds": trainer.seconds,
            "seconds_left": self._seconds_left(trainer),
            "batch_size": trainer.config.batch_size,
            "now": {
                "loss": metrics.loss,
                "grad_norm": metrics.grad_norm,
                "lr": metrics.lr,
                "images_per_second": pace,
            },
            "flops": {**self._costs, "rate": pace * self._costs.get("per_image", math.nan)},
            "series": self._series.columns(),
            "records": {
                name: read_series(self.folder / f"{name}.jsonl").columns() for name in records
            },
            "samples": self._tiles.read(),
            "data": _data_rows(trainer),
            "skipped": metrics.skipped,
            "nonfinite_steps": trainer.nonfinite_steps,
            "recipe": to_toml(plain(trainer.recipe)),
        }


def _costs(trainer: Trainer) -> dict[str, float]:
    """Operations of a training image, and the peak of all devices together."""
    costs = {}
    try:
        per_image = training_flops(trainer.recipe)
        if per_image:
            costs["per_image"] = per_image
            peak = peak_flops(trainer.device, trainer.bf16)
            costs["peak"] = peak * trainer.world.size
    except (RuntimeError, ConfigError) as error:  # figures of the page alone
        log.debug("No rate of operations: %s", error)
    return costs


def _stage_line(trainer: Trainer) -> str:
    recipe = trainer.recipe
    number = sum(weight.numel() for weight in trainer.network.parameters())
    precision = "bfloat16" if trainer.bf16 else "float32"
    processes = f" · {trainer.world.size} processes" if trainer.world.size > 1 else ""
    size = f"{recipe.stage.resolution} px"
    if recipe.stage.lowres:
        size = f"{recipe.stage.lowres} → {size}"
    return (
        f"{recipe.stage.name} · {size} · {number / 1e6:,.1f} M parameters · "
        f"{trainer.device.type} {precision}{processes}"
    )


def _data_rows(trainer: Trainer) -> list[tuple[str, str]]:
    """What the source says of itself, the counts first."""
    described = trainer.source.describe()
    rows = [(name, described[name]) for name in FIRST if name in described]
    if "examples" not in described:
        rows.append(("examples", len(trainer.source)))
    examples = max(1, len(trainer.source))
    shown = [
        (name, f"{value:,}" if isinstance(value, int) else _short(value)) for name, value in rows
    ]
    return [*shown, ("epochs seen", f"{trainer.images_seen / examples:.2f}")]


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        more = f" and {len(value) - 3:,} more" if len(value) > 3 else ""
        return ", ".join(map(str, value[:3])) + more
    return str(value)


def _finite(value: Any) -> Any:
    """The same, with None for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
