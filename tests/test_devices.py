"""Devices: how much memory is free, where the system says so and where it does not."""

import os
import sys
from pathlib import Path

import pytest
import torch

from open_imagen.devices import free_memory


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
