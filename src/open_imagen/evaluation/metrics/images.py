"""Distances between two sets of images in memory, for training runs."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from open_imagen.errors import ConfigError
from open_imagen.evaluation.metrics.distances import METRICS, reference_of
from open_imagen.evaluation.metrics.features import EXTRACTORS, Extractor, ExtractorSpec
from open_imagen.evaluation.metrics.scores import Measure

BATCH = 32


def image_distance(
    measure: Measure, device: torch.device
) -> Callable[[Tensor, Tensor], dict[str, float]]:
    """(images, reference images), both uint8 [N, 3, H, W] -> {the name of the measure: distance}.

    Raises:
        CheckpointError: the weights of its features cannot be had.
        UnknownName: no such features.
    """
    extractor = EXTRACTORS[measure.features](ExtractorSpec(measure.features, device=device))
    metric = METRICS[measure.metric]

    def distance(images: Tensor, reference: Tensor) -> dict[str, float]:
        if len(images) < 2:
            raise ConfigError(f"{measure.name} of {len(images)} image needs at least two.")
        real = reference_of(_features(extractor, reference))
        return {measure.name: metric(_features(extractor, images), real)}

    return distance


def _features(extractor: Extractor, images: Tensor) -> NDArray[np.float64]:
    parts = [
        extractor(torch.stack([extractor.prepare(image) for image in some]))
        for some in torch.split(images, BATCH)
    ]
    return torch.cat(parts).double().numpy()
