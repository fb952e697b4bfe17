"""The training loop. Progress is counted in images; run it again to resume."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from open_imagen.cascade.stage import Stage
from open_imagen.config import plain
from open_imagen.data.loader import Loader
from open_imagen.distributed import all_reduce_sum, world
from open_imagen.errors import TrainingError
from open_imagen.training.checkpoint import training_tensors
from open_imagen.training.compatibility import settings_of
from open_imagen.training.data_check import check_first
from open_imagen.training.export import describe_training, export_run, write_snapshots
from open_imagen.training.interrupts import stopping_on_signals
from open_imagen.training.metrics import MetricsRecorder, StepMetrics
from open_imagen.training.nonfinite import NonfiniteGuard
from open_imagen.training.optim import clip
from open_imagen.training.parallel import full_tensor
from open_imagen.training.recipe import Recipe
from open_imagen.training.run_folder import NONFINITE_HINT, RunFolder
from open_imagen.training.setup import set_up
from open_imagen.training.step import compute_gradients
from open_imagen.training.time_budget import TimeBudget
from open_imagen.types import Batch, Source, TextEncoder


class Callback(Protocol):
    """Called after every step, in every process.

    It decides itself whether it is due (`trainer.is_due(every)`) and whether this process has to
    act (`trainer.world.is_main_process`).
    """

    def __call__(self, trainer: "Trainer", /) -> object:
        """React to a finished step."""


@runtime_checkable
class ClosingCallback(Callback, Protocol):
    """A callback that is also told when `fit` ends."""

    def close(self, trainer: "Trainer", error: BaseException | None, /) -> None:
        """React to the end of the run.

        Args:
            error: what ended it; None if it is complete or was asked to stop.
        """


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
        self._parts = parts = set_up(recipe, source, encoder)
        self.device, self.bf16 = parts.device, parts.bf16
        self.stage, self.network, self.encode_text = parts.stage, parts.network, parts.encode_text
        self.optimizer, self.ema = parts.optimizer, parts.ema
        self.folder = RunFolder(recipe)
        self.images_seen = self._images_before_step = 0
        self.total_images = self.config.images
        """Images that the run will have seen in the end; fewer than `images` if the time budget is
        short."""
        self.seconds = 0.0
        """Time spent in steps, over all resumed parts of the run."""
        self.stopping = False
        """Set it, and the run ends after the step with a checkpoint; several processes agree on it
        in the next step."""
        self._all_stop = False
        self._nonfinite = NonfiniteGuard(self.config.max_nonfinite_steps)
        self._save_is_due = False
        self._recorder = MetricsRecorder()
        self._budget = TimeBudget(
            self.config.time_budget_minutes, self.config.images, self.config.batch_size
        )

    def fit(self) -> bool:
        """Train until the end of the run; whether it is complete.

        The run ends when `images` have been seen, after `stop_after_minutes`, or by SIGTERM or
        SIGINT. With several processes, each can call this once.

        Raises:
            TrainingError: loss or weights are no longer finite, good checkpoints are kept; or
                another run holds the folder.
            ConfigError, CheckpointError: as `begin` does.
        """
        error: BaseException | None = None
        try:
            return self._fit()
        except BaseException as raised:
            error = raised
            raise
        finally:
            for callback in self.callbacks:
                if isinstance(callback, ClosingCallback):
                    callback.close(self, error)
            # Release DDP before the process group is destroyed; see distributed.process_group.
            self.stage.network = self.network
            self._parts = dataclasses.replace(self._parts, parallel_network=self.network)
            self.folder.checkpoints.finish_writing()
            self.folder.release()

    def _fit(self) -> bool:
        begun = time.monotonic()
        self.begin()
        self.warm()
        self._recorder.restart(self.images_seen, time.monotonic())
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
                    if not self._nonfinite.in_a_row:
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
        if (self._save_is_due and not self._nonfinite.in_a_row) or complete:
            self.save()
        if self.is_due(self.recipe.ema.snapshot_every):
            write_snapshots(self.ema, self.folder.path, self.images_seen)

    def warm(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Encode every caption once, before the first step."""
        self.encode_text.warm(self.source.captions(), progress, self.config.sampled_prompts)

    def step(self, batch: Batch) -> None:
        """One optimiser step: loss, gradients, clipping, update, EMA.

        Raises:
            TrainingError: the last `max_nonfinite_steps` steps were not finite.
        """
        loss, by_example, logsnr = compute_gradients(self._parts, self.config, batch)
        norm = clip(self.network.parameters(), self.recipe.optim.clip)
        self._images_before_step = self.images_seen
        self.images_seen += self.config.batch_size
        stopping = loss.new_tensor(float(self.stopping))
        reduced = all_reduce_sum(torch.stack([loss / self.world.size, stopping]))
        loss, self._all_stop = reduced[0], bool(reduced[1])
        if self._nonfinite.is_finite(loss, norm):
            lr = self.recipe.optim.rate(self._images_before_step, self.total_images)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.optimizer.step()
            self.ema.update(
                self.network,
                self.images_seen,
                self.config.batch_size,
                self.optimizer.evaluation_weights,
            )
            self._recorder.add_step(loss, norm, lr, by_example, logsnr)
        elif self._nonfinite.has_failed:
            raise TrainingError(
                f"The loss is {float(loss)} and the gradient's norm {float(norm)} after "
                f"{self.images_seen:,} images, and neither was finite in "
                f"{self._nonfinite.in_a_row} steps; nothing was changed by them. "
                f"{self.folder.describe_last_good()}",
                NONFINITE_HINT,
            )
        self.optimizer.zero_grad()

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
            skipped = getattr(self.source, "skipped", {})
            self._recorder.report(self.images_seen, time.monotonic(), skipped)
        for callback in self.callbacks:
            callback(self)

    @property
    def metrics(self) -> StepMetrics:
        """Figures of the last report."""
        return self._recorder.metrics

    @property
    def nonfinite_steps(self) -> int:
        """Steps whose loss or gradient was not finite, in this process; they change nothing."""
        return self._nonfinite.count

    def stop(self) -> None:
        """End the run after the current step, with a checkpoint."""
        self.stopping = True

    def begin(self) -> None:
        """Lock the run folder, and resume from its newest good checkpoint if it has one.

        `fit` calls this where it has not been done.

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
            if "optimizer" in state:  # earlier versions had no such optimiser
                self.optimizer.load_group_state(state["optimizer"])
            if self.config.time_budget_minutes:
                total = state.get("total_images", self.total_images)
                self.total_images = min(self.total_images, total)
        self._images_before_step = self.images_seen
        self._recorder.restart(self.images_seen, time.monotonic())

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
            "optimizer": self.optimizer.group_state,
        }
        wait = wait or not self.config.async_save
        self.folder.save(self.images_seen, self._tensors(), state, wait)

    def export(self) -> None:
        """Write the averaged weights as a model of one stage; see `export_run`."""
        write_snapshots(self.ema, self.folder.path, self.images_seen)
        averages = {name: full_tensor(tensor).cpu() for name, tensor in self.ema.weights.items()}
        if self.world.is_main_process:
            progress = (self.images_seen, self.seconds, self.folder.changes)
            trained = describe_training(self.recipe, self.source, self.device, *progress)
            export_run(self.recipe, self.network, averages, trained)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[Stage]:
        """The stage with its averaged weights, for sampling. Every process must enter."""
        self.ema.swap(self.network)
        self.stage.network = self.network
        self.stage.eval()
        # The training step is compiled; the shapes of sampling are not worth compiling for.
        eager = torch.compiler.set_stance("force_eager")
        try:
            with self._parts.autocast(), eager:
                yield self.stage
        finally:
            self.stage.train()
            self.stage.network = self._parts.parallel_network
            self.ema.swap(self.network)
