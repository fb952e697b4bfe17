"""Locks on files: exclusive use of a folder by one process, released when it ends."""

import contextlib
import os
import socket
import time
import warnings
import weakref
from pathlib import Path
from typing import IO, Any

from open_imagen.errors import OpenImagenWarning, OutputError

WINDOWS_OFFSET = 1 << 30
"""Where a byte is locked on Windows, whose locks forbid reading: behind what is written."""


class InUse(OutputError):
    """Another process holds the lock."""


class FileLock:
    """Exclusive use of a place by one process, with a file that names the holder.

    The system releases the lock when the process ends, however it ends. The file stays: removing
    it would let two processes lock two files of the same name. Where the system has no locks (some
    network file systems), there is a warning, and no lock.
    """

    def __init__(self, path: Path, place: str, hint: str = "") -> None:
        """Describe a lock; `acquire` takes it.

        Args:
            path: the lock file; it is created if missing.
            place: what is locked, as messages name it.
            hint: the way out that an error shows.

        Raises:
            InUse: another process holds the lock.
            OutputError: the file cannot be opened.
        """
        if path.is_symlink():
            raise OutputError(f"{path} is a link: what it leads to is left alone.", hint)
        try:
            file = path.open("a+", encoding="utf-8", errors="replace")
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror}.", hint) from error
        try:
            _lock(file)
        except BlockingIOError as error:
            holder = _holder(file)
            file.close()
            raise InUse(f"{place} is in use by {holder}.", hint) from error
        except OSError as error:
            warnings.warn(
                f"{place} cannot be locked ({error.strerror}): let no second process use it.",
                OpenImagenWarning,
                stacklevel=2,
            )
        self._close = weakref.finalize(self, file.close)
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # a full disk: the lock holds, the name is missing
            os.truncate(file.fileno(), 0)
            text = f"process {os.getpid()} on {socket.gethostname()} (since {now})\n"
            os.write(file.fileno(), text.encode())

    def release(self) -> None:
        """Let others have the place. Calling it again does nothing."""
        self._close()


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
        raise OSError(0, "this Python has no file locks") from error
    windows: Any = msvcrt  # its functions are typed for Windows alone
    file.seek(WINDOWS_OFFSET)
    try:
        windows.locking(file.fileno(), windows.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(*error.args) from error


def _holder(file: IO[str]) -> str:
    """Who says that it holds the lock, as far as that can be read."""
    try:
        file.seek(0)
        return file.read(500).strip() or "another process"
    except OSError:
        return "another process"
