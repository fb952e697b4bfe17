"""Distillation: the formula lands where the teacher lands, and a student reaches its teacher."""

import dataclasses
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.sampling import Sampling
from open_imagen.diffusion.parameterization import diffuse
from open_imagen.diffusion.samplers import ddim, ddim_step
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.training.objectives.distillation import (
    Distillation,
    DistillConfig,
    batched_ddim_step,
    invert_ddim_step,
    load_teacher,
)
from open_imagen.training.recipe import read_recipe
from open_imagen.types import LowRes, TextEmbedding
from standins import make_cascade, make_stages

RECIPES = Path(__file__).parents[2] / "recipes"


def text_of(batch):
    generator = torch.Generator().manual_seed(4)
    tokens = torch.randn(batch, 3, 384, generator=generator)
    return TextEmbedding(tokens, torch.ones(batch, 3, dtype=torch.bool))


def noise_of(batch, side=64, lowres=False, drop=0.5):
    return TrainingNoise.sample((batch, 3, side, side), 0, 7, drop, lowres)


@pytest.mark.parametrize("now,then", [(-2.0, 0.5), (-9.0, -8.0), (3.0, math.inf)])
def test_one_step_with_the_target_lands_where_it_should(now, then):
    generator = torch.Generator().manual_seed(0)
    z, end = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64, generator=generator)
    levels = torch.tensor([[now], [then]], dtype=torch.float64)
    x = invert_ddim_step(z, end, *levels)
    torch.testing.assert_close(ddim_step(x, z, now, then), end)
    torch.testing.assert_close(batched_ddim_step(x, z, *levels), end)


@pytest.mark.parametrize("place", [0, 1])
def test_a_step_of_the_student_is_the_teachers_steps(place):
    """DDIM of the teacher over all its steps ends where the student's targets lead."""
    teacher = make_stages()[place]
    config = DistillConfig(teacher="t", guidance=3.0, steps=2, substeps=3)
    distill = Distillation(config, make_stages()[place], teacher)
    side = teacher.config.resolution
    z = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    text, condition = text_of(2), None
    if teacher.config.lowres:
        condition = LowRes(torch.randn_like(z) / 2, torch.tensor([2.0, 3.0]))
    settings = Sampling(guidance=3.0).over(teacher.config.sampling).resolve()
    denoise = teacher.denoiser(text, settings, condition)
    levels = teacher.config.schedule.levels(6)
    expected = ddim(denoise, z, levels, lambda: z)

    here = z
    for k, (now, then) in enumerate([(levels[0], levels[3]), (levels[3], levels[6])]):
        x = distill.target(here, torch.full((2,), 1 - k / 2), text, condition)
        here = ddim_step(x, here, now, then)
    torch.testing.assert_close(here, expected, rtol=1e-3, atol=1e-3)
    found = distill.teacher_levels(torch.tensor([1.0, 0.5])).T.tolist()
    assert found[0] == pytest.approx(levels[:4], abs=1e-9)
    assert found[1] == pytest.approx(levels[3:], abs=1e-9)

    # Images at different steps of theirs are taught together, and each as if alone.
    t = torch.tensor([1.0, 0.5])
    together = distill.target(z, t, text, condition)
    for k in range(2):
        some = condition and LowRes(*(part[[k]] for part in condition))
        alone = distill.target(z[[k]], t[[k]], text.select([k]), some)
        torch.testing.assert_close(together[[k]], alone, rtol=1e-4, atol=1e-4)


def test_without_steps_the_target_is_the_guided_estimate():
    teacher = make_stages()[0]
    distill = Distillation(DistillConfig(teacher="t", guidance=4.0), make_stages()[0], teacher)
    z, text = torch.randn(3, 3, 64, 64), text_of(3)
    t = torch.tensor([0.3, 0.8, 0.3])
    found = distill.target(z, t, text, None)
    for k in range(3):
        settings = Sampling(guidance=4.0).over(teacher.config.sampling).resolve()
        one = teacher.denoiser(text.select([k]), settings)
        level = float(teacher.config.schedule.logsnr(t[k].double()))
        torch.testing.assert_close(found[k], one(z[k : k + 1], level)[0], rtol=1e-4, atol=1e-4)


def test_without_its_text_the_student_learns_the_unguided_teacher():
    """Then it can still be guided: w times its guidance is w times its teacher's."""
    student, teacher = make_stages()[0], make_stages()[0]
    images, text, step_noise = torch.rand(4, 3, 64, 64) * 2 - 1, text_of(4), noise_of(4)
    step_noise = step_noise._replace(drop=torch.tensor([True, False, True, False]))
    guided, plain, silent = (
        Distillation(DistillConfig(teacher="t", guidance=w), student, teacher)(
            images, said, step_noise
        )
        for w, said in ((4.0, text), (1.0, text), (4.0, text.null()))
    )
    torch.testing.assert_close(guided[[0, 2]], plain[[0, 2]])
    torch.testing.assert_close(guided[[0, 2]], silent[[0, 2]])
    assert (guided[[1, 3]] - plain[[1, 3]]).abs().min() > 1e-4


def test_a_student_that_is_its_unguided_teacher_has_nothing_to_learn():
    teacher, student = make_stages()[0], make_stages()[0]
    settings = Sampling(threshold="none").over(teacher.config.sampling)
    object.__setattr__(teacher.config, "sampling", settings)
    config = DistillConfig(teacher="t", guidance=1.0, steps=4, substeps=1)
    distill = Distillation(config, student, teacher)
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    losses = distill(images, text_of(4), noise_of(4))
    assert losses.max() < 1e-6
    guided = Distillation(DistillConfig(teacher="t", guidance=3.0, steps=4), student, teacher)
    assert guided(images, text_of(4), noise_of(4)).min() > 1e-4


def test_the_student_is_asked_only_where_its_steps_begin(monkeypatch):
    student = make_stages()[0]
    distill = Distillation(
        DistillConfig(teacher="t", steps=4, substeps=1), student, make_stages()[0]
    )
    asked = []
    plain = student.config.schedule.logsnr
    monkeypatch.setattr(
        type(student.config.schedule), "logsnr", lambda self, t: (asked.append(t), plain(t))[1]
    )
    distill(torch.zeros(8, 3, 64, 64), text_of(8), noise_of(8))
    assert set(asked[0].tolist()) <= {0.25, 0.5, 0.75, 1.0}
    assert len(set(asked[0].tolist())) > 1


@pytest.mark.parametrize("place", [0, 1])
def test_on_its_backward_the_student_is_asked_where_its_steps_lead(place):
    """The prefixes of its DDIM from pure noise; an image at time 1 has made no step."""
    student = make_stages()[place]
    config = DistillConfig(teacher="t", guidance=3.0, steps=4, backward=True)
    distill = Distillation(config, student, make_stages()[place])
    side, schedule = student.config.resolution, student.config.schedule
    step_noise = noise_of(4, side, place == 1, drop=0.0)
    step_noise = step_noise._replace(t=torch.tensor([1.0, 0.75, 0.5, 0.25]))
    images, text = torch.rand(4, 3, side, side) * 2 - 1, text_of(4)
    lowres = torch.rand(4, 3, 64, 64) if place else None
    x, eps = distill.student_states(images, text, step_noise, lowres)
    assert x[0].equal(images[0])
    assert eps[0].equal(step_noise.eps[0])

    levels = schedule.levels(4)
    settings = Sampling(guidance=1.0).over(student.config.sampling).resolve()
    for k in range(4):
        condition = None
        if place:
            some = (part[[k]] for part in (lowres, step_noise.level, step_noise.lowres_noise))
            condition = student.condition(*some, (side, side))
        z = diffuse(images[[k]], step_noise.eps[[k]], torch.tensor(levels[:1]))
        denoise = student.denoiser(text.select([k]), settings, condition)
        for now, then in pairwise(levels[: k + 1]):
            z = ddim_step(denoise(z, now)[0], z, now, then)
        mixed = diffuse(x[[k]], eps[[k]], torch.tensor(levels[k : k + 1]))
        torch.testing.assert_close(mixed, z.float(), rtol=1e-3, atol=1e-3)
    alone = distill.student.loss(x, text, step_noise._replace(eps=eps), lowres, distill.target)
    torch.testing.assert_close(distill(images, text, step_noise, lowres), alone)

    class Shared(torch.nn.Module):
        """As in several processes: nothing but the network's own call can be called."""

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, *given):
            return self.network(*given)

    student.network = Shared(student.network)
    torch.testing.assert_close(distill(images, text, step_noise, lowres), alone)


@pytest.mark.parametrize("place", [0, 1])
def test_along_its_own_way_the_student_is_asked_where_its_sampling_leads(place):
    """Where its sampler calls it, with the noise that hangs on each example's time alone."""
    student, teacher = make_stages()[place], make_stages()[place]
    settings = Sampling(steps=3, sampler="dpmpp_2m_sde", guidance=1.0, threshold="static")
    settings = settings.over(student.config.sampling)
    object.__setattr__(student.config, "sampling", settings)
    settings = settings.resolve()
    distill = Distillation(
        DistillConfig(teacher="t", guidance=3.0, backward=True), student, teacher
    )
    side, schedule = student.config.resolution, student.config.schedule
    step_noise = noise_of(2, side, place == 1)
    images, text = torch.rand(2, 3, side, side) * 2 - 1, text_of(2)
    lowres = torch.rand(2, 3, 64, 64) if place else None
    said = text.dropped(step_noise.drop)
    x, eps, times = distill.trajectory(said, step_noise, lowres)

    generators = [
        torch.Generator().manual_seed(seed) for seed in step_noise.t.view(torch.int32).tolist()
    ]
    condition = student.condition_with_noise(lowres, step_noise, (side, side)) if place else None
    denoise, met = student.denoiser(said, settings, condition), []

    def noise():
        return torch.stack([torch.randn(3, side, side, generator=g) for g in generators])

    def told(z, logsnr):
        met.append((z, logsnr))
        return denoise(z, logsnr)

    settings.walk(told, step_noise.eps, settings.levels(schedule), noise)
    assert [logsnr for _, logsnr in met] == pytest.approx(
        schedule.logsnr(torch.tensor(times, dtype=torch.float64)).tolist()
    )
    losses = []
    for k, (z, logsnr) in enumerate(met):
        rows, level = slice(2 * k, 2 * k + 2), torch.full((2,), logsnr)
        torch.testing.assert_close(diffuse(x[rows], eps[rows], level), z, rtol=1e-4, atol=1e-4)
        here = step_noise._replace(t=torch.full((2,), times[k]), eps=eps[rows])
        losses.append(student.loss(x[rows], said, here, lowres, distill.target))
    found = distill(images, text, step_noise, lowres)
    torch.testing.assert_close(found, torch.stack(losses).mean(0), rtol=1e-4, atol=1e-6)
    assert found.requires_grad == any(p.requires_grad for p in student.parameters())
    # Other examples with it, another place in the batch: the same error.
    order = [1, 0]
    other = TrainingNoise(*(part[order] if len(part) else part for part in step_noise))
    small = None if lowres is None else lowres[order]
    again = distill(images[order], text.select(order), other, small)
    torch.testing.assert_close(again, found[order], rtol=1e-4, atol=1e-6)


def test_a_student_comes_near_its_guided_teacher():
    """Some steps of training bring the student's one prediction towards the guided one."""
    teacher, student = make_stages()[0], make_stages()[0]
    student.requires_grad_(True)
    config = DistillConfig(teacher="t", guidance=3.0)
    distill = Distillation(config, student, teacher)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    text, step_noise = text_of(8), noise_of(8)
    step_noise = step_noise._replace(t=step_noise.t.clamp(0.2, 0.8))
    first = distill(images, text, step_noise).mean().item()
    for _ in range(150):
        loss = distill(images, text, step_noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 3


def test_a_guided_teacher_is_asked_once_for_the_weight_that_it_has():
    student, teacher = make_stages()[0], make_stages()[0]
    teacher.config = dataclasses.replace(teacher.config, distilled_guidance=3.0)
    sizes = []
    teacher.network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    z, t, text = torch.randn(2, 3, 64, 64), torch.tensor([0.5, 0.7]), text_of(2)
    once, more = (
        Distillation(DistillConfig(teacher="t", guidance=w), student, teacher).target(
            z, t, text, None
        )
        for w in (3.0, 6.0)
    )
    assert sizes == [2, 4]
    assert not torch.allclose(once, more)


def test_a_run_says_how_guided_its_student_will_be(tmp_path):
    recipe = RECIPES / "scenes-base-distill.toml"
    config = read_recipe(recipe, (f"out={tmp_path}",))
    assert config.stage.distilled_guidance == config.distill.guidance == 2.0
    with pytest.raises(ConfigError, match="is distilled into stage"):
        read_recipe(recipe, ('distill.teacher=""', "stage.distilled_guidance=2.0"))
    with pytest.raises(ConfigError, match=r"is not distill\.guidance"):
        dataclasses.replace(config, stage=dataclasses.replace(config.stage, distilled_guidance=4.0))


def test_teachers_that_do_something_else_are_refused(model_folder):
    base, sr = make_stages()
    with pytest.raises(ConfigError, match=r"stage\.resolution = 64 is not its teacher's, 256"):
        Distillation(DistillConfig(teacher="t"), base, sr)
    with pytest.raises(UnknownName, match="stage of"):
        load_teacher(DistillConfig(teacher=str(model_folder)), "sr512", torch.device("cpu"))
    teacher = load_teacher(DistillConfig(teacher=str(model_folder)), "base", torch.device("cpu"))
    assert not any(p.requires_grad for p in teacher.parameters())
    wrongs = ({"steps": -1}, {"substeps": 0}, {"guidance": -1.0}, {"guidance": math.nan})
    for wrong in (*wrongs, {"guidance": 0.0}):
        with pytest.raises(ConfigError, match=r"distill\."):
            DistillConfig(**wrong)
    assert make_cascade([base, sr], name="t").stages
