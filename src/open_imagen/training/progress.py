"""What a run says where no terminal shows a bar: a first line, then one line a report."""

import logging
import math

from open_imagen.training.trainer import Trainer

log = logging.getLogger("open_imagen.training")


def describe_run(trainer: Trainer) -> str:
    """What is trained, on what, where it begins, and where the log is."""
    recipe, network = trainer.recipe, trainer.network
    number = sum(weight.numel() for weight in network.parameters())
    precision = "bfloat16" if trainer.bf16 else "float32"
    size = trainer.world.size
    processes = f", {size} processes ({trainer.config.parallel})" if size > 1 else ""
    data = trainer.source.describe()
    what = " ".join(str(data[key]) for key in ("kind", "path") if key in data)
    begin = "from the beginning"
    if trainer.seen:
        begin = f"from image {trainer.seen:,} (checkpoint {trainer.seen:012d})"
    return (
        f"Training {recipe.name}: stage {recipe.stage.name}, {number:,} parameters, on "
        f"{trainer.device} in {precision}{processes}; data: {what}; {begin} to "
        f"{trainer.length:,}; log: {recipe.folder / 'log.jsonl'}"
    )


class ProgressLines:
    """A line every `log_every` images."""

    def __call__(self, trainer: Trainer) -> None:
        done = trainer.seen >= trainer.length
        if not trainer.world.first or not (trainer.passed(trainer.config.log_every) or done):
            return
        told = trainer.told
        line = f"{trainer.seen:,} of {trainer.length:,} images"
        if math.isfinite(told.loss):
            line += f", loss {told.loss:.4f}"
        if told.images_per_second > 0:
            left = (trainer.length - trainer.seen) / told.images_per_second
            line += f", {told.images_per_second:.1f} images/s, {in_words(left)} left"
        if left_out := sum(told.unusable.values()):
            line += f", {left_out:,} unusable"
        if trainer.skipped:
            line += f", {trainer.skipped} steps skipped"
        log.info("%s", line)


def in_words(seconds: float) -> str:
    """A time to wait.

    >>> in_words(42), in_words(4000), in_words(200_000)
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
