"""What a killed run leaves behind: partial files, and records of steps after its last checkpoint.

Only for a run that holds the lock of its folder: nobody else writes there.
"""

import contextlib
import json
import re
import shutil
from pathlib import Path

from open_imagen.errors import OutputError
from open_imagen.storage import write_text
from open_imagen.training.posthoc_ema import FOLDER, find_snapshots

RECORDS = ("log.jsonl", "validation.jsonl", "alignment.jsonl", "held_out.jsonl")
PARTIAL = re.compile(r"\.\d{12}\.partial")
"""A checkpoint that is being written, or removed."""
TEMPORARY = re.compile(
    r"\.(\d{12}(\.png|-\d\.\d{3}\.safetensors)|recipe\.toml|model\.safetensors|config\.json"
    r"|cascade\.json|adapter\.(safetensors|json)|index\.html|captions\.json"
    r"|(lost-)?(log|validation|alignment|held_out)\.jsonl)"
    r"\.[a-z0-9_]{8}"
)
"""What `storage.atomic` calls a file of a run before it is whole."""


def remove_partial_files(run: Path) -> None:
    """Remove what was being written when an earlier part of the run was killed."""
    for path in (run / "checkpoints").glob(".*.partial"):
        if PARTIAL.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    folders = [run, run / "samples", run / FOLDER, run / "adapter", run / "model"]
    folders += [path for path in (run / "model").glob("*") if path.is_dir()]
    for path in (path for folder in folders for path in folder.glob(".*")):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            with contextlib.suppress(OSError):  # it harms nobody
                path.unlink()


def set_later_aside(run: Path, images_seen: int) -> None:
    """Move records of steps after ``images_seen`` out of the way: these steps are made again.

    Lines go to lost-log.jsonl and so on, snapshots of averages to posthoc_ema/lost.
    """
    try:
        for name in RECORDS:
            _cut(run / name, images_seen)
        for profile, path in find_snapshots(run / FOLDER).items():
            if profile.images_seen > images_seen:
                lost = path.parent / "lost"
                lost.mkdir(exist_ok=True)
                path.replace(lost / path.name)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"Cannot write in {run}: {error.strerror}.",
            "Make room, or make the folder writable, then run the same command again.",
        ) from error


def _cut(path: Path, images_seen: int) -> None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = [line for line in lines if _is_up_to(line, images_seen)]
    if len(kept) == len(lines):
        return
    lost = [line for line in lines if not _is_up_to(line, images_seen)]
    with path.with_name(f"lost-{path.name}").open("a", encoding="utf-8") as file:
        file.writelines(line if line.endswith("\n") else f"{line}\n" for line in lost)
    write_text(path, "".join(kept))


def _is_up_to(line: str, images_seen: int) -> bool:
    """Whether a line is complete, and of a step up to ``images_seen``."""
    try:
        return line.endswith("\n") and int(json.loads(line)["images_seen"]) <= images_seen
    except (ValueError, KeyError, TypeError):
        return False
