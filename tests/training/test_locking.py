"""A run folder belongs to one run at a time, and a dead run holds nothing."""

import errno
import os
import signal
import subprocess
import sys
import types

import pytest

from open_imagen.errors import OutputError, TrainingError
from open_imagen.training.locking import RunLock

HOLD = """
import sys, time
from pathlib import Path
from open_imagen.training.locking import RunLock
lock = RunLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_run_is_refused_until_the_first_is_dead(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            TrainingError, match=r"The run folder .* is in use by process"
        ) as caught:
            RunLock(tmp_path / "run")
        assert f"process {holder.pid} on " in str(caught.value)
        assert "another name (or out)" in caught.value.hint
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        RunLock(tmp_path / "run").release()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_a_released_folder_can_be_taken_again(tmp_path):
    lock = RunLock(tmp_path)
    with pytest.raises(TrainingError, match=f"process {os.getpid()}"):
        RunLock(tmp_path)
    lock.release()
    RunLock(tmp_path).release()


def test_a_full_disk_does_not_keep_a_run_from_its_lock(tmp_path, monkeypatch):
    def full(handle, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("open_imagen.locks.os.write", full)
    lock = RunLock(tmp_path)
    monkeypatch.undo()
    with pytest.raises(TrainingError, match="is in use by another process"):
        RunLock(tmp_path)
    lock.release()


def test_a_lock_file_that_says_nonsense_does_not_matter(tmp_path):
    (tmp_path / ".lock").write_text("{")
    RunLock(tmp_path).release()


def test_a_link_in_the_lock_file_s_place_is_not_followed(tmp_path):
    (tmp_path / "mine.txt").write_text("text")
    (tmp_path / ".lock").symlink_to(tmp_path / "mine.txt")
    with pytest.raises(OutputError, match="is a link"):
        RunLock(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "text"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Cannot write"):
        RunLock(tmp_path)


def test_a_file_in_the_folder_s_place_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        RunLock(tmp_path / "run")


def test_windows_locks_are_used_where_there_is_no_fcntl(tmp_path, monkeypatch):
    held = []

    def locking(handle, mode, size):
        assert (mode, size) == (2, 1)
        if held:
            raise PermissionError(13, "Permission denied")
        held.append(handle)

    windows = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    lock = RunLock(tmp_path)
    with pytest.raises(TrainingError, match=f"process {os.getpid()}"):
        RunLock(tmp_path)
    lock.release()


def test_where_there_are_no_locks_a_run_goes_on_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    with pytest.warns(UserWarning, match=r"The run folder .* cannot be locked"):
        RunLock(tmp_path).release()
