"""The counts of a network, against numbers worked out by hand and against the running network."""

from pathlib import Path

import pytest
import torch

from open_imagen.cli.models import page
from open_imagen.models import build, names
from open_imagen.models.efficient_unet import EfficientUNetConfig
from open_imagen.models.profile import count, profile

ROOT = Path(__file__).parents[2]


def test_rows_add_up_to_the_whole():
    found = profile("tiny-base-64")
    assert found.parameters == sum(p.numel() for p in build("tiny-base-64").parameters())
    assert sum(row.parameters for row in found.rows) == found.parameters
    assert sum(row.flops for row in found.rows) == found.flops


def test_operations_of_a_convolution_are_those_of_the_formula():
    # The stem: 3x3, from 3 channels folded by 8 to 32, on 8x8.
    stem = next(row for row in profile("tiny-base-64").rows if row.name == "stem")
    assert stem.output == (32, 8, 8)
    assert stem.parameters == 9 * (3 * 64) * 32 + 32
    assert stem.flops == 2 * 9 * (3 * 64) * 32 * 8 * 8


def test_activations_are_what_autograd_keeps():
    # A network of one linear layer and one SiLU would keep its input and the sum before the SiLU;
    # here: every convolution keeps its input, so there is at least that much, and no weight in it.
    found = profile("tiny-base-64")
    outputs = sum(torch.Size(row.output).numel() for row in found.rows)
    assert outputs < found.activations < found.parameters


@pytest.mark.parametrize("name", names())
def test_every_preset_can_be_counted(name):
    found = profile(name)
    assert found.parameters > 0
    assert found.flops > found.parameters  # every weight is used at least once


def test_the_page_is_up_to_date():
    # Written by: imagen models --markdown > docs/reference/networks.md
    assert (ROOT / "docs" / "reference" / "networks.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize(
    "name, low, high",
    [
        ("imagen-base-64", 2100 * 0.95, 2400 * 1.05),
        ("imagen-base-64-1b", 900, 1100),
        ("imagen-base-64-500m", 450, 550),
        ("imagen-base-64-300m", 270, 330),
        ("imagen-sr-256", 440, 590),
        ("imagen-sr-1024", 440, 590),
        ("imagen-sr-256-unet", 440, 590),
    ],
)
def test_sizes_are_the_paper_s(name, low, high):
    assert low < profile(name).parameters / 1e6 < high


def test_the_paper_s_super_resolution_has_its_wider_attention_and_shortcuts():
    # Of each level's width w: w^2 + w on 2 x blocks shortcuts; the attention of the deepest level,
    # on both ways, 4 w^2 + 3 w more of pixels' queries, keys, values and result, and of the text's
    # keys and values 2 w x 4096 + 2 w.
    widths, blocks = (128, 256, 512, 1024), (2, 4, 8, 8)
    shortcuts = sum(2 * n * (w * w + w) for w, n in zip(widths, blocks, strict=True))
    attention = 2 * (4 * 1024**2 + 3 * 1024 + 2 * 1024 * 4096 + 2 * 1024)
    plain = EfficientUNetConfig()
    found = profile("imagen-sr-256").parameters
    assert found == count("efficient_unet", plain, 256).parameters + shortcuts + attention
    assert found == pytest.approx(0.554e9, rel=1e-3)


def test_the_efficient_unet_takes_a_fraction_of_the_plain_ones_operations():
    # The paper: two to three times as fast, and less memory (appendix B.1).
    efficient, plain = profile("imagen-sr-256"), profile("imagen-sr-256-unet")
    assert plain.flops > 2 * efficient.flops
    assert plain.activations > 2 * efficient.activations
