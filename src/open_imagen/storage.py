"""Files: atomic writes, safetensors with clear errors, content hashes, the cache directory."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from open_imagen.errors import CheckpointError, OutputError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Of safetensors, by the names they have in its files."""
VARIANTS = {"": "full precision", "fp16": "float16", "bf16": "bfloat16"}
"""Of weights in diffusers' and transformers' folders: the part of the file name, what it means."""
PICKLES = ("*.bin", "*.pt", "*.ckpt")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed onto it if the block succeeds.

    Raises:
        OutputError: the place cannot be written; nothing is left behind.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.",
            "Choose a folder that you may write to and that has space.",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` to be filled, renamed to it if the block succeeds.

    Raises:
        OutputError: ``path`` exists and is not an empty folder, or the place cannot be written;
            nothing is left behind.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise OutputError(f"{path} exists already.", "Choose another name, or remove it first.")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.",
            "Choose a folder that you may write to and that has space.",
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def link_or_copy(source: Path, path: Path) -> None:
    """A file's content under another name: a link where that can be, else a copy.

    Raises:
        OutputError: the place cannot be written.
    """
    with atomic(path) as temporary:
        temporary.unlink()
        try:
            os.link(source.resolve(), temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def append_json(path: Path, values: Any) -> None:
    """Add a line of JSON to a file.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror}.",
            "Make room, or make it writable, then run the same command again.",
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        CheckpointError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically."""
    ready = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(ready, temporary, metadata or {})


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: the file is missing, truncated or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"The weights {path} are missing.")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return tensors


class TensorFile:
    """A safetensors file whose tensors are read one at a time, each into memory of its own.

    Nothing stays mapped, so that a reader who keeps converted copies never holds the file as well.

    Raises:
        CheckpointError: the file is missing, truncated or damaged.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise CheckpointError(f"The weights {path} are missing.")
        try:
            with safe_open(path, framework="numpy"):  # checks header, offsets and length
                pass
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                self._entries: dict[str, Any] = json.loads(file.read(length))
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, error) from error
        self._entries.pop("__metadata__", None)
        self.path = path
        self._start = 8 + length

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors by name, from the header alone."""
        return {name: tuple(entry["shape"]) for name, entry in self._entries.items()}

    def read(self, name: str) -> Tensor:
        """One tensor.

        Raises:
            CheckpointError: the file has been cut since it was opened, or holds numbers of a kind
                that torch has not.
        """
        entry = self._entries[name]
        kind = DTYPES.get(entry["dtype"])
        if kind is None:
            raise _damaged(self.path, f"{name} has numbers of kind {entry['dtype']}")
        tensor = torch.empty(entry["shape"], dtype=kind)
        begin, _ = entry["data_offsets"]
        with self._open() as file:
            file.seek(self._start + begin)
            into: Any = memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
            while into:
                count = file.readinto(into)
                if not count:
                    raise _damaged(self.path, f"{name} ends too early")
                into = into[count:]
        return tensor

    def _open(self) -> FileIO:
        try:
            return self.path.open("rb", buffering=0)
        except OSError as error:
            raise CheckpointError(
                f"The weights {self.path} cannot be read any more: {error.strerror}."
            ) from error

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, self.read(name)) for name in self._entries)

    def __reduce__(self) -> tuple[type["TensorFile"], tuple[Path]]:
        """For pickle: the file is opened and checked again, by its absolute path."""
        return TensorFile, (self.path.resolve(),)


def _damaged(path: Path, why: object) -> CheckpointError:
    return CheckpointError(
        f"The weights {path} are truncated or damaged ({why}).", "Copy or download the file again."
    )


@dataclass(frozen=True)
class WeightFiles:
    """The files of one network's weights, all of one variant."""

    files: tuple[Path, ...]
    variant: str
    """A key of VARIANTS."""
    index: Path | None
    """The file that names the shards; None where the weights are one file."""
    others: tuple[str, ...]
    """Variants that are in the folder too and are not read, the first file of each."""

    @property
    def folder(self) -> Path:
        """The folder that they are in."""
        return self.files[0].parent

    def __str__(self) -> str:
        shards = f", {len(self.files)} shards" if self.index else ""
        others = f"; not read: {', '.join(self.others)}" if self.others else ""
        return f"{self.index or self.files[0]} ({VARIANTS[self.variant]}{shards}){others}"


def find_weights(folder: Path, stem: str, prefer: Sequence[str] = tuple(VARIANTS)) -> WeightFiles:
    """The safetensors files of a network, in one file or in shards, of any variant.

    Args:
        stem: of their names: "model" in ``model.fp16.safetensors``.
        prefer: the variants, the preferred first; the first that is complete is chosen.

    Raises:
        CheckpointError: no variant is complete; the message names the files that are missing.
    """
    present: list[tuple[str, Path | None, list[Path]]] = []
    lacking: list[tuple[int, str]] = []  # how many files are there, what is not
    for variant in prefer:
        dotted = f".{variant}" if variant else ""
        whole = folder / f"{stem}{dotted}.safetensors"
        index = folder / f"{stem}.safetensors.index{dotted}.json"
        if whole.is_file():
            present.append((variant, None, [whole]))
        elif index.is_file():
            files = _shards(index)
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                lack = f"{len(missing)} of {len(files)} shards: {', '.join(missing)}"
                lacking.append((len(files) - len(missing), lack))
            else:
                present.append((variant, index, files))
        elif shards := sorted(folder.glob(f"{stem}{dotted}-*-of-*.safetensors")):
            lacking.append((len(shards), f"{index.name}, which names its shards"))
    if present:
        variant, chosen, files = present[0]
        others = tuple((at or found[0]).name for _, at, found in present[1:])
        return WeightFiles(tuple(files), variant, chosen, others)
    if lacking:
        # The variant of most files is the one that was meant: a download of *.json brings the
        # index of each.
        _, lack = max(lacking, key=lambda one: one[0])
        raise CheckpointError(f"{folder} lacks {lack}.", "Copy or download the missing files.")
    if any(any(folder.glob(pattern)) for pattern in PICKLES):
        raise CheckpointError(
            f"{folder} has its weights as a pickle only, which can run any code when it is read.",
            "Download the .safetensors files of the same repository; or, if you trust it, convert "
            "it yourself: torch.load(weights_only=True), then safetensors.torch.save_file.",
        )
    raise CheckpointError(
        f"{folder} has no weights: no {stem}.safetensors, no shards, and no variant of them.",
        "Copy or download them into this folder.",
    )


def _shards(index: Path) -> list[Path]:
    """The files that an index names."""
    content = read_json(index)
    places = content.get("weight_map") if isinstance(content, dict) else None
    names = sorted(set(places.values())) if isinstance(places, dict) and places else []
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise CheckpointError(
            f"{index} does not say in which files the weights are.", "Download the file again."
        )
    return [index.parent / name for name in names]


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_directory() -> Path:
    """Where we may keep files between runs: $OPEN_IMAGEN_CACHE, else the user's cache folder."""
    named = os.environ.get("OPEN_IMAGEN_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "open_imagen"
