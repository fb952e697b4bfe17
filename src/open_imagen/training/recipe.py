"""A recipe: everything that makes one training run, as one config."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_imagen.cascade.folder import locate, read_header
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.config import override, parse, read_toml
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.models.lora import LoraConfig
from open_imagen.models.registry import resolve
from open_imagen.storage import read_json
from open_imagen.training.augment import AugmentConfig
from open_imagen.training.config import TrainConfig
from open_imagen.training.ema import EmaConfig
from open_imagen.training.objectives import DistillConfig, TextDenoisingConfig
from open_imagen.training.optim import OptimConfig

TEXT_DENOISER_SETTINGS = {"text_denoiser": "layers", "text_denoiser_threshold": "threshold"}
"""Settings of a network with text-denoising layers, and their names in `text_denoising`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run."""

    name: str
    """Names the run folder, runs/<name>, unless `out` is given."""
    stage: StageConfig
    train: TrainConfig
    data: dict[str, Any]
    """Where images and captions come from; `kind` chooses the source."""
    validation: dict[str, Any] = field(default_factory=dict)
    """Held-out data for `train.validate_every`, described as `data`."""
    encoder: str = "minilm-l6"
    """The frozen text encoder, by its name in the table."""
    embeddings: str = ""
    """A folder that imagen embed wrote: the encoder is then never loaded."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Random transforms of the training images, on which the network is conditioned; off by
    default."""
    adapter: LoraConfig = field(default_factory=LoraConfig)
    """Train a low-rank change of some weights (LoRA) instead of all weights; needs train.init."""
    distill: DistillConfig = field(default_factory=DistillConfig)
    """Train on the predictions of a teacher; see training/objectives/distillation.py."""
    text_denoising: TextDenoisingConfig = field(default_factory=TextDenoisingConfig)
    """Train layers over the text on captions alone; see training/objectives/text_denoising.py."""
    out: str = ""
    """The run folder."""

    def __post_init__(self) -> None:
        if self.text_denoising.layers:
            self._check_text_denoising()
        if self.adapter.rank:
            self._check_adapter()
        if self.augment.enabled:
            self._check_augment()
        if self.objective == "diffusion" and self.stage.distilled_guidance != 1:
            raise ConfigError(
                f"Guidance is distilled into stage {self.stage.name!r} already "
                f"(stage.distilled_guidance = {self.stage.distilled_guidance}): training on images "
                "would undo that.",
                "Start from a model without, such as its teacher; or name a distill.teacher.",
            )
        if self.distill.teacher and self.stage.distilled_guidance != self.distill.guidance:
            raise ConfigError(
                f"stage.distilled_guidance = {self.stage.distilled_guidance} is not "
                f"distill.guidance = {self.distill.guidance}.",
                "Leave it out: it follows from distill.guidance.",
            )

    def _check_adapter(self) -> None:
        if not self.train.init:
            raise ConfigError(
                f"adapter.rank = {self.adapter.rank} needs a model to adapt.",
                'Name it in train.init: "scenes", a folder, or "hf:...".',
            )
        if self.train.reinitialise:
            raise ConfigError(
                "train.reinitialise and adapter.rank together: an adapter changes a model as it is."
            )
        if self.train.parallel == "fsdp":
            raise ConfigError(
                'adapter.rank does not go with train.parallel = "fsdp".', 'Use "ddp".'
            )

    def _check_augment(self) -> None:
        if self.objective != "diffusion":
            raise ConfigError(
                f"augment.* does not go with the objective {self.objective}: only the stage's own "
                "loss conditions on transforms.",
                "Leave [augment] out.",
            )
        has = getattr(resolve(self.stage.network)[1], "augment_labels", 0)
        if self.augment.conditional and has != self.augment.labels:
            raise ConfigError(
                "augment.conditional = true needs stage.network.augment_labels = "
                f"{self.augment.labels}, not {has}.",
                "Leave augment_labels out: it follows from [augment].",
            )

    def _check_text_denoising(self) -> None:
        if not self.train.init:
            raise ConfigError(
                f"text_denoising.layers = {self.text_denoising.layers} needs a trained network.",
                "Name its model in train.init.",
            )
        for name, is_set in (
            ("distill.teacher", self.distill.teacher),
            ("adapter.rank", self.adapter.rank),
            ("embeddings", self.embeddings),
            ("validation", self.validation),
            ("train.prompts", self.train.prompts),
            ("train.align_every", self.train.align_every),
        ):
            if is_set:
                raise ConfigError(
                    f"{name} does not go with text_denoising.layers, which trains on captions "
                    "alone, with embeddings of its own.",
                    f"Leave {name} out.",
                )

    @property
    def objective(self) -> str:
        """The name of the training objective."""
        if self.text_denoising.layers:
            return "text_denoising"
        return "distillation" if self.distill.teacher else "diffusion"

    @property
    def objective_config(self) -> Any:
        """The settings of the training objective."""
        sections = {"text_denoising": self.text_denoising, "distillation": self.distill}
        return sections.get(self.objective)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.out or f"runs/{self.name}")


def read_recipe(path: Path, assignments: tuple[str, ...] = ()) -> Recipe:
    """A recipe file with ``--set`` assignments applied.

    A recipe that starts from a model (train.init) may leave out `stage` and `encoder`, or give the
    stage's name alone: they are then the model's.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or wrong.
        UnknownName, CheckpointError: the model to start from is not there, or has no such stage.
    """
    values = override(read_toml(path), assignments)
    init, stage = values.get("train", {}).get("init"), values.get("stage", {})
    if init and isinstance(stage, dict) and "resolution" not in stage:
        values = {**values, **_from_model(init, values, stage)}
    stage, distill = values.get("stage"), values.get("distill")
    if isinstance(stage, dict) and isinstance(distill, dict) and distill.get("teacher"):
        values = {**values, "stage": {**stage, "distilled_guidance": distill.get("guidance", 1.0)}}
    values = _with_augment_labels(values)
    stage, denoising = values.get("stage"), values.get("text_denoising")
    if isinstance(stage, dict) and isinstance(denoising, dict) and denoising.get("layers"):
        layers = {
            name: denoising[key] for name, key in TEXT_DENOISER_SETTINGS.items() if key in denoising
        }
        network = {**stage.get("network", {}), **layers}
        values = {**values, "stage": {**stage, "network": network}}
    return parse(Recipe, values)


def _with_augment_labels(values: dict[str, Any]) -> dict[str, Any]:
    """The values with a network that is conditioned on the transforms of `augment`, if any."""
    stage, augment = values.get("stage"), values.get("augment")
    if not isinstance(stage, dict) or not isinstance(augment, dict):
        return values
    labels = parse(AugmentConfig, augment, "augment.").labels
    network = stage.get("network", {})
    if not labels or not isinstance(network, dict):
        return values
    network = {"augment_labels": labels, **network}
    if not network["augment_labels"]:  # a model's own setting, of training without
        network["augment_labels"] = labels
    return {**values, "stage": {**stage, "network": network}}


def _from_model(model: str, values: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """The encoder and the stage of a model, with the recipe's settings over them."""
    folder = locate(model)
    header = read_header(folder)
    name = stage.get("name", header["stages"][0])
    if name not in header["stages"]:
        raise UnknownName("stage", name, header["stages"])
    own = {**read_json(folder / name / "config.json"), "sampling": header["defaults"].get(name, {})}
    encoder = values.get("encoder", header["encoder"])
    return {"encoder": encoder, "stage": {**own, **stage, "name": name}}
