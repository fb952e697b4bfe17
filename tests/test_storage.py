"""Files are whole or not there, and damage is named."""

from pathlib import Path

import pytest
import torch

from open_imagen.errors import CheckpointError, OutputError
from open_imagen.storage import (
    DTYPES,
    TensorFile,
    append_json,
    atomic,
    load_tensors,
    read_json,
    save_tensors,
    sha256,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def write():
        with atomic(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_unwritable_place_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match="Cannot write"),
        atomic(tmp_path / "file" / "below") as path,
    ):
        path.write_text("")


def test_lines_are_added_and_a_full_disk_is_an_output_error(tmp_path):
    for k in range(2):
        append_json(tmp_path / "run" / "log.jsonl", {"images": k})
    assert (tmp_path / "run" / "log.jsonl").read_text() == '{"images": 0}\n{"images": 1}\n'
    if Path("/dev/full").exists():
        (tmp_path / "full").symlink_to("/dev/full")
        with pytest.raises(OutputError, match="No space left"):
            append_json(tmp_path / "full", {"images": 2})


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(1)}
    save_tensors(tmp_path / "t.safetensors", tensors)
    found = load_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("kind", DTYPES.values(), ids=str)
def test_tensors_read_one_by_one_are_those_of_the_whole_file(tmp_path, kind):
    path = tmp_path / "t.safetensors"
    numbers = torch.arange(24).to(kind)
    cut = {"a": numbers.reshape(2, 3, 4), "empty": numbers[:0].clone(), "one": numbers[5].clone()}
    save_tensors(path, cut)
    file, whole = TensorFile(path), load_tensors(path)
    assert file.shapes == {"a": (2, 3, 4), "empty": (0,), "one": ()}
    found = dict(file)
    assert found.keys() == whole.keys()
    for name, tensor in whole.items():
        assert found[name].dtype == kind
        assert torch.equal(found[name], tensor)


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="asks Linux what is mapped")
def test_a_file_read_one_by_one_is_never_mapped(tmp_path):
    path = tmp_path / "t.safetensors"
    save_tensors(path, {name: torch.zeros(1000) for name in "abc"})
    mapped = load_tensors(path)
    assert str(path) in Path("/proc/self/maps").read_text()  # this is how it would show
    del mapped
    for _, tensor in TensorFile(path):
        assert not tensor.any()
        assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_file_cut_after_it_was_opened_is_named(tmp_path):
    path = tmp_path / "t.safetensors"
    save_tensors(path, {"a": torch.zeros(1000)})
    file = TensorFile(path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="a ends too early"):
        file.read("a")


@pytest.mark.parametrize("read", [load_tensors, TensorFile])
def test_missing_truncated_and_corrupt_weights_are_named(tmp_path, read):
    path = tmp_path / "t.safetensors"
    with pytest.raises(CheckpointError, match="missing"):
        read(path)
    save_tensors(path, {"a": torch.zeros(100)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read(path)
    path.write_bytes(b"\xff" * len(whole))
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read(path)


def test_bad_json_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
