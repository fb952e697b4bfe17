"""A folder of captioned pictures: a .txt beside each, or metadata tables (imagefolder layout)."""

import random
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_imagen.config import plain
from open_imagen.data.buckets import BucketOrder, Shape, bucket_shapes, choose_shape
from open_imagen.data.files import SUFFIXES
from open_imagen.data.folder_scan import Entry, Found, Layout, scan
from open_imagen.data.images import SkippedExample, header_size, read_file
from open_imagen.data.registry import SOURCES
from open_imagen.data.tolerant import Filtered, Sample, Tolerant, TolerantConfig, describe_counts
from open_imagen.errors import ConfigError, DataError, OpenImagenWarning
from open_imagen.types import Batch

CHECK = "Look at all of them with: imagen data check"


@dataclass(frozen=True, kw_only=True)
class FolderConfig(TolerantConfig):
    """Pictures and captions in a folder."""

    path: str
    """The folder; subfolders are searched too."""
    kind: str = "folder"
    caption: str = ""
    """Caption of images without one of their own; without it they are skipped."""
    caption_columns: tuple[str, ...] = ("text",)
    """Of the metadata; each may hold a caption or a list of them."""
    caption_lines: bool = False
    """Whether every line of a caption file is a caption of its own."""
    file_column: str = "file_name"
    """Of the metadata: the picture, relative to the folder of the table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.caption_columns:
            raise ConfigError("data.caption_columns must name at least one column.")

    @property
    def layout(self) -> Layout:
        """Where captions are."""
        return Layout(
            columns=self.caption_columns,
            file_column=self.file_column,
            lines=self.caption_lines,
            keep_columns=bool(self.where),
        )


class Folder(Tolerant):
    """A Source of the pictures of a folder, in a new order every epoch.

    Captions are read at the start. Pictures without a usable one are left out and counted there;
    pictures are read as they come, and those that cannot be used are left out then.

    Raises:
        DataError: there is no such folder, no picture in it, or more than `max_bad` of the
            captions cannot be used.
    """

    config: FolderConfig
    filters_at_start = True

    def __init__(self, config: FolderConfig, device: str = "cpu") -> None:
        super().__init__(config.path, config)
        found = scan(Path(config.path), config.layout)
        entries = found.entries
        if config.caption:
            bare = [*found.without_caption, *found.unlisted]
            entries = sorted([*entries, *(Entry(path, (config.caption,)) for path in bare)])
            found.without_caption, found.unlisted, found.num_empty = [], [], 0
        self._check(found, len(entries))
        for note in found.notes():
            message = f"data.path = {config.path!r}: left out are {note}."
            warnings.warn(message, OpenImagenWarning, stacklevel=4)
        self.entries = entries
        self._shapes: list[Shape] = []
        if self.where or config.least_size or config.buckets:
            self._read_sizes()
        self._orders: dict[int, list[int]] = {}
        self._buckets: BucketOrder | None = None

    def _check(self, found: Found, usable: int) -> None:
        """Count what cannot be used, and refuse the folder if it is too much."""
        bad = Counter(problem.reason for problem in found.problems)
        bad["empty caption"] += found.num_empty
        bad["no caption"] += len(found.without_caption) - found.num_empty
        self.count_at_start(+bad)
        total = bad.total()
        if total > self.config.max_bad * (usable + total):
            raise self._refused(found, usable + total)
        if not usable:
            raise DataError(
                f"There is no captioned picture in {self.path}.",
                f"Put {', '.join(sorted(SUFFIXES))} files there, each with a .txt beside it.",
            )

    def _refused(self, found: Found, total: int) -> DataError:
        allowed = f"More than data.max_bad = {self.config.max_bad} allows"
        if found.problems:
            return DataError(
                f"{len(found.problems)} of the captions in {self.path} cannot be used: "
                f"{found.problems[0].message} {allowed}, of {total:,}.",
                CHECK,
            )
        first = found.without_caption[0]
        return DataError(
            f"{len(found.without_caption)} of the pictures in {self.path} have no caption, "
            f"{first} among them. {allowed}, of {total:,}.",
            f"Write {first.with_suffix('.txt').name} beside it, list all pictures in "
            "metadata.jsonl, or give them all one in data.caption.",
        )

    def _read_sizes(self) -> None:
        """Read the size of every image, apply the filters, and find the bucket of the others.

        Only the header of each image is read.
        """
        config = self.config
        if self.where:
            known = {"width", "height"}.union(*(entry.columns for entry in self.entries))
            self.where.check_columns(known, self.path)
        shapes = bucket_shapes(config.size, config.bucket_step, config.max_aspect)

        def shape_of(entry: Entry) -> Shape | None:
            try:
                size = header_size(read_file(entry.image))
                self.check_filters(size, entry.columns)
                shape = choose_shape(size, shapes, config) if config.buckets else shapes[0]
                if shape is None:
                    raise Filtered("too small", f"{size[0]}x{size[1]}")
            except Filtered as error:
                self._count(error)
                return None
            except SkippedExample:  # counted when its turn comes
                return Shape(config.size, config.size)
            return shape

        with ThreadPoolExecutor(config.workers) as pool:
            found = list(pool.map(shape_of, self.entries))
        kept = [(e, shape) for e, shape in zip(self.entries, found, strict=True) if shape]
        if not kept:
            raise DataError(f"No picture in {self.path} is left ({describe_counts(self.skipped)}).")
        self.entries, self._shapes = ([*side] for side in zip(*kept, strict=True))

    def set_group(self, size: int) -> None:
        """Say how many examples a step has; those of a bucketed source are of one shape."""
        if self.config.buckets and (self._buckets is None or self._buckets.group != size):
            self._buckets = BucketOrder(self._shapes, size, self.config.seed)

    def batch(self, index: int, size: int) -> Batch:
        """Examples index to index + size - 1; with buckets they must be of one group."""
        if self.config.buckets:
            if self._buckets is None or not self._buckets.is_group(index, size):
                self.set_group(size)
            if self._buckets and not self._buckets.is_group(index, size):
                raise DataError(
                    f"Examples {index} to {index + size - 1} of {self.path} are of several shapes: "
                    f"with data.buckets a batch must be a part of {self._buckets.group} that begin "
                    f"at a multiple of {self._buckets.group}."
                )
        return super().batch(index, size)

    def __len__(self) -> int:
        return len(self.entries)

    def captions(self) -> Iterator[str]:
        """Every caption."""
        return self.chooser.possible(entry.captions for entry in self.entries)

    def entry(self, index: int) -> Entry:
        """Example ``index`` of the endless stream: epoch after epoch, each in its own order."""
        epoch, place = divmod(index, len(self.entries))
        order = self._orders.get(epoch)
        if order is None:
            order = list(range(len(self.entries)))
            random.Random(f"order {self.config.seed} {epoch}").shuffle(order)
            # Threads at the end of an epoch read from two of them in turn.
            kept = {known: one for known, one in self._orders.items() if known >= epoch - 1}
            self._orders = {**kept, epoch: order}
        return self.entries[order[place]]

    def read(self, index: int, attempt: int, rng: random.Random) -> Sample:
        """Example ``index``, or a stand-in."""
        if self._buckets is not None:
            place = self._buckets[index]
            if attempt:
                place = self._buckets.near(index, rng.randrange(len(self)))
            entry = self.entries[place.member]
            return Sample(read_file(entry.image), entry.captions, shape=place.shape)
        # Stand-ins are drawn from all pictures: neighbours have their own turn.
        entry = self.entries[rng.randrange(len(self))] if attempt else self.entry(index)
        return Sample(read_file(entry.image), entry.captions)

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        sizes = {}
        if self.config.buckets:
            counts = Counter(f"{shape.width}x{shape.height}" for shape in self._shapes)
            sizes = {"bucket_sizes": dict(sorted(counts.items()))}
        return {**settings, "examples": len(self), **sizes}


SOURCES.register("folder")((FolderConfig, Folder))
