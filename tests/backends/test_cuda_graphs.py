"""CUDA graphs: what can be tested without a GPU."""

import pytest
import torch

from open_imagen.backends.cuda_graphs import cudnn_benchmark


def fail_inside() -> None:
    with cudnn_benchmark():
        assert torch.backends.cudnn.benchmark
        raise ZeroDivisionError


@pytest.mark.parametrize("before", [False, True])
def test_cudnn_chooses_by_time_during_capture_and_is_left_as_it_was(before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert torch.backends.cudnn.benchmark is before
