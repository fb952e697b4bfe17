"""Progress of a run: a bar on a terminal, elsewhere a first line and then a line per interval."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from open_imagen.training.loop import Trainer

log = logging.getLogger("open_imagen.training")


def describe_run(trainer: Trainer) -> str:
    """Stage, network, device, data, where the run begins, and where its log is."""
    recipe, network = trainer.recipe, trainer.network
    number = sum(weight.numel() for weight in network.parameters())
    precision = "bfloat16" if trainer.bf16 else "float32"
    size = trainer.world.size
    processes = f", {size} processes ({trainer.config.parallel})" if size > 1 else ""
    data = trainer.source.describe()
    source = " ".join(str(data[key]) for key in ("kind", "path") if key in data)
    begin = "from the beginning"
    if trainer.images_seen:
        begin = f"from image {trainer.images_seen:,} (checkpoint {trainer.images_seen:012d})"
    return (
        f"Training {recipe.name}: stage {recipe.stage.name}, {number:,} parameters, on "
        f"{trainer.device} in {precision}{processes}; data: {source}; {begin} to "
        f"{trainer.total_images:,}; log: {recipe.folder / 'log.jsonl'}"
    )


class ProgressBar:
    """Images seen, images per second, time left and loss, on the terminal."""

    def __init__(self, console: Any, total_images: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} images"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
        )
        self.task = self.progress.add_task("training", total=total_images, metrics="")
        self._is_first_step = True

    def __call__(self, trainer: Trainer) -> None:
        """Redraw the bar."""
        seen, total = trainer.images_seen, trainer.total_images
        if self._is_first_step:  # the pace is that of this part of the run alone
            self.progress.reset(self.task, completed=seen - 1)
            self._is_first_step = False
        metrics, text = trainer.metrics, ""
        if math.isfinite(metrics.loss):
            text = f"loss {metrics.loss:.4f}, {metrics.images_per_second:.1f} images/s"
        text += describe_skipped(trainer)
        self.progress.update(self.task, completed=seen, total=total, metrics=text)

    def __enter__(self) -> "ProgressBar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


class ProgressLines:
    """A line every `log_every` images."""

    def __call__(self, trainer: Trainer) -> None:
        """Log a line, if it is due."""
        if not trainer.world.is_main_process or not trainer.is_log_due:
            return
        metrics = trainer.metrics
        line = f"{trainer.images_seen:,} of {trainer.total_images:,} images"
        if math.isfinite(metrics.loss):
            line += f", loss {metrics.loss:.4f}"
        if metrics.images_per_second > 0:
            left = (trainer.total_images - trainer.images_seen) / metrics.images_per_second
            pace = f"{metrics.images_per_second:.1f} images/s"
            line += f", {pace}, {format_duration(left)} left"
        log.info("%s", line + describe_skipped(trainer))


class CaptionProgress:
    """Captions encoded before the first step, their pace and the time left."""

    EVERY = 30.0
    """Seconds between lines."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        """Count from the first call on.

        Args:
            show: what shows each state, on a terminal; lines in the log if None.
        """
        self.show = show
        self._first: tuple[int, float] | None = None
        self._logged = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Show how many captions are encoded."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._logged = (done, now), now
        text = f"encoding captions: {done:,} of {total:,}"
        before, since = self._first
        if done > before and now > since:
            pace = (done - before) / (now - since)
            text += f", {pace:,.0f}/s, {format_duration((total - done) / pace)} left"
        if self.show is not None:
            self.show(text)
        elif now - self._logged >= self.EVERY:
            self._logged = now
            log.info("%s", text)


def describe_skipped(trainer: Trainer) -> str:
    """What a run has skipped so far, to follow its other figures."""
    text = ""
    if skipped := sum(trainer.metrics.skipped.values()):
        text += f", {skipped:,} examples skipped"
    if trainer.nonfinite_steps:
        text += f", {trainer.nonfinite_steps} non-finite steps skipped"
    return text


def format_duration(seconds: float) -> str:
    """A duration for readers.

    >>> format_duration(42), format_duration(4000), format_duration(200_000)
    ('42 s', '1 h 07 min', '2 d 7 h')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
