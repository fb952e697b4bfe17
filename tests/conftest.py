"""Fixtures shared by all rooms."""

import pytest

from open_imagen.cascade.pipeline import Cascade
from standins import WordEncoder, make_stages


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture
def cascade():
    return Cascade("tiny", "minilm-l6", make_stages(), device="cpu", text=WordEncoder())


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A saved model of two tiny stages; it listens to MiniLM."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    Cascade("tiny", "minilm-l6", make_stages(), device="cpu").save(folder)
    return folder
