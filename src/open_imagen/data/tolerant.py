"""What sources of collected images share: they skip damaged examples and count them."""

import math
import random
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from open_imagen.data.augment import AugmentConfig, apply, draw
from open_imagen.data.buckets import BucketConfig, Shape
from open_imagen.data.captions import CaptionChooser, CaptionConfig
from open_imagen.data.images import (
    MAX_PIXELS,
    SkippedExample,
    Square,
    decode,
    header_size,
    to_square,
)
from open_imagen.data.where import Where
from open_imagen.errors import ConfigError, DataError, OpenImagenWarning
from open_imagen.types import Batch

ATTEMPTS = 100
"""Examples tried in place of a skipped one before the data are given up."""
MAX_ATTEMPTS = 10_000
"""The same for examples that settings leave out, which may be nearly all."""
ENOUGH = 200
"""Examples after which the share of skipped ones is checked."""
ENLARGED_SHARE = 0.05
"""Share of upscaled images above which the user is warned."""


@dataclass(frozen=True, kw_only=True)
class TolerantConfig(CaptionConfig, AugmentConfig, BucketConfig):
    """The settings of all sources of collected images."""

    size: int = 64
    """Image size: the short side is scaled to it, then the centre is cropped."""
    crop: int = 0
    """Side of random square crops to train on; 0 for whole images."""
    lowres: int = 0
    """Side of the low-resolution input for the whole image; 0 for base models."""
    seed: int = 0
    """Of the order, which differs in every epoch."""
    workers: int = 2
    """Threads that decode a batch."""
    max_bad: float = 0.1
    """Largest share of skipped examples before the run stops."""
    max_pixels: int = MAX_PIXELS
    """Larger pictures are refused as decompression bombs."""
    min_size: int = 0
    """Minimum short side; smaller images are left out. 0 for none, `size` to never upscale."""
    where: str = ""
    """A condition on width, height and columns; examples that do not meet it are left out."""

    def __post_init__(self) -> None:
        check_squares(self.size, self.crop, self.lowres)
        self.check_captions()
        self.check_augment()
        self.check_buckets(self.size, self.crop, self.lowres)
        if not 0 <= self.max_bad <= 1:
            raise ConfigError(f"data.max_bad = {self.max_bad} must be between 0 and 1.")
        for name in ("workers", "max_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name} = {getattr(self, name)} must be at least 1.")
        if self.min_size < 0:
            raise ConfigError(f"data.min_size = {self.min_size} must be at least 0.")
        if self.where:
            Where(self.where)

    @property
    def factor(self) -> int:
        """How many times larger images are than their low-resolution input; 0 without one."""
        return self.size // self.lowres if self.lowres else 0

    @property
    def least_size(self) -> int:
        """The shortest side of images that are not left out."""
        return self.min_size if self.upscale or self.buckets else max(self.min_size, self.size)


class Sample(NamedTuple):
    """What a source has of an example."""

    data: bytes
    """The file of the picture."""
    captions: tuple[str, ...]
    """"" for one that cannot be used."""
    columns: Mapping[str, Any] = {}
    """What else is known of it; for `where`."""
    shape: Shape | None = None
    """Of the image that is made of it; None for a square."""


class Filtered(SkippedExample):
    """An example that settings leave out. It is counted, but is not bad."""


class Tolerant:
    """A Source that skips examples it cannot use: it counts them by reason and replaces them.

    Attributes:
        skipped: reason -> how many examples were skipped for it, since this source was opened.
    """

    config: TolerantConfig
    filters_at_start = False
    """Whether the source itself has left out what `min_size` and `where` leave out."""

    def __init__(self, path: str, config: TolerantConfig) -> None:
        self.path, self.seed = path, config.seed
        self.config = config
        self.max_bad, self.workers = config.max_bad, config.workers
        self.skipped: Counter[str] = Counter()
        self.chooser = CaptionChooser(config)
        self.endless_captions = self.chooser.is_endless
        self.where = Where(config.where) if config.where else None
        self._excused = Counter[str]()
        """Those of them that do not count towards `max_bad`."""
        self._known_columns: set[str] = set()
        self._filter_checks = 0
        self._seen = self._enlarged = 0
        self._has_warned = False
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(self.workers) if self.workers > 1 else None

    def read(self, index: int, attempt: int, rng: random.Random) -> Sample:
        """Example ``index``, or a stand-in for it, found from these numbers alone.

        Raises:
            SkippedExample: it cannot be learned from.
        """
        raise NotImplementedError

    @property
    def num_bad(self) -> int:
        """Skipped examples that count towards `max_bad`."""
        return self.skipped.total() - self._excused.total()

    def batch(self, index: int, size: int) -> Batch:
        """Examples index to index + size - 1.

        Raises:
            DataError: more than ``max_bad`` of the examples were skipped; the message counts them.
        """
        # Several examples a task: threads hand over seldom, and still end at about the same time.
        step = max(1, size // (8 * self.workers))
        each = self._pool.map if self._pool else map
        tasks = [range(k, min(k + step, index + size)) for k in range(index, index + size, step)]
        made = [example for some in each(self._examples, tasks) for example in some]
        self._seen += size
        self._check_counts()
        lowres = [square.lowres for square, _ in made if square.lowres is not None]
        return Batch(
            torch.stack([square.image for square, _ in made]),
            [caption for _, caption in made],
            index,
            torch.stack(lowres) if lowres else None,
            is_bucketed=self.config.buckets,
        )

    def set_group(self, size: int) -> None:
        """Say how many examples a step has; those of a bucketed source are of one shape."""

    def _check_counts(self) -> None:
        bad = self.num_bad
        if self._seen >= ENOUGH and bad > self.max_bad * (self._seen + bad):
            raise DataError(
                f"{bad:,} of {self._seen + bad:,} examples of {self.path} were skipped "
                f"({describe_counts(self.skipped)}), more than data.max_bad = {self.max_bad} "
                "allows.",
                "Look at the data with: imagen data check; or raise data.max_bad.",
            )
        many = self._seen >= ENOUGH and self._enlarged > ENLARGED_SHARE * self._seen
        if many and not self._has_warned:
            self._has_warned = True
            size = self.config.size
            warnings.warn(
                f"{self._enlarged:,} of {self._seen:,} images of {self.path} are smaller than "
                f"data.size = {size} and are enlarged. data.min_size = {size} leaves them out.",
                OpenImagenWarning,
                stacklevel=3,
            )

    def _examples(self, indices: Iterable[int]) -> list[tuple[Square, str]]:
        return [self._example(index) for index in indices]

    def _example(self, index: int) -> tuple[Square, str]:
        """Example ``index``, or the first stand-in that can be used."""
        rng = random.Random(f"crop {self.seed} {index}")
        attempt = bad = 0
        while bad < ATTEMPTS and attempt < MAX_ATTEMPTS:
            try:
                return self._prepare(self.read(index, attempt, rng), index, rng)
            except SkippedExample as error:
                bad += not isinstance(error, Filtered)
                if not attempt:
                    self._count(error)
                attempt += 1
        raise DataError(
            f"{attempt} examples of {self.path} in a row were skipped "
            f"({describe_counts(self.skipped)})."
        )

    def _count(self, error: SkippedExample) -> None:
        with self._lock:
            self.skipped[error.reason] += 1
            self._excused[error.reason] += isinstance(error, Filtered)

    def count_at_start(self, counts: Counter[str]) -> None:
        """Add what was skipped when the source was opened, whose share was checked there."""
        self.skipped.update(counts)
        self._excused.update(counts)

    def _prepare(self, sample: Sample, index: int, rng: random.Random) -> tuple[Square, str]:
        """What is learned from an example."""
        config = self.config
        if (self.where or config.least_size) and not self.filters_at_start:
            self._check_known(sample.columns)
            self.check_filters(header_size(sample.data), sample.columns)
        caption = self.chooser.choose(sample.captions, random.Random(f"text {self.seed} {index}"))
        near = math.ceil(max(sample.shape or (config.size,)) * config.zoom)
        image = decode(sample.data, near, config.max_pixels)
        self._enlarged += min(image.size) < config.size
        target = sample.shape or (config.size, config.size)
        if config.changes_images:
            drawn = draw(
                config, image.size, target, caption, random.Random(f"augment {self.seed} {index}")
            )
            image = apply(image, drawn, target)
        return to_square(image, target, config.factor, config.crop, rng), caption

    def check_filters(self, size: tuple[int, int], columns: Mapping[str, Any]) -> None:
        """Check an image against the filters of the settings.

        Raises:
            Filtered: settings leave a picture of this size and with these columns out.
        """
        if min(size) < self.config.least_size:
            raise Filtered("too small", f"{size[0]}x{size[1]}")
        if self.where and not self.where({**columns, "width": size[0], "height": size[1]}):
            raise Filtered("left out by data.where")

    def _check_known(self, columns: Mapping[str, Any]) -> None:
        """Whether `where` reads columns that examples have; the first may lack some."""
        if self.where is None:
            return
        with self._lock:
            if self._filter_checks < ENOUGH:
                self._filter_checks += 1
                self._known_columns |= columns.keys() | {"width", "height"}
        if self._filter_checks >= ENOUGH:  # in every thread: another may be the one that is heard
            self.where.check_columns(self._known_columns, self.path)


def check_squares(size: int, crop: int, lowres: int) -> None:
    """Whether the sides of pictures, crops and low-resolution inputs go together.

    Raises:
        ConfigError: they do not.
    """
    if size < 8:
        raise ConfigError(f"data.size = {size} must be at least 8.")
    if crop < 0 or lowres < 0:
        raise ConfigError(f"data.crop = {crop} and data.lowres = {lowres} must be at least 0.")
    if lowres and size % lowres:
        raise ConfigError(f"data.lowres = {lowres} must divide data.size = {size}.")
    factor = size // lowres if lowres else 1
    if crop and (crop > size or crop % factor):
        raise ConfigError(
            f"data.crop = {crop} must be a multiple of {factor}, at most data.size = {size}."
        )


def describe_counts(counts: Counter[str]) -> str:
    """Counts by reason, the largest first.

    >>> describe_counts(Counter({"not a picture": 2, "no caption": 5}))
    'no caption 5, not a picture 2'
    """
    return ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common() if count)
