"""Whether a checkpoint is what was written, and whether its numbers are finite."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from open_imagen.storage import sha256, write_text
from open_imagen.training.parallel import local_tensor

CHECKSUMS = "SHA256SUMS"
"""One line a file, as sha256sum writes and checks them (sha256sum -c SHA256SUMS)."""


def checksums(paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of files, by name."""
    return {path.name: sha256(path) for path in paths}


def write_checksums(folder: Path, known: Mapping[str, str]) -> None:
    """Write SHA256SUMS for all files of a folder; those that are not in ``known`` are read."""
    done = {CHECKSUMS, *known}
    others = checksums(path for path in folder.iterdir() if path.name not in done)
    lines = [f"{digest}  {name}\n" for name, digest in sorted({**known, **others}.items())]
    write_text(folder / CHECKSUMS, "".join(lines))


def find_damage(folder: Path, rank: int = 0, ranks: int = 1) -> str:
    """What is wrong with the files of a checkpoint, in a few words; "" if nothing is.

    A checkpoint without checksums, written by an earlier version, is only looked at for what it
    must have.

    Args:
        rank: the process; of ``ranks`` each reads its share of the files.
    """
    try:
        names = {path.name for path in folder.iterdir()}
        if not names:
            return "it is empty"
        if not any(name.endswith(".safetensors") for name in names):
            return "its tensors are missing"
        if CHECKSUMS not in names:
            # The file comes with the second format of checkpoints, which state.json names.
            later = '"format"' in (folder / "state.json").read_text(encoding="utf-8")
            return f"{CHECKSUMS} is missing" if later else ""
        return _compare(folder, names, rank, ranks)
    except (OSError, ValueError) as error:
        return _in_words(error)


def _compare(folder: Path, names: set[str], rank: int, ranks: int) -> str:
    lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if "state.json" not in listed:
        return f"{CHECKSUMS} is incomplete"
    for name in sorted(listed):
        if name not in names:
            return f"{name} is missing"
    for name in sorted(listed)[rank::ranks]:
        if sha256(folder / name) != listed[name]:
            return f"{name} is not what was written: its SHA-256 differs from {CHECKSUMS}"
    return ""


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        name = Path(error.filename).name if error.filename else ""
        return f"{name}: {error.strerror}" if name else error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@torch.no_grad()
def find_nonfinite(tensors: Mapping[str, Tensor]) -> str:
    """The name of a tensor with a non-finite number; "" if all are finite.

    Only this process's shards are checked.
    """
    names, flags = [], []
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            names.append(name)
            flags.append(torch.isfinite(local_tensor(tensor)).all())
    if not flags:
        return ""
    finite = torch.stack([flag.to(flags[0].device) for flag in flags]).tolist()
    return next((name for name, good in zip(names, finite, strict=True) if not good), "")
