"""CLIP and DINOv2, loaded by transformers: features of pictures, and CLIP's of captions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from open_imagen.errors import CheckpointError
from open_imagen.evaluation.metrics.features import EXTRACTORS, Extractor, ExtractorSpec
from open_imagen.evaluation.pretrained import load_pretrained, weights_hash


class VisionSpec(NamedTuple):
    """A published network that looks at pictures; one row each."""

    repository: str
    kind: str
    """clip or dinov2."""
    side: int
    """Of the square it sees."""
    squeezed: bool
    """Whether the whole image is squeezed into the square; otherwise its centre is cut out."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def model(self) -> str:
        """The class of transformers."""
        return {"clip": "CLIPModel", "dinov2": "Dinov2Model"}[self.kind]


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

VISION_MODELS = {
    # Of CLIP scores in the literature.
    "clip-b32": VisionSpec("openai/clip-vit-base-patch32", "clip", 224, False, CLIP_MEAN, CLIP_STD),
    "clip-l14": VisionSpec(
        "openai/clip-vit-large-patch14", "clip", 224, False, CLIP_MEAN, CLIP_STD
    ),
    # Of CMMD (Jayasumana et al. 2024).
    "clip-l14-336": VisionSpec(
        "openai/clip-vit-large-patch14-336", "clip", 336, False, CLIP_MEAN, CLIP_STD
    ),
    # Of FD-DINOv2 (Stein et al. 2023): ViT-L/14, the whole picture at 224.
    "dinov2": VisionSpec("facebook/dinov2-large", "dinov2", 224, True, IMAGENET_MEAN, IMAGENET_STD),
}


class Vision:
    """A CLIP or a DINOv2: pictures -> float32 [B, width]; CLIP's are of unit length."""

    def __init__(self, name: str, folder: Path, device: torch.device) -> None:
        """Load the model.

        Raises:
            MissingDependency: transformers cannot load such a model.
            CheckpointError: the folder does not hold one.
        """
        self.spec, self.device = VISION_MODELS[name], device
        self.model = load_pretrained(self.spec.model, folder).to(device)
        config = self.model.config
        vision = config.vision_config if self.spec.kind == "clip" else config
        # A model made for another square sees its own.
        self.side = int(vision.image_size) if self.spec.kind == "clip" else self.spec.side
        self.width = int(config.projection_dim if self.spec.kind == "clip" else config.hidden_size)
        self.folder = folder
        self.identity: dict[str, Any] = {
            "features": name,
            "weights_sha256": weights_hash(folder),
            "side": self.side,
            "prepared": "whole picture" if self.spec.squeezed else "short side scaled, centre cut",
            "filter": "bicubic",
        }

    def prepare(self, image: Tensor) -> Tensor:
        """An image uint8 [3, H, W], resized and normalised for the model."""
        pil = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        if self.spec.squeezed:
            pil = pil.resize((self.side, self.side), Image.Resampling.BICUBIC)
        elif pil.size != (self.side, self.side):
            pil = _centre(pil, self.side)
        x = torch.from_numpy(np.array(pil)).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.spec.mean, self.spec.std))
        return (x - mean) / std

    @torch.inference_mode()
    def __call__(self, prepared: Tensor) -> Tensor:
        """Features [B, D] of prepared images."""
        x = prepared.to(self.device)
        if self.spec.kind == "clip":
            return _unit(self.model.visual_projection(self.model.vision_model(x).pooler_output))
        found: Tensor = self.model(x).last_hidden_state[:, 0].float().cpu()
        return found

    @torch.inference_mode()
    def captions(self, captions: Sequence[str], batch: int = 64) -> Tensor:
        """CLIP's features of captions, [N, width], of unit length; what is too long is cut."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.folder} has no tokenizer: {error}") from error
        found = []
        length = int(self.model.config.text_config.max_position_embeddings)
        for start in range(0, len(captions), batch):
            words = tokenizer(
                list(captions[start : start + batch]),
                padding=True,
                truncation=True,
                max_length=length,
                return_tensors="pt",
            ).to(self.device)
            text = self.model.text_model(words["input_ids"], words["attention_mask"])
            found.append(_unit(self.model.text_projection(text.pooler_output)))
        return torch.cat(found)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1).cpu()


def _centre(image: Image.Image, side: int) -> Image.Image:
    """The short side scaled, the centre cut out, as CLIP's own processing rounds it."""
    width, height = image.size
    # The product first: side / width * height falls a pixel short at many sizes.
    long = int(side * max(width, height) / min(width, height))
    scaled = (side, long) if width <= height else (long, side)
    image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (scaled[0] - side) // 2, (scaled[1] - side) // 2
    return image.crop((left, top, left + side, top + side))


def open_vision(name: str, weights: Path | None, device: torch.device) -> Vision:
    """A vision network by name, from a folder or the hub.

    Raises:
        CheckpointError: it is nowhere, or the folder does not hold it.
    """
    return Vision(name, weights or _from_hub(VISION_MODELS[name].repository), device)


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.txt", "*.safetensors"]
    try:
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except Exception as error:
        raise CheckpointError(
            f"The hub does not give {repository}: {error}",
            "Connect to the network once, or give --weights FOLDER with its files.",
        ) from error


def _register(name: str) -> None:
    @EXTRACTORS.register(name)
    def make(requested: ExtractorSpec) -> Extractor:
        return open_vision(name, requested.weights, requested.device)


for _name in VISION_MODELS:
    _register(_name)
