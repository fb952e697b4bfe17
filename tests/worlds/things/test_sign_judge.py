"""The strict reader of signs."""

import random

import pytest
import torch
import torch.nn.functional as F

from open_imagen.worlds.things.layout import Layout, Placed, draw_layout, place_ground
from open_imagen.worlds.things.scenes import SIGN, Item, Scene, random_word
from open_imagen.worlds.things.sign_judge import read_word
from things_judging import pixels_of


def sign(word, size=256, ground="", seed=0):
    rng = random.Random(seed)
    layout = draw_layout(Scene((Item(SIGN, word),)), rng, None)
    return pixels_of([layout._replace(ground=place_ground(ground, rng))], size)[0]


@pytest.mark.parametrize("ground", ["", "white", "black", "red"])
@pytest.mark.parametrize("size", [64, 256])
def test_exact_signs_are_read(size, ground):
    rng = random.Random(size)
    for k in range(4):
        word = random_word(rng)
        reading = read_word(sign(word, size, ground, k), word)
        assert reading.right, (word, reading)
        assert reading.word == word


def test_hecp_is_not_help():
    image = sign("HECP")
    assert read_word(image, "HECP").right
    reading = read_word(image, "HELP")
    assert not reading.right
    assert reading.letters == (True, True, False, True)
    assert reading.word == "HECP"


@pytest.mark.parametrize(
    "drawn, asked", [("DOG", "DOO"), ("OK", "QK"), ("CAT", "GAT"), ("PEN", "REN"), ("FIG", "EIG")]
)
@pytest.mark.parametrize("size", [64, 256])
def test_letters_alike_are_told_apart(drawn, asked, size):
    assert read_word(sign(drawn, size), drawn).right
    assert not read_word(sign(drawn, size), asked).right


def test_a_word_of_another_length_is_wrong():
    for asked in ("HEL", "HELPS", "ELP"):
        assert not read_word(sign("HELP"), asked).right


def test_a_letter_between_two_others_is_neither():
    one, other = sign("OPEN").float(), sign("OPON").float()
    between = ((one + other) / 2).to(torch.uint8)
    assert not read_word(between, "OPEN").right
    assert not read_word(between, "OPON").right


def test_soft_and_noisy_signs_are_read():
    exact = sign("MILK").float()
    soft = F.interpolate(
        F.interpolate(exact[None], scale_factor=0.5, mode="bilinear", antialias=True),
        (256, 256),
        mode="bilinear",
    )[0]
    noise = torch.randn(soft.shape, generator=torch.Generator().manual_seed(0)) * 8
    assert read_word((soft + noise).clamp(0, 255).to(torch.uint8), "MILK").right


def test_a_smeared_letter_is_not_read():
    image = sign("MILK").float()
    columns = (image[3].mean(0) > 0).nonzero().flatten()
    left, right = int(columns[0]), int(columns[-1])
    part = slice(right - (right - left) // 4, right - 6)
    image[:3, :, part] = F.avg_pool2d(image[None, :3, :, part], (31, 1), 1, (15, 0))[0]
    reading = read_word(image.to(torch.uint8), "MILK")
    assert not reading.right


def test_no_board_and_no_letters_are_wrong():
    assert not read_word(torch.zeros(4, 64, 64, dtype=torch.uint8), "HELP").right
    white = torch.full((3, 64, 64), 250, dtype=torch.uint8)
    assert not read_word(white, "HELP").right
    assert not read_word(sign("HELP"), "HÉLP").right
    assert not read_word(sign("HELP"), "").right


def test_lower_case_is_asked_for_in_capitals():
    assert read_word(sign("TEA"), "tea").right


def test_the_place_of_the_board_does_not_matter():
    for x, y in ((0.3, 0.2), (0.7, 0.83)):
        placed = Placed(Item(SIGN, "OWL"), -1, x, y, 0.22)
        assert read_word(pixels_of([Layout((placed,))], 256)[0], "OWL").right
