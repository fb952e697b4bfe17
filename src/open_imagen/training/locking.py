"""A run folder belongs to one run at a time."""

import contextlib
import json
import os
import socket
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from open_imagen.distributed import gathered, world
from open_imagen.errors import OutputError, TrainingError

NAME = ".lock"
FAR = 1 << 30
"""Where a byte is locked on Windows, whose locks forbid reading: behind what is written."""


class RunLock:
    """Held from when it is made until `release`, or until the process ends in whatever way.

    The operating system keeps it, so a killed run leaves nothing behind that would have to be
    cleared away; the file stays, and means nothing by itself.

    Raises:
        TrainingError: another run holds it. All processes of this one learn of it.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._release: Callable[[], object] = lambda: None
        error: OutputError | TrainingError | None = None
        if world().first:
            try:
                self._acquire()
            except (OutputError, TrainingError) as caught:
                error = caught
        error = gathered(error)[0]
        if error is not None:
            raise error

    def _acquire(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+", encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.path}: {error.strerror}.",
                "Choose an out that you may write to and that has space.",
            ) from error
        try:
            _lock(file)
        except BlockingIOError as error:
            holder = _holder(file)
            file.close()
            raise TrainingError(
                f"Another run is training in {self.path.parent}{holder}.",
                "Wait for it, stop it, or choose another name (or out) for this one.",
            ) from error
        except OSError as error:  # some network file systems have no locks
            warnings.warn(
                f"This run's folder cannot be locked ({error.strerror}): start no second one in "
                f"{self.path.parent}.",
                stacklevel=5,
            )
        self._release = weakref.finalize(self, file.close)
        facts = {"pid": os.getpid(), "host": socket.gethostname()}
        text = json.dumps({**facts, "since": time.strftime("%Y-%m-%d %H:%M:%S")}) + "\n"
        with contextlib.suppress(OSError):  # a full disk: the lock holds, the name is missing
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), text.encode())

    def release(self) -> None:
        """Let others have the folder. The file stays: to remove it could remove another's."""
        self._release()


def _lock(file: IO[str]) -> None:
    """Lock an open file for as long as it is open.

    Raises:
        BlockingIOError: another process has it.
        OSError: there are no locks here.
    """
    try:
        import fcntl
    except ImportError:
        _lock_byte(file)
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_byte(file: IO[str]) -> None:
    """The same on Windows."""
    try:
        import msvcrt
    except ImportError as error:
        raise OSError(0, "this Python knows no file locks") from error
    windows: Any = msvcrt  # its functions are typed for Windows alone
    file.seek(FAR)
    try:
        windows.locking(file.fileno(), windows.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(*error.args) from error


def _holder(file: IO[str]) -> str:
    """Who says that it holds the lock, as far as that can be read."""
    try:
        file.seek(0)
        facts = json.loads(file.read(1000))
        return f": process {facts['pid']} on {facts['host']}, since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
