"""Recording a GPU's work: what can be seen without one."""

import pytest
import torch

from open_imagen.recording import trying_convolutions


def fail_while_trying() -> None:
    with trying_convolutions():
        assert torch.backends.cudnn.benchmark
        raise ZeroDivisionError


@pytest.mark.parametrize("before", [False, True])
def test_cudnn_chooses_by_time_while_recording_and_is_left_as_it_was(before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with pytest.raises(ZeroDivisionError):
        fail_while_trying()
    assert torch.backends.cudnn.benchmark is before
