"""Jobs of the worker: a request, its images on their way, and the events that it reports."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from open_imagen.cascade.cascade import Cascade
from open_imagen.cascade.edit import EditPlan
from open_imagen.cascade.images import to_uint8
from open_imagen.cascade.requests import ImageRequest, StageRequest, StageStart
from open_imagen.cascade.sampling import ResolvedSampling
from open_imagen.cascade.stage import Stage
from open_imagen.errors import OpenImagenError


class QueueFull(OpenImagenError):
    """There is no place in the queue for a job's images."""

    def __init__(self, message: str, code: str, retry_after: int) -> None:
        """Describe which queue is full.

        Args:
            code: "queue_full", or "client_limit" where only this client has to wait.
            retry_after: seconds until there is probably room.
        """
        super().__init__(message)
        self.code, self.retry_after = code, retry_after


class WorkerStopping(OpenImagenError):
    """The worker takes no more work."""


class DeadlineExceeded(OpenImagenError):
    """A job was not finished before its deadline."""


class Cancelled(OpenImagenError):
    """Nobody waits for a batch any more."""


class Progress(NamedTuple):
    """A step of an image is done."""

    image_index: int
    stage: str
    step: int
    steps: int
    fraction: float
    """Of all steps of all stages."""
    estimate: Callable[[], Tensor]
    """Computes the estimate of the clean image, uint8 [C, H, W]."""


class Finished(NamedTuple):
    """An image is done."""

    image_index: int
    image: Image.Image
    record: dict[str, Any]


class Failed(NamedTuple):
    """The job ends without its images."""

    error: Exception


Event = Progress | Finished | Failed


@dataclass(eq=False)
class Job:
    """A request: its images, the stages they go through, and who is notified."""

    account: str
    """Whose device time and places in the queue it uses."""
    model: str
    images: Sequence[ImageRequest]
    stages: Sequence[Stage]
    settings: Mapping[str, ResolvedSampling]
    """Of each stage, complete."""
    on_event: Callable[[Event], None]
    """Called in the worker's threads, by one at a time."""
    deadline: float
    """By time.monotonic()."""
    size: tuple[int, int] | None = None
    """Width and height of the first stage's images."""
    lowres: Tensor | None = None
    """The image to upscale, uint8 [1, C, h, w]."""
    background: str | None = None
    """Of a model with alpha: "transparent", or white if None."""
    crop: tuple[int, int] | None = None
    """Width and height to which finished images are cropped around their centre."""
    cascade: Cascade | None = None
    """The model with adapters; None: as it is served."""
    plans: Sequence[EditPlan] = ()
    """Of edits: what each image begins with."""
    max_queued: int | None = None
    """Images that its account may have in the worker."""
    ended: bool = field(default=False)
    unfinished: int = field(default=0)

    def plan(self, index: int) -> EditPlan | None:
        """The edit that an image is."""
        return self.plans[index] if self.plans else None

    @property
    def made_by(self) -> str:
        """generate, edit or upscale."""
        if self.plans:
            return "edit"
        return "generate" if self.lowres is None else "upscale"


@dataclass(eq=False)
class Task:
    """An image on its way from stage to stage."""

    job: Job
    index: int
    number: int
    """Order of arrival."""
    stage_index: int = 0
    """Which of the job's stages comes next."""
    lowres: Tensor | None = None
    """Output of the stage before, uint8 [C, h, w]."""
    alone: bool = False
    """Whether it must not share a batch: a batch with it has failed."""

    @property
    def stage(self) -> Stage:
        """The stage that its image needs next."""
        return self.job.stages[self.stage_index]

    @property
    def start(self) -> StageStart | None:
        """What the next stage of an edit begins with."""
        plan = self.job.plan(self.index)
        return None if plan is None else plan.starts[self.stage.config.name]

    @property
    def first_size(self) -> tuple[int, int] | None:
        """Width and height of the first stage's image, where it is the next one."""
        if self.lowres is not None:
            return None
        plan = self.job.plan(self.index)
        return self.job.size if plan is None else plan.size

    @property
    def together(self) -> tuple[Any, ...]:
        """What images must have in common to be drawn in one batch."""
        settings = self.job.settings[self.stage.config.name]
        shape = None if self.lowres is None else tuple(self.lowres.shape)
        start = None if self.start is None else self.start.together
        return self.job.model, self.job.cascade, settings.together, shape, self.first_size, start

    def fits(self, other: "Task") -> bool:
        """Whether both can be drawn in one batch."""
        if self.alone or other.alone:
            return False
        return self.stage is other.stage and self.together == other.together

    def stage_request(self) -> StageRequest:
        """The image as its next stage takes it."""
        image = self.job.images[self.index]
        return StageRequest(
            image.prompt,
            image.seed,
            self.job.settings[self.stage.config.name],
            image.negative,
            self.lowres,
            self.first_size,
            self.start,
            image.variations,
            image.prompt_weights,
        )

    @property
    def pixels(self) -> int:
        """Of its next stage's output."""
        width, height = self.first_size or (256, 256)
        if self.lowres is not None:
            width = height = self.stage.config.resolution
            if self.stage.config.lowres:
                scale = self.stage.config.resolution // self.stage.config.lowres
                height, width = (scale * side for side in self.lowres.shape[1:])
        return width * height


def report_progress(tasks: Sequence[Task], step: int, steps: int, estimates: Tensor) -> None:
    """Tell the clients of a batch how far it is.

    Args:
        estimates: of the clean images, [B, C, H, W] in [-1, 1]; converted only when looked at.
    """
    for k, task in enumerate(tasks):
        if not task.job.ended:
            fraction = (task.stage_index + step / steps) / len(task.job.stages)
            name = task.stage.config.name
            preview = partial(_preview, estimates, k)
            task.job.on_event(Progress(task.index, name, step, steps, fraction, preview))


def _preview(estimates: Tensor, k: int) -> Tensor:
    return to_uint8(estimates[k]).cpu()
