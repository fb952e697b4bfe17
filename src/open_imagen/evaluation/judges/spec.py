"""What a judge is made from, and the contract that judges by models meet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from open_imagen.errors import ConfigError
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.registry import Registry

RULES = ("corrected", "compatible")
"""``compatible`` repeats the reference script of a benchmark, faults included."""


@dataclass(frozen=True, kw_only=True)
class JudgeSpec:
    """Which judge, and with what."""

    name: str
    weights: Path | None = None
    """A folder that transformers saved."""
    rule: str = "corrected"
    colors: Path | None = None
    """A folder with a CLIP that names colours; None: colours are named by pixels."""
    threshold: float = 0.3
    """Of a detection (GenEval's)."""
    counting_threshold: float = 0.9
    """Of a detection where objects are counted (GenEval's)."""
    nms_threshold: float = 1.0
    """Detections of a class that overlap more are one object; 1: never (GenEval's)."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ConfigError(f"rule = {self.rule!r} must be one of {', '.join(RULES)}.")
        for name in ("threshold", "counting_threshold", "nms_threshold"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ConfigError(f"{name} = {value} must be between 0 and 1.")

    def folder(self) -> Path:
        """The weights.

        Raises:
            ConfigError: none were named.
        """
        if self.weights is None:
            raise ConfigError(
                f"The judge {self.name} needs weights, and none are given.",
                "Give --weights FOLDER with a model that transformers saved; nothing is "
                "downloaded.",
            )
        return self.weights


@dataclass(frozen=True)
class Aggregation:
    """How the verdicts on images become the numbers of a benchmark."""

    mean_over_tags: bool = False
    """The headline is the mean over tags (GenEval), otherwise over prompts."""
    gated_categories: bool = True
    """Categories of atoms count what gating left."""
    last_image_only: bool = False
    """Categories of atoms count the last image of each prompt alone."""
    percent: bool = True
    """Scores are shares; otherwise they have a scale of their own."""


class ModelJudge(Protocol):
    """A Judge that says what it is."""

    label: str
    """What its numbers may be called."""
    identity: dict[str, Any]
    """Everything that its numbers depend on beside images and prompts."""
    aggregation: Aggregation

    def __call__(
        self, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """Verdicts on images uint8 [3, H, W], of any sizes."""
        ...


MODEL_JUDGES: Registry[Callable[[JudgeSpec], ModelJudge]] = Registry("judge")
