"""What a run is set up of: stage, network, objective, optimiser, EMA, as its recipe says."""

import functools
import operator
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.utils.checkpoint
from torch import nn

from open_imagen.backends.accelerate import accelerate
from open_imagen.cascade.folder import load_into, locate, read_adapter, read_header, read_named
from open_imagen.cascade.stage import Stage
from open_imagen.devices import has_bf16
from open_imagen.distributed import process_device, world
from open_imagen.errors import ConfigError, MissingDependency, OpenImagenWarning
from open_imagen.models.lora import adapt, load_adapter
from open_imagen.storage import TensorFile
from open_imagen.training.augment import AugmentConfig
from open_imagen.training.data_check import check_data, check_text
from open_imagen.training.ema import Ema
from open_imagen.training.objectives import OBJECTIVES, Objective, ObjectiveContext
from open_imagen.training.optim import CombinedOptimizer, make_optimizer
from open_imagen.training.parallel import blocks, parallelize
from open_imagen.training.recipe import Recipe
from open_imagen.training.text import CaptionEncoder
from open_imagen.types import Source, TextEncoder


@dataclass(frozen=True)
class TrainingSetup:
    """The parts of a run before its first step."""

    device: torch.device
    bf16: bool
    """Whether the network computes under bfloat16 autocast."""
    encode_text: CaptionEncoder
    stage: Stage
    network: nn.Module
    """The network of the stage, whose weights are trained."""
    parallel_network: nn.Module
    """The module that is called in training: the network itself, or DDP around it."""
    augment: AugmentConfig
    objective: Objective
    objective_is_by_level: bool
    """Whether the objective's loss of an example is that at its noise level."""
    optimizer: CombinedOptimizer
    ema: Ema

    def autocast(self) -> torch.autocast:
        """The autocast context of a training step: bfloat16, or off."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def set_up(recipe: Recipe, source: Source, encoder: TextEncoder) -> TrainingSetup:
    """Build everything that a recipe describes but its data.

    Raises:
        ConfigError, DataError: recipe, data and text encoder do not fit each other.
        CheckpointError, UnknownName: the model to start from is not there, or does not fit.
    """
    config, spec = recipe.train, OBJECTIVES[recipe.objective]
    _check_processes(recipe)
    check_data(recipe.stage, source)
    check_text(recipe.stage, encoder)
    device = process_device(config.device)
    if threads := config.threads or int(device.type == "cuda"):
        torch.set_num_threads(threads)
    bf16 = _choose_bf16(config.precision, device)
    wrapped = spec.wrap_encoder(encoder, source, recipe.objective_config)
    stage = _build_stage(recipe, device)
    cache = config.caption_cache if wrapped is encoder else None
    encode_text = CaptionEncoder(wrapped, source, stage.letters, device, bf16, cache)
    network: nn.Module = stage.network
    if spec.trainable:
        network.requires_grad_(False)
        network.get_submodule(spec.trainable).requires_grad_(True)
    augment_embedding = getattr(network, "augment", None)
    if augment_embedding is not None and not recipe.augment.labels:
        augment_embedding.requires_grad_(False)  # of a run before: this one never uses it
    if config.checkpoint_activations:
        checkpoint_blocks(network)
    is_fast = config.fast and device.type == "cpu" and not bf16 and not config.compile
    if config.compile:
        _compile(network, recipe, device)
    elif is_fast and not _is_sharded(recipe):
        _accelerate(network, "training")
    parallel_network = parallelize(network, config.parallel)
    stage.network = parallel_network

    def accelerate_frozen(other: nn.Module) -> None:
        if config.compile:
            other.compile(dynamic=False)
        elif is_fast:
            _accelerate(other, "inference")

    context = ObjectiveContext(stage, device, accelerate_frozen)
    return TrainingSetup(
        device=device,
        bf16=bf16,
        encode_text=encode_text,
        stage=stage,
        network=network,
        parallel_network=parallel_network,
        augment=recipe.augment,
        objective=spec.build(recipe.objective_config, context),
        objective_is_by_level=spec.is_by_level,
        optimizer=make_optimizer(network, recipe.optim),
        ema=Ema(network, recipe.ema),
    )


def _build_stage(recipe: Recipe, device: torch.device) -> Stage:
    """The stage with its initial weights."""
    config = recipe.train
    torch.backends.cudnn.benchmark = True  # every step has the same shapes
    torch.manual_seed(config.seed)  # initial weights are the only use of the global generator
    stage = Stage(recipe.stage).to(device)
    if not _is_sharded(recipe):  # FSDP shards contiguous weights
        stage.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.init:
        _load_initial_weights(stage.network, recipe)
    if recipe.adapter.rank:
        _check_named_adapter(stage, recipe)
        adapt(stage.network, recipe.adapter)
        if recipe.adapter.init:
            load_adapter(stage.network, read_adapter(Path(recipe.adapter.init)).tensors)
    return stage


SAMPLED = (
    *("resolution", "lowres", "schedule", "objective.prediction", "augmentation", "unconditional"),
)
"""Settings of a stage that sampling depends on, beside its network and defaults."""


def _check_named_adapter(stage: Stage, recipe: Recipe) -> None:
    """Whether the stage differs from the model's own only in what an adapter kept apart records."""
    folder = locate(recipe.train.init)
    if not recipe.adapter.name:
        return
    if not (folder / "cascade.json").is_file():
        raise ConfigError(
            f"adapter.name = {recipe.adapter.name!r} needs a model folder to be kept in, and "
            f"train.init = {recipe.train.init!r} is none of ours.",
            "Convert it with imagen import, or leave adapter.name out.",
        )
    own = read_named(folder, read_header(folder), recipe.stage.name)
    for name in SAMPLED:
        mine, theirs = (operator.attrgetter(name)(one) for one in (recipe.stage, own.config))
        if mine != theirs:
            raise ConfigError(
                f"stage.{name} = {mine} is not that of train.init, {theirs}: an adapter that is "
                "kept apart (adapter.name) changes weights alone.",
                "Leave it out of the recipe, or leave adapter.name out.",
            )
    if stage.saved_network != own.saved_network:
        raise ConfigError(
            "stage.network is not that of train.init: an adapter that is kept apart "
            "(adapter.name) changes weights alone.",
            "Leave it out of the recipe, or leave adapter.name out.",
        )


def _is_sharded(recipe: Recipe) -> bool:
    return world().size > 1 and recipe.train.parallel == "fsdp"


def _load_initial_weights(network: nn.Module, recipe: Recipe) -> None:
    config = recipe.train
    weights = TensorFile(locate(config.init) / recipe.stage.name / "model.safetensors")
    missing = load_into(network, weights, True, config.reinitialise)
    if missing:
        more = " ..." if len(missing) > 3 else ""
        warnings.warn(
            f"train.init = {config.init!r} lacks {len(missing)} weights of this network, which are "
            f"initialised: {', '.join(missing[:3])}{more}",
            OpenImagenWarning,
            stacklevel=5,
        )


def _compile(network: nn.Module, recipe: Recipe, device: torch.device) -> None:
    # A captured call overwrites the outputs of the one before, gradients included: there must be
    # one call per step, and nothing else that holds its gradients.
    config = recipe.train
    one_call = recipe.objective != "distillation" and config.accumulate == 1
    capture = config.cuda_graphs and one_call and world().size == 1 and device.type == "cuda"
    network.compile(dynamic=False, mode="reduce-overhead" if capture else None)


def _accelerate(network: nn.Module, mode: str) -> None:
    try:
        accelerate(network, mode)
    except MissingDependency as error:
        warnings.warn(f"train.fast has no effect: {error}", OpenImagenWarning, stacklevel=4)


def _choose_bf16(precision: str, device: torch.device) -> bool:
    if precision == "bf16" and not has_bf16(device):
        raise ConfigError(
            f"train.precision = 'bf16', but {device.type} here has no bfloat16 arithmetic: it "
            "would be many times slower.",
            "Use precision = 'auto' or 'fp32'.",
        )
    return precision != "fp32" and has_bf16(device)


def _check_processes(recipe: Recipe) -> None:
    processes, train = world().size, recipe.train
    if OBJECTIVES[recipe.objective].single_process and processes > 1:
        raise ConfigError(
            f"{recipe.objective} in {processes} processes: it is trained in one.",
            "Run it without torchrun; it takes minutes.",
        )
    divisor = processes * train.accumulate
    if train.batch_size % divisor:
        raise ConfigError(
            f"train.batch_size = {train.batch_size} must be a multiple of {divisor}: "
            f"{processes} processes, train.accumulate = {train.accumulate}."
        )


def checkpoint_blocks(network: nn.Module) -> None:
    """Recompute the activations of every block in the backward pass instead of keeping them."""
    for block in blocks(network):
        block.forward = functools.partial(
            torch.utils.checkpoint.checkpoint, block.forward, use_reentrant=False
        )
