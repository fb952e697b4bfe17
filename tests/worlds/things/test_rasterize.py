"""Sprites are trimmed, centred, premultiplied, and the same at every size."""

import io

import numpy as np
import pytest
from PIL import Image

from open_imagen.errors import DataError, MissingDependency
from open_imagen.worlds.things.rasterize import (
    VISIBLE,
    Drawing,
    need_resvg,
    premultiply,
    render_drawing,
    render_picture,
    shrink,
    straighten,
    visible_box,
)
from things_art import GLASS, HAND, RED, webp


def test_the_longer_side_fills_the_square_and_the_shorter_is_centred():
    made = render_drawing(Drawing(RED, 128, 128), 256)
    assert visible_box(made.pixels) == (0, 64, 256, 192)
    assert (made.width, made.height) == (1.0, 0.5)
    assert made.pixels[128, 128].tolist() == [255, 0, 0, 255]
    assert made.pixels[10, 128].tolist() == [0, 0, 0, 0]


def test_half_transparent_art_is_premultiplied():
    made = render_drawing(Drawing(GLASS, 128, 128), 256)
    assert np.abs(made.pixels[128, 128].astype(int) - 128).max() <= 1
    assert (made.pixels[..., :3] <= made.pixels[..., 3:]).all()


def test_art_outside_of_its_view_box_is_not_shown():
    body = '<rect x="40" y="0" width="20" height="100" fill="#f00"/>'
    hidden = '<circle cx="-15" cy="50" r="14" fill="#00f"/>'
    wanted = render_drawing(Drawing(body, 60, 100), 256)
    made = render_drawing(Drawing(hidden + body, 60, 100), 256)
    assert made.width == wanted.width == pytest.approx(0.2, abs=0.01)
    assert (made.pixels == wanted.pixels).all()


def test_flip_mirrors():
    plain = render_drawing(Drawing(HAND, 32, 32), 256).pixels
    flipped = render_drawing(Drawing(HAND, 32, 32, flip=True), 256).pixels
    assert np.abs(plain[:, ::-1].astype(int) - flipped).mean() < 0.5


def test_a_smaller_sprite_is_the_mean_of_the_larger_one():
    large = render_drawing(Drawing(HAND, 32, 32), 256)
    small = shrink(large, 64)
    means = large.pixels.reshape(64, 4, 64, 4, 4).mean((1, 3))
    assert np.abs(small.pixels - means).max() <= 0.5
    assert (small.width, small.height) == (large.width, large.height)


def test_pictures_of_pixels_are_trimmed_as_well():
    made = render_picture(webp((200, 100, 50, 255), (10, 20, 49, 39)), 256)
    left, top, right, bottom = visible_box(made.pixels)
    assert (left, right) == (0, 256)
    assert top == pytest.approx(64, abs=4)  # a blurred edge of four source pixels
    assert bottom == pytest.approx(192, abs=4)
    assert (made.width, made.height) == (1.0, pytest.approx(0.5, abs=0.03))
    assert made.pixels[128, 128].tolist() == [200, 100, 50, 255]
    assert (made.pixels[..., :3] <= made.pixels[..., 3:]).all()


def test_faint_pixels_are_not_visible():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:4, 3:5, 3] = 255
    pixels[0, 0, 3] = VISIBLE
    assert visible_box(pixels) == (3, 2, 5, 4)


def test_premultiplied_and_back():
    straight = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    straight[..., 3] = np.maximum(straight[..., 3], 128)
    back = straighten(premultiply(straight))
    assert np.abs(back.astype(int) - straight).max() <= 1


def test_what_cannot_be_drawn():
    with pytest.raises(DataError, match="empty"):
        render_drawing(Drawing("<g/>", 32, 32), 256)
    with pytest.raises(DataError, match="resvg cannot draw"):
        render_drawing(Drawing("<rect", 32, 32), 256)
    with pytest.raises(DataError, match="cannot be decoded"):
        render_picture(b"RIFF", 256)
    empty = io.BytesIO()
    Image.new("RGBA", (8, 8)).save(empty, "WEBP", lossless=True)
    with pytest.raises(DataError, match="empty"):
        render_picture(empty.getvalue(), 256)


def test_a_panic_of_resvg_is_tried_again_with_a_wider_box(monkeypatch):
    import resvg_py

    class PanicException(BaseException):
        pass

    real, calls = resvg_py.svg_to_bytes, []

    def panics_once(**settings):
        calls.append(settings)
        if len(calls) == 1:
            raise PanicException
        return real(**settings)

    monkeypatch.setattr(resvg_py, "svg_to_bytes", panics_once)
    assert render_drawing(Drawing(RED, 128, 128), 256).height == pytest.approx(0.5, abs=0.01)
    assert calls[0] != calls[1]


def test_without_resvg(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(MissingDependency, match="resvg-py") as caught:
        need_resvg()
    assert ".[things]" in caught.value.hint
    assert "pip install -c constraints.txt" in caught.value.hint
