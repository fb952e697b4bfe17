"""Worlds are found by name, and only when they are asked for."""

import pytest
import torch

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
