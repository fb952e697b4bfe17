"""What a run tells: log.jsonl, TensorBoard, pictures of fixed prompts, a progress bar."""

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import WHITE, over
from open_imagen.cascade.draws import Draws
from open_imagen.cascade.pipeline import to_uint8
from open_imagen.storage import append_json, atomic
from open_imagen.training.trainer import Trainer, to_signed
from open_imagen.types import Source

Draw = Callable[[Sequence[str]], Tensor]
"""Prompts -> pictures, uint8 [N, 3, H, W]."""
Score = Callable[[Draw], Mapping[str, float]]


class Log:
    """A line of log.jsonl, and TensorBoard scalars where it is installed, every `log_every`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.board: Any = None

    def __call__(self, trainer: Trainer) -> None:
        done = trainer.seen >= trainer.length
        if not trainer.world.first or not (trainer.passed(trainer.config.log_every) or done):
            return
        told = trainer.told
        values = {
            "loss": told.loss,
            "grad_norm": told.grad_norm,
            "lr": told.lr,
            "images_per_second": told.images_per_second,
        }
        line: dict[str, Any] = {
            "images": trainer.seen,
            "seconds": round(trainer.seconds, 1),
            **values,
        }
        if told.unusable:
            line["unusable"] = told.unusable
        if trainer.skipped:
            line["skipped_steps"] = trainer.skipped
        append_json(self.folder / "log.jsonl", line)
        for name, value in values.items():
            self._scalar(name, value, trainer)

    def _scalar(self, name: str, value: float, trainer: Trainer) -> None:
        if self.board is None:
            if importlib.util.find_spec("tensorboard") is None:
                self.board = False
            else:
                from torch.utils.tensorboard import SummaryWriter

                # What was shown of steps that are made again after a kill is hidden.
                folder = str(self.folder / "tensorboard")
                self.board = SummaryWriter(folder, purge_step=trainer.seen)
        if self.board and math.isfinite(value):
            self.board.add_scalar(name, value, trainer.seen)
            self.board.flush()


class Validation:
    """The loss on held-out examples at fixed noise levels, into validation.jsonl.

    The same examples, noise and levels every time, with the averaged weights: where the training
    loss mostly tells which noise levels a batch happened to draw, this one tells progress.
    """

    LEVELS = 8
    """Times, the middles of equal parts of [0, 1]."""

    def __init__(self, folder: Path, source: Source, images: int = 256) -> None:
        """
        Args:
            images: examples it looks at, the first of the source.
        """
        self.folder, self.source, self.images = folder, source, images

    def __call__(self, trainer: Trainer) -> None:
        if not trainer.passed(trainer.config.validate_every):
            return
        times = [(k + 0.5) / self.LEVELS for k in range(self.LEVELS)]
        sums = torch.zeros(self.LEVELS)
        size = min(trainer.config.batch_size, self.images)
        number = 0
        for start in range(0, self.images - size + 1, size):
            batch = self.source.batch(start, size)
            images = to_signed(batch.images, trainer.device)
            lowres = None if batch.lowres is None else to_signed(batch.lowres, trainer.device)
            text = trainer.encode_text(batch.captions)
            draws = Draws.make(
                images.shape, start, lowres=lowres is not None, device=trainer.device
            )
            with trainer.averaged() as stage, torch.no_grad():
                for k, time in enumerate(times):
                    fixed = draws._replace(t=torch.full_like(draws.t, time))
                    sums[k] += stage.loss(images, text, fixed, lowres).sum().cpu()
            number += size
        if not trainer.world.first:
            return
        losses = (sums / number).tolist()
        line = {
            "images": trainer.seen,
            "loss": sum(losses) / len(losses),
            "by_time": dict(zip(map(str, times), losses, strict=True)),
        }
        append_json(self.folder / "validation.jsonl", line)


class Alignment:
    """How often pictures show what was asked for, into alignment.jsonl.

    ``score`` makes pictures with the function it is given, looks at them, and returns share right
    by category; whoever puts a run together brings it (imagen train: the scene suite).
    """

    def __init__(self, folder: Path, score: Score) -> None:
        self.folder, self.score = folder, score

    def __call__(self, trainer: Trainer) -> None:
        if not trainer.passed(trainer.config.align_every):
            return

        def draw(prompts: Sequence[str]) -> Tensor:
            generators = [torch.Generator().manual_seed(k) for k in range(len(prompts))]
            pictures = stage.sample(trainer.encode_text(prompts), generators)
            return to_uint8(pictures).cpu()

        with trainer.averaged() as stage:
            shares = self.score(draw)
        if not trainer.world.first:
            return
        append_json(self.folder / "alignment.jsonl", {"images": trainer.seen, **shares})


class Samples:
    """A sheet of pictures in samples/, always of the same prompts and seeds.

    A super-resolution stage enlarges the first examples of its source instead.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "samples"

    def __call__(self, trainer: Trainer) -> None:
        prompts = list(trainer.config.prompts)
        enlarges = bool(trainer.recipe.stage.lowres)
        if not trainer.passed(trainer.config.sample_every) or not (prompts or enlarges):
            return
        lowres = None
        if enlarges:
            batch = trainer.source.batch(0, 8)
            assert batch.lowres is not None
            prompts, lowres = batch.captions, batch.lowres.float().to(trainer.device) / 127.5 - 1
        generators = [torch.Generator().manual_seed(k) for k in range(len(prompts))]
        text = trainer.encode_text(prompts)
        with trainer.averaged() as stage:
            pictures = stage.sample(text, generators, lowres=lowres)
        if not trainer.world.first:
            return
        with atomic(self.folder / f"{trainer.seen:012d}.png") as path:
            sheet(pictures).save(path, format="PNG")


def sheet(pictures: Tensor, columns: int = 4) -> Image.Image:
    """[B, C, H, W] in [-1, 1] -> one picture, row by row; what is transparent is white."""
    shown = to_uint8(pictures).cpu()
    if shown.shape[1] == 4:
        shown = over(shown, WHITE)
    blank = shown.new_full((-len(shown) % columns, *shown.shape[1:]), 255)
    tiles = torch.cat([shown, blank])
    tiles = tiles.reshape(-1, columns, *tiles.shape[1:])  # [rows, columns, 3, H, W]
    joined = tiles.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # [rows H, columns W, 3]
    return Image.fromarray(joined.contiguous().numpy())


class Bar:
    """Images seen, images per second, time left and loss, on the terminal."""

    def __init__(self, console: Any, total: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} images"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[told]}"),
            console=console,
        )
        self.task = self.progress.add_task("training", total=total, told="")
        self.first = True

    def __call__(self, trainer: Trainer) -> None:
        if self.first:  # what an earlier part of the run did says nothing about our pace
            self.progress.reset(self.task, completed=trainer.seen - 1)
            self.first = False
        told = trainer.told
        text = ""
        if math.isfinite(told.loss):
            text = f"loss {told.loss:.4f}, {told.images_per_second:.1f} images/s"
        if left_out := sum(told.unusable.values()):
            text += f", {left_out:,} unusable"
        if trainer.skipped:
            text += f", {trainer.skipped} steps skipped"
        self.progress.update(self.task, completed=trainer.seen, total=trainer.length, told=text)

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
