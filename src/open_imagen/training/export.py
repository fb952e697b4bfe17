"""What a finished run becomes: a model folder of its averaged weights, and an adapter alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from open_imagen.cascade.folder import (
    Adapter,
    CascadeConfig,
    locate,
    read_header,
    read_named,
    write_adapter,
    write_folder,
)
from open_imagen.cascade.stage import Stage
from open_imagen.config import plain
from open_imagen.distributed import world as process_world
from open_imagen.models.lora import LowRankChange, Merged, adapter_of, frozen_of
from open_imagen.storage import save_tensors
from open_imagen.training.ema import Ema
from open_imagen.training.parallel import full_tensor
from open_imagen.training.posthoc_ema import FOLDER, Profile, snapshot_name
from open_imagen.training.recipe import Recipe
from open_imagen.types import Source
from open_imagen.world import is_world


def export_run(
    recipe: Recipe, network: nn.Module, averages: dict[str, Tensor], trained: dict[str, Any]
) -> None:
    """Write the trained model with averaged weights to RUN/model.

    Of an adapter: the model with the adapter merged into it, or beside it if the adapter has a
    name; and the adapter alone to RUN/adapter.

    Args:
        averages: of the trainable weights, by name.
        trained: how it was trained, for cascade.json.
    """
    weights: Iterable[tuple[str, Tensor]]
    weights = {**dict(network.named_parameters()), **averages}.items()
    if recipe.adapter.rank:
        adapter = _adapter(recipe, averages, trained)
        write_adapter(recipe.folder / "adapter", adapter)
        if adapter.name:
            _write_beside_base(recipe, adapter)
            return
        frozen = dict(frozen_of(network))
        shapes = {name: tuple(tensor.shape) for name, tensor in frozen.items()}
        change = LowRankChange(adapter.tensors, shapes, adapter.scale)
        weights = Merged(frozen.items(), [change])
    write_model(recipe, weights, recipe.folder / "model", trained)


def _adapter(recipe: Recipe, averages: dict[str, Tensor], trained: dict[str, Any]) -> Adapter:
    return Adapter(
        recipe.stage.name,
        recipe.adapter.scale,
        adapter_of(averages),
        model=recipe.train.init,
        name=recipe.adapter.name,
        distilled_guidance=recipe.stage.distilled_guidance,
        sampling=recipe.stage.sampling,
        trained=trained,
    )


def _write_beside_base(recipe: Recipe, adapter: Adapter) -> None:
    """RUN/model with the stage that was adapted as it was, and the adapter as its default."""
    folder = locate(recipe.train.init)
    header = read_header(folder)
    stage = read_named(folder, header, recipe.stage.name)
    stage.load_weights(torch.device("cpu"))
    config = CascadeConfig(
        name=recipe.name,
        encoder=recipe.encoder,
        world=header.get("world", ""),
        trained={adapter.stage: header.get("trained", {}).get(adapter.stage, {})},
    )
    write_folder(recipe.folder / "model", config, [stage], torch.float32, [adapter])


def describe_training(
    recipe: Recipe,
    source: Source,
    device: torch.device,
    images_seen: int,
    seconds: float,
    changes: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """How a stage was trained, as cascade.json records it."""
    config = recipe.train
    trained: dict[str, Any] = {"images": images_seen, "hours": round(seconds / 3600, 2)}
    trained |= {"device": device.type, "data": source.describe()}
    if config.init:
        trained["init"] = config.init
    if recipe.adapter.rank:
        trained["adapter"] = plain(recipe.adapter)
    if config.reinitialise:
        trained["reinitialise"] = list(config.reinitialise)
    if changes:
        trained["changes"] = list(changes)
    if recipe.distill.teacher:
        trained["distill"] = plain(recipe.distill)
    if recipe.text_denoising.layers:  # all other weights are as their own training left them
        trained |= plain(recipe.text_denoising)
        before = read_header(locate(config.init)).get("trained", {})
        trained = {**before.get(recipe.stage.name, {}), "text_denoising": trained}
    return trained


def write_snapshots(ema: Ema, run: Path, images_seen: int) -> None:
    """Write the averages for post-hoc EMA to a run folder. Every process must call it."""
    for sigma_rel, averages in ema.profiles.items():
        full = {name: full_tensor(tensor).cpu() for name, tensor in averages.items()}
        if process_world().is_main_process:
            save_tensors(run / FOLDER / snapshot_name(Profile(images_seen, sigma_rel)), full)


def write_model(
    recipe: Recipe, weights: Iterable[tuple[str, Tensor]], folder: Path, trained: dict[str, Any]
) -> None:
    """A model folder of one stage with these weights."""
    with torch.device("meta"):
        stage = Stage(recipe.stage).with_lazy_weights(weights)
    stage.load_weights(torch.device("cpu"))
    stages = {recipe.stage.name: trained}
    kind = str(recipe.data.get("kind", ""))
    world = kind if is_world(kind) else ""
    config = CascadeConfig(name=recipe.name, encoder=recipe.encoder, world=world, trained=stages)
    write_folder(folder, config, [stage], torch.float32)
