"""Data sets of the Hugging Face hub, or on disk in its formats: downloaded, or streamed.

Downloaded, any example is at hand and the order is a shuffle of all. Streamed, `window` rows are
read at a time and shuffled among themselves. Either way example k is a function of k alone, so a
run resumes at the very next example; a stream gets there by leaving rows out unread.
"""

import contextlib
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from open_imagen.config import plain
from open_imagen.data.caption_text import joined_captions
from open_imagen.data.images import SkippedExample, read_file
from open_imagen.data.order import Order, Permutation
from open_imagen.data.registry import SOURCES
from open_imagen.data.tolerant import Sample, Tolerant, TolerantConfig
from open_imagen.data.where import Where
from open_imagen.errors import ConfigError, DataError, MissingDependency, install_hint

OWN_WINDOW = 20
"""Stand-ins that a stream takes from an example's own window before it looks in the one before."""


@dataclass(frozen=True, kw_only=True)
class HuggingFaceConfig(TolerantConfig):
    """A data set with a column of pictures and one of captions."""

    path: str
    """Its name on the hub, or a folder that `datasets` reads (imagefolder, parquet ...)."""
    kind: str = "huggingface"
    name: str = ""
    """Which of its configurations, if it has several."""
    split: str = "train"
    revision: str = ""
    """A commit of the hub, so that the data stay what they are."""
    image: str = "image"
    """Column of the pictures."""
    caption: str | tuple[str, ...] = "text"
    """Column of the captions, or several; each may hold a caption or a list of them."""
    streaming: bool = False
    """Read over the network while training, rather than download first."""
    window: int = 1000
    """Rows shuffled at a time, when streaming."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_buckets()
        if not self.caption_columns:
            raise ConfigError("data.caption must name at least one column.")
        if self.window < 1:
            raise ConfigError(f"data.window = {self.window} must be at least 1.")

    @property
    def caption_columns(self) -> tuple[str, ...]:
        """The columns that hold captions."""
        return (self.caption,) if isinstance(self.caption, str) else self.caption

    @property
    def columns(self) -> list[str]:
        """All columns that are read, but for those of `where`."""
        return [self.image, *self.caption_columns]


class HuggingFace(Tolerant):
    """A Source of a data set of the hub."""

    config: HuggingFaceConfig

    def __init__(self, config: HuggingFaceConfig, device: str = "cpu") -> None:
        """Open the data set.

        Raises:
            MissingDependency: the package datasets is not installed.
            DataError: there is no such data set, or it lacks one of the columns.
        """
        super().__init__(config.path, config)
        rows = _open(config)
        self.rows: _Rows = _Streamed(rows, config) if config.streaming else _Stored(rows, config)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int, attempt: int, rng: random.Random) -> Sample:
        """Example ``index``, or a stand-in."""
        config = self.config
        row = self.rows[index] if not attempt else self.rows.near(index, attempt)
        captions = joined_captions([row.get(name) for name in config.caption_columns])
        columns = {name: value for name, value in row.items() if name != config.image}
        return Sample(picture_of(row.get(config.image)), captions, columns)

    def captions(self) -> Iterator[str]:
        """Every caption that can be used."""
        return self.chooser.possible(self._usable_captions())

    def _usable_captions(self) -> Iterator[tuple[str, ...]]:
        for values in self.rows.columns(self.config.caption_columns):
            with contextlib.suppress(SkippedExample):
                yield joined_captions(values)

    def describe(self) -> dict[str, Any]:
        """What it is, for model cards and logs."""
        settings: dict[str, Any] = plain(self.config)
        return settings if self.config.streaming else {**settings, "examples": len(self)}


SOURCES.register("huggingface")((HuggingFaceConfig, HuggingFace))


class _Rows:
    """Example k of an endless stream of rows."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        raise NotImplementedError

    def near(self, index: int, attempt: int) -> Mapping[str, Any]:
        """A stand-in for an example that cannot be used."""
        raise NotImplementedError

    def columns(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The values of these columns, row by row."""
        raise NotImplementedError


class _Stored(_Rows):
    """Rows on disk, all of them shuffled."""

    def __init__(self, rows: Any, config: HuggingFaceConfig) -> None:
        if not len(rows):
            raise DataError(f"There is no row in {config.path}.")
        self.rows, self.seed = rows, config.seed
        self.order = Order([len(rows)], config.seed)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        try:
            row: Mapping[str, Any] = self.rows[self.order[index][1]]
        except Exception as error:  # of the formats that `datasets` reads, each has its own
            raise SkippedExample("unreadable row", str(error)) from error
        return row

    def near(self, index: int, attempt: int) -> Mapping[str, Any]:
        # Drawn far away: neighbours have their own turn.
        far = random.Random(f"stand-in {self.seed} {index} {attempt}")
        return self[far.randrange(len(self.rows))]

    def columns(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        rows = self.rows.select_columns(list(names))
        return zip(*(rows[name] for name in names), strict=True)


class _Streamed(_Rows):
    """Rows as they come, a window of them shuffled at a time, epoch after epoch."""

    def __init__(self, rows: Any, config: HuggingFaceConfig) -> None:
        self.rows, self.config = rows, config
        self.length = 0
        """Rows of an epoch: what the data set says of itself, or counted once."""
        self._stream: Iterator[Mapping[str, Any]] = iter(())
        self._next = -1
        self._windows: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
        self._lock = threading.RLock()
        """`datasets` cannot be read by several threads at once."""

    def __len__(self) -> int:
        with self._lock:
            if not self.length:
                known = (self.rows.info.splits or {}).get(self.config.split)
                counted = known.num_examples if known and known.num_examples else 0
                self.length = counted or sum(
                    1 for _ in self.columns(self.config.caption_columns[:1])
                )
                if not self.length:
                    raise DataError(f"There is no row in {self.config.path}.")
        return self.length

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        epoch, number, inside = self._place(index)
        rows = self._read(epoch, number)
        return rows[Permutation(len(rows), f"window {self.config.seed} {epoch} {number}")[inside]]

    def near(self, index: int, attempt: int) -> Mapping[str, Any]:
        epoch, number, _ = self._place(index)
        if attempt > OWN_WINDOW and number:  # the last window of an epoch may have few rows
            number -= 1
        rows = self._read(epoch, number)
        return rows[random.Random(f"{self.config.seed} {index} {attempt}").randrange(len(rows))]

    def _place(self, index: int) -> tuple[int, int, int]:
        """Epoch, window and position in it of example ``index``."""
        epoch, place = divmod(index, len(self))
        return epoch, *divmod(place, self.config.window)

    def columns(self, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        rows = self.rows.select_columns(list(names))
        return (tuple(row[name] for name in names) for row in rows)

    def _read(self, epoch: int, number: int) -> list[Mapping[str, Any]]:
        """A window of rows, read on from the last one or from the beginning."""
        with self._lock:
            if (epoch, number) not in self._windows:
                if self._next != number or not number:
                    self._stream = iter(self.rows.skip(number * self.config.window))
                read = list(islice(self._stream, self.config.window))
                # Threads at a window's end take rows of two of them in turn.
                last = list(self._windows.items())[-1:]
                self._windows = {**dict(last), (epoch, number): read}
                self._next = number + 1
            return self._windows[epoch, number]


def _open(config: HuggingFaceConfig) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency(
            "Data of kind huggingface need the package datasets.",
            install_hint("datasets"),
        ) from error
    try:
        rows = datasets.load_dataset(
            config.path,
            config.name or None,
            split=config.split,
            streaming=config.streaming,
            revision=config.revision or None,
        )
    except Exception as error:  # its errors are many, and all mean that there is nothing to read
        raise DataError(
            f"The data set {config.path!r} (split {config.split!r}) cannot be opened: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Check the name, the split and the network; log in if it is gated.",
        ) from error
    columns = rows.column_names or list(rows.features or {})
    for number, column in enumerate(config.columns):
        if column not in columns:
            raise DataError(
                f"The data set {config.path!r} has no column {column!r}.",
                f"Set data.{'caption' if number else 'image'} to one of: {', '.join(columns)}.",
            )
    names = Where(config.where).names if config.where else frozenset()
    if config.where:
        Where(config.where).check_columns({*columns, "width", "height"}, config.path)
    # Other columns may hold pictures, too, which `datasets` would decode with every row.
    rows = rows.select_columns(list(dict.fromkeys([*config.columns, *sorted(names & {*columns})])))
    try:
        # Bytes, which we decode ourselves: a damaged picture is then one example, not the run.
        return rows.cast_column(config.image, datasets.Image(decode=False))
    except Exception as error:
        raise DataError(
            f"data.image = {config.image!r} is no column of pictures in {config.path!r}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
            f"Set data.image to one of: {', '.join(columns)}.",
        ) from error


def picture_of(value: Any) -> bytes:
    """The bytes of an undecoded picture of `datasets`.

    Raises:
        SkippedExample: there is none.
    """
    if isinstance(value, dict) and value.get("bytes") is not None:
        return bytes(value["bytes"])
    if isinstance(value, dict) and value.get("path"):
        return read_file(Path(value["path"]))
    raise SkippedExample("no picture")
