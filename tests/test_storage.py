"""Files are whole or not there, and damage is named."""

import pytest
import torch

from open_imagen.errors import CheckpointError, OutputError
from open_imagen.storage import atomic, load_tensors, read_json, save_tensors, sha256


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


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(1)}
    save_tensors(tmp_path / "t.safetensors", tensors)
    found = load_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_missing_truncated_and_corrupt_weights_are_named(tmp_path):
    path = tmp_path / "t.safetensors"
    with pytest.raises(CheckpointError, match="missing"):
        load_tensors(path)
    save_tensors(path, {"a": torch.zeros(100)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_tensors(path)
    path.write_bytes(b"\xff" * len(whole))
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_tensors(path)


def test_bad_json_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read_json(tmp_path / "a.json")


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
