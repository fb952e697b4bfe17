"""A judge on a run: verdicts on every image, the benchmark's number, and its record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from open_imagen.errors import DataError
from open_imagen.evaluation.image_set import ImageSet, read_image
from open_imagen.evaluation.intervals import cluster_interval, pooled_interval, stratified_interval
from open_imagen.evaluation.judges.judge import Verdict
from open_imagen.evaluation.judges.spec import Aggregation, ModelJudge
from open_imagen.evaluation.metrics.records import digest, versions
from open_imagen.evaluation.progress import Progress

BATCH = 16


def measure_judge(
    judge: ModelJudge,
    images: ImageSet,
    progress: Progress | None = None,
    accuracy: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of a judge's number on a run.

    Args:
        accuracy: of the same judge on exact scenes, to stand beside the number.

    Raises:
        DataError: the images have no prompts, or not what the judge needs to know of them; or the
            accuracy is another judge's.
    """
    if accuracy is not None and accuracy.get("identity") != judge.identity:
        raise DataError(
            f"The accuracy given is of {accuracy.get('judge')!r}, not of this judge with these "
            "weights and settings.",
            "Measure it with imagen evaluate judge-accuracy and the same options.",
        )
    metadata = _metadata(images)
    verdicts: list[Verdict] = []
    for start in range(0, len(images), BATCH):
        files = images.files[start : start + BATCH]
        pixels = [torch.from_numpy(np.array(read_image(f))).permute(2, 0, 1) for f in files]
        verdicts += judge(pixels, metadata[start : start + BATCH])
        if progress is not None:
            progress("judging", len(verdicts), len(images))
    prompts = prompt_numbers(images)
    definition = {"judge": judge.identity, "aggregation": asdict(judge.aggregation)}
    summary = summarize(judge.aggregation, verdicts, prompts)
    return {
        "measure": f"judge:{judge.identity['judge']}",
        "label": judge.label,
        **summary,
        "higher_is_better": True,
        "definition": definition,
        "definition_sha256": digest(definition),
        "images": images.record(),
        **({"accuracy": dict(accuracy)} if accuracy is not None else {}),
        "per_image": [
            {
                "file": str(file.relative_to(images.folder)),
                "score": verdict.value,
                "right": verdict.right,
                **({"atoms": [one._asdict() for one in verdict.atoms]} if verdict.atoms else {}),
            }
            for file, verdict in zip(images.files, verdicts, strict=True)
        ],
        "versions": versions(),
    }


def _metadata(images: ImageSet) -> Sequence[Mapping[str, Any]]:
    if images.metadata is not None:
        return images.metadata
    return [{"prompt": caption} for caption in images.asked()]


def prompt_numbers(images: ImageSet) -> list[object]:
    """Which prompt each image is of."""
    if images.run is not None:
        each = int(images.run["images_per_prompt"])
        return [k // each for k in range(len(images))]
    return list(images.asked())


def summarize(
    aggregation: Aggregation, verdicts: Sequence[Verdict], prompts: Sequence[object]
) -> dict[str, Any]:
    """The headline with its interval, by the prompts' tags, and by what atoms ask about."""
    scale = 100.0 if aggregation.percent else 1.0
    bound = 100.0 if aggregation.percent else None
    values = [scale * verdict.value for verdict in verdicts]
    tags = [verdict.tag for verdict in verdicts]
    if aggregation.mean_over_tags:
        headline = stratified_interval(values, prompts, tags)
    else:
        headline = cluster_interval(values, prompts, bound)
    found: dict[str, Any] = {
        **headline._asdict(),
        "error": (headline.high - headline.low) / 3.92,
        "categories": {
            tag: _of(values, prompts, [k for k, one in enumerate(tags) if one == tag], bound)
            for tag in dict.fromkeys(tags)
        },
    }
    if aggregation.percent:
        rights = [100.0 * verdict.right for verdict in verdicts]
        found["all_right"] = cluster_interval(rights, prompts, bound)._asdict()
    if any(verdict.atoms for verdict in verdicts):
        found["atoms"] = _atom_categories(aggregation, verdicts, prompts)
        found["by_number_of_atoms"] = {
            str(n): _of(
                values, prompts, [k for k, v in enumerate(verdicts) if len(v.atoms) == n], bound
            )
            for n in sorted({len(verdict.atoms) for verdict in verdicts})
        }
    return found


def _of(
    values: Sequence[float],
    prompts: Sequence[object],
    rows: Sequence[int],
    scale: float | None,
) -> dict[str, float]:
    interval = cluster_interval([values[k] for k in rows], [prompts[k] for k in rows], scale)
    return {**interval._asdict(), "of": len(rows)}


def _atom_categories(
    aggregation: Aggregation, verdicts: Sequence[Verdict], prompts: Sequence[object]
) -> dict[str, Any]:
    """The mean over atoms of each category, prompts drawn as clusters."""
    rows = range(len(verdicts))
    if aggregation.last_image_only:
        rows = sorted({prompt: k for k, prompt in enumerate(prompts)}.values())  # type: ignore[assignment]
    values: dict[str, list[float]] = {}
    clusters: dict[str, list[object]] = {}
    for k in rows:
        for one in verdicts[k].atoms:
            score = one.gated if aggregation.gated_categories else one.score
            values.setdefault(one.category, []).append(100.0 * score)
            clusters.setdefault(one.category, []).append(prompts[k])
    return {
        name: {**pooled_interval(some, clusters[name])._asdict(), "of": len(some)}
        for name, some in sorted(values.items())
    }
