"""Reference statistics in the usual .npz (mu, sigma), with the definition they were made by."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from open_imagen.errors import DataError
from open_imagen.evaluation.image_set import open_images
from open_imagen.evaluation.metrics.distances import Reference, reference_of
from open_imagen.evaluation.metrics.features import Extractor, extract
from open_imagen.evaluation.progress import Progress
from open_imagen.storage import atomic, sha256

DEFINITION = "open_imagen"
"""The array that holds the definition as JSON text; other programs do not look at it."""


def open_reference(
    path: Path, extractor: Extractor, size: int | None, progress: Progress | None = None
) -> tuple[Reference, dict[str, Any]]:
    """What pictures are compared with, and what it is.

    Args:
        path: a folder of pictures, or statistics in .npz as TTUR, pytorch-fid and clean-fid keep
            them.

    Raises:
        DataError: it cannot be read, or its statistics were made in another way.
    """
    if path.suffix == ".npz":
        return read_statistics(path, extractor, size)
    images = open_images(path)
    reference = reference_of(extract(images, extractor, size, progress=progress).numpy())
    return reference, {"count": len(images), "sha256": images.digest}


def write_statistics(
    path: Path,
    reference: Reference,
    extractor: Extractor,
    size: int | None,
    identity: dict[str, Any],
) -> None:
    """Write mean and covariance with their definition."""
    definition = {**extractor.identity, "size": size, "reference": identity}
    with atomic(path) as temporary, temporary.open("wb") as file:
        arrays = {
            "mu": reference.mu,
            "sigma": reference.sigma,
            DEFINITION: np.array(json.dumps(definition)),
        }
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_statistics(
    path: Path, extractor: Extractor, size: int | None
) -> tuple[Reference, dict[str, Any]]:
    """Statistics from a file.

    Raises:
        DataError: it is damaged, has no mu and sigma, or was made with another network, resize or
            size than the pictures will be.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            mu, sigma = (np.asarray(arrays[name], np.float64) for name in ("mu", "sigma"))
            text = str(arrays[DEFINITION]) if DEFINITION in arrays.files else ""
        definition = json.loads(text) if text else {}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"{path} does not hold statistics: {error}.", "It needs the arrays mu and sigma."
        ) from error
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise DataError(f"{path}: mu has shape {mu.shape}, sigma {sigma.shape}.")
    if len(mu) != extractor.width:
        raise DataError(
            f"{path} has statistics of {len(mu)} features; {extractor.identity['features']} has "
            f"{extractor.width}."
        )
    identity = {"statistics_sha256": sha256(path)}
    if not definition:
        return Reference(mu, sigma, None), {**identity, "definition": "the file says nothing of it"}
    ours = {**extractor.identity, "size": size}
    odd = [key for key, value in ours.items() if definition.get(key) != value]
    if odd:
        listed = "; ".join(f"{key} = {definition.get(key)!r}, not {ours[key]!r}" for key in odd)
        raise DataError(
            f"{path} was made in another way: {listed}. Numbers across the two mean nothing.",
            "Measure with the same settings, or make the statistics anew.",
        )
    source = definition.get("reference", {})
    return Reference(mu, sigma, source.get("count")), {**identity, **source}
