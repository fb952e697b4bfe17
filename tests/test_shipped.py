"""The model in the package: its size, its card, and that it does what the README says."""

import pytest
import torch
from PIL import Image

from open_imagen.cascade.folder import locate, read_header, shipped
from open_imagen.cascade.io import load
from open_imagen.cascade.sampling import Sampling
from open_imagen.worlds.shapes.checker import detect
from open_imagen.worlds.shapes.suite import make_items
from open_imagen.worlds.shapes.super_resolution import color_shift, edge_width

PROMPTS = [
    "a large red circle on a white background",
    "a large blue square on a white background",
    "a large yellow circle on a black background",
    "a large green ring on a black background",
    "a large purple circle on a gray background",
    "a large orange square on a white background",
]
MODELS = ("scenes-teacher", "scenes")
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
    assert set(trained) == {"base", "sr256", "sr1024"}
    assert all(facts["images"] > 0 for facts in trained.values())


@pytest.mark.parametrize("asked, sizes", [({}, {1}), ({"guidance": 5.0}, {2})])
def test_a_call_is_of_one_picture_at_the_weight_that_the_base_has_learned(asked, sizes):
    """At another weight it is of two."""
    cascade = load("scenes", device="cpu")
    calls = {name: [] for name in cascade.stages}
    for name, stage in cascade.stages.items():
        stage.network.register_forward_pre_hook(
            lambda module, inputs, name=name: calls[name].append(len(inputs[0]))
        )
    cascade.generate(PROMPTS[0], settings={"base": Sampling(**asked)})
    counts = {name: len(made) for name, made in calls.items()}
    assert counts == {"base": 8, "sr256": 2, "sr1024": 0}  # the last only where it is asked for
    assert set(calls["base"]) == sizes
    assert set(calls["sr256"]) == {1}


def test_its_teacher_is_there_to_go_on_training_from():
    teacher, student = (load(name, device="cpu").stages["base"] for name in MODELS)
    assert (teacher.config.distilled_guidance, student.config.distilled_guidance) == (1.0, 2.0)
    reads = {"text_denoiser": 2, "text_denoiser_threshold": 0.05}
    assert student.config.network == {**teacher.config.network, **reads}
    assert read_header(locate("scenes"))["trained"]["base"]["distill"]["teacher"] == MODELS[0]


def test_its_denoiser_leaves_captions_of_known_words_alone():
    cascade = load("scenes", device="cpu")
    for suite in ("counting", "position", "signs", "unseen_words"):
        text = cascade.text([item.prompt for item in make_items(suite, 16, seed=1)])
        found = cascade.stages["base"].network.text_denoiser(text)
        changed = (found.tokens != text.tokens).flatten(1).any(1)
        assert changed.all() if suite == "unseen_words" else not changed.any()


def test_it_listens(made):
    found = [detect(image) for image in made.stages["sr256"]]
    right = [
        any(thing.color == color for thing in seen.objects)
        for seen, color in zip(found, COLORS, strict=True)
    ]
    assert sum(right) >= 5


def test_super_resolution_keeps_what_the_base_drew(made):
    base, fine = (made.stages[name].float() for name in ("base", "sr256"))
    pooled = torch.nn.functional.avg_pool2d(fine, 4)
    assert (pooled - base).abs().mean() < 12  # of 255


def test_super_resolution_is_sharper_than_enlarging_and_keeps_the_colors(made):
    large = torch.nn.functional.interpolate(made.stages["base"].float(), (256, 256))
    for enlarged, fine, base in zip(large, made.stages["sr256"], made.stages["base"], strict=True):
        assert edge_width(fine) < 0.75 * edge_width(enlarged.to(torch.uint8))
        assert color_shift(base, fine) < 4


def test_1024_pixels_are_sharper_than_those_of_256_enlarged():
    made = load("scenes", device="cpu").generate(PROMPTS[0], seed=1, stages=3)
    below, found = made.stages["sr256"][0], made.stages["sr1024"][0]
    assert found.shape == (3, 1024, 1024)
    large = torch.nn.functional.interpolate(below[None].float(), (1024, 1024), mode="bilinear")[0]
    assert edge_width(found) < 0.6 * edge_width(large.round().to(torch.uint8))
    assert color_shift(below, found) < 4


@pytest.mark.parametrize(
    "side, above", [(20, "sr256"), (64, "sr256"), (100, "sr256"), (250, "sr1024"), (2000, "sr1024")]
)
def test_upscaling_begins_with_the_stage_nearest_in_size(side, above):
    stages, start = load("scenes", device="cpu").start_of(Image.new("RGB", (side, side)))
    assert [stage.config.name for stage in stages] == [above]
    assert start.shape[-2:] == (side, side)
