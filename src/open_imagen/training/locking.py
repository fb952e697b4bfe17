"""The lock of a run folder: one run at a time."""

from pathlib import Path

from open_imagen.distributed import all_gather_object, world
from open_imagen.errors import OutputError, TrainingError
from open_imagen.locks import FileLock, InUse

NAME = ".lock"


class RunLock:
    """The lock of a run folder, held by the main process of a run for all of them.

    Raises:
        TrainingError: another run holds it. All processes of this one learn of it.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._lock: FileLock | None = None
        error: OutputError | TrainingError | None = None
        if world().is_main_process:
            try:
                self._lock = _acquire(folder)
            except (OutputError, TrainingError) as caught:
                error = caught
        error = all_gather_object(error)[0]
        if error is not None:
            raise error

    def release(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            self._lock.release()


def _acquire(folder: Path) -> FileLock:
    hint = "Choose an out that you may write to and that has space."
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot write {folder}: {error.strerror}.", hint) from error
    try:
        return FileLock(folder / NAME, f"The run folder {folder}", hint)
    except InUse as error:
        raise TrainingError(
            str(error), "Wait for that run, stop it, or choose another name (or out) for this one."
        ) from error
