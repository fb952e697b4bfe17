"""The judge of the shapes world on exact drawings, clean and spoilt."""

import random

import pytest
import torch
from PIL import Image

from open_imagen.errors import DataError
from open_imagen.evaluation.image_set import open_images
from open_imagen.evaluation.judges.judge import (
    alignment,
    judge_images,
    mean_reconstruction_rmse,
)
from open_imagen.evaluation.suites.runs import make_run
from open_imagen.worlds.shapes.checker import detect
from open_imagen.worlds.shapes.judge import ShapesJudge, reconstruction_rmse, scene_of
from open_imagen.worlds.shapes.render import render
from open_imagen.worlds.shapes.scenes import Layout, draw_layout
from open_imagen.worlds.suites import open_suite


def rendered(suite, folder, size=64, spoil=None):
    """A finished run whose pictures are exact drawings of what was asked."""

    class Renderer:
        name, batch = "renderer", 64

        def record(self):
            return {"kind": "renderer"}

        def draw(self, requests):
            by_text = {p.text: p for p in suite.prompts}
            layouts = [
                draw_layout(scene_of(by_text[w.prompt].metadata), random.Random(w.seed))
                for w in requests
            ]
            assert all(isinstance(layout, Layout) for layout in layouts)
            images = render(layouts, size)
            images = images if spoil is None else spoil(images)
            return [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in images]

    make_run(Renderer(), suite, folder, 1)
    return open_images(folder)


def test_exact_drawings_are_aligned_and_have_next_to_no_rmse(tmp_path):
    suite = open_suite("shapes:single,position,counting", 30)
    verdicts = judge_images(rendered(suite, tmp_path / "true", 256))
    score, tags = alignment(verdicts)
    assert score.value >= 98
    assert set(tags) == {"single", "position", "counting"}
    clean = mean_reconstruction_rmse(verdicts).value
    assert clean < 6

    def noisy(images):
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 20
        return (images + noise).clamp(0, 255).to(torch.uint8)

    spoilt = mean_reconstruction_rmse(
        judge_images(rendered(suite, tmp_path / "noisy", 128, noisy))
    ).value
    # Noise of 20, clipped at white and black.
    assert clean + 5 < spoilt < 24


def test_the_rmse_of_a_plain_shift_is_the_shift():
    gray = torch.full((3, 128, 128), 150, dtype=torch.uint8)
    assert reconstruction_rmse(gray, detect(gray)) == 0
    assert reconstruction_rmse(gray - 12, detect(gray)) == pytest.approx(12)


def test_a_prompt_of_another_suite_is_refused():
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    with pytest.raises(DataError, match="not a prompt of the shapes world"):
        ShapesJudge()([image], [{"prompt": "a fox", "tag": "prompts"}])
