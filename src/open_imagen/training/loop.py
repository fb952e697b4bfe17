"""The training loop. Progress is counted in images; run it again to resume."""

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.stage import Stage
from open_imagen.config import plain
from open_imagen.data.loader import Loader
from open_imagen.distributed import all_gather_object, all_reduce_sum, world
from open_imagen.errors import TrainingError
from open_imagen.storage import save_tensors
from open_imagen.training.checkpoint import training_tensors
from open_imagen.training.compatibility import settings_of
from open_imagen.training.data_check import check_first
from open_imagen.training.export import describe_training, export_run
from open_imagen.training.interrupts import stopping_on_signals
from open_imagen.training.optim import clip
from open_imagen.training.parallel import full_tensor, no_sync
from open_imagen.training.posthoc_ema import FOLDER, Profile, snapshot_name
from open_imagen.training.recipe import Recipe
from open_imagen.training.run_folder import NONFINITE_HINT, RunFolder
from open_imagen.training.setup import set_up
from open_imagen.training.time_budget import TimeBudget
from open_imagen.types import Batch, Source, TextEncoder

log = logging.getLogger("open_imagen.training")

COMPILED_TEXT_MULTIPLE = 24
"""Texts of a compiled network are padded to a multiple of this length: few shapes to compile."""


@dataclass
class StepMetrics:
    """What a step reports."""

    loss: float = math.nan
    """Mean over the steps since the last report."""
    grad_norm: float = math.nan
    lr: float = 0.0
    images_per_second: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    """Examples that the source has skipped, by reason, in all processes."""


class Callback(Protocol):
    """Called after every step. It decides itself whether it is due (`trainer.is_due(every)`), and
    is called in every process (`trainer.world.is_main_process`)."""

    def __call__(self, trainer: "Trainer", /) -> object: ...


class Trainer:
    """Trains one stage on one source."""

    def __init__(
        self,
        recipe: Recipe,
        source: Source,
        encoder: TextEncoder,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.recipe, self.config = recipe, recipe.train
        self.source = source
        self.callbacks = list(callbacks)
        self.world = world()
        parts = set_up(recipe, source, encoder)
        self.device, self.bf16, self.max_t = parts.device, parts.bf16, parts.max_t
        self.stage, self.network = parts.stage, parts.network
        self.parallel_network, self.objective = parts.parallel_network, parts.objective
        self.encode_text, self.optimizer, self.ema = parts.encode_text, parts.optimizer, parts.ema
        self.folder = RunFolder(recipe)
        self.images_seen = self._images_before_step = 0
        self.total_images = self.config.images
        """Images that the run will have seen in the end; fewer than `images` if the time budget is
        short."""
        self.seconds = 0.0
        """Time spent in steps, over all resumed parts of the run."""
        self.metrics = StepMetrics()
        self.nonfinite_steps = 0
        """Steps whose loss or gradient was not finite, in this process; they change nothing."""
        self.stopping = False
        """Set it, and the run ends after the step with a checkpoint; several processes agree on it
        in the next step."""
        self._all_stop = False
        self._nonfinite_in_a_row = 0
        self._save_is_due = False
        self._losses: list[Tensor] = []
        self._last_report = (0, time.monotonic())
        self._budget = TimeBudget(
            self.config.time_budget_minutes, self.config.images, self.config.batch_size
        )

    def fit(self) -> bool:
        """Train until `images` have been seen, for `stop_after_minutes`, or until SIGTERM or
        SIGINT; whether the run is complete. Of several processes each can call it once.

        Raises:
            TrainingError: loss or weights are no longer finite, good checkpoints are kept; or
                another run holds the folder.
            ConfigError, CheckpointError: as `begin` does.
        """
        try:
            return self._fit()
        finally:
            # Release DDP before the process group is destroyed; see distributed.process_group.
            self.stage.network = self.parallel_network = self.network
            self.folder.checkpoints.finish_writing()
            self.folder.release()

    def _fit(self) -> bool:
        begun = time.monotonic()
        self.begin()
        self.warm()
        size, workers = self.config.batch_size, self.config.workers
        ranks = {"rank": self.world.rank, "ranks": self.world.size}
        loader = Loader(self.source, size, workers, **ranks)
        batches = check_first(loader.after(self.images_seen), self.recipe.stage)
        with contextlib.closing(batches), stopping_on_signals(self.stop):  # type: ignore[type-var]
            while self.images_seen < self.total_images:
                started = time.monotonic()
                minutes = self.config.stop_after_minutes
                if minutes and started - begun > 60 * minutes:
                    self.stopping = True
                if self._all_stop or (self.stopping and self.world.size == 1):
                    if not self._nonfinite_in_a_row:
                        self.save(wait=True)
                    return False
                self.step(next(batches))
                self.seconds += time.monotonic() - started
                self.total_images = self._budget.total_images(
                    self.images_seen, self.seconds, self.total_images, self.device
                )
                self.report()
                self._save_if_due()
                self.folder.checkpoints.wait(block=False)
        self.folder.checkpoints.wait()
        self.export()
        return True

    def _save_if_due(self) -> None:
        # Weights whose loss is not finite must not push out the good checkpoints.
        self._save_is_due |= self.is_due(self.config.save_every)
        complete = self.images_seen >= self.total_images
        if (self._save_is_due and not self._nonfinite_in_a_row) or complete:
            self.save()
        if self.is_due(self.recipe.ema.snapshot_every):
            self.snapshot()

    def warm(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Encode every caption once, before the first step."""
        self.encode_text.warm([*self.source.captions(), *self.config.prompts], progress)

    def step(self, batch: Batch) -> None:
        """One optimiser step: loss, gradients, clipping, update, EMA."""
        loss = self._backward(batch)
        norm = clip(self.network.parameters(), self.recipe.optim.clip)
        self._images_before_step = self.images_seen
        self.images_seen += self.config.batch_size
        stopping = loss.new_tensor(float(self.stopping))
        reduced = all_reduce_sum(torch.stack([loss / self.world.size, stopping]))
        loss, self._all_stop = reduced[0], bool(reduced[1])
        if self._is_finite(loss, norm):
            lr = self.recipe.optim.rate(self._images_before_step, self.total_images)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
            self.ema.update(self.network, self.images_seen, self.config.batch_size)
            self._losses.append(loss)
            self.metrics.grad_norm, self.metrics.lr = float(norm), lr
        self.optimizer.zero_grad()

    def _backward(self, batch: Batch) -> Tensor:
        """The gradients of a batch, in micro-batches; its mean loss in this process."""
        images = to_signed(batch.images, self.device)
        lowres = None if batch.lowres is None else to_signed(batch.lowres, self.device)
        seed, drop = self.config.seed, self.config.text_drop
        noise = TrainingNoise.sample(
            images.shape, batch.index, seed, drop, lowres is not None, self.device
        )
        noise = noise._replace(t=noise.t * self.max_t)
        text = self.encode_text(batch.captions)
        if self.config.compile:
            text = text.padded(COMPILED_TEXT_MULTIPLE)
        loss = torch.zeros((), device=self.device)
        slices = micro_batches(batch.size, self.config.accumulate)
        for rows in slices:
            accumulating = no_sync(self.parallel_network, enabled=rows is not slices[-1])
            with accumulating, self._autocast():
                losses = self.objective(
                    images[rows],
                    text.select(rows),
                    noise.select(rows),
                    None if lowres is None else lowres[rows],
                )
                if batch.weights is not None:
                    losses = losses * batch.weights[rows].to(self.device)
                # Processes average their gradients, which is the mean over all of their images.
                part = losses.sum() / batch.size
                part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        return loss

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def is_due(self, every: int) -> bool:
        """Whether the last step went past a multiple of ``every`` images."""
        return every > 0 and self.images_seen // every > self._images_before_step // every

    @property
    def is_log_due(self) -> bool:
        """Whether the last step ends an interval of the log, or the run."""
        return self.is_due(self.config.log_every) or self.images_seen >= self.total_images

    def report(self) -> None:
        """Update `metrics` and call the callbacks."""
        if self.is_log_due:
            now = time.monotonic()
            images, then = self._last_report
            if self._losses:
                self.metrics.loss = float(torch.stack(self._losses).mean())
            self.metrics.images_per_second = (self.images_seen - images) / max(now - then, 1e-9)
            skipped = all_gather_object(dict(self._skipped_examples))
            self.metrics.skipped = dict(sum(map(Counter, skipped), Counter()))
            self._losses.clear()
            self._last_report = (self.images_seen, now)
        for callback in self.callbacks:
            callback(self)

    @property
    def _skipped_examples(self) -> Mapping[str, int]:
        """Examples that the source has skipped in this process, by reason."""
        counts: Mapping[str, int] = getattr(self.source, "skipped", {})
        return counts

    def stop(self) -> None:
        """End the run after the current step, with a checkpoint."""
        self.stopping = True

    def begin(self) -> None:
        """Lock the run folder, and resume from its newest good checkpoint if it has one. `fit`
        calls it where that has not been done.

        Raises:
            TrainingError: another run holds the folder.
            ConfigError: the checkpoint was made with settings that must not change.
            CheckpointError: no checkpoint is good.
        """
        if self.folder.is_locked:
            return
        try:
            self.folder.lock()
            state = self.folder.resume(self._tensors(), self.settings)
        except BaseException:
            self.folder.release()
            raise
        if state is not None:
            self.images_seen, self.seconds = state["images_seen"], state.get("seconds", 0.0)
            if self.config.time_budget_minutes:
                total = state.get("total_images", self.total_images)
                self.total_images = min(self.total_images, total)
        self._images_before_step = self.images_seen
        self._last_report = (self.images_seen, time.monotonic())

    def _tensors(self) -> dict[str, Tensor]:
        return training_tensors(self.network, self.ema, self.optimizer)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that a checkpoint records, to be compared on resume."""
        network, data = self.stage.saved_network, self.source.describe()
        return settings_of(plain(self.recipe), network, data)

    def save(self, wait: bool = False) -> None:
        """Write a checkpoint; unless ``wait``, while training goes on.

        Raises:
            TrainingError: some numbers are not finite. Nothing is written then.
        """
        self._save_is_due = False
        state = {
            "seconds": self.seconds,
            "total_images": self.total_images,
            "settings": self.settings,
        }
        wait = wait or not self.config.async_save
        self.folder.save(self.images_seen, self._tensors(), state, wait)

    def export(self) -> None:
        """Write the averaged weights as a model of one stage; see `export_run`."""
        self.snapshot()
        averages = {name: full_tensor(tensor).cpu() for name, tensor in self.ema.weights.items()}
        if self.world.is_main_process:
            progress = (self.images_seen, self.seconds, self.folder.changes)
            trained = describe_training(self.recipe, self.source, self.device, *progress)
            export_run(self.recipe, self.network, averages, trained)

    def snapshot(self) -> None:
        """Write the averages of `ema.sigma_rel` as they are now to RUN/posthoc_ema."""
        for sigma_rel, averages in self.ema.profiles.items():
            full = {name: full_tensor(tensor).cpu() for name, tensor in averages.items()}
            if self.world.is_main_process:
                name = snapshot_name(Profile(self.images_seen, sigma_rel))
                save_tensors(self.recipe.folder / FOLDER / name, full)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Stage]:
        """The stage with its averaged weights, for sampling. Every process must enter."""
        self.ema.swap(self.network)
        self.stage.network = self.network
        self.stage.eval()
        # The training step is compiled; the shapes of sampling are not worth compiling for.
        eager = torch.compiler.set_stance("force_eager")
        try:
            with self._autocast(), eager:
                yield self.stage
        finally:
            self.stage.train()
            self.stage.network = self.parallel_network
            self.ema.swap(self.network)

    def _is_finite(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether loss and gradient of this step are finite; otherwise it changes nothing.

        Raises:
            TrainingError: the last `max_nonfinite_steps` were not.
        """
        if math.isfinite(float(loss)) and math.isfinite(float(norm)):
            self._nonfinite_in_a_row = 0
            return True
        self.nonfinite_steps += 1
        self._nonfinite_in_a_row += 1
        if self._nonfinite_in_a_row < self.config.max_nonfinite_steps:
            return False
        raise TrainingError(
            f"The loss is {float(loss)} and the gradient's norm {float(norm)} after "
            f"{self.images_seen:,} images, and neither was finite in {self._nonfinite_in_a_row} "
            f"steps; nothing was changed by them. {self.folder.describe_last_good()}",
            NONFINITE_HINT,
        )


def to_signed(images: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, C, H, W] -> float in [-1, 1], channels last."""
    signed = images.to(device, torch.float32).div(127.5).sub(1)
    return signed.contiguous(memory_format=torch.channels_last)


def micro_batches(size: int, number: int) -> list[slice]:
    """The rows of a batch in equal slices, fewer if it is smaller."""
    step = -(-size // number)
    return [slice(start, start + step) for start in range(0, size, step)]
