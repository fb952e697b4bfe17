"""The training loop. Progress is counted in images; run it again to resume."""

import contextlib
import functools
import math
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.utils.checkpoint
from torch import Tensor

from open_imagen.backends.accelerate import accelerate
from open_imagen.cascade.draws import Draws
from open_imagen.cascade.folder import (
    load_into,
    locate,
    read_header,
    write_adapter,
    write_folder,
)
from open_imagen.cascade.stage import Stage
from open_imagen.config import plain, to_toml
from open_imagen.data.loader import Loader
from open_imagen.devices import free_memory, has_bf16
from open_imagen.distributed import gathered, own_device, total, world
from open_imagen.errors import ConfigError, MissingDependency, TrainingError
from open_imagen.models.lora import Merged, adapt, adapter_of, frozen_of
from open_imagen.storage import TensorFile, save_tensors, write_text
from open_imagen.text.cache import ByLength, Packed, Remembered
from open_imagen.text.letters import with_letters
from open_imagen.text.store import Store
from open_imagen.training.averages import Profile, snapshot_name
from open_imagen.training.checkpoint import Checkpoints, training_tensors
from open_imagen.training.data_check import check_data, check_text, checked
from open_imagen.training.distill import Distillation, load_teacher
from open_imagen.training.ema import Ema
from open_imagen.training.optim import clip, make_optimizer
from open_imagen.training.parallel import blocks, gathering, spread, whole
from open_imagen.training.reading import Disturbed, Reading, Vocabulary
from open_imagen.training.run import Recipe
from open_imagen.types import Batch, Source, TextEmbedding, TextEncoder

Callback = Callable[["Trainer"], None]
Objective = Callable[[Tensor, TextEmbedding, Draws, Tensor | None], Tensor]
"""(images, text, draws, lowres) -> the weighted error of each example."""

MOST_FOR_TEXT = 8
"""A GPU holds all texts itself if they take no more than such a part of its free memory."""
PACE = 20
"""Steps by which the pace is measured."""
GROUP_OF_CAPTIONS = (16, 512)
"""Captions encoded together where each batch is encoded by itself, on a CPU and on a GPU."""
COMPILED_TEXT = 24
"""A compiled network sees texts padded to a multiple of this many tokens: few shapes to compile."""


@dataclass
class Told:
    """What a step reports."""

    loss: float = math.nan
    """Mean over the images since the last report."""
    grad_norm: float = math.nan
    lr: float = 0.0
    images_per_second: float = 0.0
    unusable: dict[str, int] = field(default_factory=dict)
    """Examples that the source has left out, by reason, in all processes."""


class Trainer:
    """One stage, learning from one source.

    ``callbacks`` are called after every step, on what the trainer then is; each decides itself
    whether it is due (`trainer.passed(every)`).
    """

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
        self._check_parts()
        check_data(recipe.stage, source)
        check_text(recipe.stage, encoder)
        self.device = own_device(self.config.device)
        if threads := self.config.threads or int(self.device.type == "cuda"):
            torch.set_num_threads(threads)
        self.bf16 = self._choose_bf16()
        if recipe.reading.layers:
            knowing = cast(Vocabulary, encoder)
            encoder = Disturbed(knowing, source.captions(), recipe.reading)
        # What is on disk is looked up; what is encoded is remembered, unless it hardly ever comes
        # twice.
        self.text: TextEncoder
        if isinstance(encoder, Store):
            self.text = encoder
        elif getattr(source, "endless_captions", False):
            group = GROUP_OF_CAPTIONS[self.device.type == "cuda"]
            self.text = ByLength(encoder, self.bf16, group)
        else:
            self.text = Remembered(encoder, torch.float16)
        self.lookup: TextEncoder = self.text

        torch.backends.cudnn.benchmark = True  # every step has the same shapes
        torch.manual_seed(self.config.seed)  # fresh weights are the one use of the global state
        self.stage = Stage(recipe.stage).to(self.device)
        self.network = self.stage.network
        sharded = self.world.size > 1 and self.config.parallel == "fsdp"
        if not sharded:  # shards are cut from contiguous weights
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.config.init:
            self._begin_from(self.config.init)
        if recipe.adapter.rank:
            adapt(self.network, recipe.adapter)
        if recipe.reading.layers:
            self.network.requires_grad_(False)
            self.network.get_submodule("text_denoiser").requires_grad_(True)
        if self.config.checkpoint_activations:
            checkpoint_blocks(self.network)
        if self.config.compile:
            self._compile()
        elif self._is_fast and not sharded:
            self._accelerate(self.network, "training")
        self.learning = spread(self.network, self.config.parallel)
        """The network as it is called in training; `network` itself where there is one process."""
        self.stage.network = self.learning
        self.objective: Objective | None = None
        """What is asked of the network, if not the stage's own loss."""
        if recipe.distill.teacher:
            teacher = load_teacher(recipe.distill, recipe.stage.name, self.device)
            if self.config.compile:
                teacher.network.compile(dynamic=False)
            elif self._is_fast:
                self._accelerate(teacher.network, "inference")
            self.objective = Distillation(recipe.distill, self.stage, teacher)
        if recipe.reading.layers:
            layers = self.network.get_submodule("text_denoiser")
            self.objective = Reading(recipe.reading, cast(torch.nn.ModuleList, layers))
        self.optimizer = make_optimizer(self.network, recipe.optim)
        self.ema = Ema(self.network, recipe.ema)
        self.checkpoints = Checkpoints(recipe.folder / "checkpoints", self.config.keep)

        self.seen = self._last_seen = 0
        self.length = self.config.images
        """Images that the run will have seen in the end; fewer than `images` if time is short."""
        self.seconds = 0.0
        """Time spent in steps, over all resumed parts of the run."""
        self._paced: tuple[int, float] | None = None
        self.told = Told()
        self.skipped = 0
        """Steps whose loss was not finite, in this process."""
        self.stopping = False
        """Set it, and the run ends after the step with a checkpoint; several processes, after the
        next one, in which they tell each other."""
        self._agreed_to_stop = False
        self._bad = 0
        self._losses: list[Tensor] = []
        self._since = (0, time.monotonic())

    def fit(self) -> bool:
        """Train until `images` have been seen, or for `minutes`, or until told to stop by SIGTERM;
        whether the run is complete. Of several processes each can do it once.

        Raises:
            TrainingError: the loss is no longer finite; the last good checkpoint is kept.
        """
        try:
            return self._fit()
        finally:
            # Let go of what joins the processes, before they part (see distributed.joined).
            self.learning = self.stage.network = self.network

    def _fit(self) -> bool:
        begun = time.monotonic()
        self.resume()
        self.warm()
        loader = Loader(
            self.source,
            self.config.batch_size,
            self.config.workers,
            rank=self.world.rank,
            ranks=self.world.size,
        )
        batches = checked(loader.after(self.seen), self.recipe.stage)
        with contextlib.closing(batches), stopping_on_sigterm(self):  # type: ignore[type-var]
            while self.seen < self.length:
                started = time.monotonic()
                if self.config.minutes and started - begun > 60 * self.config.minutes:
                    self.stopping = True
                if self._agreed_to_stop or (self.stopping and self.world.size == 1):
                    self.save(wait=True)
                    return False
                batch = next(batches)
                self.step(batch)
                self.seconds += time.monotonic() - started
                self._keep_time()
                self.report()
                if self.passed(self.config.save_every) or self.seen >= self.length:
                    self.save()
                if self.passed(self.recipe.ema.snapshot_every):
                    self.snapshot()
                self.checkpoints.settle(wait=False)
        self.checkpoints.settle()
        self.export()
        return True

    def warm(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Encode every caption once, before the first step.

        Always all of them and in one order, so that a resumed run sees the same numbers.
        """
        if not isinstance(self.text, Remembered):
            return
        captions = {*self.source.captions(), *self.config.prompts}
        told = None if progress is None else (lambda done: progress(done, len(captions)))
        self.text.warm(captions, 64 if self.device.type == "cpu" else 512, told)
        size = self.text.numbers * torch.float16.itemsize
        if self.device.type == "cuda" and size < free_memory(self.device) / MOST_FOR_TEXT:
            self.lookup = Packed(self.text, self.device)

    def encode_text(self, captions: Sequence[str]) -> TextEmbedding:
        """Captions as the network reads them, on its device."""
        return with_letters(self.lookup(captions), captions, self.stage.letters).to(self.device)

    def step(self, batch: Batch) -> None:
        """One optimiser step: loss, gradients, clipping, weights, average."""
        images = to_signed(batch.images, self.device)
        lowres = None if batch.lowres is None else to_signed(batch.lowres, self.device)
        draws = Draws.make(
            images.shape,
            batch.index,
            self.config.seed,
            self.config.text_drop,
            lowres is not None,
            self.device,
        )
        text = self.encode_text(batch.captions)
        if self.config.compile:
            text = text.padded(COMPILED_TEXT)
        loss = torch.zeros((), device=self.device)
        pieces = parts(batch.size, self.config.accumulate)
        for rows in pieces:
            automatic = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
            with gathering(self.learning, rows is pieces[-1]), automatic:
                losses = (self.objective or self.stage.loss)(
                    images[rows],
                    text.select(rows),
                    draws.select(rows),
                    None if lowres is None else lowres[rows],
                )
                if batch.weights is not None:
                    losses = losses * batch.weights[rows].to(self.device)
                # Processes average their gradients, which is the mean over all of their images.
                part = losses.sum() / batch.size
                part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        norm = clip(self.network.parameters(), self.recipe.optim.clip)
        self._last_seen, self.seen = self.seen, self.seen + self.config.batch_size
        said = total(torch.stack([loss / self.world.size, loss.new_tensor(float(self.stopping))]))
        loss, self._agreed_to_stop = said[0], bool(said[1])
        if self._is_finite(loss, norm):
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.optim.rate(self._last_seen, self.length)
            self.optimizer.step()
            self.ema.update(self.network, self.seen, self.config.batch_size)
            self._losses.append(loss)
            self.told.grad_norm = float(norm)
            self.told.lr = self.optimizer.param_groups[0]["lr"]
        self.optimizer.zero_grad()

    def passed(self, every: int) -> bool:
        """Whether the last step went past a multiple of ``every`` images."""
        return every > 0 and self.seen // every > self._last_seen // every

    def report(self) -> None:
        """Bring `told` up to date and call the callbacks."""
        if self.passed(self.config.log_every) or self.seen >= self.length:
            now = time.monotonic()
            images, then = self._since
            if self._losses:
                self.told.loss = float(torch.stack(self._losses).mean())
            self.told.images_per_second = (self.seen - images) / max(now - then, 1e-9)
            self.told.unusable = dict(sum(map(Counter, gathered(dict(self.unusable))), Counter()))
            self._losses.clear()
            self._since = (self.seen, now)
        for callback in self.callbacks:
            callback(self)

    def _keep_time(self) -> None:
        """Bring `length` to what the pace of late allows, if the run has to be complete in time."""
        batch = self.config.batch_size
        if not self.config.within or self.seen // batch % PACE:
            return
        then, self._paced = self._paced, (self.seen, self.seconds)
        if then is None:  # the first steps compile, which is no pace
            return
        images, seconds = (now - before for now, before in zip(self._paced, then, strict=True))
        left = max(0.0, 60 * self.config.within - self.seconds)
        more = torch.tensor(images / seconds * left / self.world.size, device=self.device)
        agreed = self.seen + int(total(more)) // batch * batch
        self.length = min(self.config.images, agreed)

    @property
    def unusable(self) -> Mapping[str, int]:
        """Examples that the source has left out in this process, by reason."""
        counts: Mapping[str, int] = getattr(self.source, "unusable", {})
        return counts

    def resume(self) -> None:
        """Continue from the newest checkpoint, if the run folder has one."""
        facts = self.checkpoints.latest_facts()
        if facts is not None:
            self._check_same_network(facts)
            tensors = training_tensors(self.network, self.ema, self.optimizer)
            self.checkpoints.load_latest(tensors)
            self.seen, self.seconds = facts["seen"], facts["seconds"]
            if self.config.within:
                self.length = min(self.length, facts.get("length", self.length))
        self._last_seen = self.seen
        self._since = (self.seen, time.monotonic())
        if self.world.first:
            write_text(self.recipe.folder / "recipe.toml", to_toml(plain(self.recipe)))

    def _compile(self) -> None:
        # What a recorded call has put out, gradients included, is written over by the next one:
        # there must be one in a step, and nobody else who holds its gradients.
        one_call = not self.recipe.distill.teacher and self.config.accumulate == 1
        record = self.config.cuda_graphs and one_call and self.world.size == 1
        on_gpu = self.device.type == "cuda"
        self.network.compile(dynamic=False, mode="reduce-overhead" if record and on_gpu else None)

    @property
    def _is_fast(self) -> bool:
        return self.config.fast and self.device.type == "cpu" and not self.bf16

    def _accelerate(self, network: torch.nn.Module, mode: str) -> None:
        try:
            accelerate(network, mode)
        except MissingDependency as error:
            warnings.warn(f"train.fast has no effect: {error}", stacklevel=3)

    def _begin_from(self, model: str) -> None:
        weights = TensorFile(locate(model) / self.recipe.stage.name / "model.safetensors")
        lacking = load_into(self.network, weights, True, self.config.fresh)
        if lacking:
            more = " ..." if len(lacking) > 3 else ""
            warnings.warn(
                f"train.init = {model!r} lacks {len(lacking)} weights of this network, which start "
                f"fresh: {', '.join(lacking[:3])}{more}",
                stacklevel=3,
            )

    def save(self, wait: bool = False) -> None:
        """Write a checkpoint; unless ``wait``, while training goes on."""
        tensors = training_tensors(self.network, self.ema, self.optimizer)
        facts = {"seconds": self.seconds, "network": self.stage.saved_network}
        facts["length"] = self.length
        if self.recipe.adapter.rank:
            facts["adapter"] = plain(self.recipe.adapter)
        self.checkpoints.save(self.seen, tensors, facts, wait or not self.config.async_save)

    def export(self) -> None:
        """Write the averaged weights as a model of one stage, RUN/model; of an adapter, what it
        makes of its model, and itself in RUN/adapter."""
        self.snapshot()
        averages = {name: whole(tensor).cpu() for name, tensor in self.ema.weights.items()}
        if not self.world.first:
            return
        facts: dict[str, Any] = {"images": self.seen, "hours": round(self.seconds / 3600, 2)}
        facts |= {"device": self.device.type, "data": self.source.describe()}
        if self.config.init:
            facts["init"] = self.config.init
        if self.config.fresh:
            facts["fresh"] = list(self.config.fresh)
        if self.recipe.distill.teacher:
            facts["distill"] = plain(self.recipe.distill)
        if self.recipe.reading.layers:  # all else is what it was, and so is what it learned from
            facts |= plain(self.recipe.reading)
            before = read_header(locate(self.config.init)).get("trained", {})
            facts = {**before.get(self.recipe.stage.name, {}), "reading": facts}
        weights: Iterable[tuple[str, Tensor]] = {
            **dict(self.network.named_parameters()),
            **averages,
        }.items()
        if self.recipe.adapter.rank:
            adapter = adapter_of(averages)
            write_adapter(
                self.recipe.folder / "adapter",
                self.recipe.stage.name,
                adapter,
                self.recipe.adapter.scale,
                self.config.init,
            )
            frozen = dict(frozen_of(self.network))
            shapes = {name: tuple(tensor.shape) for name, tensor in frozen.items()}
            weights = Merged(frozen.items(), shapes, adapter, self.recipe.adapter.scale)
        write_model(self.recipe, weights, self.recipe.folder / "model", facts)

    def snapshot(self) -> None:
        """Keep the averages of `ema.lengths` as they are now, in RUN/averages."""
        for length, averages in self.ema.profiles.items():
            full = {name: whole(tensor).cpu() for name, tensor in averages.items()}
            if self.world.first:
                name = snapshot_name(Profile(self.seen, length))
                save_tensors(self.recipe.folder / "averages" / name, full)

    @contextlib.contextmanager
    def averaged(self) -> Any:
        """The stage with its averaged weights, for sampling. Every process must enter."""
        self.ema.exchange(self.network)
        self.stage.network = self.network
        self.stage.eval()
        # What was compiled is the training step; other shapes are not worth compiling for.
        eager = torch.compiler.set_stance("force_eager")
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16), eager:
                yield self.stage
        finally:
            self.stage.train()
            self.stage.network = self.learning
            self.ema.exchange(self.network)

    def _choose_bf16(self) -> bool:
        if self.config.precision == "bf16" and not has_bf16(self.device):
            raise ConfigError(
                f"train.precision = 'bf16', but {self.device.type} here has no bfloat16 "
                "arithmetic: it would be many times slower.",
                "Use precision = 'auto' or 'fp32'.",
            )
        return self.config.precision != "fp32" and has_bf16(self.device)

    def _is_finite(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether this step may change anything.

        Raises:
            TrainingError: the last `patience` steps were not.
        """
        if math.isfinite(float(loss)) and math.isfinite(float(norm)):
            self._bad = 0
            return True
        self.skipped += 1
        self._bad += 1
        if self._bad < self.config.patience:
            return False
        self.checkpoints.settle()
        found = self.checkpoints.all()
        kept = f"The last good checkpoint is {found[-1]}." if found else "There is no checkpoint."
        raise TrainingError(
            f"The loss is {float(loss)} and the gradient's norm {float(norm)} after "
            f"{self.seen:,} images, and neither was finite in {self._bad} steps; nothing was "
            f"changed by them. {kept}",
            "Lower optim.lr or use precision = 'fp32', then run the same command again.",
        )

    def _check_parts(self) -> None:
        if self.recipe.reading.layers and self.world.size > 1:
            raise ConfigError(
                f"reading.layers in {self.world.size} processes: it learns in one.",
                "Run it without torchrun; it takes minutes.",
            )
        parts = self.world.size * self.config.accumulate
        if self.config.batch_size % parts:
            raise ConfigError(
                f"train.batch_size = {self.config.batch_size} must be a multiple of {parts}: "
                f"{self.world.size} processes, train.accumulate = {self.config.accumulate}."
            )

    def _check_same_network(self, facts: dict[str, Any]) -> None:
        adapter = plain(self.recipe.adapter) if self.recipe.adapter.rank else None
        if (facts.get("network"), facts.get("adapter")) != (self.stage.saved_network, adapter):
            raise ConfigError(
                f"{self.recipe.folder} holds a run of another network or adapter.",
                "Choose another name or out, or remove that folder.",
            )


def write_model(
    recipe: Recipe, weights: Iterable[tuple[str, Tensor]], folder: Path, facts: dict[str, Any]
) -> None:
    """A model folder of one stage with these weights."""
    with torch.device("meta"):
        stage = Stage(recipe.stage).asleep(weights)
    stage.wake(torch.device("cpu"))
    trained = {recipe.stage.name: facts}
    write_folder(folder, recipe.name, recipe.encoder, [stage], torch.float32, trained)


def to_signed(images: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, C, H, W] -> float in [-1, 1], channels last."""
    signed = images.to(device, torch.float32).div(127.5).sub(1)
    return signed.contiguous(memory_format=torch.channels_last)


def parts(size: int, number: int) -> list[slice]:
    """A batch in equal parts, fewer if it is smaller."""
    step = -(-size // number)
    return [slice(start, start + step) for start in range(0, size, step)]


def checkpoint_blocks(network: torch.nn.Module) -> None:
    """Recompute every block's inside in the backward pass instead of keeping it."""
    for block in blocks(network):
        block.forward = functools.partial(
            torch.utils.checkpoint.checkpoint, block.forward, use_reentrant=False
        )


@contextlib.contextmanager
def stopping_on_sigterm(trainer: Trainer) -> Any:
    """Let SIGTERM end the run after the step it is in, with a checkpoint."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may listen
        return

    def stop(*_: object) -> None:
        trainer.stopping = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
