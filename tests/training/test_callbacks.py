"""Callbacks by themselves, with a stand-in for the trainer."""

from types import SimpleNamespace

import pytest
from PIL import Image

from open_imagen.training.callbacks import TensorBoard
from open_imagen.training.callbacks.samples import sheet_path


def at(images_seen):
    return SimpleNamespace(
        world=SimpleNamespace(is_main_process=True),
        config=SimpleNamespace(sample_every=10),
        is_due=lambda every: images_seen % every == 0,
        is_log_due=False,
        images_seen=images_seen,
    )


def test_tensorboard_shows_the_samples(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    sheet = sheet_path(tmp_path, 20)
    sheet.parent.mkdir()
    Image.new("RGB", (12, 8), "red").save(sheet)
    for images_seen in (5, 10, 20):  # of 10 there is no sheet
        board(at(images_seen))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(one.step, one.width, one.height) for one in events.Images("samples")] == [(20, 12, 8)]
