"""Two hundred random edits: nothing outside a mask changes, and no border shows."""

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.cascade.edit import EditOptions, plan_edit
from open_imagen.cascade.sampling import Sampling
from standins import make_cascade, make_stages


def random_image(rng):
    """Noise, or smooth colours, of any size and mode."""
    width, height = (int(n) for n in rng.integers(16, 500, 2))
    mode = "RGB" if rng.random() < 0.6 else "RGBA"
    if rng.random() < 0.5:
        pixels = rng.integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
        return Image.fromarray(pixels, mode)
    small = rng.integers(0, 256, (3, 4, len(mode)), dtype=np.uint8)
    return Image.fromarray(small, mode).resize((width, height), Image.Resampling.BICUBIC)


def random_mask(rng, size):
    """Boxes and discs, thin and large, at the edges too."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    while True:
        mask = np.zeros((height, width), bool)
        for _ in range(rng.integers(1, 4)):
            x, y = rng.integers(0, width), rng.integers(0, height)
            a, b = rng.integers(0, width // 2 + 1), rng.integers(0, height // 2 + 1)
            box = (abs(columns - x) <= a) & (abs(rows - y) <= b)
            disc = ((columns - x) / (a + 1)) ** 2 + ((rows - y) / (b + 1)) ** 2 <= 1
            mask |= box if rng.random() < 0.5 else disc
        if mask.any() and not mask.all():
            return mask


@pytest.mark.slow
def test_nothing_outside_a_mask_changes_in_200_random_edits():
    rng, changed = np.random.default_rng(0), 0
    few = {"base": Sampling(steps=1), "sr256": Sampling(steps=1)}
    cascades = [make_cascade(), make_cascade(make_stages(image_channels=4))]
    for k in range(200):
        image = random_image(rng)
        mask = random_mask(rng, image.size)
        extend = tuple(int(n) for n in rng.integers(0, 60, 4)) if rng.random() < 0.3 else None
        made = cascades[k % 2].edit(
            image,
            "a cat",
            mask=mask,
            extend=extend,
            seed=k,
            stages=int(rng.integers(1, 3)),
            strength=float(rng.uniform(0.1, 1)),
            feather=int(rng.integers(0, 30)) if rng.random() < 0.5 else None,
            settings=few,
        )
        left, top, _, _ = extend or (0, 0, 0, 0)
        after = np.asarray(made.images[0])[top : top + image.height, left : left + image.width]
        changed += int((after[~mask] != np.asarray(image)[~mask]).sum())
        assert (after[mask] != np.asarray(image)[mask]).any()
    assert changed == 0


def steps_at(image, mask):
    """Mean absolute difference of neighbours across a mask's border, and near it on either side."""
    pixels = np.asarray(image).astype(float)[..., :3]
    across, nearby = [], []
    for axis in (0, 1):
        step = np.abs(np.diff(pixels, axis=axis)).mean(-1)
        border = np.diff(mask.astype(int), axis=axis) != 0
        across.append(step[border])
        for shift in (-4, 4):
            moved = np.roll(border, shift, axis=axis)
            nearby.append(step[moved & ~border])
    return np.concatenate(across).mean(), np.concatenate(nearby).mean()


def test_the_feather_spreads_a_difference_over_its_width():
    # What the model makes is 20 levels lighter everywhere: without a feather, a step of 20.
    rng, steps = np.random.default_rng(1), []
    stages = make_stages()
    for _ in range(20):
        small = rng.integers(40, 200, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC)
        mask = np.zeros((256, 256), bool)
        x, y = rng.integers(30, 120, 2)
        mask[y : y + 90, x : x + 90] = True
        natural, _ = steps_at(image, mask)
        plan = plan_edit(image, mask, stages, EditOptions())
        made = plan.starts["sr256"].image.int().add(20).clamp(0, 255).to(torch.uint8)
        steps.append((natural, *steps_at(plan.result(made), mask)))
    natural, across, nearby = np.mean(steps, axis=0)
    assert across <= natural + 20 / 9
    assert across <= 1.5 * nearby
