"""DeepFloyd IF's published folders as cascades: diffusers' layout, safetensors only.

The folder of one stage (with unet/ in it), or a folder that holds the folders of several. Nothing
is downloaded, and nothing of theirs is ever unpickled.
"""

import contextlib
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_imagen.cascade.augmentation import Augmentation
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.cascade.weights import check_shapes
from open_imagen.config import plain
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import CheckpointError, MissingDependency, OutputError
from open_imagen.models.deepfloyd import (
    assembled,
    derived_config,
    differences,
    origins,
    same,
    unet_config,
)
from open_imagen.models.unet import UNetConfig
from open_imagen.storage import (
    PICKLES,
    VARIANTS,
    TensorFile,
    WeightFiles,
    cache_directory,
    find_weights,
    link_or_copy,
    read_json,
    write_text,
)
from open_imagen.text.encoders import ENCODERS, check_t5
from open_imagen.text.files import FOLDER_VARIABLE, find_local

SCHEDULE = Schedule(name="discrete_cosine", logsnr_min=-25.0, logsnr_max=25.0)
"""1,000 steps, from log-SNR 10 to -20; the bounds never bind."""
WEIGHTS = "diffusion_pytorch_model"
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "variance_type": "fixed_small",
    "clip_sample": True,
    "prediction_type": "epsilon",
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "clip_sample_range": 1.0,
    "sample_max_value": 1.0,
    # Keys that diffusers added after IF was published (0.16); its repositories lack them.
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "rescale_betas_zero_snr": False,
}
"""What a missing key of DDPMScheduler's config means."""
BETAS: dict[str, tuple[Any, ...]] = {
    "num_train_timesteps": (1000,),
    "beta_schedule": ("squaredcos_cap_v2",),
    "trained_betas": (None,),
    "prediction_type": ("epsilon",),
    "rescale_betas_zero_snr": (False,),
}
"""Settings of a scheduler that must have one of these values: of any, and of one that samples."""
STEPS = BETAS | {
    "variance_type": ("learned_range",),
    "clip_sample_range": (1.0,),
    "steps_offset": (0,),
}
SCHEDULER_FILE = "scheduler_config.json"
SPACINGS = {"leading": "leading", "linspace": "linspace", "trailing": "trailing"}
"""Of steps: diffusers' name, and ours."""
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
    """What a folder of theirs holds, and which of its files are read."""

    stages: list[Stage]
    """With their weights, lowest resolution first."""
    networks: list[WeightFiles]
    """What the stages' weights are read from."""
    text_encoder: WeightFiles | None
    """The text encoder's, if it is there."""
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


def read(folder: Path, half: bool = False) -> Published:
    """The stages of a folder, checked to the last tensor.

    Args:
        half: take the text encoder's float16 files where there are others too.

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
    networks = [find_weights(unit / "unet", WEIGHTS) for unit in units]
    found = zip(units, networks, strict=True)
    stages = sorted((read_stage(*one) for one in found), key=lambda s: s.config.resolution)
    names = [stage.config.name for stage in stages]
    if len(set(names)) < len(names):
        raise CheckpointError(f"{folder} holds a stage twice: {', '.join(names)}.")
    digest = hashlib.sha256()
    for file in (file for network in networks for file in network.files):
        # Not of all bytes: there are many gigabytes, and a file's header says where they lie.
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as opened:
            digest.update(opened.read(1 << 20))
    encoder = _text_encoder(units, half)
    return Published(stages, networks, encoder, digest.hexdigest()[:12])


def _text_encoder(units: Sequence[Path], half: bool) -> WeightFiles | None:
    """The text encoder of the first stage that has it whole; None if none has any of it.

    Raises:
        CheckpointError: the only one there lacks files.
    """
    prefer = sorted(VARIANTS, key=lambda one: one != "fp16") if half else tuple(VARIANTS)
    failed: CheckpointError | None = None
    for folder in (unit / "text_encoder" for unit in units):
        # A download of all *.json leaves a folder without weights: then there is no encoder here.
        if any(any(folder.glob(pattern)) for pattern in ("*.safetensors", *PICKLES)):
            try:
                return find_weights(folder, "model", prefer)
            except CheckpointError as error:
                failed = failed or error
    if failed is not None:
        raise failed
    return None


def find_encoder(found: Published) -> WeightFiles:
    """The text encoder of these stages, in their folder or elsewhere on this machine.

    It is checked now: a model without one would fail at its first image.

    Raises:
        MissingDependency: there is none, or its tokenizer is missing or cannot be read here.
        CheckpointError: its files are missing, damaged, or of another network than T5 v1.1 XXL.
    """
    inside, spec = found.text_encoder, ENCODERS[found.encoder]
    place = inside.folder if inside else find_local(found.encoder, spec)
    if place is None:
        raise MissingDependency(
            "No folder here has text_encoder/ with weights, and stages of DeepFloyd IF cannot draw "
            "without their text encoder.",
            "Download text_encoder/ and tokenizer/ of a stage I repository, or set "
            f"{FOLDER_VARIABLE} to a folder with the files of {spec.repository}.",
        )
    weights = check_t5(found.encoder, place, inside)
    width = _settings(place / "config.json").get("d_model")
    for stage in found.stages:
        if stage.network_config.text_width != width:
            raise CheckpointError(
                f"{place / 'config.json'} has d_model = {width}; the stage {stage.config.name} "
                f"was trained with {stage.network_config.text_width}.",
                "Take the text encoder of the same repository.",
            )
    return weights


def read_stage(folder: Path, weights: WeightFiles | None = None) -> Stage:
    """One stage: its network from unet/, its schedule from scheduler/; lazy weights."""
    unet = folder / "unet"
    _check_pipeline(folder / "model_index.json")
    files = [TensorFile(file) for file in (weights or find_weights(unet, WEIGHTS)).files]
    shapes = {name: shape for file in files for name, shape in file.shapes.items()}
    found = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    if (unet / "config.json").is_file():
        theirs = _settings(unet / "config.json")
        network = unet_config(theirs, str(unet / "config.json"))
        resolution = same(theirs.get("sample_size")) or (256 if network.lowres else 64)
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
        sampling=_sampling(folder / "scheduler" / SCHEDULER_FILE, network),
    )
    _scheduler(folder / "image_noising_scheduler" / SCHEDULER_FILE, BETAS)
    with torch.device("meta"):
        stage = Stage(config)
    names = origins(network, found, str(unet))
    ours = {our: assembled(our, [found[name] for name in parts]) for our, parts in names.items()}
    check_shapes(stage.network, {name: tensor.shape for name, tensor in ours.items()}, unet)
    return stage.with_lazy_weights(_Weights(files, names))


class _Weights:
    """Their weights under our names, each read when its turn comes."""

    def __init__(self, files: Sequence[TensorFile], names: Mapping[str, Sequence[str]]) -> None:
        self.places = {name: file for file in files for name in file.shapes}
        self.names = names

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for our, parts in self.names.items():
            yield our, assembled(our, [self.places[name].read(name) for name in parts])


def _settings(file: Path) -> dict[str, Any]:
    settings = read_json(file)
    if not isinstance(settings, dict):
        raise CheckpointError(f"{file} holds no settings.", "Download the file again.")
    return settings


def _check_pipeline(file: Path) -> None:
    """Refuse the folder of another pipeline before its network is found to be strange."""
    name = _settings(file).get("_class_name", "IF") if file.is_file() else "IF"
    if not str(name).startswith("IF"):
        raise CheckpointError(
            f"{file.parent} is a {name}, not a pipeline of DeepFloyd IF.",
            "IF has two stages. What its examples use as the third is another model, Stable "
            "Diffusion's upscaler: take its folder away.",
        )


def _scheduler(file: Path, fixed: Mapping[str, tuple[Any, ...]]) -> dict[str, Any] | None:
    """A scheduler's settings, with the defaults of those that its file lacks; None without file.

    Raises:
        CheckpointError: it would take other steps than ours do; the message names the settings.
    """
    if not file.is_file():
        return None
    theirs = _settings(file)
    wrong = differences(theirs, SCHEDULER, fixed)
    if theirs.get("_class_name", "DDPMScheduler") != "DDPMScheduler":
        wrong.insert(0, f"_class_name = {theirs['_class_name']!r}")
    if theirs.get("timestep_spacing", "leading") not in tuple(SPACINGS):
        wrong.append(f"timestep_spacing = {theirs['timestep_spacing']!r}")
    if wrong:
        raise CheckpointError(f"{file} is not DeepFloyd IF's: {'; '.join(wrong)}.")
    return SCHEDULER | theirs


def _sampling(file: Path, network: UNetConfig) -> Sampling:
    """The defaults of DeepFloyd IF's pipelines, and those of the scheduler's config."""
    published = SCHEDULER | {
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.95,
        "sample_max_value": 1.0 if network.lowres else 1.5,
    }
    theirs = _scheduler(file, STEPS) or published
    dynamic = theirs["thresholding"]
    try:
        percentile, cap = (
            float(theirs[key]) for key in ("dynamic_thresholding_ratio", "sample_max_value")
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: a threshold is not a number ({error}).") from error
    return Sampling(
        steps=50 if network.lowres else 100,
        guidance=4.0 if network.lowres else 7.0,
        sampler="ddpm",
        spacing=SPACINGS[theirs["timestep_spacing"]],
        threshold="dynamic" if dynamic else "static" if theirs["clip_sample"] else "none",
        percentile=100 * percentile,
        threshold_cap=cap,
        noise_level=0.25 if network.lowres else None,
    )


def download_hint(repository: str, folder: str = "FOLDER") -> str:
    """The command that downloads what a stage needs, in half precision.

    ``hf`` takes one pattern per --include. Stage I brings the text encoder for both.
    """
    patterns = ["*.json", "unet/*.fp16*.safetensors"]
    if "/if-ii-" not in repository.lower():
        patterns[1:1] = ["tokenizer/*", "text_encoder/*.fp16*.safetensors"]
    includes = " ".join(f'--include "{pattern}"' for pattern in patterns)
    return f"hf download {repository} {includes} --local-dir {folder}"


def copy_text_encoder(weights: WeightFiles, folder: Path) -> None:
    """Put the text encoder and its tokenizer into a model folder, as links where that can be.

    Raises:
        OutputError: the folder cannot be written.
    """
    source = weights.folder
    tokenizer = source.parent / "tokenizer"
    files = [*weights.files, *([weights.index] if weights.index else [])]
    for part in (source, tokenizer):
        # Of other variants neither weights nor index.
        files += [
            file
            for file in sorted(part.glob("*"))
            if file.suffix in (".json", ".model") and ".safetensors.index" not in file.name
        ]
    for file in files:
        # Many gigabytes that need not be there twice.
        link_or_copy(file, folder / file.parent.name / file.name)
