"""Fixtures shared by all rooms."""

import os
from pathlib import Path

import pytest
import torch

from standins import WordEncoder, make_cascade

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side, a core for each process, and for each that they start: threads that
    # wait for one another where others work, too, take ten times as long.
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

collect_ignore_glob = ["foreign/*"]  # files of other programs, and how they were made


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture
def cascade():
    return make_cascade()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A saved model of two tiny stages; it listens to MiniLM."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_cascade().save(folder)
    return folder


@pytest.fixture
def shared_data():
    """Data for checks that lies beside the project and is no part of it."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the data for checks is not here")
    return folder
