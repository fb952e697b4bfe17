"""Duplicates: found scaled, compressed and brightened; others and plain images are told apart."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from typer.testing import CliRunner

from open_imagen.cli.data import app
from open_imagen.data.duplicates import find_duplicates, fingerprint


def photograph(k, size=(96, 64)):
    """Soft random structure, as photographs have."""
    pixels = np.random.default_rng(k).integers(0, 256, (10, 14, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def as_jpeg(image, quality):
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=quality)
    return Image.open(data).convert("RGB")


CHANGES = {
    "smaller": lambda image: image.resize((48, 32), Image.Resampling.LANCZOS),
    "larger": lambda image: image.resize((384, 256), Image.Resampling.BICUBIC),
    "JPEG 40": lambda image: as_jpeg(image, 40),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.05),
    "soft": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "itself": lambda image: image.copy(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(change):
    prints = [fingerprint(photograph(k)) for k in range(60)]
    copies = [fingerprint(CHANGES[change](photograph(k))) for k in range(60)]
    groups = find_duplicates(prints + copies)
    right = [group for group in groups if len(group) == 2 and group[1] - group[0] == 60]
    assert len(right) >= 57
    assert len(groups) == len(right)


def test_other_images_are_no_duplicates():
    assert find_duplicates([fingerprint(photograph(k)) for k in range(1500)]) == []


def test_plain_images_are_told_apart_by_their_colour():
    colors = [(255, 255, 255), (0, 0, 0), (200, 0, 0), (0, 0, 200), (200, 0, 0)]
    prints = [fingerprint(Image.new("RGB", (32, 32), color)) for color in colors]
    assert find_duplicates(prints) == [[2, 4]]


def test_the_command_names_them(tmp_path):
    for k in range(6):
        photograph(k).save(tmp_path / f"{k}.png")
        (tmp_path / f"{k}.txt").write_text("a photograph")
    as_jpeg(photograph(2), 70).save(tmp_path / "copy of 2.webp")
    (tmp_path / "copy of 2.txt").write_text("another caption")
    run = CliRunner().invoke(app, ["check", str(tmp_path), "--duplicates", "--json"])
    assert run.exit_code == 0
    report = json.loads(run.stdout)
    assert report["duplicates"] == 1
    assert report["duplicate_groups"] == [
        [str(tmp_path / "2.png"), str(tmp_path / "copy of 2.webp")]
    ]
    run = CliRunner().invoke(app, ["check", str(tmp_path), "--duplicates"])
    assert f"look the same:       {tmp_path / '2.png'}  {tmp_path / 'copy of 2.webp'}" in run.stdout
    run = CliRunner().invoke(app, ["check", str(tmp_path), "--json"])
    assert "duplicates" not in json.loads(run.stdout)
