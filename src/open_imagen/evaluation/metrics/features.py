"""Pictures and captions -> feature vectors: Inception, CLIP, DINOv2, and plain pixels.

Every extractor says exactly what it is (weights' hash, resize, side), because a number that was
made with another one is another number.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from open_imagen.errors import CheckpointError
from open_imagen.evaluation.image_set import ImageSet, read_batches
from open_imagen.evaluation.metrics.inception import SIDE, Inception
from open_imagen.evaluation.metrics.resize import RESIZES
from open_imagen.evaluation.progress import Progress
from open_imagen.registry import Registry
from open_imagen.storage import cache_directory, load_tensors, save_tensors, sha256

PUBLISHED = "pt_inception-2015-12-05-6726825d.pth"
"""The community's file of Inception weights, which pytorch-fid and torch-fidelity share."""
PUBLISHED_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{PUBLISHED}"
PUBLISHED_HASH = "6726825d"
"""The first digits of that file's SHA-256; it carries them in its name."""
CHUNK = 1024
"""Pictures whose features are kept in one file; a stopped measurement goes on after the last."""


class Extractor(Protocol):
    """Pictures -> vectors. ``identity`` is what identifies its numbers."""

    width: int
    identity: dict[str, Any]

    def prepare(self, image: Tensor) -> Tensor:
        """What the network reads of a picture uint8 [3, H, W]."""
        ...

    def __call__(self, prepared: Tensor) -> Tensor:
        """Prepared pictures, stacked -> float32 [B, width]."""
        ...


class ExtractorSpec(NamedTuple):
    """Which extractor, and with what."""

    name: str
    weights: Path | None = None
    """A file or folder; None: the published ones, from the cache or the hub."""
    resize: str = "clean"
    device: torch.device = torch.device("cpu")


EXTRACTORS: Registry[Callable[[ExtractorSpec], Extractor]] = Registry("kind of features")


class Pixels:
    """Colours averaged over an 8x8 grid: 192 numbers that need no weights.

    Coarse, but without any judge model: for small worlds, and to try the machinery.
    """

    grid = 8
    width = 3 * grid * grid

    def __init__(self) -> None:
        self.identity: dict[str, Any] = {"features": "pixels", "grid": self.grid}

    def prepare(self, image: Tensor) -> Tensor:
        """An image uint8 [3, H, W] as means of a grid, float32 in [0, 1]."""
        return F.adaptive_avg_pool2d(image.float() / 255, self.grid)

    def __call__(self, prepared: Tensor) -> Tensor:
        """Features [B, D] of prepared images."""
        return prepared.flatten(1)


@EXTRACTORS.register("pixels")
def _pixels(requested: ExtractorSpec) -> Extractor:
    return Pixels()


class InceptionFeatures:
    """The published Inception at its last pooling (2,048 numbers), or at an earlier layer."""

    def __init__(self, network: Inception, weights_hash: str, resize: str, device: torch.device):
        self.network, self.device, self.width = network.to(device), device, network.width
        self.resize = RESIZES[resize]
        # pytorch-fid scales 0..255 to -1..1, the TensorFlow graph to (x - 128) / 128.
        self.shift, self.scale = (127.5, 127.5) if resize == "torch" else (128.0, 128.0)
        self.identity: dict[str, Any] = {
            "features": "inception",
            "layer": network.layer,
            "weights_sha256": weights_hash,
            "published": weights_hash.startswith(PUBLISHED_HASH),
            "resize": resize,
        }

    def prepare(self, image: Tensor) -> Tensor:
        """An image uint8 [3, H, W], resized and normalised for Inception."""
        return (self.resize(image, SIDE) - self.shift) / self.scale

    @torch.inference_mode()
    def __call__(self, prepared: Tensor) -> Tensor:
        """Features [B, D] of prepared images, float32 on the CPU."""
        features: Tensor = self.network(prepared.to(self.device)).float().cpu()
        return features


@EXTRACTORS.register("inception")
def _inception(requested: ExtractorSpec) -> Extractor:
    return load_inception(requested)


def load_inception(requested: ExtractorSpec, layer: str = "2048") -> InceptionFeatures:
    """Inception with weights from a safetensors file, or from the published .pth.

    Raises:
        CheckpointError: they cannot be had, are damaged, or are another network's.
    """
    file = requested.weights or _published()
    tensors, digest = read_inception(file)
    network = Inception(layer)
    known = network.state_dict()
    counters = {name for name in known if name.endswith("num_batches_tracked")}
    tensors = {name: tensor for name, tensor in tensors.items() if name not in counters}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    expected = {n: tuple(t.shape) for n, t in known.items() if n not in counters}
    if shapes != expected:
        odd = sorted(name for name in shapes.keys() | expected.keys()
                     if shapes.get(name) != expected.get(name))  # fmt: skip
        raise CheckpointError(
            f"{file} is not the Inception of FID: {len(odd)} tensors differ, {odd[0]} among them.",
            f"Take {PUBLISHED}, or a safetensors file with the same names.",
        )
    network.load_state_dict(tensors, strict=False)
    return InceptionFeatures(network, digest, requested.resize, requested.device)


def read_inception(file: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a weights file, and its SHA-256.

    The published file is a pickle: it alone is opened, once its hash has shown that it is the
    one that is meant, and with a reader that builds tensors only. Others must be safetensors.

    Raises:
        CheckpointError: it is missing, damaged, or an unknown pickle.
    """
    if not file.is_file():
        raise CheckpointError(f"There are no Inception weights at {file}.")
    digest = sha256(file)
    if digest.startswith(PUBLISHED_HASH):
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        return dict(tensors), digest
    if file.suffix != ".safetensors":
        raise CheckpointError(
            f"{file} is not the published {PUBLISHED}, and unknown pickles are not opened.",
            "Convert it to safetensors, with the same names.",
        )
    return load_tensors(file), digest


def _published() -> Path:
    """The published Inception weights, downloaded once into the cache."""
    path = cache_directory() / PUBLISHED
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(PUBLISHED_URL, str(path), PUBLISHED_HASH, False)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"The published Inception weights cannot be downloaded: {error}.",
                f"Fetch {PUBLISHED_URL} elsewhere and give --weights FILE.",
            ) from error
    return path


def extract(
    images: ImageSet,
    extractor: Extractor,
    size: int | None = None,
    batch: int = 32,
    progress: Progress | None = None,
) -> Tensor:
    """The features of a set, float32 [N, width], kept in the cache part by part.

    Raises:
        DataError: a picture cannot be read, or sizes are mixed and ``size`` is None.
    """
    key = [images.digest, extractor.identity, size, CHUNK]
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_directory() / "features" / name
    chunks = []
    for start in range(0, len(images), CHUNK):
        files = images.files[start : start + CHUNK]
        cache_file = folder / f"{start:08d}.safetensors"
        if cache_file.is_file():
            chunks.append(load_tensors(cache_file)["features"])
        else:
            found = []
            for prepared in read_batches(files, size, batch, extractor.prepare):
                found.append(extractor(prepared))
                if progress is not None:
                    progress("features", start + sum(len(f) for f in found), len(images))
            chunks.append(torch.cat(found))
            save_tensors(cache_file, {"features": chunks[-1]})
    return torch.cat(chunks)
