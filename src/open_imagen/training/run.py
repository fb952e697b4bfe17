"""A recipe: everything that makes one training run, as one config."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_imagen.cascade.folder import locate, read_header
from open_imagen.cascade.stage import StageConfig
from open_imagen.config import override, parse, read_toml
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models.lora import LoraConfig
from open_imagen.storage import read_json
from open_imagen.training.distill import DistillConfig
from open_imagen.training.ema import EmaConfig
from open_imagen.training.optim import OptimConfig
from open_imagen.training.reading import ReadingConfig

READS = {"text_denoiser": "layers", "text_denoiser_least": "least"}
"""Settings of a network that learns to read, and what they are called in `reading`."""
KINDS = ("ddp", "fsdp")
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The run: how long, how fast, and what is written on the way."""

    images: int
    """Images to learn from; the clock of the run."""
    init: str = ""
    """Start from the weights of this stage in another model (a name, a folder or "hf:..."), not
    from fresh ones; what that model lacks starts fresh. A run with a checkpoint of its own resumes
    from that."""
    fresh: tuple[str, ...] = ()
    """Patterns of weights that start fresh though `init` has them: ["*text*"] is all that reads
    text, to teach a network another language model."""
    batch_size: int = 32
    """Images per step."""
    accumulate: int = 1
    """Parts in which a step goes through the network, to save memory; they must divide it."""
    checkpoint_activations: bool = False
    """Recompute what is inside the blocks in the backward pass: less memory, a third more time."""
    seed: int = 0
    """Of weights, noise and times."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    precision: str = "auto"
    """fp32, bf16 (autocast), or auto: bf16 where the hardware has it."""
    threads: int = 0
    """CPU threads; 0 leaves torch's choice, but takes 1 beside a GPU, where many would only wait
    for each other. Another number may change the last bits."""
    parallel: str = "ddp"
    """How several processes (torchrun) share the work: ddp, the whole network in each, or fsdp, a
    share of weights, gradients and optimiser state in each."""
    async_save: bool = True
    """Write checkpoints while training goes on."""
    compile: bool = False
    """Compile the network before the first step: a minute or two, then faster steps. On a CPU it
    needs a C++ compiler."""
    fast: bool = True
    """On a CPU, in float32, not compiled: C++ kernels for 3x3 convolutions (Winograd), attention,
    and the gradients of both; equal to plain ones to 2^-15. Without a C++ compiler it has no
    effect."""
    cuda_graphs: bool = True
    """On a GPU: capture a compiled network's calls as CUDA graphs and replay them, for steps so
    short that launching their kernels would take longest."""
    text_drop: float = 0.1
    """Share of examples trained without their text, for guidance (section 4.1)."""
    workers: int = 0
    """Threads that make batches ahead, for GPUs (for scenes: processes that lay them out); 0 makes
    them in the loop, best on a CPU, where they would only compete with the network."""
    log_every: int = 1_000
    """Images between lines of log.jsonl."""
    sample_every: int = 20_000
    """Images between pictures of `prompts`; 0 for none."""
    save_every: int = 10_000
    """Images between checkpoints."""
    validate_every: int = 0
    """Images between losses on held-out examples by noise level (see `validation`); 0 for none."""
    align_every: int = 0
    """Images between looks at how often pictures of scene prompts are right; 0 for none. For base
    stages that learn the scene world."""
    align_prompts: int = 32
    """Prompts of each category that are looked at."""
    patience: int = 3
    """Steps in a row whose loss is not finite, each skipped, before the run stops."""
    minutes: float = 0.0
    """Stop after so long, with a checkpoint; run again to go on. 0 for no limit."""
    within: float = 0.0
    """Minutes of training, over all its parts, in which the run shall be complete: it learns from
    as many of `images` as its pace allows, and its learning rate falls accordingly. 0 for all."""
    keep: int = 3
    """Checkpoints kept."""
    prompts: tuple[str, ...] = ()
    """Sampled while training, always with the same seeds."""

    def __post_init__(self) -> None:
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise ConfigError(
                f"train.accumulate = {self.accumulate} must divide train.batch_size = "
                f"{self.batch_size}."
            )
        for name in ("images", "batch_size", "log_every", "save_every", "keep", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} = {getattr(self, name)} must be at least 1.")
        if self.fresh and not self.init:
            raise ConfigError("train.fresh says what train.init shall not give; there is none.")
        if not 0 <= self.text_drop <= 1:
            raise ConfigError(f"train.text_drop = {self.text_drop} must be between 0 and 1.")
        if self.parallel not in KINDS:
            raise UnknownName("train.parallel", self.parallel, KINDS)
        if self.precision not in PRECISIONS:
            raise UnknownName("precision", self.precision, PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run."""

    name: str
    """Names the run folder, runs/<name>, unless `out` is given."""
    stage: StageConfig
    train: TrainConfig
    data: dict[str, Any] = field(default_factory=lambda: {"kind": "scenes"})
    validation: dict[str, Any] = field(default_factory=dict)
    """Data of which the network learns nothing, for `train.validate_every`; described as `data`."""
    encoder: str = "minilm-l6"
    """The frozen text encoder, by its name in the table."""
    embeddings: str = ""
    """A folder that imagen embed wrote: the encoder is then never loaded."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    adapter: LoraConfig = field(default_factory=LoraConfig)
    """Learn a low-rank change of some weights (LoRA) in place of all weights; wants train.init."""
    distill: DistillConfig = field(default_factory=DistillConfig)
    """Learn from a teacher in place of the data's own pictures; see training/distill.py."""
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    """Learn to read unknown words, of captions alone; see training/reading.py."""
    out: str = ""
    """The run folder."""

    def __post_init__(self) -> None:
        if self.reading.layers:
            self._check_reading()
        if self.adapter.rank and not self.train.init:
            raise ConfigError(
                f"adapter.rank = {self.adapter.rank} needs a model to adapt.",
                'Name it in train.init: "scenes", a folder, or "hf:...".',
            )
        if self.adapter.rank and self.train.fresh:
            raise ConfigError(
                "train.fresh and adapter.rank together: an adapter changes a model as it is."
            )
        if not (self.distill.teacher or self.reading.layers) and self.stage.guided != 1:
            raise ConfigError(
                f"The predictions of stage {self.stage.name!r} are guided already (stage.guided = "
                f"{self.stage.guided}): learning from pictures would undo that, bit by bit.",
                "Begin from a model that is not, such as its teacher; or name a distill.teacher.",
            )
        if self.distill.teacher and self.stage.guided != self.distill.guidance:
            raise ConfigError(
                f"stage.guided = {self.stage.guided} is not distill.guidance = "
                f"{self.distill.guidance}.",
                "Leave it out: it is what the student learns.",
            )
        if self.adapter.rank and self.train.parallel == "fsdp":
            raise ConfigError(
                'adapter.rank does not go with train.parallel = "fsdp".', 'Use "ddp".'
            )

    def _check_reading(self) -> None:
        if not self.train.init:
            raise ConfigError(
                f"reading.layers = {self.reading.layers} needs a network that can draw already.",
                "Name its model in train.init.",
            )
        for name, set_ in (
            ("distill.teacher", self.distill.teacher),
            ("adapter.rank", self.adapter.rank),
            ("embeddings", self.embeddings),
            ("validation", self.validation),
            ("train.prompts", self.train.prompts),
            ("train.align_every", self.train.align_every),
        ):
            if set_:
                raise ConfigError(
                    f"{name} does not go with reading.layers: what learns to read makes no "
                    "pictures meanwhile, and encodes captions of its own.",
                    f"Leave {name} out.",
                )

    @property
    def folder(self) -> Path:
        return Path(self.out or f"runs/{self.name}")


def read_recipe(path: Path, assignments: tuple[str, ...] = ()) -> Recipe:
    """A recipe file with ``--set`` assignments applied.

    A recipe that starts from a model (train.init) may leave `stage` and `encoder` to it, or name
    the stage alone: what the model has is then what is trained.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
        UnknownName, CheckpointError: the model to start from is not there, or has no such stage.
    """
    values = override(read_toml(path), assignments)
    init, stage = values.get("train", {}).get("init"), values.get("stage", {})
    if init and isinstance(stage, dict) and "resolution" not in stage:
        values = {**values, **_as_in(init, values, stage)}
    stage, distill = values.get("stage"), values.get("distill")
    if isinstance(stage, dict) and isinstance(distill, dict) and distill.get("teacher"):
        values = {**values, "stage": {**stage, "guided": distill.get("guidance", 1.0)}}
    stage, reading = values.get("stage"), values.get("reading")
    if isinstance(stage, dict) and isinstance(reading, dict) and reading.get("layers"):
        front = {name: reading[key] for name, key in READS.items() if key in reading}
        network = {**stage.get("network", {}), **front}
        values = {**values, "stage": {**stage, "network": network}}
    return parse(Recipe, values)


def _as_in(model: str, values: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """The encoder and the stage of a model, under what the recipe says of them."""
    folder = locate(model)
    header = read_header(folder)
    name = stage.get("name", header["stages"][0])
    if name not in header["stages"]:
        raise UnknownName("stage", name, header["stages"])
    own = {**read_json(folder / name / "config.json"), "sampling": header["defaults"].get(name, {})}
    encoder = values.get("encoder", header["encoder"])
    return {"encoder": encoder, "stage": {**own, **stage, "name": name}}
