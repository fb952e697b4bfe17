"""The model in the package: its size, its card, and that it does what the README says."""

import pytest
import torch

from open_imagen.cascade.folder import locate, read_header, shipped
from open_imagen.cascade.pipeline import load
from open_imagen.evaluation.checker import look

PROMPTS = [
    "a large red circle on a white background",
    "a large blue square on a white background",
    "a large yellow circle on a black background",
    "a large green ring on a black background",
    "a large purple circle on a gray background",
    "a large orange square on a white background",
]
COLORS = ["red", "blue", "yellow", "green", "purple", "orange"]


@pytest.fixture(scope="module")
def made():
    return load("scenes", device="cpu").generate(PROMPTS, seed=1)


def test_it_is_small_and_has_a_card():
    folder = locate("scenes")
    assert "scenes" in shipped()
    assert sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) < 40 * 2**20
    assert "Limits" in (folder / "README.md").read_text()
    trained = read_header(folder)["trained"]
    assert set(trained) == {"base", "sr256"}
    assert all(facts["images"] > 0 for facts in trained.values())


def test_it_listens(made):
    found = [look(picture) for picture in made.stages["sr256"]]
    right = [
        any(thing.color == color for thing in seen.objects)
        for seen, color in zip(found, COLORS, strict=True)
    ]
    assert sum(right) >= 5


def test_super_resolution_keeps_what_the_base_drew(made):
    base, fine = (made.stages[name].float() for name in ("base", "sr256"))
    pooled = torch.nn.functional.avg_pool2d(fine, 4)
    assert (pooled - base).abs().mean() < 12  # of 255
