"""The search on scores of known minimum; steps that are chosen for a small cascade."""

import math

import pytest
import torch

from open_imagen.cascade.sampling import Sampling
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.evaluation.sweeps.timestep_search import (
    TimestepSearch,
    descend,
    image_distance,
    nearest,
    search_timesteps,
)

START = (900, 700, 500, 300)


@pytest.mark.parametrize("target", [(950, 420, 130, 20), (999, 998, 2, 0), START])
def test_the_search_finds_the_steps_of_the_lowest_score(target):
    def score(steps):
        return sum(abs(a - b) for a, b in zip(steps, target, strict=True))

    asked = []
    found = descend(START, lambda steps: asked.append(steps) or score(steps), 1000)
    # The last moves are a sixteenth of the way to a neighbour.
    assert all(abs(a - b) <= 40 for a, b in zip(found, target, strict=True))
    assert score(found) == min(map(score, asked))
    assert len(set(asked)) == len(asked)
    for steps in asked:
        assert list(steps) == sorted(set(steps), reverse=True)
        assert 0 <= steps[-1] <= steps[0] < 1000


def test_the_search_ends_when_it_may_ask_no_more():
    asked = []
    found = descend(START, lambda steps: asked.append(steps) or sum(steps), 7)
    assert len(asked) == 7
    assert sum(found) == min(map(sum, asked))
    assert descend(START, lambda steps: 0.0, 1) == START


def test_levels_of_whole_steps_are_those_steps():
    schedule, steps = Schedule(name="cosine"), (999, 640, 17, 0)
    assert nearest(schedule.levels(1, chosen=steps)[:-1], schedule) == steps


def test_what_all_of_a_picture_differs_by_does_not_count():
    many = torch.randint(60, 200, (2, 3, 8, 8), dtype=torch.uint8)
    shift = torch.tensor([9, 0, 50], dtype=torch.uint8)[:, None, None]
    assert image_distance(many + shift, many).tolist() == [0, 0]
    few_steps = many + shift
    few_steps[1, 0, :2, :4] += 40  # of 8 of 64 pixels, one of three colours
    assert image_distance(few_steps, many).tolist() == pytest.approx([0, 40 / 8 / 3 / 255])


@pytest.mark.parametrize("stage", ["base", "sr256"])
def test_what_is_chosen_is_as_close_as_it_says(cascade, stage):
    prompts = ["a red circle", "two blue stars", "a green ring above a gray cross"]
    config = TimestepSearch(
        steps=3, stage=stage, reference_steps=12, max_evaluations=9, batch_size=2
    )
    progress = []
    report = search_timesteps(cascade, prompts, config, lambda *state: progress.append(state))
    assert progress[-1] == ("evaluations", 9, 9)
    assert report["distance_after"] < report["distance_before"]
    assert report["stage"] == stage
    assert len(report["timesteps"]) == len(report["logsnr"]) == 3

    def made(settings):
        whole = cascade.generate(prompts, seed=[0, 1, 2], settings={stage: settings})
        return whole.stages[stage].float()

    many = made(Sampling(steps=12, spacing="trailing", logsnr_start=-math.inf))
    for when, settings in {
        "before": Sampling(steps=3),
        "after": Sampling(timesteps=tuple(report["timesteps"]), logsnr_start=-math.inf),
    }.items():
        each = image_distance(made(settings), many)
        assert report[f"distance_{when}"] == pytest.approx(float(each.mean()), rel=1e-4)
        assert report[f"different_{when}"] == pytest.approx(float((each > 0.02).float().mean()))
    assert torch.equal(many, made(Sampling(steps=12, spacing="trailing", logsnr_start=-math.inf)))


def test_what_cannot_be_looked_for_is_refused(cascade):
    with pytest.raises(ConfigError, match=r"steps = 0 must be at least 1"):
        TimestepSearch(steps=0)
    with pytest.raises(ConfigError, match=r"reference_steps = 8 must be more than the 8 steps"):
        TimestepSearch(reference_steps=8)
    with pytest.raises(ConfigError, match="no prompts"):
        search_timesteps(cascade, [], TimestepSearch())
    with pytest.raises(UnknownName, match="sr512"):
        search_timesteps(cascade, ["a"], TimestepSearch(stage="sr512"))
