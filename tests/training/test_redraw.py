"""Redrawing: noise on, noise off in the base's hand; a share of the pictures, by their place."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from open_imagen.cascade.sampling import Sampling
from open_imagen.data import open_source
from open_imagen.diffusion.parameterization import diffuse
from open_imagen.diffusion.samplers import straight
from open_imagen.errors import ConfigError
from open_imagen.training import Trainer
from open_imagen.training.redraw import RedrawConfig, Redrawing, load_redrawing
from open_imagen.training.run import read_recipe
from open_imagen.types import TextEmbedding
from standins import WordEncoder, make_stages

RECIPES = Path(__file__).parents[2] / "recipes"


def text_of(batch):
    tokens = torch.randn(batch, 3, 384, generator=torch.Generator().manual_seed(4))
    return TextEmbedding(tokens, torch.ones(batch, 3, dtype=torch.bool))


def pictures(batch):
    return torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_picture_is_redrawn_as_the_base_samples_from_its_noise(guidance):
    """DDIM with the base's own guidance and thresholding, from the noised picture on."""
    base = make_stages()[0]
    settings = Sampling(guidance=guidance).over(base.config.sampling).complete()
    object.__setattr__(base.config, "sampling", settings)
    redrawing = Redrawing(RedrawConfig(model="m", steps=3), base)
    images, text, eps = pictures(2), text_of(2), torch.randn(2, 3, 64, 64)
    times = torch.tensor([0.6, 0.3])
    found = redrawing.redrawn(images, eps, times, text)
    for k, time in enumerate(times.tolist()):
        parts = torch.tensor([time, time * 2 / 3, time / 3])
        levels = base.config.schedule.logsnr(parts).tolist()
        denoise = base.denoiser(text.select([k]), settings)
        z = diffuse(images[[k]], eps[[k]], torch.tensor(levels[:1]))
        for now, then in pairwise(levels):
            z = straight(denoise(z, now), z, now, then)
        expected = denoise(z, levels[-1]).clamp(-1, 1)
        torch.testing.assert_close(found[[k]], expected, rtol=1e-3, atol=1e-3)
        assert (found[k] - images[k]).abs().mean() > 0.05


def test_a_base_that_knows_the_truth_gives_it_back(monkeypatch):
    images = pictures(3)
    monkeypatch.setattr(
        "open_imagen.training.redraw.guided_estimates", lambda *_: lambda z, logsnr: images
    )
    redrawing = Redrawing(RedrawConfig(model="m", share=1.0, highest=1.0), make_stages()[0])
    torch.testing.assert_close(redrawing(images, text_of(3), 0, 0), images)


def test_what_is_redrawn_and_how_hangs_on_the_place_in_the_run():
    redrawing = Redrawing(RedrawConfig(model="m", share=0.4, steps=1), make_stages()[0])
    images, text = pictures(1).repeat(40, 1, 1, 1), text_of(1).select([0] * 40)
    together = redrawing(images, text, 100, 7)
    changed = (together - images).abs().amax(dim=(1, 2, 3)) > 0
    assert 8 <= int(changed.sum()) <= 24  # binomial(40, 0.4): within 2.6 standard deviations
    assert together[~changed].equal(images[~changed])
    apart = [redrawing(images[:20], text.select(slice(20)), 100 + k, 7) for k in (0, 20)]
    torch.testing.assert_close(torch.cat(apart), together, rtol=1e-4, atol=1e-4)
    for index, seed in ((101, 7), (100, 8)):
        other = redrawing(images, text, index, seed)
        assert not torch.allclose(other, together)


def test_the_lower_the_time_the_less_is_changed():
    """From little noise on, a base that knows what scaled noise is leaves a picture as it was."""
    base = make_stages()[0]
    images, text, eps = pictures(1), text_of(1), torch.randn(1, 3, 64, 64)
    redrawing = Redrawing(RedrawConfig(model="m", steps=1), base)
    near, far = (
        (redrawing.redrawn(images, eps, torch.tensor([time]), text) - images).abs().mean()
        for time in (1e-4, 0.5)
    )
    assert near < 0.02 < far


def test_super_resolution_trains_on_what_the_base_redraws(tmp_path, model_folder, monkeypatch):
    def made(name, *more):
        recipe = read_recipe(
            RECIPES / "scenes-sr256.toml",
            (
                f"out={tmp_path / name}",
                "stage.network={preset='tiny-sr-256'}",
                "data.crop=0",
                "data.num_captions=5",
                "train.images=4",
                "train.batch_size=2",
                "train.workers=0",
                "train.compile=false",
                "train.sample_every=0",
                "train.precision=fp32",
                *more,
            ),
        )
        trainer = Trainer(recipe, open_source(recipe.data), WordEncoder())
        seen = []
        loss = trainer.stage.loss
        monkeypatch.setattr(trainer.stage, "loss", lambda *a: (seen.append(a[3]), loss(*a))[1])
        assert trainer.fit()
        facts = json.loads((tmp_path / name / "model" / "cascade.json").read_text())["trained"]
        return torch.cat(seen), facts["sr256"]

    given = (f"redraw.model={model_folder}", "redraw.steps=1")
    plain, told = made("plain")
    redrawn, facts = made("redrawn", *given, "redraw.share=1.0")
    assert (redrawn - plain).abs().amax(dim=(1, 2, 3)).min() > 0
    assert "redraw" not in told
    assert facts["redraw"] == {
        "model": str(model_folder), "share": 1.0, "highest": 0.4, "steps": 1
    }  # fmt: skip


def test_what_does_not_go_together_is_refused(model_folder):
    device = torch.device("cpu")
    config = RedrawConfig(model=str(model_folder))
    assert not any(
        p.requires_grad
        for p in load_redrawing(config, 64, "minilm-l6", device).stage.network.parameters()
    )
    with pytest.raises(ConfigError, match=r"draws pictures of 64, and stage.lowres = 256"):
        load_redrawing(config, 256, "minilm-l6", device)
    with pytest.raises(ConfigError, match="reads minilm-l6, this recipe t5"):
        load_redrawing(config, 64, "t5", device)
    for wrong in ({"share": 0.0}, {"share": 1.5}, {"highest": 0.0}, {"steps": 0}):
        with pytest.raises(ConfigError, match=rf"redraw\.{next(iter(wrong))}"):
            RedrawConfig(**wrong)
    with pytest.raises(ConfigError, match="enlarges nothing"):
        read_recipe(RECIPES / "scenes-base.toml", ("redraw.model=scenes",))
    with pytest.raises(ConfigError, match=r"data\.crop = 128 gives parts"):
        read_recipe(RECIPES / "scenes-sr256-words.toml", ("redraw.model=scenes",))
