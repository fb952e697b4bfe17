"""What may change between a checkpoint and the recipe that resumes from it.

A checkpoint records how it was made, as settings under dotted names ("optim.name"). On
resume these are compared one by one. A setting that is not in the tables below must be as it was.
"""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from open_imagen.cascade.stage_config import StageConfig
from open_imagen.config import plain
from open_imagen.errors import ConfigError
from open_imagen.models.registry import NETWORKS
from open_imagen.training.config import TrainConfig
from open_imagen.training.recipe import Recipe

FREE = (
    "name",
    "out",
    "adapter.name",
    "validation.*",
    "stage.sampling.*",
    "ema.snapshot_every",
    "train.images",
    "train.device",
    "train.threads",
    "train.workers",
    "train.caption_cache",
    "train.parallel",
    "train.accumulate",
    "train.checkpoint_activations",
    "train.compile",
    "train.fast",
    "train.cuda_graphs",
    "train.async_save",
    "train.*_every",
    "train.align_prompts",
    "train.distance",
    "train.distance_images",
    "train.callbacks",
    "train.prompts",
    "train.max_nonfinite_steps",
    "train.stop_after_minutes",
    "train.time_budget_minutes",
    "train.keep_checkpoints",
    "data*.index",
    "data*.workers",
    "data*.max_bad",
    "data*.max_pixels",
    "data*.cache_gib",
    "data*.tries",
    "data*.timeout",
)
"""Changed without a message: how long, where, how fast, and what is recorded on the way."""
RECORDED = (
    "embeddings",
    "optim.lr",
    "optim.warmup",
    "optim.decay",
    "optim.curve",
    "optim.beta1",
    "optim.beta2",
    "optim.eps",
    "optim.weight_decay",
    "optim.momentum",
    "optim.clip",
    "ema.half_life",
    "ema.ramp",
    "train.batch_size",
    "train.precision",
    "train.seed",
    "data*.examples",
    "data*.shards",
    "data*.bucket_sizes.*",
    "data*.shares",
)
"""Changed with a message, and written into the model's cascade.json with when it was changed."""


class Change(NamedTuple):
    """A setting that has another value in the checkpoint."""

    key: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.key}: {self.before} in the checkpoint, {self.now} in the recipe"


def settings_of(recipe: Mapping[str, Any], network: Any, data: Any) -> dict[str, Any]:
    """What a checkpoint records of how it is trained, in plain values.

    Args:
        recipe: all its settings.
        network: those of the network, with the preset's filled in.
        data: the description of the source, which has more than the recipe.
    """
    values = {**recipe, "data": data, "stage": {**recipe["stage"], "network": network}}
    if not recipe["adapter"]["rank"]:
        values["adapter"] = {"rank": 0}
    # As state.json gives it back.
    recorded: dict[str, Any] = json.loads(json.dumps(values))
    return recorded


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """All settings that differ and are not `FREE`.

    A setting that the checkpoint lacks has come with a later version, and was at its default then.
    Others that only one side has went with a version, or belong to another kind of data or network,
    whose name differs then.
    """
    old, new = dict(_flat(before)), dict(_flat(now))
    if "train.images" in old:  # earlier versions recorded a few settings alone
        network = str(old.get("stage.network.network"))
        old = {**{k: v for k, v in default_settings(network).items() if k in new}, **old}
    return [
        Change(key, _shown(old[key]), _shown(new[key]))
        for key in sorted(old.keys() & new.keys())
        if old[key] != new[key] and not _matches(key, FREE)
    ]


@cache
def default_settings(network: str) -> dict[str, Any]:
    """The defaults of a recipe that have one, and of a network of this class, by dotted names."""
    values = plain_defaults(Recipe)
    values["train"], values["stage"] = plain_defaults(TrainConfig), plain_defaults(StageConfig)
    if network in NETWORKS:
        values["stage"]["network"] = plain_defaults(NETWORKS[network][0])
    return dict(_flat(json.loads(json.dumps(values))))


def plain_defaults(config: type[Any]) -> dict[str, Any]:
    """The settings of a config class that have a default, in plain values."""
    defaults = {}
    for field in dataclasses.fields(config):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = plain(field.default_factory())
    return defaults


def check_checkpoint(
    state: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    settings: dict[str, Any],
    own: Mapping[str, tuple[int, ...]],
    run: Path,
) -> list[Change]:
    """Whether a run can resume from a checkpoint; the `RECORDED` changes.

    Args:
        state: state.json of the checkpoint.
        shapes: of its tensors, by name.
        settings: `settings_of` the run.
        own: shapes of the run's tensors.

    Raises:
        ConfigError: it cannot; everything that differs is named.
    """
    before = state.get("settings")
    if before is None:  # an earlier version recorded the network and the adapter alone
        before = {"stage": {"network": state.get("network", {})}}
        before["adapter"] = state.get("adapter") or {"rank": 0}
    changes = compare(before, settings)
    refused = [change for change in changes if not _matches(change.key, RECORDED)]
    differences = [str(change) for change in refused] or tensor_differences(shapes, own)
    if differences:
        raise _changed(run, differences)
    return changes


def _changed(run: Path, differences: list[str]) -> ConfigError:
    moved = ""
    if any(one.startswith("data.") and "path: " in one for one in differences):
        moved = " If the same data has only moved, keep data.path and put a link there."
    return ConfigError(
        f"The run in {run} cannot resume with this recipe. What differs:\n  "
        + "\n  ".join(differences),
        "Put these settings back to resume; or begin another run, with another name (or out), and "
        f"train.init = the model of this one to start from its weights.{moved}",
    )


def tensor_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the tensors of a checkpoint and those of a run, by name to shape.

    Where settings were not recorded, names tell: "optimizer.exp_avg.stem.weight".
    """
    differences = []
    for what, pattern in (
        ("ema.sigma_rel", r"ema@(\d\.\d+)\."),
        ("state of the optimiser (optim.name)", r"optimizer\.(\w+)\."),
    ):
        own, other = (
            sorted({match[1] for name in names if (match := re.match(pattern, name))})
            for names in (before, now)
        )
        if own != other:
            listed = [", ".join(names) or "none" for names in (own, other)]
            differences.append(f"{what}: {listed[0]} in the checkpoint, {listed[1]} in the recipe")
    if differences:
        return differences
    names = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    return [
        f"{name}: {before.get(name, 'absent')} in the checkpoint, "
        f"{now.get(name, 'absent')} in the recipe's network"
        for name in sorted(names)[:5]
    ]


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values under dotted names; tables in a list are numbered, and counted."""
    if isinstance(values, list) and any(isinstance(one, Mapping) for one in values):
        yield f"{prefix}number", len(values)
        values = {str(place): one for place, one in enumerate(values)}
    if not isinstance(values, Mapping):
        yield prefix.removesuffix("."), values
        return
    for key, value in values.items():
        yield from _flat(value, f"{prefix}{key}.")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
