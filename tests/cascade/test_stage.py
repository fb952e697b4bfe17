"""A stage: its loss, its random draws, and sampling that is the same alone or in company."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from open_imagen.cascade.augmentation import POINTS, SPACING, Augmentation, blurred, warped
from open_imagen.cascade.noise import TrainingNoise
from open_imagen.cascade.sampling import Sampling
from open_imagen.cascade.stage import Stage
from open_imagen.cascade.stage_config import StageConfig
from open_imagen.diffusion.losses import Objective
from open_imagen.diffusion.parameterization import diffuse
from open_imagen.diffusion.samplers import SAMPLERS
from open_imagen.diffusion.schedules import Schedule
from open_imagen.errors import ConfigError, UnknownName
from open_imagen.types import CachedText, TextEmbedding
from standins import make_stages


def text_of(batch):
    return TextEmbedding(torch.randn(batch, 3, 384), torch.ones(batch, 3, dtype=torch.bool))


def noise_of(batch=4, seed=0, drop=0.1, lowres=False, side=64, index=0):
    return TrainingNoise.sample((batch, 3, side, side), index, seed, drop, lowres)


def test_the_loss_is_the_objective_on_the_diffused_image():
    stage = make_stages()[0]
    images, text, noise = torch.rand(4, 3, 64, 64) * 2 - 1, text_of(4), noise_of()
    logsnr = stage.config.schedule.logsnr(noise.t)
    z = diffuse(images, noise.eps, logsnr)
    prediction = stage.network(z, logsnr, text.dropped(noise.drop))
    wanted = stage.config.objective.loss(prediction, images, noise.eps, z, logsnr)
    torch.testing.assert_close(stage.loss(images, text, noise), wanted)


def test_super_resolution_learns_from_the_noised_small_picture():
    stage = make_stages()[1]
    images, lowres = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 16, 16)
    noise = noise_of(2, lowres=True)
    text = text_of(2)
    loss = stage.loss(images, text, noise, lowres)
    other = stage.loss(images, text, noise._replace(level=noise.level * 0), lowres)
    assert loss.shape == (2,)
    assert not torch.allclose(loss, other)


@pytest.mark.parametrize("highest", [0.0, 0.5])
def test_training_draws_no_noise_level_above_the_highest(highest):
    stage, other = make_stages()[1], make_stages()[1]
    bounded = dataclasses.replace(other.config, augmentation=Augmentation(highest=highest))
    other.config = bounded
    images, lowres, text = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 16, 16), text_of(2)
    noise = noise_of(2, lowres=True)
    wanted = stage.loss(images, text, noise._replace(level=noise.level * highest), lowres)
    torch.testing.assert_close(other.loss(images, text, noise, lowres), wanted)
    with pytest.raises(ConfigError, match=r"augmentation\.highest = 1.5"):
        Augmentation(highest=1.5)


def test_each_image_is_blurred_by_its_own_gaussian():
    """A wave exp(ikx) comes out times the sum of w_n cos(kn), which is exp(-(k sigma)^2 / 2) but
    for the cut; a point as the product of two bells."""
    k, places = 2 * torch.pi / 16, torch.arange(48)
    wave = torch.cos(k * places).expand(3, 3, 48, 48)
    found = blurred(wave, torch.tensor([0.0, 0.7, 2.0]))
    assert torch.equal(found[0], wave[0])
    for one, sigma in ((found[1], 0.7), (found[2], 2.0)):
        inner = np.s_[:, 16:32, 16:32]  # borders are repeated
        exact = wave[0] * math.exp(-((k * sigma) ** 2) / 2)
        torch.testing.assert_close(one[inner], exact[inner], atol=3e-3, rtol=0)
        torch.testing.assert_close(blurred(one[None].mT, torch.zeros(1)), one[None].mT)
    point = torch.zeros(1, 3, 21, 21)
    point[:, :, 10, 10] = 1
    bell = torch.exp(-((torch.arange(21) - 10) ** 2) / (2 * 1.5**2))
    bell[:5], bell[16:] = 0, 0  # 3 sigma, upwards: 5 pixels
    bell = bell / bell.sum()
    torch.testing.assert_close(blurred(point, torch.tensor([1.5]))[0, 1], bell[:, None] * bell)
    flat = torch.full((1, 3, 7, 5), 0.3)
    torch.testing.assert_close(blurred(flat, torch.tensor([2.0])), flat)


def test_training_blurs_the_small_picture_and_sampling_does_not():
    stage = make_stages()[1]
    blurring = Augmentation(highest=0.0, blur=2.0)
    stage.config = dataclasses.replace(stage.config, augmentation=blurring)
    images, lowres, text = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 16, 16), text_of(2)
    noise = noise_of(2, lowres=True)
    loss = stage.loss(images, text, noise, lowres)
    given = stage.condition(lowres, noise.level * 0, noise.lowres_noise, (64, 64))
    softer = stage.condition(
        blurred(lowres, 2 * noise.blur), noise.level * 0, noise.lowres_noise, (64, 64)
    )
    learned = stage.condition_with_noise(lowres, noise, (64, 64))
    assert torch.equal(learned.image, softer.image)
    assert not torch.allclose(learned.image, given.image, atol=0.01)
    still = stage.loss(images, text, noise._replace(blur=noise.blur * 0), lowres)
    assert not torch.allclose(loss, still)
    with pytest.raises(ConfigError, match=r"augmentation\.blur = -1"):
        Augmentation(blur=-1)


def test_pixels_are_fetched_from_beside_their_places():
    """Of two ramps each pixel tells where it comes from: at every third one, by its point alone."""
    right, down = torch.meshgrid(torch.arange(30.0), torch.arange(24.0), indexing="xy")
    ramps = torch.stack([right, down, right + down]).expand(2, 3, 24, 30)
    points = torch.rand(2, 2, POINTS, POINTS) - 0.5
    found = warped(ramps, torch.tensor([0.0, 0.8]), points)
    torch.testing.assert_close(found[0], ramps[0], atol=1e-4, rtol=0)
    at = np.s_[1 + SPACING : -SPACING : SPACING]  # borders are repeated
    ways = (found - ramps)[1, :, at, at] / 0.8
    torch.testing.assert_close(ways[:2], points[1, :, 1:7, 1:9], atol=1e-4, rtol=0)
    torch.testing.assert_close(ways[2], ways[0] + ways[1], atol=1e-4, rtol=0)
    # What is larger than all points takes them over again.
    wide = torch.arange(90.0).expand(1, 3, 3, 90)
    ways = (warped(wide, torch.ones(1), points[:1]) - wide)[0, 0, 1, 4:-4:SPACING]
    again = points[0, 0, 0].repeat(3)[1:29]
    torch.testing.assert_close(ways, again, atol=1e-4, rtol=0)


def test_training_warps_the_small_picture_and_sampling_does_not():
    stage = make_stages()[1]
    bending = Augmentation(highest=0.0, warp=0.8)
    stage.config = dataclasses.replace(stage.config, augmentation=bending)
    lowres, noise = torch.rand(2, 3, 16, 16), noise_of(2, lowres=True)
    given = stage.condition(lowres, noise.level * 0, noise.lowres_noise, (64, 64))
    learned = stage.condition_with_noise(lowres, noise, (64, 64))
    wanted = warped(lowres, 0.8 * noise.warp, noise.points)
    wavy = stage.condition(wanted, noise.level * 0, noise.lowres_noise, (64, 64))
    assert torch.equal(learned.image, wavy.image)
    assert not torch.allclose(learned.image, given.image, atol=0.01)
    with pytest.raises(ConfigError, match=r"augmentation\.warp = 9"):
        Augmentation(warp=9)


def test_augmentation_is_diffusion_and_level_zero_is_clean():
    image, noise = torch.rand(2, 3, 4, 4), torch.randn(2, 3, 8, 8)
    found, logsnr = Augmentation()(image, torch.tensor([0.0, 0.5]), noise, (8, 8))
    enlarged = torch.nn.functional.interpolate(image, (8, 8), mode="bilinear")
    torch.testing.assert_close(found[0], enlarged[0])
    # at level 0.5 the cosine schedule has alpha = cos(pi/2 * 0.508 / 1.008)
    alpha = torch.cos(torch.tensor(torch.pi / 2 * 0.508 / 1.008))
    wanted = alpha * enlarged[1] + (1 - alpha**2).sqrt() * noise[1]
    torch.testing.assert_close(found[1], wanted)
    torch.testing.assert_close(logsnr[1], torch.logit(alpha**2))


def test_discrete_augmentation_takes_the_nearest_whole_step():
    discrete = Schedule(name="discrete_cosine", logsnr_min=-25, logsnr_max=25)
    augmentation = Augmentation(schedule=discrete, align_corners=True)
    image, noise = torch.rand(3, 3, 4, 4), torch.randn(3, 3, 8, 8)
    found, logsnr = augmentation(image, torch.tensor([0.0, 0.25, 1.0]), noise, (8, 8))
    assert discrete.step_of(logsnr).tolist() == [0, 250, 999]
    enlarged = torch.nn.functional.interpolate(image, (8, 8), mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, diffuse(enlarged, noise, logsnr))


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_picture_is_the_same_alone_or_in_a_batch(sampler):
    stage, text = make_stages()[0], text_of(3)
    settings = Sampling(steps=4, sampler=sampler, guidance=3.0)

    def generators():
        return [torch.Generator().manual_seed(k) for k in range(3)]

    together = stage.sample(text, generators(), settings)
    alone = stage.sample(text.select([1]), generators()[1:2], settings)
    assert together.shape == (3, 3, 64, 64)
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_guidance_one_is_one_call_and_more_is_one_call_of_twice_the_batch():
    stage, text = make_stages()[0], text_of(2)
    sizes = []
    stage.network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    for guidance in (1.0, 3.0, 1):
        stage.sample(text, [torch.Generator()] * 2, Sampling(steps=2, guidance=guidance))
    assert sizes == [2, 2, 4, 4, 2, 2]


def test_outside_the_guidance_interval_the_second_half_is_not_computed():
    stage, text = make_stages()[0], text_of(1)
    sizes = []
    stage.network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    settings = Sampling(steps=8, guidance=3.0, guidance_low=-2.0, guidance_high=2.0)
    stage.sample(text, [torch.Generator()], settings)
    levels = stage.config.schedule.levels(8)[:-1]
    assert sizes == [2 if -2 <= level < 2 else 1 for level in levels]


def test_guidance_is_a_line_through_both_predictions():
    stage, text = make_stages()[0], text_of(1)
    z, level = torch.randn(1, 3, 64, 64), 0.5

    def x(weight, words):
        settings = Sampling(guidance=weight, threshold="none").resolve()
        return stage.denoiser(words, settings)(z, level)

    wanted = 3 * x(1.0, text) - 2 * x(1.0, text.null())
    torch.testing.assert_close(x(3.0, text), wanted, rtol=0, atol=1e-4)


class Guided(torch.nn.Module):
    """A network whose own predictions are another's with guidance."""

    def __init__(self, stage, text, weight):
        super().__init__()
        self.network, self.weight = stage.network, weight
        self.nothing = stage.encode_text(text.select([0]).null())
        self.sizes = []

    def encode_text(self, text):
        return self.network.encode_text(text)

    def forward(self, z, logsnr, text, condition=None):
        self.sizes.append(len(z))
        length = text.mask.shape[1]
        nothing = CachedText(
            self.nothing.pooled.expand(len(z), -1),
            self.nothing.mask.expand(len(z), length),
            tuple(seen.expand(len(z), length, -1) for seen in self.nothing.keys_values),
        )
        own, away = (self.network(z, logsnr, read, condition) for read in (text, nothing))
        return away + self.weight * (own - away)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("asked", [{}, {"guidance_low": -2.0}, {"guidance_rescale": 0.6}])
def test_a_guided_network_gives_what_its_teacher_gives_at_every_weight(asked, negative):
    teacher, student, text = make_stages()[0], make_stages()[0], text_of(2)
    student.config = dataclasses.replace(student.config, distilled_guidance=2.0)
    student.network = Guided(student, text, 2.0)
    against = text_of(2) if negative else None

    def pictures(stage, *weights):
        asked_for = [Sampling(steps=3, guidance=w, threshold="none", **asked) for w in weights]
        each = [one.over(stage.config.sampling).resolve() for one in asked_for]
        generators = [torch.Generator().manual_seed(k) for k in range(2)]
        return stage.sample(text, generators, each, negative=against)

    for weights in ((2.0, 2.0), (1.0, 1.0), (3.5, 3.5), (2.0, 3.5), (3.5, 2.0)):
        wanted = pictures(teacher, *weights)
        torch.testing.assert_close(pictures(student, *weights), wanted, rtol=0, atol=1e-3)
    if not asked and not negative:
        student.network.sizes.clear()
        pictures(student, 2.0, 2.0)
        assert student.network.sizes == [2, 2, 2]


def test_oscillating_guidance_saves_every_second_pair_of_calls():
    stage, text = make_stages()[0], text_of(1)
    sizes = []
    stage.network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    stage.sample(text, [torch.Generator()], Sampling(steps=6, guidance=9.0, guidance_steps=2))
    assert sizes == [2, 2, 1, 2, 1, 2]


def test_pure_noise_is_told_as_a_finite_level_and_needs_no_eps():
    network = {"preset": "tiny-base-64"}
    zero = Schedule(zero_snr=True)
    with pytest.raises(ConfigError, match="zero_snr"):
        StageConfig(name="base", resolution=64, network=network, schedule=zero)
    objective = Objective(prediction="v", space="v")
    stage = Stage(
        StageConfig(name="base", resolution=64, network=network, schedule=zero, objective=objective)
    )
    picture = stage.sample(text_of(1), [torch.Generator()], Sampling(steps=3))
    assert torch.isfinite(picture).all()
    noise = noise_of(2)._replace(t=torch.tensor([0.0, 1.0]))
    assert torch.isfinite(stage.loss(torch.rand(2, 3, 64, 64), text_of(2), noise)).all()


def test_a_negative_prompt_takes_the_place_of_zeroed_text():
    stage, text, against = make_stages()[0], text_of(1), text_of(1)
    run = [torch.Generator]
    settings = Sampling(steps=2, guidance=3.0)
    plain = stage.sample(text, [run[0]()], settings)
    led = stage.sample(text, [run[0]()], settings, negative=against)
    same = stage.sample(text, [run[0]()], settings, negative=text.null())
    assert not torch.allclose(plain, led)
    torch.testing.assert_close(plain, same)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_progress_ends_at_the_number_of_steps(sampler):
    told = []
    make_stages()[0].sample(
        text_of(1),
        [torch.Generator()],
        Sampling(steps=3, sampler=sampler),
        watch=lambda k, n, x: told.append((k, n)),
    )
    assert told[0] == (1, 3)
    assert told[-1] == (3, 3)
    assert told == sorted(told)


def test_stages_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"multiple of 16. Nearest: 48 or 64"):
        Stage(StageConfig(name="base", resolution=60, network={"preset": "tiny-base-64"}))
    with pytest.raises(ConfigError, match="does not fit a network"):
        Stage(StageConfig(name="base", resolution=64, network={"preset": "tiny-sr-256"}))
    with pytest.raises(ConfigError, match="must divide"):
        StageConfig(name="sr", resolution=256, lowres=60)
    with pytest.raises(UnknownName):
        Stage(StageConfig(name="base", resolution=64, network={"preset": "tiny"}))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 0}, "steps = 0"),
        ({"guidance": -1.0}, "guidance = -1.0"),
        ({"guidance": float("nan")}, "guidance = nan"),
        ({"sampler": "ddimm"}, "no sampler called 'ddimm'"),
        ({"threshold": "statc"}, "no threshold called 'statc'"),
        ({"percentile": 0.0}, "percentile = 0.0"),
        ({"noise_level": 1.5}, "noise_level = 1.5"),
        ({"spacing": "evn"}, "no spacing called 'evn'"),
        ({"gamma": 2.0}, "gamma = 2.0"),
        ({"churn": -1.0}, "churn = -1.0"),
        ({"sde_from_logsnr": float("nan")}, "sde_from_logsnr = nan"),
        ({"guidance_rescale": -0.5}, "guidance_rescale = -0.5"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**settings)


def test_given_settings_go_over_defaults():
    found = Sampling(steps=9).over(Sampling(steps=3, guidance=2.0)).resolve()
    assert (found.steps, found.guidance, found.sampler) == (9, 2.0, "dpmpp_2m")


def test_a_models_own_timesteps_hold_until_other_steps_are_asked_for():
    own = Sampling(timesteps=(900, 500, 100), sampler="ddim")
    schedule = Schedule()
    assert len(Sampling(guidance=3.0).over(own).resolve().levels(schedule)) == 4
    for asked in (Sampling(steps=9), Sampling(spacing="power", steps=9)):
        settings = asked.over(own).resolve()
        assert len(settings.levels(schedule)) == 10
        assert settings.sampler == "ddim"
    again = Sampling(timesteps=(800, 100)).over(own)
    assert len(again.resolve().levels(schedule)) == 3
    # A model that begins late does not cut what is asked for; who asks for both gets both.
    late = Sampling(steps=4, logsnr_start=-2.0)
    assert len(again.over(late).resolve().levels(schedule)) == 3
    both = Sampling(timesteps=(800, 100), logsnr_start=-2.0).over(late)
    assert len(both.resolve().levels(schedule)) == 2
    assert len(Sampling(timesteps=()).over(late).resolve().levels(schedule)) == 5
    assert Sampling(timesteps=()).over(late).logsnr_start == -2.0
    # A picture repeats by all its settings, steps among them.
    complete = Sampling().over(own).resolve()
    assert Sampling(**complete.given()).over(own).resolve() == complete
