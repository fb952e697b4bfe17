"""One number with its record: which pictures, which network, which protocol, which versions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from open_imagen.errors import ConfigError, DataError, UnknownName
from open_imagen.evaluation.image_set import ImageSet
from open_imagen.evaluation.judges.judge import alignment, judge_images, mean_reconstruction_rmse
from open_imagen.evaluation.metrics import vision
from open_imagen.evaluation.metrics.distances import (
    METRICS,
    Score,
    check_enough,
    clip_score,
    diversity,
    with_error,
)
from open_imagen.evaluation.metrics.features import EXTRACTORS, Extractor, ExtractorSpec, extract
from open_imagen.evaluation.metrics.records import differences, digest, versions
from open_imagen.evaluation.metrics.statistics import open_reference
from open_imagen.evaluation.progress import Progress
from open_imagen.storage import read_json

DEFAULT_FEATURES = {
    "fid": "inception",
    "kid": "inception",
    "mind": "inception",
    "precision": "inception",
    "recall": "inception",
    "cmmd": "clip-l14-336",
    "clip": "clip-b32",
    "diversity": "dinov2",
}
"""The features of each measure, unless others are named."""
WITHOUT_FEATURES = ("alignment", "reconstruction_rmse")
"""Measures that the judge of a world takes."""
BETTER_HIGH = ("clip", "alignment", "precision", "recall", "diversity")
ABOUT = {
    "fid": "Frechet distance of features to the reference (lower is better)",
    "kid": "kernel distance of features to the reference (lower is better)",
    "cmmd": "Gaussian-kernel distance of CLIP features to the reference (lower is better)",
    "mind": "sliced distance of features to the reference, for small sets (lower is better)",
    "precision": "share of pictures that look like the reference",
    "recall": "share of the reference that the pictures cover",
    "diversity": "distance of features between images of one prompt (higher is more diverse)",
    "clip": "CLIP score: how well pictures fit their captions, 100 x cosine",
    "alignment": "share of images that the judge of their world finds right, percent",
    "reconstruction_rmse": (
        "difference to an exact drawing of what is detected, 0 to 255 (lower is better)"
    ),
}


class Measure(NamedTuple):
    """What is measured, through which features."""

    metric: str
    features: str

    @property
    def name(self) -> str:
        """As it is asked for: "fid", or "fid:pixels"."""
        usual = DEFAULT_FEATURES.get(self.metric, "") == self.features
        return self.metric if usual else f"{self.metric}:{self.features}"

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value means better images."""
        return self.metric in BETTER_HIGH

    @property
    def needs_reference(self) -> bool:
        """Whether the metric compares with reference images."""
        return self.metric in METRICS


def parse_measure(text: str) -> Measure:
    """Read "metric" or "metric:features".

    >>> parse_measure("fid"), parse_measure("kid:pixels").name
    (Measure(metric='fid', features='inception'), 'kid:pixels')

    Raises:
        UnknownName: no such metric or features.
        ConfigError: features that the metric cannot use.
    """
    metric, _, features = text.strip().partition(":")
    if metric not in ABOUT:
        raise UnknownName("metric", metric, ABOUT)
    if metric in WITHOUT_FEATURES:
        if features:
            raise ConfigError(f"{metric} uses no features; {features!r} was given.")
        return Measure(metric, "")
    features = features or DEFAULT_FEATURES[metric]
    if features not in EXTRACTORS:
        raise UnknownName("kind of features", features, EXTRACTORS)
    if metric in ("clip", "cmmd") and not features.startswith("clip"):
        raise ConfigError(f"{metric} is defined on CLIP's features, not on {features}.")
    return Measure(metric, features)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How pictures are brought before the network. Another protocol gives another number."""

    name: str = "plain"
    resize: str = "clean"
    """To Inception's side: clean, tf1 or torch."""
    size: int | None = None
    """First the short side is scaled to this (Lanczos) and the centre cut out; None: as it is."""
    count: int | None = None
    """Exactly so many pictures; None: as many as there are."""


PROTOCOLS = {
    "plain": Protocol(),
    **{
        f"imagen-coco-{thousands}k-{resize}": Protocol(
            name=f"imagen-coco-{thousands}k-{resize}",
            resize=resize,
            size=256,
            count=1000 * thousands,
        )
        for thousands in (30, 10)
        for resize in ("tf1", "clean")
    },
}
"""The paper's: 30,000 random validation captions against the full validation set at 256 pixels
(10,000 in its ablations). The paper does not say how images reach Inception's side, and that moves
FID, so each preset names its resize."""
STANDS_BESIDE = {
    "tf1": "FIDs of the TensorFlow line (TTUR, ADM's evaluator, torch-fidelity). The paper's 7.27 "
    "comes from code that was not published and belongs to this line as far as is known.",
    "clean": "FIDs computed with clean-fid only, such as GigaGAN's 9.09; not beside the paper's "
    "7.27.",
    "torch": "FIDs computed with pytorch-fid only; not beside the paper's 7.27.",
}
"""By resize: which published numbers a COCO FID-30K may stand beside."""


class Scorer:
    """Measures sets of pictures; networks and the reference are loaded once."""

    def __init__(
        self,
        protocol: Protocol,
        reference: Path | None = None,
        weights: Mapping[str, Path] | None = None,
        device: torch.device | None = None,
        progress: Progress | None = None,
        allow_few: bool = False,
    ) -> None:
        """Open the feature extractors.

        Args:
            weights: files or folders by name of features; the published ones where none is given.
            few: compute Frechet distances of too few pictures too, and say so in the record.
        """
        self.protocol, self.reference, self.progress, self.allow_few = (
            protocol,
            reference,
            progress,
            allow_few,
        )
        self.weights, self.device = dict(weights or {}), device or torch.device("cpu")
        self._extractors: dict[str, Extractor] = {}
        self._references: dict[str, Any] = {}

    def extractor(self, name: str) -> Extractor:
        """The network behind a kind of features."""
        if name not in self._extractors:
            requested = ExtractorSpec(
                name, self.weights.get(name), self.protocol.resize, self.device
            )
            self._extractors[name] = EXTRACTORS[name](requested)
        return self._extractors[name]

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on beside the pictures."""
        return {
            "protocol": asdict(self.protocol),
            "reference": self.reference and str(self.reference),
            "weights": {name: str(path) for name, path in self.weights.items()},
        }

    def check(self, measures: Sequence[Measure]) -> None:
        """Refuse what cannot be measured before any picture is made.

        Raises:
            ConfigError: a reference is needed and there is none.
        """
        for measure in measures:
            if measure.needs_reference and self.reference is None:
                raise ConfigError(
                    f"{measure.name} compares with reference pictures, and none are given.",
                    "Give --reference FOLDER, or FILE.npz with statistics.",
                )
            if measure.features:
                self.extractor(measure.features)

    def measure(self, measure: Measure, images: ImageSet) -> dict[str, Any]:
        """A number, its error bar, and the record of how it came about.

        Raises:
            DataError: the pictures do not allow it; the message says why.
        """
        self.check([measure])
        requested = self.protocol.count
        if requested is not None and len(images) != requested:
            raise DataError(
                f"The protocol {self.protocol.name} is of {requested:,} pictures; there are "
                f"{len(images):,}.",
                "Make as many, or measure with --protocol plain.",
            )
        extractor = self.extractor(measure.features) if measure.features else None
        details: dict[str, Any] = {}
        reference_identity = None
        if measure.metric == "alignment":
            score, details["tags"] = alignment(judge_images(images, self.progress))
        elif measure.metric == "reconstruction_rmse":
            score = mean_reconstruction_rmse(judge_images(images, self.progress))
        elif measure.metric == "clip":
            assert isinstance(extractor, vision.Vision)
            captions = extractor.captions(images.asked())
            features = extract(images, extractor, self.protocol.size, progress=self.progress)
            score = clip_score(features.double().numpy(), captions.double().numpy())
        elif measure.metric == "diversity":
            assert extractor is not None
            features = extract(images, extractor, self.protocol.size, progress=self.progress)
            score = diversity(features.double().numpy(), images.asked())
        else:
            assert extractor is not None
            reference, reference_identity = self._reference(measure.features)
            found = extract(images, extractor, self.protocol.size, progress=self.progress)
            image_features = found.double().numpy()
            if measure.metric == "fid":
                try:
                    check_enough(image_features)
                except DataError:
                    if not self.allow_few:
                        raise
                    details["too_few_images"] = True
            score = with_error(METRICS[measure.metric], image_features, reference)
        return self._record(measure, score, images, extractor, reference_identity, details)

    def _reference(self, features: str) -> Any:
        assert self.reference is not None
        if features not in self._references:
            self._references[features] = open_reference(
                self.reference, self.extractor(features), self.protocol.size, self.progress
            )
        return self._references[features]

    def _record(
        self,
        measure: Measure,
        score: Score,
        images: ImageSet,
        extractor: Extractor | None,
        reference: dict[str, Any] | None,
        details: dict[str, Any],
    ) -> dict[str, Any]:
        definition = {
            "metric": measure.metric,
            "features": extractor.identity if extractor is not None else None,
            "protocol": asdict(self.protocol),
            "reference": reference,
            "count": len(images),
        }
        return {
            "measure": measure.name,
            "label": label(measure, extractor),
            **asdict(score),
            "higher_is_better": measure.higher_is_better,
            "definition": definition,
            "definition_sha256": digest(definition),
            "images": images.record(),
            **({"details": details} if details else {}),
            **self._beside(measure),
            "versions": versions(),
        }

    def _beside(self, measure: Measure) -> dict[str, str]:
        """Which published numbers an FID of the paper's protocol may stand beside."""
        named = self.protocol.name.startswith("imagen-coco") and measure.name == "fid"
        return {"stands_beside": STANDS_BESIDE[self.protocol.resize]} if named else {}


def label(measure: Measure, extractor: Extractor | None) -> str:
    """What the number may be called: only the published Inception's is FID."""
    identity = extractor.identity if extractor is not None else {}
    published = identity.get("published", False)
    if measure.metric == "fid":
        return "FID" if published else f"Frechet distance ({_through(identity)})"
    if measure.metric == "kid":
        return "KID" if published else f"kernel distance ({_through(identity)})"
    if measure.metric == "clip":
        return f"CLIP score ({measure.features})"
    if measure.metric in WITHOUT_FEATURES:
        return measure.metric
    return (
        f"{measure.metric.upper() if measure.metric in ('cmmd', 'mind') else measure.metric} "
        + (f"({measure.features})")
    )


def _through(identity: Mapping[str, Any]) -> str:
    if identity.get("features") == "inception":
        return "unpublished Inception weights"
    return str(identity.get("features"))


def compare(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Records of numbers that may stand side by side.

    Raises:
        DataError: one is no record, or two were measured in different ways; the message says how.
    """
    records = [read_json(file) for file in files]
    for file, record in zip(files, records, strict=True):
        if not isinstance(record, dict) or "definition_sha256" not in record:
            raise DataError(f"{file} is not the record of a number.")
        odd = differences(records[0]["definition"], record["definition"])
        if odd:
            raise DataError(
                f"{files[0]} and {file} were not measured in the same way: {'; '.join(odd)}.",
                "Numbers of different protocols cannot be compared. Measure both in one way.",
            )
    return records
