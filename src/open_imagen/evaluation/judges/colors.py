"""The colour of a detected object, by GenEval's ten names: through a CLIP, or by its pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from open_imagen.evaluation.judges.geneval import Detection
from open_imagen.evaluation.pretrained import load_pretrained, load_processor, weights_hash

NAMES = {
    "red": (220, 30, 30),
    "orange": (245, 140, 20),
    "yellow": (245, 220, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "purple": (140, 50, 180),
    "pink": (250, 140, 190),
    "brown": (130, 80, 40),
    "black": (15, 15, 15),
    "white": (250, 250, 250),
}
"""GenEval's names with typical sRGB values."""
TEMPLATES = (
    "a photo of a {color} {name}",
    "a photo of a {color}-colored {name}",
    "a photo of a {color} object",
)
STANDS_OUT = 15.0
"""Distance in CIELAB from the colour around the box above which a pixel is the object's."""


class ColorNamer(Protocol):
    """Names colours of detected objects."""

    identity: dict[str, Any]

    def __call__(self, image: Image.Image, name: str, detections: Sequence[Detection]) -> list[str]:
        """The colour of each detection of a class."""
        ...


class PixelColors:
    """The nearest name in CIELAB of most pixels in the box that differ from its border."""

    def __init__(self) -> None:
        self.identity: dict[str, Any] = {"colors": "pixels", "stands_out": STANDS_OUT}
        self.palette = lab(np.array(list(NAMES.values()), np.float64))

    def __call__(self, image: Image.Image, name: str, detections: Sequence[Detection]) -> list[str]:
        """The colour name of each detected object, by its pixels."""
        return [self._name(np.asarray(crop(image, one), np.float64)) for one in detections]

    def _name(self, pixels: NDArray[np.float64]) -> str:
        values = lab(pixels)
        border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
        away = np.linalg.norm(values - np.median(border, 0), axis=-1)
        inside = values[away > STANDS_OUT]
        if not len(inside):
            inside = values.reshape(-1, 3)
        distance = np.linalg.norm(inside[:, None] - self.palette[None], axis=-1)
        counts = np.bincount(distance.argmin(1), minlength=len(NAMES))
        return list(NAMES)[int(counts.argmax())]


class ClipColors:
    """GenEval's way: the name that a CLIP finds most likely for the crop."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.model = load_pretrained("CLIPModel", folder).to(device)
        self.processor, self.device = load_processor(folder), device
        self.identity: dict[str, Any] = {
            "colors": "clip",
            "weights_sha256": weights_hash(folder),
            "templates": list(TEMPLATES),
        }
        self._text: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def __call__(self, image: Image.Image, name: str, detections: Sequence[Detection]) -> list[str]:
        """The colour name of each detected object, by CLIP."""
        if not detections:
            return []
        crops = [crop(image, one) for one in detections]
        inputs = self.processor(images=crops, return_tensors="pt").to(self.device)
        pooled = self.model.vision_model(**inputs).pooler_output
        features = torch.nn.functional.normalize(self.model.visual_projection(pooled), dim=-1)
        best = (features @ self._weights(name).T).argmax(1)
        return [list(NAMES)[int(k)] for k in best]

    def _weights(self, name: str) -> torch.Tensor:
        """A unit vector for each colour: the mean of its templates' unit vectors."""
        if name not in self._text:
            texts = [t.format(color=c, name=name) for c in NAMES for t in TEMPLATES]
            inputs = self.processor(text=texts, return_tensors="pt", padding=True).to(self.device)
            pooled = self.model.text_model(**inputs).pooler_output
            units = torch.nn.functional.normalize(self.model.text_projection(pooled), dim=-1)
            means = units.view(len(NAMES), len(TEMPLATES), -1).mean(1)
            self._text[name] = torch.nn.functional.normalize(means, dim=-1)
        return self._text[name]


def crop(image: Image.Image, one: Detection) -> Image.Image:
    """The box cut out of an image, a pixel at least."""
    left, top = (
        min(max(int(v), 0), side - 1) for v, side in zip(one.box, image.size, strict=False)
    )
    right = min(max(int(np.ceil(one.box[2])), left + 1), image.width)
    bottom = min(max(int(np.ceil(one.box[3])), top + 1), image.height)
    return image.crop((left, top, right, bottom))


def lab(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert sRGB, 0 to 255 [..., 3], to CIELAB under D65."""
    share = pixels / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)
