"""Sources: example k is a function of k alone; what is wrong with a folder is said."""

import itertools
import json
import os
import signal

import pytest
import torch
from PIL import Image

from open_imagen.data.folder_scan import scan
from open_imagen.data.loader import Loader
from open_imagen.errors import ConfigError, DataError, TrainingError, UnknownName
from open_imagen.worlds.sources import open_source
from standins import Pids


@pytest.fixture
def pictures(tmp_path):
    """Five captioned pictures, each of one colour that says which it is."""
    for k in range(5):
        Image.new("RGB", (20, 10), (k * 40, 0, 0)).save(tmp_path / f"{k}.png")
        (tmp_path / f"{k}.txt").write_text(f"picture {k}\n")
    return tmp_path


def same(one, other):
    return torch.equal(one.images, other.images) and one.captions == other.captions


@pytest.mark.parametrize(
    "settings, error",
    [
        ({"kind": "sceens"}, UnknownName),
        ({"kind": "shapes", "sise": 3}, UnknownName),
        ({"kind": "shapes", "size": 64, "crop": 128}, ConfigError),
        ({"kind": "shapes", "size": 64, "lowres": 48}, ConfigError),
        ({"kind": "shapes", "size": 64, "crop": 32, "crop_at_edges": 2}, ConfigError),
        ({"kind": "folder"}, ConfigError),
    ],
)
def test_wrong_settings_are_refused(settings, error):
    with pytest.raises(error):
        open_source(settings)


@pytest.mark.parametrize("settings", [{}, {"size": 64}, {"kind": ""}])
def test_there_is_no_kind_of_data_unless_one_is_named(settings):
    with pytest.raises(ConfigError, match=r"data\.kind is missing") as caught:
        open_source(settings)
    assert "folder" in caught.value.hint


def test_a_folder_comes_whole_in_every_epoch_and_in_a_new_order(pictures):
    source = open_source({"kind": "folder", "path": str(pictures), "size": 8})
    epochs = [source.batch(5 * k, 5).captions for k in range(3)]
    assert all(sorted(epoch) == [f"picture {k}" for k in range(5)] for epoch in epochs)
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]
    across = source.batch(3, 4)
    assert across.captions == epochs[0][3:] + epochs[1][:2]
    for image, caption in zip(across.images, across.captions, strict=True):
        assert (image[0] == int(caption[-1]) * 40).all()


def test_metadata_jsonl_is_read(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "dark"}))
    assert [entry.caption for entry in scan(tmp_path).entries] == ["dark"]


def test_pictures_are_turned_scaled_and_cut_to_a_square(tmp_path):
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (0, 0, 5, 20))
    wide.save(tmp_path / "wide.png")
    source = open_source({"kind": "folder", "path": str(tmp_path), "size": 10, "caption": "wide"})
    square = source.batch(0, 1).images[0]
    assert square.shape == (3, 10, 10)
    assert (square[0] > 200).all()  # the blue edge is outside the centre


def test_what_is_wrong_with_a_folder_is_said(tmp_path, pictures):
    with pytest.raises(DataError, match="There is no folder"):
        open_source({"kind": "folder", "path": str(tmp_path / "none")})
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no captioned picture"):
        open_source({"kind": "folder", "path": str(empty)})
    (pictures / "3.txt").unlink()
    with pytest.raises(DataError, match=r"1 of the pictures .* have no caption") as caught:
        open_source({"kind": "folder", "path": str(pictures)})
    assert "3.txt" in caught.value.hint
    (pictures / "metadata.jsonl").write_text('{"file_name": "nine.png", "text": "x"}')
    settings = {"kind": "folder", "path": str(pictures)}
    with pytest.raises(DataError, match="line 1, names"):
        open_source(settings)
    (pictures / "metadata.jsonl").write_text("nonsense")
    with pytest.raises(DataError, match="line 1, is not"):
        open_source(settings)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_loader_gives_the_same_batches_whoever_makes_them(workers):
    source = open_source({"kind": "shapes", "size": 16, "num_captions": 10})
    batches = Loader(source, 4, workers).after(8)
    for k in range(5):
        assert same(next(batches), source.batch(8 + 4 * k, 4))
    batches.close()


def test_other_processes_plan_and_this_one_draws():
    batches = Loader(Pids(), 4, workers=2).after(8)
    taken = [next(batches) for _ in range(4)]
    assert [batch.index for batch in taken] == [8, 12, 16, 20]
    assert f"{os.getpid()}" not in {name for batch in taken for name in batch.captions}
    with pytest.raises(DataError, match="no further"):
        next(batches)


def test_a_planning_process_that_dies_is_told():
    batches = Loader(Pids(), 4, workers=1).after(0)
    pid = int(next(batches).captions[0])
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(TrainingError, match="A process that plans batches has died"):
        list(itertools.islice(batches, 5))  # some are planned already


def test_what_a_worker_meets_is_raised_where_the_batch_is_awaited(pictures):
    for k in range(5):
        (pictures / f"{k}.png").write_text("no picture")
    source = open_source({"kind": "folder", "path": str(pictures), "size": 8})
    batches = Loader(source, 5, workers=2).after(0)
    with pytest.raises(DataError):
        next(batches)
    batches.close()
