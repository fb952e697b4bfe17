"""imagen edit, generate --vary and upscale: files in, files out, and refusals with their codes."""

import json

import numpy as np
import pytest
from PIL import Image

RNG = np.random.default_rng(0)


@pytest.fixture
def files(tmp_path):
    """A photo and a mask in the middle of it."""
    Image.fromarray(RNG.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    mask = np.zeros((60, 90), np.uint8)
    mask[20:40, 30:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def test_an_edit_keeps_what_is_outside_its_mask_and_repeats(imagen, files):
    photo, mask, out = files / "photo.png", files / "mask.png", files / "out.png"
    made = imagen("edit", photo, "-p", "a cat", "--mask", mask, "--seed", 3, "-o", out)
    assert made.code == 0, made.err
    outside = pixels(mask) == 0
    assert np.array_equal(pixels(out)[outside], pixels(photo)[outside])
    assert not np.array_equal(pixels(out), pixels(photo))

    again = imagen("edit", photo, "--mask", mask, "--from", out, "-o", files / "again.png")
    assert again.code == 0, again.err
    assert np.array_equal(pixels(files / "again.png"), pixels(out))

    other = imagen("edit", mask, "--mask", mask, "--from", out)
    assert other.code == 2
    assert "The image is not the one that was edited" in other.err
    without = imagen("edit", photo, "--from", out)
    assert (without.code, "had a mask" in without.err) == (2, True)


def test_image_to_image_and_outpainting(imagen, files):
    made = imagen("edit", files / "photo.png", "-p", "a cat", "--strength", "base=0.4", "--json")
    assert made.code == 0, made.err
    [record] = json.loads(made.out)["pictures"]
    assert record["edit"]["strength"] == {"base": 0.4, "sr256": 0.6}
    out = files / "wide.png"
    made = imagen("edit", files / "photo.png", "-p", "a", "--extend", "10,0,30,5", "-o", out)
    assert made.code == 0, made.err
    assert np.array_equal(pixels(out)[:60, 10:100], pixels(files / "photo.png"))
    again = imagen("edit", files / "photo.png", "--from", out, "-o", files / "again.png")
    assert again.code == 0, again.err
    assert np.array_equal(pixels(files / "again.png"), pixels(out))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["photo.png"], 2, "There is no --prompt"),
        (["nowhere.png", "-p", "a"], 1, "There is no file"),
        (["notes.txt", "-p", "a"], 1, "is not an image that can be read"),
        (["photo.png", "-p", "a", "--mask", "nowhere.png"], 1, "There is no file"),
        (["photo.png", "-p", "a", "--mask", "small.png"], 2, "The mask is 9x6, the image 90x60"),
        (["photo.png", "-p", "a", "--mask", "black.png"], 2, "is empty"),
        (["photo.png", "-p", "a", "--mask", "white.png"], 2, "covers the whole image"),
        (["photo.png", "-p", "a", "--mask", "alpha"], 2, "no transparent pixels"),
        (["photo.png", "-p", "a", "--strength", "2"], 2, "strength = 2.0"),
        (["photo.png", "-p", "a", "--strength", "much"], 2, "'much' is not a number"),
        (["photo.png", "-p", "a", "--strength", "bsae=1"], 2, "Did you mean 'base'?"),
        (["photo.png", "-p", "a", "--strength", "1,base=1"], 2, "mixes a strength"),
        (["photo.png", "-p", "a", "--extend", "1,2"], 2, "is not L,T,R,B"),
        (["photo.png", "-p", "a", "--extend", "1,2,-3,4"], 2, "is not L,T,R,B"),
        (["photo.png", "-p", "a", "--resample", "0"], 2, "resample = 0"),
        (["photo.png", "-p", "a", "--guidance-kind", "agp"], 2, "Did you mean 'apg'?"),
        (["photo.png", "--from", "photo.png"], 1, "carries no record"),
    ],
)
def test_bad_usage_is_refused_by_name(imagen, files, words, code, message):
    (files / "notes.txt").write_text("no image")
    Image.new("L", (9, 6)).save(files / "small.png")
    Image.new("L", (90, 60), 0).save(files / "black.png")
    Image.new("L", (90, 60), 255).save(files / "white.png")
    words = [files / word if word.endswith((".png", ".txt")) else word for word in words]
    found = imagen("edit", *words)
    assert (found.code, message in found.err) == (code, True), found.err
    assert "Traceback" not in found.err


def test_an_image_is_varied_and_a_variation_repeated(imagen, files):
    first, varied = files / "first.png", files / "varied.png"
    imagen("generate", "a cat", "--seed", 4, "-o", first)
    made = imagen("generate", "--vary", first, "--amount", 0.2, "-o", varied)
    assert made.code == 0, made.err
    assert not np.array_equal(pixels(varied), pixels(first))
    same = imagen("generate", "--vary", first, "--amount", 0, "-o", files / "same.png")
    assert same.code == 0, same.err
    assert np.array_equal(pixels(files / "same.png"), pixels(first))
    again = imagen("generate", "--from", varied, "-o", files / "again.png")
    assert again.code == 0, again.err
    assert np.array_equal(pixels(files / "again.png"), pixels(varied))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--amount", "0.3"], "--amount belongs to --vary"),
        (["--vary", "first.png", "a dog"], "PROMPT cannot be given"),
        (["--vary", "first.png", "--steps", "4"], "--steps cannot be given"),
        (["--vary", "first.png", "--amount", "1.5"], "amount = 1.5"),
    ],
)
def test_bad_variations_are_refused(imagen, files, words, message):
    imagen("generate", "a cat", "--seed", 4, "-o", files / "first.png")
    found = imagen("generate", *[files / w if w.endswith(".png") else w for w in words])
    assert (found.code, message in found.err) == (2, True), found.err


def test_an_edited_image_is_neither_generated_again_nor_varied(imagen, files):
    out = files / "out.png"
    imagen("edit", files / "photo.png", "-p", "a cat", "-o", out)
    again = imagen("generate", "--from", out)
    assert (again.code, "Use imagen edit --from" in again.err) == (2, True)
    varied = imagen("generate", "--vary", out)
    assert (varied.code, "was made by edit" in varied.err) == (2, True)
    generated = files / "generated.png"
    imagen("generate", "a cat", "-o", generated)
    edited = imagen("edit", files / "photo.png", "--from", generated)
    assert (edited.code, "not by edit" in edited.err) == (2, True)


def test_upscaling_keeps_the_shape(imagen, files):
    made = imagen("upscale", files / "photo.png", "-p", "noise", "-o", files / "large.png")
    assert made.code == 0, made.err
    assert pixels(files / "large.png").shape == (240, 360, 3)
