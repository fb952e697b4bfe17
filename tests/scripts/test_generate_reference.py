"""The reference pages say what the code says."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages():
    path = ROOT / "scripts" / "generate_reference.py"
    spec = importlib.util.spec_from_file_location("generate_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


@pytest.mark.parametrize("name", ["commands.md", "recipe.md"])
def test_a_page_is_what_the_code_says(pages, name):
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == pages[name], (
        "run scripts/generate_reference.py"
    )


def test_commands_and_keys_are_there(pages):
    assert "## imagen generate\n" in pages["commands.md"]
    assert "| `--seed INT` |" in pages["commands.md"]
    assert "| `lr` | float | `0.0001` | Peak learning rate. |" in pages["recipe.md"]
    assert '### data (kind = "folder")' in pages["recipe.md"]
