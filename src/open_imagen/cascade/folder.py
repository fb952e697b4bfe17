"""The model folder: cascade.json, and a folder with config.json and weights for each stage."""

import fnmatch
import hashlib
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from open_imagen.cascade import deepfloyd
from open_imagen.cascade.sampling import Sampling, parse_sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.cascade.weights import check_shapes
from open_imagen.config import parse, plain
from open_imagen.errors import CheckpointError, ConfigError, UnknownName
from open_imagen.storage import (
    TensorFile,
    read_json,
    save_tensors,
    sha256,
    write_json,
)

FORMAT = 1
"""Of cascade.json. Folders of a newer format are refused, older ones are read."""


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """What a cascade is besides its stages; written to cascade.json."""

    name: str
    """The model's name."""
    encoder: str
    """The text encoder's name in the table of encoders."""
    default_stages: int | None = None
    """How many stages run by default; all if None."""
    world: str = ""
    """The name of the world whose prompts it knows, if it has one."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """Per stage, its training settings and data."""

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> "CascadeConfig":
        """From a cascade.json that `read_header` has checked."""
        return cls(
            name=header["name"],
            encoder=header["encoder"],
            default_stages=header.get("default_stages"),
            world=header.get("world", ""),
            trained=header.get("trained") or {},
        )


def shipped() -> dict[str, Path]:
    """The models that come with the package: name -> folder."""
    root = Path(str(importlib.resources.files("open_imagen"))) / "shipped"
    if not root.is_dir():
        return {}
    return {path.name: path for path in sorted(root.iterdir()) if (path / "cascade.json").is_file()}


def locate(model: str | Path) -> Path:
    """The folder of a model: a shipped one by name, a folder, or "hf:org/name".

    Raises:
        UnknownName: it is none of these.
        CheckpointError: the folder is no model, or the hub does not have it.
    """
    if str(model).startswith("hf:"):
        return _from_hub(str(model).removeprefix("hf:"))
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "cascade.json").is_file() and not deepfloyd.recognised(folder):
            raise CheckpointError(
                f"{folder} is not a model: it has no cascade.json.",
                "A finished training run keeps its model in RUN/model.",
            )
        return folder
    named = shipped()
    if str(model) not in named:
        raise UnknownName("model or folder", str(model), named)
    return named[str(model)]


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    if repository.lower().startswith("deepfloyd/"):
        raise CheckpointError(
            f"{repository} is gated, has its own licence, and weighs tens of gigabytes: it is not "
            "fetched for you.",
            f"Accept its licence on the hub, run: {deepfloyd.download_hint(repository)}, and give "
            "--model FOLDER.",
        )

    patterns = ["*.json", "*.safetensors", "README.md"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:
        raise CheckpointError(
            f"The hub does not give the model {repository!r}: {error}",
            "Check the name and the network, and log in if the model is gated.",
        ) from error


def read_header(folder: Path) -> dict[str, Any]:
    """cascade.json, checked.

    Raises:
        CheckpointError: it is missing, damaged, or of a newer format than this version knows.
    """
    header = read_json(folder / "cascade.json")
    if not isinstance(header, dict) or not isinstance(header.get("format"), int):
        raise CheckpointError(f"{folder / 'cascade.json'} does not describe a model.")
    if header["format"] > FORMAT:
        raise CheckpointError(
            f"{folder} has format {header['format']}; this version reads up to {FORMAT}.",
            "Update open-imagen.",
        )
    missing = {"name", "encoder", "stages"} - header.keys()
    if missing:
        raise CheckpointError(f"{folder / 'cascade.json'} lacks: {', '.join(sorted(missing))}.")
    if not isinstance(header.get("default_stages", 1), int):
        raise CheckpointError(f"{folder / 'cascade.json'}: default_stages must be a whole number.")
    adapters = header.get("adapters", {})
    if not isinstance(adapters, dict) or not all(map(_are_names, adapters.values())):
        raise CheckpointError(
            f"{folder / 'cascade.json'}: adapters must be a list of names for each stage."
        )
    if not isinstance(header.get("world", ""), str):
        raise CheckpointError(f"{folder / 'cascade.json'}: world must be a name.")
    return header


def _are_names(values: Any) -> bool:
    """Whether it is a list of names of folders, none of which leads elsewhere."""
    return isinstance(values, list) and all(
        isinstance(one, str) and Path(one).name == one for one in values
    )


def read_stage(folder: Path, sampling: Sampling) -> Stage:
    """A stage with lazy weights, whose files have been checked.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights are of another network.
    """
    try:
        config = parse(StageConfig, read_json(folder / "config.json"))
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}", error.hint) from error
    config = StageConfig(**{**config.__dict__, "sampling": sampling})
    weights = TensorFile(folder / "model.safetensors")
    with torch.device("meta"):
        stage = Stage(config)
    check_shapes(stage.network, weights.shapes, weights.path)
    return stage.with_lazy_weights(weights)


def load_into(
    network: torch.nn.Module,
    weights: TensorFile,
    may_lack: bool = False,
    fresh: Iterable[str] = (),
) -> list[str]:
    """Load weights of any floating type; the names of those that the file lacks.

    Args:
        may_lack: leave the network's own where the file has none. What it has must fit anyway.
        fresh: patterns (``*text*``) of names, here or in the file, that are not looked at.

    Raises:
        CheckpointError: names or shapes differ; the message lists them.
        ConfigError: a pattern of ``fresh`` is of no weight.
    """
    own, shapes = dict(network.named_parameters()), weights.shapes
    left = set[str]()
    for pattern in fresh:
        named = fnmatch.filter([*own, *shapes], pattern)
        if not named:
            raise ConfigError(
                f"train.reinitialise: no weight is called {pattern!r}.",
                f"There are: {', '.join(own)}.",
            )
        left.update(named)
    shapes = {name: shape for name, shape in shapes.items() if name not in left}
    excused = {
        name: tuple(tensor.shape)
        for name, tensor in own.items()
        if name not in shapes and (may_lack or name in left)
    }
    check_shapes(network, shapes | excused, weights.path)
    with torch.no_grad():
        for name in shapes:
            own[name].copy_(weights.read(name))
    return [name for name in excused if name not in left]


def write_folder(
    folder: Path,
    config: CascadeConfig,
    stages: Sequence[Stage],
    dtype: torch.dtype,
    adapters: Sequence["Adapter"] = (),
) -> None:
    """Write a model folder; cascade.json comes last, so that a broken write is no model.

    Weights are written as they were read, whatever the stages compute in.

    Args:
        adapters: named ones; the first of a stage is its default.
    """
    for stage in stages:
        place = folder / stage.config.name
        values = plain(stage.config)
        del values["sampling"]
        values["network"] = stage.saved_network
        weights = {key: tensor.to(dtype) for key, tensor in stage.weights()}
        save_tensors(place / "model.safetensors", weights)
        write_json(place / "config.json", values)
    header = {
        "format": FORMAT,
        "name": config.name,
        "encoder": config.encoder,
        "stages": [stage.config.name for stage in stages],
        "defaults": {
            stage.config.name: plain(replace(stage.config.sampling, adapter=None))
            for stage in stages
        },
        "trained": dict(config.trained),
    }
    if config.default_stages is not None:
        header["default_stages"] = config.default_stages
    if config.world:
        header["world"] = config.world
    named: dict[str, list[str]] = {}
    for adapter in adapters:
        tensors = {key: tensor.to(dtype) for key, tensor in adapter.tensors.items()}
        write_adapter(folder / adapter.stage / adapter.name, adapter._replace(tensors=tensors))
        named.setdefault(adapter.stage, []).append(adapter.name)
    if named:
        header["adapters"] = named
    write_json(folder / "cascade.json", header)


class Adapter(NamedTuple):
    """A low-rank change of one stage's weights; see models/lora.py."""

    stage: str
    scale: float
    tensors: dict[str, Tensor]
    digest: str = ""
    model: str = ""
    """The model that it was made for."""
    name: str = ""
    """By which it is chosen (cascade/variants.py); empty: it is always added."""
    distilled_guidance: float = 1.0
    """Of a named adapter: see StageConfig."""
    sampling: Sampling | None = None
    """The defaults with a named adapter; the stage's own if None."""
    trained: dict[str, Any] | None = None
    """How a named adapter was trained."""


def write_adapter(folder: Path, adapter: Adapter) -> None:
    """Write an adapter of one stage: its tensors, and adapter.json with its settings."""
    save_tensors(folder / "adapter.safetensors", adapter.tensors)
    facts: dict[str, Any] = {"format": FORMAT, "stage": adapter.stage, "scale": adapter.scale}
    facts["model"] = adapter.model
    if adapter.name:
        facts |= {"name": adapter.name, "distilled_guidance": adapter.distilled_guidance}
        if adapter.sampling is not None:
            facts["sampling"] = plain(replace(adapter.sampling, adapter=None))
        facts["trained"] = adapter.trained or {}
    write_json(folder / "adapter.json", facts)


def read_adapter(folder: Path) -> Adapter:
    """An adapter that a run wrote.

    Raises:
        CheckpointError: it is none, damaged, or of a newer format.
    """
    facts = read_json(folder / "adapter.json")
    if not isinstance(facts, dict) or {"format", "stage", "scale"} - facts.keys():
        raise CheckpointError(f"{folder / 'adapter.json'} does not describe an adapter.")
    if facts["format"] > FORMAT:
        raise CheckpointError(f"{folder} was written by a newer version.", "Update open-imagen.")
    file, sampling = folder / "adapter.safetensors", facts.get("sampling")
    try:
        return Adapter(
            facts["stage"],
            facts["scale"],
            dict(TensorFile(file)),
            sha256(file),
            facts.get("model", ""),
            facts.get("name", ""),
            float(facts.get("distilled_guidance", 1.0)),
            None if sampling is None else parse_sampling(sampling, facts["stage"]),
            facts.get("trained"),
        )
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'adapter.json'}: {error}") from error


def read_adapters(folder: Path, header: dict[str, Any]) -> list[Adapter]:
    """The named adapters of a model's stages.

    Raises:
        CheckpointError: one is missing or damaged, or does not fit cascade.json.
    """
    found = []
    for stage, names in header.get("adapters", {}).items():
        for name in names:
            adapter = read_adapter(folder / stage / name)
            if (adapter.stage, adapter.name) != (stage, name) or stage not in header["stages"]:
                raise CheckpointError(
                    f"{folder / stage / name} is the adapter {adapter.name!r} of stage "
                    f"{adapter.stage!r}, not what cascade.json says."
                )
            found.append(adapter)
    return found


def read_stages(folder: Path, header: dict[str, Any]) -> list[Stage]:
    """The stages of a model, lowest resolution first."""
    return [read_named(folder, header, name) for name in header["stages"]]


def read_named(folder: Path, header: dict[str, Any], name: str) -> Stage:
    """One stage of a model.

    Raises:
        UnknownName: the model has no such stage.
    """
    if name not in header["stages"]:
        raise UnknownName(f"stage of {header['name']}", name, header["stages"])
    defaults = header.get("defaults", {})
    return read_stage(folder / name, parse_sampling(defaults.get(name, {}), name))


def fingerprint(folder: Path, header: dict[str, Any]) -> str:
    """Twelve hex digits that name exactly these weights and settings."""
    digest = hashlib.sha256()
    for name in header["stages"]:
        for file in ("config.json", "model.safetensors"):
            digest.update(sha256(folder / name / file).encode())
    for stage, names in header.get("adapters", {}).items():
        for name in names:
            for file in ("adapter.json", "adapter.safetensors"):
                digest.update(sha256(folder / stage / name / file).encode())
    return digest.hexdigest()[:12]
