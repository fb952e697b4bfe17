"""Settings of the training loop: how long, how fast, and what is written on the way."""

from dataclasses import dataclass

from open_imagen.errors import ConfigError, UnknownName

PARALLEL = ("ddp", "fsdp")
CALLBACKS = ("validation", "alignment", "held_out", "samples", "log", "tensorboard", "page")
"""Those of every run. A callback that reads what others write comes after them."""
PRECISIONS = ("auto", "bf16", "fp32")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The run: how long, how fast, and what is written on the way."""

    images: int
    """Images that the run shall see in the end: its progress is counted in images."""
    init: str = ""
    """Start from the weights of this stage in another model (a name, a folder or "hf:..."); weights
    that this model lacks are initialised. A run with a checkpoint of its own resumes from that."""
    reinitialise: tuple[str, ...] = ()
    """Patterns of weights that are initialised though `init` has them: ["*text*"] is all that
    reads text, to train a network for another text encoder."""
    batch_size: int = 32
    """Images per step."""
    accumulate: int = 1
    """Gradient accumulation: micro-batches of a step, to save memory; must divide batch_size."""
    checkpoint_activations: bool = False
    """Recompute the activations of blocks in the backward pass: less memory, a third more time."""
    seed: int = 0
    """Of weights, noise and times."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 ..."""
    precision: str = "auto"
    """fp32, bf16 (autocast), or auto: bf16 where the hardware has it."""
    threads: int = 0
    """CPU threads; 0 is torch's default, but 1 beside a GPU, where more would only wait for each
    other. Another number may change the last bits."""
    parallel: str = "ddp"
    """Data parallelism of several processes (torchrun): ddp, a replica of the network in each, or
    fsdp, a shard of weights, gradients and optimiser state in each."""
    async_save: bool = True
    """Write checkpoints while training goes on."""
    compile: bool = False
    """Compile the network before the first step: a minute or two, then faster steps. On a CPU it
    needs a C++ compiler."""
    fast: bool = True
    """On a CPU, in float32, not compiled: our CPU kernels for 3x3 convolutions (Winograd),
    attention, and the gradients of both; they agree with torch to 2^-15. Without a C++ compiler it
    has no effect."""
    cuda_graphs: bool = True
    """On a GPU: capture a compiled network as CUDA graphs, for steps so short that kernel launches
    would take most of the time."""
    text_drop: float = 0.1
    """Share of examples trained without their text, for classifier-free guidance (section 4.1)."""
    caption_cache: str = ""
    """Folder for the embeddings of captions, which later runs with the same captions and text
    encoder read; the user's cache folder if empty. Processes of several machines must share it."""
    workers: int = 0
    """Threads that load batches ahead, for GPUs (processes, where a source plans its batches in
    Python and draws them on the device); 0 loads them in the loop, best on a CPU, where they would
    only compete with the network."""
    log_every: int = 1_000
    """Images between lines of log.jsonl."""
    sample_every: int = 20_000
    """Images between sampled images of `prompts`; 0 for none."""
    save_every: int = 10_000
    """Images between checkpoints."""
    validate_every: int = 0
    """Images between losses on held-out examples by noise level (see `validation`); 0 for none."""
    align_every: int = 0
    """Images between alignment scores: the share of images that show what their prompt asks for; 0
    for none. For base stages trained on data of a world, whose judge knows the truth."""
    align_prompts: int = 32
    """Prompts of each category of that score."""
    distance_every: int = 0
    """Images between distances of sampled to held-out images of the same captions, into
    held_out.jsonl; 0 for none. Needs `validation`."""
    distance: str = "cmmd"
    """Which distance: cmmd, kid, or another metric of imagen evaluate measure, as
    "metric:features"."""
    distance_images: int = 256
    """Images that are sampled for it."""
    callbacks: tuple[str, ...] = CALLBACKS
    """What is recorded on the way, by name; add "wandb" or "trackio" to track the run there."""
    max_nonfinite_steps: int = 3
    """Consecutive steps with a non-finite loss or gradient, each skipped, before the run stops."""
    stop_after_minutes: float = 0.0
    """Stop after this time, with a checkpoint; run again to resume. 0 for no limit."""
    time_budget_minutes: float = 0.0
    """Minutes of training, over all its parts, in which the run shall complete: it sees as many of
    `images` as its pace allows, and its learning rate decays accordingly. 0 for no budget."""
    keep_checkpoints: int = 3
    """Number of checkpoints that are kept."""
    prompts: tuple[str, ...] = ()
    """Sampled while training, always with the same seeds."""

    def __post_init__(self) -> None:
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise ConfigError(
                f"train.accumulate = {self.accumulate} must divide train.batch_size = "
                f"{self.batch_size}."
            )
        for name in (
            *("images", "batch_size", "log_every", "save_every"),
            *("keep_checkpoints", "max_nonfinite_steps", "distance_images"),
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} = {getattr(self, name)} must be at least 1.")
        if self.reinitialise and not self.init:
            raise ConfigError(
                "train.reinitialise needs a model to start from.", "Name it in train.init."
            )
        if not 0 <= self.text_drop <= 1:
            raise ConfigError(f"train.text_drop = {self.text_drop} must be between 0 and 1.")
        if self.parallel not in PARALLEL:
            raise UnknownName("train.parallel", self.parallel, PARALLEL)
        if self.precision not in PRECISIONS:
            raise UnknownName("precision", self.precision, PRECISIONS)

    @property
    def sampled_prompts(self) -> tuple[str, ...]:
        """The prompts, if the run is long enough to sample them."""
        return self.prompts if 0 < self.sample_every <= self.images else ()
