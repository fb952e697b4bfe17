"""One thread that draws for many: requests that can share a batch do, in fair order.

A job is one request; its pictures are tasks that walk from stage to stage. Before each batch the
worker picks the client whose turn it is, that client's oldest task, and fills the batch with
whatever can be drawn with it. Jobs hear what happens to them through a callback, in the worker's
thread.
"""

import itertools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from open_imagen.cascade.alpha import parse_background, to_image
from open_imagen.cascade.pipeline import Cascade, StageRequest, to_uint8
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.errors import ConfigError, OpenImagenError

log = logging.getLogger("open_imagen.server")
MOST_CLIENTS = 10_000
"""Clients whose last turn is remembered."""
MOST_CAPTIONS = 512
"""Sentences whose tokens a serving cascade keeps."""


class Full(OpenImagenError):
    """The queue holds as many pictures as it may."""


class Stopping(OpenImagenError):
    """The worker takes no more work."""


class Expired(OpenImagenError):
    """A job was not finished before its deadline."""


class Cancelled(OpenImagenError):
    """Whoever wanted the job has gone."""


class Progress(NamedTuple):
    """A step has been made; ``share`` of the picture's whole way is behind it."""

    picture: int
    stage: str
    step: int
    steps: int
    share: float
    estimate: Callable[[], Tensor]
    """What the picture will be, uint8 [3, H, W], if it is wanted."""


class Finished(NamedTuple):
    """A picture is done."""

    picture: int
    image: Image.Image
    record: dict[str, Any]


class Failed(NamedTuple):
    """The job ends without its pictures."""

    error: Exception


Event = Progress | Finished | Failed


class Picture(NamedTuple):
    """A wanted picture."""

    prompt: str
    negative: str
    seed: int


@dataclass(eq=False)
class Job:
    """A request: its pictures, the stages they go through, and who hears of them."""

    client: str
    model: str
    pictures: Sequence[Picture]
    stages: Sequence[Stage]
    settings: Mapping[str, Sampling]
    """Of each stage, nothing left open."""
    heard: Callable[[Event], None]
    deadline: float
    """By time.monotonic()."""
    size: tuple[int, int] | None = None
    start: Tensor | None = None
    """The picture to be enlarged, uint8 [1, C, h, w]."""
    background: str | None = None
    """Of a model with alpha: "transparent", or white if None."""
    ended: bool = field(default=False)
    left: int = field(default=0)


@dataclass(eq=False)
class Task:
    """A picture on its way."""

    job: Job
    index: int
    number: int
    """Order of arrival."""
    place: int = 0
    """Which of the job's stages comes next."""
    below: Tensor | None = None

    @property
    def stage(self) -> Stage:
        return self.job.stages[self.place]

    def fits(self, other: "Task") -> bool:
        """Whether both can be drawn in one batch."""
        mine, theirs = (t.job.settings[t.stage.config.name].together for t in (self, other))
        shapes = [None if t.below is None else t.below.shape for t in (self, other)]
        sizes = [t.job.size if t.below is None else None for t in (self, other)]
        same_stage = self.job.model == other.job.model and self.stage is other.stage
        return same_stage and mine == theirs and shapes[0] == shapes[1] and sizes[0] == sizes[1]

    def order(self) -> StageRequest:
        picture, name = self.job.pictures[self.index], self.stage.config.name
        size = self.job.size if self.place == 0 and self.below is None else None
        return StageRequest(
            picture.prompt,
            picture.seed,
            self.job.settings[name],
            picture.negative,
            self.below,
            size,
        )


class Observer:
    """What is told of the worker's doings; nothing, unless somebody overrides it."""

    def batch(self, stage: str, size: int, seconds: float) -> None: ...


class Worker:
    """Draws the pictures of all jobs, one batch after the other."""

    def __init__(
        self,
        cascades: Mapping[str, Cascade],
        batch_size: int = 8,
        queue_size: int = 64,
        observer: Observer | None = None,
    ) -> None:
        """
        Args:
            batch_size: pictures drawn together at most; fewer where they are large.
            queue_size: pictures waiting or being drawn at most.
        """
        if batch_size < 1 or queue_size < 1:
            raise ConfigError(
                f"batch size = {batch_size} and queue size = {queue_size} must be at least 1."
            )
        self.cascades, self.batch_size, self.queue_size = cascades, batch_size, queue_size
        self.observer = observer or Observer()
        for cascade in cascades.values():
            cascade.text.limit = MOST_CAPTIONS
        self._numbers, self._batches = itertools.count(), itertools.count()
        self._waiting: list[Task] = []
        self._busy: list[Task] = []
        self._served: OrderedDict[str, int] = OrderedDict()
        """The latest clients, and which batch was the last that they had a part in."""
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Pictures waiting or being drawn."""
        return len(self._waiting) + len(self._busy)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is drawn."""
        return self.depth == 0

    @property
    def alive(self) -> bool:
        """Whether the thread is at work."""
        return self._thread.is_alive() and not self._closing

    def submit(self, job: Job) -> None:
        """Take a job.

        Raises:
            Full: there is no room for its pictures.
            Stopping: the worker ends.
        """
        with self._changed:
            if self._closing:
                raise Stopping("The server is stopping.")
            if self.depth + len(job.pictures) > self.queue_size:
                raise Full(
                    f"{self.depth} pictures are waiting already; the server takes "
                    f"{self.queue_size} at once."
                )
            job.left = len(job.pictures)
            for index in range(len(job.pictures)):
                below = None if job.start is None else job.start[0]
                self._waiting.append(Task(job, index, next(self._numbers), below=below))
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """Forget a job whose client has gone; its pictures make room at once, or after the step."""
        with self._changed:
            job.ended = True
            self._waiting = [task for task in self._waiting if task.job is not job]

    def close(self, timeout: float | None = None) -> None:
        """Take no more jobs, finish those there are, end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._expire()
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch = self._busy = self._pick()
                chosen = set(map(id, batch))
                self._waiting = [task for task in self._waiting if id(task) not in chosen]
            if batch:
                self._run(batch)

    def _expire(self) -> None:
        now = time.monotonic()
        for job in {id(t.job): t.job for t in self._waiting if t.job.deadline < now}.values():
            self._fail(job, Expired("The picture was not finished before its deadline."))

    def _fail(self, job: Job, error: Exception) -> None:
        if not job.ended:
            job.ended = True
            job.heard(Failed(error))
        self._waiting = [task for task in self._waiting if task.job is not job]

    def _pick(self) -> list[Task]:
        """The next batch: led by the client whose turn it is, filled from all in turn."""
        queues: dict[str, list[Task]] = {}
        for task in sorted(self._waiting, key=lambda task: task.number):
            queues.setdefault(task.job.client, []).append(task)
        if not queues:
            return []
        # Whose last batch is longest ago comes first; among those that had none, who came first.
        turn = sorted(queues, key=lambda one: (self._served.get(one, -1), queues[one][0].number))
        lead = queues[turn[0]][0]
        room = self._room(lead)
        batch = [lead]
        fitting = {
            client: [task for task in queues[client] if task is not lead and task.fits(lead)]
            for client in turn
        }
        # The leader's own come last in each round: others have waited longer for their turn.
        for client in itertools.cycle([*turn[1:], turn[0]]):
            if len(batch) == room or not any(fitting.values()):
                break
            if fitting[client]:
                batch.append(fitting[client].pop(0))
        now = next(self._batches)
        for task in batch:
            self._served[task.job.client] = now
            self._served.move_to_end(task.job.client)
        while len(self._served) > MOST_CLIENTS:
            self._served.popitem(last=False)
        return batch

    def _room(self, lead: Task) -> int:
        """How many pictures of this size go together: as many pixels as a batch of 256x256."""
        width, height = lead.job.size or (256, 256)
        if lead.place or lead.below is not None:
            width = height = lead.stage.config.resolution
        most = self.batch_size * 256 * 256 // (width * height)
        return max(1, min(self.batch_size, most))

    def _run(self, batch: list[Task]) -> None:
        cascade, stage = self.cascades[batch[0].job.model], batch[0].stage
        started = time.monotonic()
        try:
            drawn = cascade.draw(stage, [task.order() for task in batch], self._watch(batch))
        except Cancelled:
            drawn = None
        except Exception as error:
            if len(batch) > 1:  # one of them must not spoil it for the others
                for task in batch:
                    self._run([task])
                return
            if not isinstance(error, OpenImagenError):
                log.exception("a batch failed")
            with self._changed:
                for task in batch:
                    self._fail(task.job, error)
                self._busy = []
            return
        if drawn is not None:
            self.observer.batch(stage.config.name, len(batch), time.monotonic() - started)
            done = [
                self._advance(task, picture) for task, picture in zip(batch, drawn, strict=True)
            ]
            for job, event in filter(None, done):
                job.heard(event)
        with self._changed:
            self._busy = []

    def _advance(self, task: Task, picture: Tensor) -> tuple[Job, Finished] | None:
        """Send a task on to its next stage, or finish it."""
        job = task.job
        if job.ended:
            return None
        task.place, task.below = task.place + 1, picture
        if task.place < len(job.stages):
            with self._changed:
                if not job.ended:
                    self._waiting.append(task)
            return None
        job.left -= 1
        job.ended = job.left == 0
        image = to_image(picture, parse_background(job.background))
        wanted = job.pictures[task.index]
        record = self.cascades[job.model].record(
            wanted.prompt,
            wanted.negative,
            wanted.seed,
            image.size,
            job.settings,
            "generate" if job.start is None else "upscale",
            job.background,
        )
        return job, Finished(task.index, image, record)

    def _watch(self, batch: list[Task]) -> Callable[[int, int, Tensor], None]:
        """Tell each job of a step; end the batch when nobody wants any of it."""

        def watch(step: int, steps: int, x: Tensor) -> None:
            now = time.monotonic()
            for k, task in enumerate(batch):
                job = task.job
                if job.deadline < now and not job.ended:
                    with self._changed:
                        self._fail(
                            job, Expired("The picture was not finished before its deadline.")
                        )
                if not job.ended:
                    share = (task.place + step / steps) / len(job.stages)
                    name = task.stage.config.name
                    job.heard(Progress(task.index, name, step, steps, share, _later(x, k)))
            if all(task.job.ended for task in batch):
                raise Cancelled("nobody waits for these pictures")

        return watch


def _later(x: Tensor, k: int) -> Callable[[], Tensor]:
    return lambda: to_uint8(x[k]).cpu()
