"""The folder of a run: who may write there, and its state in checkpoints."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from open_imagen.config import plain, to_toml
from open_imagen.distributed import all_gather_object, world
from open_imagen.errors import ConfigError, TrainingError
from open_imagen.storage import write_text
from open_imagen.training.checkpoint import Checkpoints
from open_imagen.training.compatibility import check_checkpoint
from open_imagen.training.integrity import find_nonfinite
from open_imagen.training.leftovers import remove_partial_files, set_later_aside
from open_imagen.training.locking import NAME as LOCK_NAME
from open_imagen.training.locking import RunLock
from open_imagen.training.migration import migrate_records
from open_imagen.training.recipe import Recipe

log = logging.getLogger("open_imagen.training")

RESOLVED = "recipe.toml"
"""The resolved recipe of a run."""
WRITTEN = (LOCK_NAME, "checkpoints", "log.jsonl")
"""What a folder holds, some of it, once a run has begun in it."""
NONFINITE_HINT = "Lower optim.lr or use train.precision = 'fp32', then run the same command again."


class RunFolder:
    """The lock and the checkpoints of a run. Every process of the run has one."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.path = recipe, recipe.folder
        self.checkpoints = Checkpoints(self.path / "checkpoints", recipe.train.keep_checkpoints)
        self.changes: list[dict[str, Any]] = []
        """Settings that have changed between parts of the run, and after how many images."""
        self._lock: RunLock | None = None

    @property
    def is_locked(self) -> bool:
        """Whether this process holds the lock."""
        return self._lock is not None

    def lock(self) -> None:
        """Keep other runs out, until `release`.

        Raises:
            TrainingError: another run holds the folder.
            ConfigError: it holds a recipe of the user's that the run would overwrite.
        """
        is_new = not any((self.path / name).exists() for name in WRITTEN)
        if is_new and (self.path / RESOLVED).exists():
            raise ConfigError(
                f"{self.path / RESOLVED} was not written by a run; this one would overwrite it.",
                "Choose another folder with out, or rename that file.",
            )
        self._lock = RunLock(self.path)
        if world().is_main_process:
            remove_partial_files(self.path)

    def release(self) -> None:
        """Let other runs have the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def resume(
        self, tensors: Mapping[str, Tensor], settings: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Fill ``tensors`` from the newest good checkpoint; its state.json, or None without one.

        Records of later steps are set aside: these steps are made again.

        Raises:
            ConfigError: the checkpoint was made with settings that must not change.
            CheckpointError: no checkpoint is good.
        """
        own = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

        def check(state: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
            new = check_checkpoint(state, shapes, settings, own, self.path)
            images_seen = state["images_seen"]
            self.changes = list(state.get("changes", ()))
            self.changes += [{"images_seen": images_seen, **change._asdict()} for change in new]
            for change in new if world().is_main_process else ():
                log.warning("Since image %s %s.", f"{images_seen:,}", change)

        state = self.checkpoints.load_newest(tensors, check)
        if world().is_main_process:
            migrate_records(self.path)
            set_later_aside(self.path, state["images_seen"] if state else 0)
            write_text(self.path / RESOLVED, to_toml(plain(self.recipe)))
        return state

    def save(
        self, images_seen: int, tensors: Mapping[str, Tensor], state: dict[str, Any], wait: bool
    ) -> None:
        """Write a checkpoint; unless ``wait``, while training goes on.

        Raises:
            TrainingError: some numbers are not finite. Nothing is written then.
        """
        bad = next(filter(None, all_gather_object(find_nonfinite(tensors))), "")
        if bad:
            raise TrainingError(
                f"{bad} is no longer finite after {images_seen:,} images; no checkpoint was made "
                f"of that. {self.describe_last_good()}",
                NONFINITE_HINT,
            )
        if self.changes:
            state = {**state, "changes": self.changes}
        self.checkpoints.save(images_seen, tensors, state, wait)

    def describe_last_good(self) -> str:
        """A sentence that names the newest good checkpoint."""
        self.checkpoints.wait()
        good = self.checkpoints.newest_good()
        return f"The last good checkpoint is {good}." if good else "There is no good checkpoint."
