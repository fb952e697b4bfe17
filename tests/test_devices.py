"""Devices: how much memory is free, where the system says so and where it does not."""

import os
import sys
from pathlib import Path

import pytest
import torch

from open_imagen.devices import float64, free_memory, has_bf16, pick_device

PACKAGE = Path(__file__).parents[1] / "src" / "open_imagen"


@pytest.fixture
def no_meminfo(monkeypatch):
    def missing(self, **_):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)


def test_without_meminfo_all_that_is_installed_counts(no_meminfo, monkeypatch):
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    assert free_memory(torch.device("cpu")) == 4096 * 1000


def test_windows_which_has_no_sysconf_has_no_limit(no_meminfo, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert free_memory(torch.device("cpu")) == sys.maxsize


@pytest.mark.parametrize("gpu, apple, chosen", [(1, 1, "cuda"), (0, 1, "mps"), (0, 0, "cpu")])
def test_the_best_device_is_chosen(monkeypatch, gpu, apple, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpu))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(apple))
    assert pick_device().type == chosen
    assert not has_bf16(torch.device("mps"))


class OnApple:
    """A tensor of a device that has no float64."""

    device = torch.device("mps")

    def __init__(self, tensor):
        self.tensor = tensor

    def double(self):
        raise TypeError("the MPS framework doesn't support float64")

    def cpu(self):
        return self.tensor


def test_float64_is_computed_on_the_cpu_where_a_device_has_none():
    found = float64(OnApple(torch.ones(2)))
    assert (found.dtype, found.tolist()) == (torch.float64, [1.0, 1.0])


def test_nothing_that_samples_or_trains_asks_a_device_for_float64():
    # posthoc_ema.py averages snapshots of files, on the CPU.
    parts = [PACKAGE / name for name in ("cascade", "diffusion", "models", "training/objectives")]
    files = [file for part in parts for file in part.rglob("*.py")]
    assert [file.name for file in files if ".double()" in file.read_text()] == ["schedules.py"]
    schedules = (PACKAGE / "diffusion" / "schedules.py").read_text()
    assert schedules.count(".double()") == 1  # of torch.linspace on the CPU
