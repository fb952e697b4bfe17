"""Aspect-ratio buckets: batches of images of one shape each, cropped a little, never distorted.

Examples come in groups of a step's batch; all of a group are of one bucket. In every epoch each
image comes once, but for fewer than a group of each bucket, which come in the next one.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from open_imagen.data.order import permutation
from open_imagen.errors import ConfigError

LEAST_FILLED = 0.7
"""Share of size x size pixels that a bucket's images have at least."""


@dataclass(frozen=True, kw_only=True)
class BucketConfig:
    """Aspect-ratio buckets: training on images of several shapes."""

    buckets: bool = False
    """Learn images of several shapes, of about size x size pixels, each batch of one shape."""
    bucket_step: int = 8
    """Sides are multiples of it; the network's divisor must divide it."""
    max_aspect: float = 2.0
    """Longest side over shortest; images that are longer are cropped to it."""
    upscale: bool = True
    """Whether smaller images are upscaled. If not, smaller buckets are added for them, and images
    that are smaller still are left out."""

    def refuse_buckets(self) -> None:
        """Refuse buckets, for a source that does not know the sizes of its images.

        Raises:
            ConfigError: buckets are on, for a source that does not know the size of its images.
        """
        if self.buckets:
            raise ConfigError(
                'data.buckets needs data.kind = "folder".',
                "Unpack the images into a folder: imagefolder with metadata.jsonl or .txt files.",
            )

    def check_buckets(self, size: int, crop: int, lowres: int) -> None:
        """Check the settings of buckets, and that the other settings go with them.

        Raises:
            ConfigError: a setting is wrong, or does not go with another one.
        """
        if not self.buckets:
            return
        if self.bucket_step < 1 or self.bucket_step > size:
            raise ConfigError(
                f"data.bucket_step = {self.bucket_step} must be between 1 and data.size = {size}."
            )
        if not 1 <= self.max_aspect <= 16:
            raise ConfigError(f"data.max_aspect = {self.max_aspect} must be between 1 and 16.")
        if crop:
            raise ConfigError(
                f"data.crop = {crop} makes all images square: it does not go with data.buckets."
            )
        factor = size // lowres if lowres else 1
        if self.bucket_step % factor:
            raise ConfigError(
                f"data.bucket_step = {self.bucket_step} must be a multiple of {factor}, which is "
                "data.size / data.lowres."
            )


class Shape(NamedTuple):
    """The size of the images of a bucket."""

    width: int
    height: int


def bucket_shapes(size: int, step: int, max_aspect: float) -> list[Shape]:
    """The largest shapes of at most size x size pixels, one for each long side.

    >>> bucket_shapes(64, 16, 2.0)
    [Shape(width=48, height=80), Shape(width=64, height=64), Shape(width=80, height=48)]
    """
    tallest: dict[int, int] = {}
    for height in range(step, size + 1, step):
        width = int(min(size * size / height, max_aspect * height)) // step * step
        if width > height and width * height >= LEAST_FILLED * size * size:
            tallest[width] = height
    wide = [Shape(width, height) for width, height in tallest.items()]
    square = Shape(size // step * step, size // step * step)
    return sorted({square, *wide, *(Shape(height, width) for width, height in wide)})


def choose_shape(
    image: tuple[int, int], shapes: Sequence[Shape], config: BucketConfig
) -> Shape | None:
    """The shape of which an image loses the least; None if it is too small for any."""

    def kept(shape: Shape) -> float:
        ratio = image[0] / image[1] * shape.height / shape.width
        return min(ratio, 1 / ratio)

    best = max(shapes, key=lambda shape: (round(kept(shape), 9), shape.width * shape.height))
    if config.upscale or (image[0] >= best.width and image[1] >= best.height):
        return best
    step, most = config.bucket_step, config.max_aspect
    largest = max(shape.width * shape.height for shape in shapes)  # bounds the memory of a step
    width, height = image[0] // step * step, image[1] // step * step
    while min(width, height) and (
        max(width, height) > most * min(width, height) or width * height > largest
    ):
        width, height = (width - step, height) if width >= height else (width, height - step)
    return Shape(width, height) if min(width, height) else None


class Place(NamedTuple):
    """What an example of a bucketed order is."""

    shape: Shape
    member: int
    """The number of its image."""


class BucketOrder:
    """The images of an endless stream, group after group of one shape; a function of the index.

    The number of a bucket's groups before any epoch is its images so far, divided by the size of a
    group and rounded down: none is lost or doubled.
    """

    def __init__(self, shapes: Sequence[Shape], group: int, seed: int) -> None:
        """Sort the images by shape.

        Args:
            shapes: the shape of each image, by its number.
            group: examples that come together.
        """
        self.group, self.seed = group, seed
        members: dict[Shape, list[int]] = {}
        for number, shape in enumerate(shapes):
            members.setdefault(shape, []).append(number)
        self.shapes = sorted(members)
        self.members = [members[shape] for shape in self.shapes]

    def _groups_before(self, epoch: int) -> list[int]:
        """Of each bucket."""
        return [epoch * len(images) // self.group for images in self.members]

    def _epoch_of(self, group: int) -> int:
        """The epoch that a group is in."""
        low, high = 0, 1
        while sum(self._groups_before(high)) <= group:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if sum(self._groups_before(middle)) <= group:
                low = middle
            else:
                high = middle
        return low

    def _bucket(self, index: int) -> tuple[int, int]:
        """The bucket of an example, and its place among all of that bucket."""
        group, inside = divmod(index, self.group)
        epoch = self._epoch_of(group)
        before, after = self._groups_before(epoch), self._groups_before(epoch + 1)
        ends = list(accumulate(b - a for a, b in zip(before, after, strict=True)))
        shuffled = permutation(ends[-1], f"buckets {self.seed} {epoch}")[group - sum(before)]
        bucket = bisect_right(ends, shuffled)
        number = shuffled - (ends[bucket - 1] if bucket else 0)
        return bucket, (before[bucket] + number) * self.group + inside

    def __getitem__(self, index: int) -> Place:
        bucket, place = self._bucket(index)
        images = self.members[bucket]
        turn, inside = divmod(place, len(images))
        order = permutation(len(images), f"bucket {self.seed} {bucket} {turn}")
        return Place(self.shapes[bucket], images[order[inside]])

    def near(self, index: int, number: int) -> Place:
        """A stand-in of the same shape; ``number`` is drawn at random."""
        bucket, _ = self._bucket(index)
        images = self.members[bucket]
        return Place(self.shapes[bucket], images[number % len(images)])

    def is_group(self, index: int, size: int) -> bool:
        """Whether examples ``index`` to ``index + size - 1`` are of one group."""
        return index // self.group == (index + size - 1) // self.group
