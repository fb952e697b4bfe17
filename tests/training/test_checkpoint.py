"""Checkpoints: whole or not there, checked when they are read, and the good ones are kept."""

import json
import logging
import resource
import shutil
import subprocess

import pytest
import torch

from open_imagen.errors import CheckpointError, OutputError
from open_imagen.storage import load_tensors, read_json, save_tensors
from open_imagen.training.checkpoint import Checkpoints
from open_imagen.training.integrity import CHECKSUMS, find_damage, find_nonfinite, write_checksums


def tensors(value):
    return {"network.a": torch.full((300,), float(value)), "ema.a": torch.full((5,), float(value))}


@pytest.fixture
def three(tmp_path):
    """Three checkpoints, after 1, 2 and 3 images."""
    checkpoints = Checkpoints(tmp_path)
    for seen in (1, 2, 3):
        checkpoints.save(seen, tensors(seen), {})
    return tmp_path


def loaded(folder):
    """After how many images the checkpoint is that is gone on from; its tensors must be its own."""
    found = tensors(-1)
    state = Checkpoints(folder).load_newest(found, lambda state, shapes: None)
    images_seen = state["images_seen"]
    assert all(torch.equal(found[name], one) for name, one in tensors(images_seen).items())
    return images_seen


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-7] ^= 64
    path.write_bytes(data)


def the_tensors(folder):
    [file] = folder.glob("*.safetensors")
    return file


DAMAGE = {
    "truncated tensors": lambda folder: cut(the_tensors(folder)),
    "empty tensors": lambda folder: the_tensors(folder).write_bytes(b""),
    "flipped bits": lambda folder: flip(the_tensors(folder)),
    "no tensors": lambda folder: the_tensors(folder).unlink(),
    "an emptied folder": lambda folder: [path.unlink() for path in folder.iterdir()],
    "no facts": lambda folder: (folder / "state.json").unlink(),
    "truncated facts": lambda folder: cut(folder / "state.json"),
    "changed facts": lambda folder: (folder / "state.json").write_text('{"format": 2, "seen": 9}'),
    "no checksums": lambda folder: (folder / CHECKSUMS).unlink(),
    "truncated checksums": lambda folder: cut(folder / CHECKSUMS),
    "empty checksums": lambda folder: (folder / CHECKSUMS).write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(three, damage, caplog):
    DAMAGE[damage](three / "000000000003")
    with caplog.at_level(logging.WARNING, "open_imagen.training"):
        assert loaded(three) == 2
    [message] = [record.getMessage() for record in caplog.records if record.name[:4] == "open"]
    assert f"{three / '000000000003'} cannot be used" in message
    assert "Resuming from the one before, 000000000002" in message
    # Kept, but no longer counted: it must not push good ones out.
    assert (three / "000000000003.damaged").is_dir()
    checkpoints = Checkpoints(three, keep=2)
    assert [path.name[-1] for path in checkpoints.all()] == ["1", "2"]
    checkpoints.save(3, tensors(3), {})
    assert [path.name[-1] for path in checkpoints.all()] == ["2", "3"]
    assert loaded(three) == 3


def test_two_damaged_checkpoints_are_passed_over(three):
    cut(the_tensors(three / "000000000003"))
    flip(the_tensors(three / "000000000002"))
    assert loaded(three) == 1


def test_when_no_checkpoint_is_good_each_is_named_with_its_reason(three):
    cut(the_tensors(three / "000000000003"))
    (three / "000000000002" / "state.json").unlink()
    shutil.rmtree(three / "000000000001")
    (three / "000000000001").mkdir()
    with pytest.raises(CheckpointError, match="No checkpoint in") as caught:
        loaded(three)
    lines = str(caught.value).splitlines()
    assert "000000000003: model" in lines[1]
    assert "000000000002: state.json is missing" in lines[2]
    assert "000000000001: it is empty" in lines[3]
    told = f"{caught.value} {caught.value.hint}".lower()
    assert not any(word in told for word in ("remove", "delete"))
    # Nothing was touched.
    assert len(Checkpoints(three).all()) == 3


def test_numbers_that_are_not_finite_are_passed_over_even_with_good_checksums(three):
    newest = three / "000000000003"
    file = the_tensors(newest)
    bad = load_tensors(file)
    bad["ema.a"][2] = float("nan")
    save_tensors(file, bad)
    write_checksums(newest, {})
    assert not find_damage(newest)
    assert loaded(three) == 2


def test_checkpoints_of_earlier_versions_have_no_checksums_and_are_read(three):
    newest = three / "000000000003"
    (newest / CHECKSUMS).unlink()
    (newest / "state.json").write_text(json.dumps({"seen": 3, "seconds": 1.0}))
    assert loaded(three) == 3
    cut(the_tensors(newest))
    assert loaded(three) == 2


def test_a_run_without_checkpoints_begins_at_the_beginning(tmp_path):
    found = tensors(-1)
    assert Checkpoints(tmp_path / "none").load_newest(found, lambda *_: None) is None


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="there is no sha256sum here")
def test_sha256sum_checks_a_checkpoint(three):
    newest = three / "000000000003"
    ask = ["sha256sum", "--check", "--strict", CHECKSUMS]
    done = subprocess.run(ask, cwd=newest, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(list(newest.iterdir())) - 1
    flip(the_tensors(newest))
    assert subprocess.run(ask, cwd=newest, capture_output=True).returncode == 1


def test_what_is_not_finite_is_found_by_name():
    some = {"a": torch.ones(3), "b": torch.tensor([1, 2]), "c": torch.ones(2, 2)}
    assert find_nonfinite(some) == ""
    for value in ("nan", "inf", "-inf"):
        some["c"][1, 0] = float(value)
        assert find_nonfinite(some) == "c"
    assert find_nonfinite({}) == ""


def test_a_checkpoint_of_this_process_is_not_written_twice(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tensors(1), {})
    inode = (tmp_path / "000000000001").stat().st_ino
    checkpoints.save(1, tensors(1), {})
    assert (tmp_path / "000000000001").stat().st_ino == inode
    assert read_json(tmp_path / "000000000001" / "state.json") == {"format": 3, "images_seen": 1}


def test_half_written_checkpoints_are_not_seen(tmp_path):
    (tmp_path / ".000000000064.partial").mkdir()
    assert Checkpoints(tmp_path).all() == []
    assert Checkpoints(tmp_path / "none").all() == []


def test_numbered_folders_of_other_programs_are_left_alone(tmp_path):
    for name in ("500", "99999"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "theirs.bin").write_bytes(b"x")
    Checkpoints(tmp_path, keep=1).save(64, tensors(64), {})
    Checkpoints(tmp_path, keep=1).save(128, tensors(128), {})
    assert loaded(tmp_path) == 128
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000128", "500", "99999"]
    assert sorted(path.parent.name for path in tmp_path.glob("*/theirs.bin")) == ["500", "99999"]


def test_a_failing_save_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tensors(1), {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("open_imagen.training.checkpoint.write_json", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        checkpoints.save(2, tensors(2), {})
    assert "Earlier checkpoints are intact" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["000000000001"]
    monkeypatch.undo()
    checkpoints.save(2, tensors(2), {})
    assert loaded(tmp_path) == 2


@pytest.mark.parametrize("wait", [True, False])
def test_a_disk_that_is_full_is_told_and_the_checkpoint_before_is_kept(tmp_path, wait):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tensors(1), {})
    # No file may grow beyond a few kilobytes: what a full disk does, without filling one.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))

    def save():
        checkpoints.save(2, {"network.a": torch.ones(1_000_000)}, {}, wait=wait)
        checkpoints.wait()

    try:
        with pytest.raises(OutputError, match="Cannot save the checkpoint") as caught:
            save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["000000000001"]
    assert loaded(tmp_path) == 1
