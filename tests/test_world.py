"""Worlds are found by name, and only when they are asked for."""

import pytest
import torch

from open_imagen.cascade.folder import locate, read_header
from open_imagen.errors import UnknownName
from open_imagen.world import is_world, open_world


def test_a_world_is_found_by_its_name():
    world = open_world("things")
    assert world.read("两只猫").prompt == "two cats"
    assert world.read("two cats").prompt == "two cats"
    assert open_world("things") is world


@pytest.mark.parametrize("name", ["", "nowhere", "things.world", "../things", "sources", "os"])
def test_what_is_no_world_is_refused(name):
    assert not is_world(name)
    with pytest.raises(UnknownName, match="no world called"):
        open_world(name)


def test_the_shapes_world_takes_prompts_as_they_are_and_scores_training_runs():
    world = open_world("shapes")
    assert world.read("a red circle").prompt == "a red circle"
    score = world.alignment(2)
    shares = score(lambda prompts: torch.full((len(prompts), 3, 64, 64), 250, dtype=torch.uint8))
    assert set(shares.values()) == {0.0}
    assert open_world("things").alignment(2) is None


@pytest.mark.parametrize(
    "prompt", ["two red circles", "a Donut", "three boxes", 'the word "CAT"', "a sign", "five dots"]
)
def test_prompts_that_name_a_shape_have_no_hint(prompt):
    assert open_world("shapes").hint(prompt, None) is None


def test_the_shapes_world_says_what_it_draws_where_a_prompt_names_nothing_of_it():
    hint = open_world("shapes").hint("a cat " * 50, None)
    assert hint.startswith("The model knows nothing in 'a cat a cat")
    assert "circle, square" in hint
    assert len(hint) < 300
    assert [read_header(locate(name))["world"] for name in ("scenes", "scenes-teacher")] == [
        "shapes",
        "shapes",
    ]
