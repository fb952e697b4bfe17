"""GenEval's rules over any zero-shot object detector of transformers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from open_imagen.evaluation.judges.colors import ClipColors, ColorNamer, PixelColors
from open_imagen.evaluation.judges.geneval import (
    Detection,
    check_image,
    check_row,
    classes_of,
    select,
)
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.evaluation.judges.questions import pil, tag_of
from open_imagen.evaluation.judges.spec import Aggregation, JudgeSpec, ModelJudge
from open_imagen.evaluation.pretrained import load_pretrained, load_processor, weights_hash

QUERIES = {"owlvit": "a photo of a {name}", "owlv2": "a photo of a {name}"}
"""By the model's type, as its authors query it; others are given the name alone."""
COUNTING = "counting"
"""The tag whose detections need the higher confidence."""


class ZeroShotDetector:
    """A model that AutoModelForZeroShotObjectDetection knows (OWL-ViT, Grounding DINO ...).

    Each class is a query of its own, so that no text decides which class a box belongs to.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the detector and its processor.

        Raises:
            MissingDependency: transformers cannot load such models.
            CheckpointError: the folder does not hold one.
        """
        self.model = load_pretrained("AutoModelForZeroShotObjectDetection", folder).to(device)
        self.processor, self.device = load_processor(folder), device
        self.name = folder.resolve().name
        kind = self.model.config.model_type
        self.query = QUERIES.get(kind, "{name}")
        self.identity: dict[str, Any] = {
            "model": kind,
            "weights_sha256": weights_hash(folder),
            "query": self.query,
        }

    @torch.inference_mode()
    def __call__(self, image: Image.Image, name: str, threshold: float) -> list[Detection]:
        """Detections of a class, in pixels of the image."""
        text = [[self.query.format(name=name.lower())]]
        inputs = self.processor(images=image, text=text, return_tensors="pt").to(self.device)
        outputs = self.model(**inputs)
        [found] = self.processor.post_process_grounded_object_detection(
            outputs, threshold=threshold, target_sizes=[image.size[::-1]]
        )
        return [
            Detection(tuple(map(float, box)), float(score))  # type: ignore[arg-type]
            for box, score in zip(found["boxes"].cpu(), found["scores"].cpu(), strict=True)
        ]


class GenEvalJudge:
    """Right or wrong by GenEval's rules; the headline is the mean over tags."""

    aggregation = Aggregation(mean_over_tags=True)

    def __init__(self, detector: ZeroShotDetector, colors: ColorNamer, spec: JudgeSpec) -> None:
        self.detector, self.colors, self.spec = detector, colors, spec
        self.label = f"GenEval rules, detector {detector.name}"
        self.identity = {
            "judge": "geneval",
            "threshold": spec.threshold,
            "counting_threshold": spec.counting_threshold,
            "nms_threshold": spec.nms_threshold,
            **detector.identity,
            "colors": colors.identity,
        }

    def __call__(
        self, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """Judge images uint8 [3, H, W] by their metadata; a verdict each."""
        for row in metadata:
            check_row(row)
        return [self._verdict(pil(one), row) for one, row in zip(images, metadata, strict=True)]

    def _verdict(self, image: Image.Image, metadata: Mapping[str, Any]) -> Verdict:
        tag, spec = tag_of(metadata), self.spec
        threshold = spec.counting_threshold if tag == COUNTING else spec.threshold
        found = {
            name: select(self.detector(image, name, threshold), threshold, spec.nms_threshold)
            for name in classes_of(metadata)
        }
        outcome = check_image(metadata, found, lambda name, some: self.colors(image, name, some))
        return Verdict(tag, outcome.right, score=float(outcome.right))


def open_geneval(spec: JudgeSpec) -> ModelJudge:
    """The GenEval judge with the detector in a folder."""
    detector = ZeroShotDetector(spec.folder(), spec.device)
    colors: ColorNamer = PixelColors()
    if spec.colors is not None:
        colors = ClipColors(spec.colors, spec.device)
    return GenEvalJudge(detector, colors, spec)
