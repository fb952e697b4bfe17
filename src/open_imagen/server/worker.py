"""Draws images for all clients: requests share batches, and clients share the device's time.

A job is one request; its images are tasks that go from stage to stage. Before each batch the
worker picks the client whose turn it is (see fairness.py) and fills the batch with what can be
drawn with it. A batch that has run ahead of a waiting client is suspended between two steps.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.errors import ConfigError, OpenImagenError
from open_imagen.server.admission import Admission
from open_imagen.server.batch_run import BatchRun, Threads
from open_imagen.server.fairness import FairShare, is_ahead, pick_batch, pick_suspended
from open_imagen.server.finishing import finish
from open_imagen.server.jobs import (
    Cancelled,
    DeadlineExceeded,
    Failed,
    Finished,
    Job,
    Task,
    WorkerStopping,
    report_progress,
)

log = logging.getLogger("open_imagen.server")
MAX_CAPTIONS = 512
"""Captions whose encoded text a served cascade keeps."""
MAX_SUSPENDED = 8
"""Batches that wait between two steps, with their noise in memory."""
QUANTUM = 1.0
"""Seconds of device time by which a client may run ahead before its batch is suspended."""
OFFLOAD_QUANTUM = 20.0
"""The same where weights are read again at each switch."""


class Observer:
    """Notified of finished batches."""

    def on_batch(self, stage: str, size: int, seconds: float) -> None:
        """Called after each batch."""


class Worker:
    """Draws the images of all jobs, one batch at a time."""

    def __init__(
        self,
        cascades: Mapping[str, Cascade],
        batch_size: int = 8,
        queue_size: int = 64,
        observer: Observer | None = None,
        quantum: float = QUANTUM,
    ) -> None:
        """Start the thread.

        Args:
            batch_size: images drawn together at most; fewer where they are large.
            queue_size: images waiting or being drawn at most.
            quantum: seconds of device time by which a client may run ahead of a waiting one.
        """
        if batch_size < 1 or queue_size < 1:
            raise ConfigError(
                f"batch size = {batch_size} and queue size = {queue_size} must be at least 1."
            )
        self.cascades, self.batch_size = cascades, batch_size
        self.observer, self.quantum = observer or Observer(), quantum
        for cascade in cascades.values():
            cascade.text.limit = MAX_CAPTIONS
        self._numbers = itertools.count()
        self._waiting: list[Task] = []
        self._suspended: list[BatchRun] = []
        self._running: BatchRun | None = None
        self._share, self._threads = FairShare(), Threads()
        self._admission = Admission(queue_size)
        self._changed = threading.Condition()
        self._closing = False
        self._pasting = ThreadPoolExecutor(1, "pasting")
        """Puts edits into their images, which takes seconds for large ones."""
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Images waiting or being drawn."""
        return len(self._tasks())

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is drawn."""
        return self.depth == 0

    @property
    def alive(self) -> bool:
        """Whether the thread is at work."""
        return self._thread.is_alive() and not self._closing

    def _tasks(self) -> list[Task]:
        """All images that are in the worker."""
        with self._changed:
            runs = [*self._suspended, *([self._running] if self._running else [])]
            return [*self._waiting, *(task for run in runs for task in run.tasks)]

    def submit(self, job: Job) -> None:
        """Take a job.

        Raises:
            QueueFull: there is no room for its images.
            WorkerStopping: the worker ends.
        """
        with self._changed:
            if self._closing:
                raise WorkerStopping("The server is stopping.")
            tasks = self._tasks()
            self._admission.check(job, tasks)
            if job.account not in (accounts := {task.job.account for task in tasks}):
                self._share.enter(job.account, accounts)
            job.unfinished = len(job.images)
            lowres = None if job.lowres is None else job.lowres[0]
            for index in range(len(job.images)):
                self._waiting.append(Task(job, index, next(self._numbers), lowres=lowres))
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Forget a job whose client has gone; its images make room at once, or after the step."""
        with self._changed:
            job.ended = True
            self._waiting = [task for task in self._waiting if task.job is not job]
            self._changed.notify()

    def abort(self) -> None:
        """Take no more jobs and give up those there are; their clients are told."""
        with self._changed:
            self._closing = True
            for job in {id(task.job): task.job for task in self._tasks()}.values():
                self._fail(job, WorkerStopping("The server stopped before the image was done."))
            self._changed.notify()

    def close(self, timeout: float | None = None) -> None:
        """Take no more jobs, finish those there are, end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._pasting.shutdown()
        self._threads.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._expire()
                while not (run := self._next()):
                    if self._closing:
                        return
                    self._changed.wait()
                self._running = run
            run.proceed()
            with self._changed:
                self._running = None
                if not run.ended:
                    self._suspended.append(run)

    def _next(self) -> BatchRun | None:
        """The suspended batch or the new one whose client's turn it is."""
        waiting = self._waiting if len(self._suspended) < MAX_SUSPENDED else []
        run = pick_suspended(self._suspended, waiting, self._share)
        if run is None:
            batch = pick_batch(self._waiting, self._share, self._room)
            if not batch:
                return None
            chosen = set(map(id, batch))
            self._waiting = [task for task in self._waiting if id(task) not in chosen]
            return BatchRun(batch, self._draw, self._threads)
        self._suspended.remove(run)
        return run

    def _expire(self) -> None:
        now = time.monotonic()
        for job in (task.job for task in self._tasks()):
            if job.deadline < now and not job.ended:
                self._fail(job, DeadlineExceeded("The image was not finished before its deadline."))

    def _fail(self, job: Job, error: Exception) -> None:
        if not job.ended:
            job.ended = True
            job.on_event(Failed(error))
        self._waiting = [task for task in self._waiting if task.job is not job]

    def _cascade(self, job: Job) -> Cascade:
        return job.cascade or self.cascades[job.model]

    def _room(self, lead: Task) -> int:
        """How many images of this size go together: as many pixels as a batch of 256x256."""
        return max(1, min(self.batch_size, self.batch_size * 256 * 256 // lead.pixels))

    def _draw(self, run: BatchRun) -> None:
        """Draw a batch, in its own thread."""
        task = run.tasks[0]
        cascade, stage = self._cascade(task.job), task.stage
        try:
            requests = [task.stage_request() for task in run.tasks]
            drawn = cascade.draw(stage, requests, self._watch(run, cascade))
        except Cancelled:
            return
        except Exception as error:
            self._recover(run, error)
            return
        self._charge(run)
        self.observer.on_batch(stage.config.name, len(run.tasks), run.seconds)
        for done, image in zip(run.tasks, drawn, strict=True):
            self._advance(done, image)

    def _recover(self, run: BatchRun, error: Exception) -> None:
        """After a failure draw each image of the batch alone, so that only the culprit fails."""
        with self._changed:
            if len(run.tasks) > 1:
                for task in run.tasks:
                    task.alone = True
                self._waiting += [task for task in run.tasks if not task.job.ended]
                return
            if not isinstance(error, OpenImagenError):
                log.error("a batch failed", exc_info=error)
            self._fail(run.tasks[0].job, error)

    def _charge(self, run: BatchRun) -> None:
        """Count the device time since the last step as used, in equal parts."""
        seconds = run.lap()
        with self._changed:
            self._admission.seconds += seconds
            for task in run.tasks:
                self._share.charge(task.job.account, seconds / len(run.tasks))

    def _advance(self, task: Task, drawn: Tensor) -> None:
        """Send an image on to its next stage, or finish it."""
        job = task.job
        if job.ended:
            return
        task.stage_index, task.lowres, task.alone = task.stage_index + 1, drawn, False
        if task.stage_index < len(job.stages):
            with self._changed:
                if not job.ended:
                    self._waiting.append(task)
            return
        if job.plans:
            self._pasting.submit(self._finish, task, drawn)
        else:
            self._finish(task, drawn)

    def _finish(self, task: Task, drawn: Tensor) -> None:
        """Hand an image to its client."""
        job = task.job
        try:
            image, record = finish(job, task.index, drawn, self._cascade(job))
        except Exception as error:
            log.exception("an image could not be finished")
            with self._changed:
                self._fail(job, error)
            return
        with self._changed:
            if job.ended:
                return
            job.unfinished -= 1
            job.ended = job.unfinished == 0
            self._admission.finished()
        job.on_event(Finished(task.index, image, record))

    def _watch(self, run: BatchRun, cascade: Cascade) -> Callable[[int, int, Tensor], None]:
        """After each step: report it, and pause or end the batch where it is time to."""

        def watch(step: int, steps: int, x: Tensor) -> None:
            self._charge(run)
            with self._changed:
                self._expire()
            report_progress(run.tasks, step, steps, x)
            if self._must_pause(run, cascade) and not run.abandoned:
                run.suspend()
                if cascade.generator.offload and not run.abandoned:
                    _load_again(run, cascade)
            if run.abandoned:
                raise Cancelled("nobody waits for these images")

        return watch

    def _must_pause(self, run: BatchRun, cascade: Cascade) -> bool:
        """Whether the batch has run ahead of a client that waits."""
        quantum = max(self.quantum, OFFLOAD_QUANTUM * cascade.generator.offload)
        with self._changed:
            others = [task for one in self._suspended for task in one.tasks]
            if len(self._suspended) < MAX_SUSPENDED:
                others += self._waiting
            return is_ahead(run.tasks, others, self._share, quantum)


def _load_again(run: BatchRun, cascade: Cascade) -> None:
    """Load the weights of a batch that was suspended; others may have offloaded them."""
    stage, settings = run.tasks[0].stage, run.tasks[0].stage_request().settings
    variant = cascade.stage(stage.config.name, settings.adapter)
    variant.load_weights(cascade.device, cascade.runtime.torch_dtype, cascade.runtime.fast)
