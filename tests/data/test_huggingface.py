"""Data sets of the hub: stored or streamed, every row once an epoch, the next one after a stop."""

import io

import pytest
import torch
from PIL import Image

from open_imagen.data import open_source
from open_imagen.errors import ConfigError, DataError, MissingDependency

datasets = pytest.importorskip("datasets")
ROWS = 23


def picture(k, kind="PNG"):
    data = io.BytesIO()
    Image.new("RGB", (20, 16), (k * 10, 0, 99)).save(data, format=kind)
    return data.getvalue()


@pytest.fixture(autouse=True)
def quiet(tmp_path, monkeypatch):
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def stored(folder, pictures, captions):
    """A folder of parquet files, as the hub has them."""
    folder.mkdir()
    for number, rows in enumerate((slice(0, 9), slice(9, None))):
        one = datasets.Dataset.from_dict(
            {"image": [{"bytes": data, "path": None} for data in pictures[rows]]}
            | {"text": captions[rows]},
            features=datasets.Features(
                {"image": datasets.Image(), "text": datasets.Value("string")}
            ),
        )
        one.to_parquet(folder / f"train-{number:05d}.parquet")
    return str(folder)


@pytest.fixture
def path(tmp_path):
    pictures = [picture(k) for k in range(ROWS)]
    return stored(tmp_path / "data", pictures, [f"caption {k}" for k in range(ROWS)])


def opened(path, **more):
    return open_source({"kind": "huggingface", "path": path, "size": 8, **more})


@pytest.mark.parametrize("streaming", [False, True])
def test_every_row_comes_once_an_epoch_in_another_order(path, streaming):
    source = opened(path, streaming=streaming, window=7)
    assert len(source) == ROWS
    epochs = [source.batch(ROWS * epoch, ROWS).captions for epoch in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(epochs[0])) == ROWS
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert set(source.captions()) == set(epochs[0])


@pytest.mark.parametrize("streaming", [False, True])
def test_an_example_is_a_function_of_its_position(path, streaming):
    whole = opened(path, streaming=streaming, window=7).batch(0, 3 * ROWS)
    for start in (0, 5, 22, 30, 60):
        again = opened(path, streaming=streaming, window=7).batch(start, 4)
        assert again.captions == whole.captions[start : start + 4]
        assert torch.equal(again.images, whole.images[start : start + 4])
    for caption, image in zip(whole.captions, whole.images, strict=True):
        assert image[0, 0, 0] == int(caption.split()[1]) * 10


@pytest.mark.parametrize("streaming", [False, True])
def test_what_cannot_be_used_is_left_out_and_counted(tmp_path, streaming):
    pictures = [picture(k) for k in range(ROWS)]
    captions = [f"caption {k}" for k in range(ROWS)]
    pictures[3], pictures[15] = b"no picture", picture(3, "JPEG")[:200]
    captions[8] = "  "
    source = opened(stored(tmp_path / "d", pictures, captions), streaming=streaming, max_bad=0.5)
    batch = source.batch(0, ROWS)
    assert {r: n for r, n in source.skipped.items() if n} == {
        "not a picture": 1,
        "damaged picture": 1,
        "empty caption": 1,
    }
    assert batch.images.shape == (ROWS, 3, 8, 8)
    assert not {"caption 3", "caption 15", "  "} & set(batch.captions)


def test_crops_come_with_their_low_resolution(path):
    batch = opened(path, crop=4, lowres=4).batch(0, 3)
    assert batch.images.shape == (3, 3, 4, 4)
    assert batch.lowres.shape == (3, 3, 2, 2)


def test_what_is_wrong_is_told(path, monkeypatch, tmp_path):
    with pytest.raises(DataError, match="no column 'caption'") as caught:
        opened(path, caption="caption")
    assert "image, text" in caught.value.hint
    with pytest.raises(DataError, match="cannot be opened"):
        opened(str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"data\.crop"):
        opened(path, crop=9)
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingDependency, match="package datasets"):
        opened(path)
