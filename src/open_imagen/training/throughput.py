"""How many operations training takes, and how many this device can do at best."""

import contextlib
import time

import torch

from open_imagen.devices import device_name
from open_imagen.errors import OpenImagenError
from open_imagen.models.profile import count
from open_imagen.models.registry import resolve
from open_imagen.storage import cache_directory, read_json, write_json
from open_imagen.training.recipe import Recipe

TOKENS = 32
"""Tokens of a caption with which operations are counted; text takes a small part of them."""
SECONDS = 0.5
"""How long the peak is measured."""
SIDES = {"cpu": 1024, "cuda": 8192}
"""Of the matrices that are multiplied."""


def training_flops(recipe: Recipe) -> float | None:
    """Operations of the network for one training image: forward, and twice that backward.

    Weights that are frozen have no gradient of their own (LoRA). None where another objective
    trains a part of the network alone. Activations that are computed twice count once.
    """
    if recipe.objective == "text_denoising":
        return None
    name, config = resolve(recipe.stage.network)
    side = recipe.data.get("crop") or recipe.stage.resolution
    try:
        forward = count(name, config, side, TOKENS).flops
    except (RuntimeError, NotImplementedError):  # a network that meta tensors cannot go through
        return None
    return forward * (2 if recipe.adapter.rank else 3)


def peak_flops(device: torch.device, bf16: bool) -> float:
    """The highest measured rate of matrix multiplication of a device, in operations a second.

    Measured once for half a second and kept in the user's cache.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    threads = f" {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    key = f"{device_name(device)}{threads} {str(dtype).removeprefix('torch.')}"
    path = cache_directory() / "peak_flops.json"
    known: dict[str, float] = {}
    with contextlib.suppress(OpenImagenError, OSError, ValueError):
        known = dict(read_json(path))
    if not isinstance(known.get(key), float):
        known[key] = _measure_peak(device, dtype)
        with contextlib.suppress(OpenImagenError, OSError):  # measured again next time
            write_json(path, known)
    return known[key]


def _measure_peak(device: torch.device, dtype: torch.dtype) -> float:
    side = SIDES.get(device.type, 2048)
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(side, side, generator=generator).to(device, dtype)
    best, end = float("inf"), time.perf_counter() + SECONDS
    repeats = 10 if device.type == "cuda" else 1
    while time.perf_counter() < end or best == float("inf"):
        begin = time.perf_counter()
        for _ in range(repeats):
            product = left @ left
        float(product[0, 0])  # waits for a GPU
        best = min(best, (time.perf_counter() - begin) / repeats)
    return 2 * side**3 / best
