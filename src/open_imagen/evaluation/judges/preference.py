"""Heads that learned which image people prefer: more is better, on a scale of their own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from open_imagen.errors import CheckpointError
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.evaluation.judges.questions import pil, tag_of
from open_imagen.evaluation.judges.spec import Aggregation, JudgeSpec, ModelJudge
from open_imagen.evaluation.pretrained import load_pretrained, load_processor, weights_hash
from open_imagen.storage import load_tensors, sha256

HEAD = "head.safetensors"
"""Beside a CLIP: ``weight`` [1, D] and ``bias`` [1] of a linear head on unit image features."""
BATCH = 16


class ClipPreference:
    """A CLIP tuned on preferences (PickScore, HPS v2): logit scale x cosine of image and prompt."""

    aggregation = Aggregation(percent=False)
    kind = "clip-preference"

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.model = load_pretrained("CLIPModel", folder).to(device)
        self.processor, self.device = load_processor(folder), device
        self.label = f"preference ({folder.resolve().name})"
        self.identity: dict[str, Any] = {
            "judge": self.kind,
            "weights_sha256": weights_hash(folder),
        }

    def __call__(
        self, images: Sequence[Tensor], metadata: Sequence[Mapping[str, Any]]
    ) -> list[Verdict]:
        """Judge images uint8 [3, H, W] by their metadata; a verdict each."""
        scores: list[float] = []
        for start in range(0, len(images), BATCH):
            rows = metadata[start : start + BATCH]
            shown = [pil(image) for image in images[start : start + BATCH]]
            scores += self.scores(shown, [str(row.get("prompt", "")) for row in rows]).tolist()
        # A preference has no right or wrong: only its mean means something.
        return [
            Verdict(tag_of(row), False, score=score)
            for row, score in zip(metadata, scores, strict=True)
        ]

    @torch.inference_mode()
    def scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """A score for each image with its prompt."""
        inputs = self.processor(
            text=list(prompts), return_tensors="pt", padding=True, truncation=True
        ).to(self.device)
        pooled = self.model.text_model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).pooler_output
        text = F.normalize(self.model.text_projection(pooled), dim=-1)
        scale = self.model.logit_scale.exp()
        found: Tensor = scale * (self.features(images) * text).sum(-1)
        return found.cpu()

    def features(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit features of images."""
        inputs = self.processor(images=list(images), return_tensors="pt").to(self.device)
        pooled = self.model.vision_model(pixel_values=inputs["pixel_values"]).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=-1)


class LinearPreference(ClipPreference):
    """A linear head on a CLIP's image features (aesthetic predictors); prompts are not read."""

    kind = "linear-preference"

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load the CLIP and its head.

        Raises:
            CheckpointError: there is no head beside the CLIP, or it has another width.
        """
        super().__init__(folder, device)
        tensors = load_tensors(folder / HEAD)
        width = int(self.model.config.projection_dim)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if shapes != {"weight": (1, width), "bias": (1,)}:
            raise CheckpointError(
                f"{folder / HEAD} holds {shapes}; a head for this CLIP has weight (1, {width}) "
                "and bias (1,)."
            )
        self.weight, self.bias = (tensors[n].float().to(device) for n in ("weight", "bias"))
        self.identity["head_sha256"] = sha256(folder / HEAD)

    @torch.inference_mode()
    def scores(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """The score of each image, [N] float32."""
        return F.linear(self.features(images), self.weight, self.bias)[:, 0].cpu()


def open_clip_preference(spec: JudgeSpec) -> ModelJudge:
    """A preference model that is a CLIP."""
    return ClipPreference(spec.folder(), spec.device)


def open_linear_preference(spec: JudgeSpec) -> ModelJudge:
    """A preference model that is a linear head on a CLIP."""
    return LinearPreference(spec.folder(), spec.device)
