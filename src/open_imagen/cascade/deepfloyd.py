"""DeepFloyd IF's published folders as cascades: diffusers' layout, safetensors only.

The folder of one stage (with unet/ in it), or a folder that holds the folders of several. Nothing
is downloaded, and nothing of theirs is ever unpickled.
"""

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_imagen.cascade.augmentation import Augmentation
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage, StageConfig, check_shapes
from open_imagen.config import plain
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import CheckpointError, OutputError
from open_imagen.models.deepfloyd import assembled, derived_config, origins, unet_config
from open_imagen.models.unet import UNetConfig
from open_imagen.storage import (
    TensorFile,
    atomic,
    cache_directory,
    read_json,
    write_text,
)

SCHEDULE = Schedule(name="discrete_cosine", logsnr_min=-25.0, logsnr_max=25.0)
"""1,000 steps, from log-SNR 10 to -20; the bounds never bind."""
WEIGHTS = "diffusion_pytorch_model"
LICENCE = """These are weights of DeepFloyd IF, not ours and not under our licence: the DeepFloyd IF
License Agreement restricts what you may do with them and with what they make. Read it in the
repository that you had them from before you go on."""


def show_licence() -> None:
    """Print the notice of their licence, once for every user of this machine."""
    shown = cache_directory() / "licences" / "deepfloyd-if.txt"
    if shown.is_file():
        return
    print(LICENCE, file=sys.stderr)
    with contextlib.suppress(OutputError):  # where nothing can be kept it is shown again
        write_text(shown, LICENCE + "\n")


@dataclass(frozen=True)
class Published:
    """What a folder of theirs holds."""

    stages: list[Stage]
    """With their weights, lowest resolution first."""
    text_encoder: Path | None
    """The folder of the text encoder, if it is there."""
    model_hash: str
    """Twelve hex digits that name these weights."""
    encoder: str = "deepfloyd-t5-xxl"
    """Its name in the table."""


def recognised(folder: Path) -> bool:
    """Whether this is a folder of theirs."""
    return bool(_units(folder))


def _units(folder: Path) -> list[Path]:
    """The folders of single stages in a folder, or the folder itself."""
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    return [place for place in places if (place / "unet").is_dir()]


def read(folder: Path) -> Published:
    """The stages of a folder, checked to the last tensor.

    Raises:
        CheckpointError: it is none of theirs, has weights as pickles only, lacks a shard, or its
            weights do not fit its config; the message names what is wrong.
    """
    units = _units(folder)
    if not units:
        raise CheckpointError(
            f"{folder} is no DeepFloyd IF model: neither it nor a folder in it has unet/.",
            "Give the folder of one stage, or one that holds the folders of both.",
        )
    stages = sorted((read_stage(unit) for unit in units), key=lambda s: s.config.resolution)
    names = [stage.config.name for stage in stages]
    if len(set(names)) < len(names):
        raise CheckpointError(f"{folder} holds a stage twice: {', '.join(names)}.")
    encoders = [unit / "text_encoder" for unit in units if _has_weights(unit / "text_encoder")]
    digest = hashlib.sha256()
    for file in (file for unit in units for file in _files(unit / "unet")):
        # Not of all bytes: there are many gigabytes, and a file's header says where they lie.
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(1 << 20))
    return Published(stages, encoders[0] if encoders else None, digest.hexdigest()[:12])


def _has_weights(folder: Path) -> bool:
    return folder.is_dir() and any(folder.glob("*.safetensors"))


def read_stage(folder: Path) -> Stage:
    """One stage: its network from unet/, its schedule from scheduler/; it fetches its weights when
    it wakes."""
    unet = folder / "unet"
    files = [TensorFile(file) for file in _files(unet)]
    shapes = {name: shape for file in files for name, shape in file.shapes.items()}
    found = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    if (unet / "config.json").is_file():
        theirs = read_json(unet / "config.json")
        try:
            network = unet_config(theirs, str(unet))
        except KeyError as missing:
            raise CheckpointError(f"{unet / 'config.json'} lacks {missing}.") from missing
        resolution = theirs.get("sample_size") or (256 if network.lowres else 64)
    else:
        network = derived_config(found, str(unet))
        resolution = 256 if network.lowres else 64
    config = StageConfig(
        name=f"sr{resolution}" if network.lowres else "base",
        resolution=resolution,
        lowres=resolution // 4 if network.lowres else 0,
        network={"network": "unet", **plain(network)},
        schedule=SCHEDULE,
        augmentation=Augmentation(schedule=SCHEDULE, align_corners=True),
        unconditional="empty",
        sampling=_sampling(folder / "scheduler" / "scheduler_config.json", network),
    )
    with torch.device("meta"):
        stage = Stage(config)
    names = origins(network, found, str(unet))
    ours = {our: assembled(our, [found[name] for name in parts]) for our, parts in names.items()}
    check_shapes(stage.network, {name: tensor.shape for name, tensor in ours.items()}, unet)
    return stage.asleep(_Weights(files, names))


class _Weights:
    """Their weights under our names, each read when its turn comes."""

    def __init__(self, files: Sequence[TensorFile], names: Mapping[str, Sequence[str]]) -> None:
        self.places = {name: file for file in files for name in file.shapes}
        self.names = names

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for our, parts in self.names.items():
            yield our, assembled(our, [self.places[name].read(name) for name in parts])


def _sampling(file: Path, network: UNetConfig) -> Sampling:
    """Their pipelines' defaults, and what their scheduler's config says."""
    theirs: dict[str, Any] = read_json(file) if file.is_file() else {}
    expected = {
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": "epsilon",
        "num_train_timesteps": 1000,
    }
    wrong = [
        f"{key} = {theirs[key]!r}"
        for key, value in expected.items()
        if theirs.get(key, value) != value
    ]
    if wrong:
        raise CheckpointError(f"{file} is not DeepFloyd IF's: {'; '.join(wrong)}.")
    cap = 1.0 if network.lowres else 1.5
    dynamic = theirs.get("thresholding", True)
    spacing = theirs.get("timestep_spacing", "leading")
    return Sampling(
        steps=50 if network.lowres else 100,
        guidance=4.0 if network.lowres else 7.0,
        sampler="ddpm",
        spacing={"trailing": "even"}.get(spacing, spacing),
        threshold="dynamic" if dynamic else "static" if theirs.get("clip_sample") else "none",
        percentile=100 * float(theirs.get("dynamic_thresholding_ratio", 0.95)),
        threshold_cap=float(theirs.get("sample_max_value", cap)),
        noise_level=0.25 if network.lowres else None,
    )


def _files(folder: Path) -> list[Path]:
    """The files of a network's weights: one or shards, full precision before half.

    Raises:
        CheckpointError: there are none, only pickles, or a shard is missing.
    """
    for variant in ("", ".fp16"):
        whole = folder / f"{WEIGHTS}{variant}.safetensors"
        if whole.is_file():
            return [whole]
        index = folder / f"{WEIGHTS}.safetensors.index{variant}.json"
        if index.is_file():
            return _shards(index)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")) or any(folder.glob("*.ckpt")):
        raise CheckpointError(
            f"{folder} has its weights as a pickle only, which can run any code when it is read.",
            "Download the .safetensors files of the same repository; or, if you trust it, convert "
            "it yourself: torch.load, then safetensors.torch.save_file.",
        )
    raise CheckpointError(f"{folder} has no weights: no {WEIGHTS}.safetensors and no shards.")


def _shards(index: Path) -> list[Path]:
    places: dict[str, str] = read_json(index).get("weight_map", {})
    files = [index.parent / name for name in sorted(set(places.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{index.parent} lacks {len(missing)} of {len(files)} shards: {', '.join(missing)}.",
            "Copy or download the missing files.",
        )
    return files


def copy_text_encoder(source: Path, folder: Path) -> None:
    """Put the text encoder and its tokenizer into a model folder, as links where that can be.

    Raises:
        OutputError: the folder cannot be written.
    """
    for part in (source, source.parent / "tokenizer"):
        for file in sorted(part.glob("*")) if part.is_dir() else []:
            if file.suffix in (".json", ".safetensors", ".model"):
                with atomic(folder / part.name / file.name) as place:
                    place.unlink()
                    try:
                        os.link(file, place)  # many gigabytes that need not be there twice
                    except OSError:
                        shutil.copyfile(file, place)
