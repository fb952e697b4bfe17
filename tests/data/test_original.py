"""Images that people bring: every mode, orientation and profile; bad files by name."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from open_imagen.data.original import read_original
from open_imagen.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (6, 8, 4), dtype=np.uint8)


def encoded(image, kind="PNG", **how):
    data = io.BytesIO()
    image.save(data, kind, **how)
    return data.getvalue()


def other_profile():
    """sRGB's primaries with a linear-light curve: colours differ plainly from sRGB's."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"s\x00R\x00G\x00B", b"l\x00i\x00n\x00e").replace(b"sRGB", b"line")


@pytest.mark.parametrize("source", ["array", "tensor", "pillow", "bytes", "path", "str"])
def test_every_way_to_hand_an_image(source, tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(encoded(Image.fromarray(RGB)))
    given = {
        "array": RGB,
        "tensor": torch.from_numpy(RGB).permute(2, 0, 1),
        "pillow": Image.fromarray(RGB),
        "bytes": file.read_bytes(),
        "path": file,
        "str": str(file),
    }[source]
    assert np.array_equal(read_original(given).image, RGB)


def test_transparency_is_kept_with_the_colours_under_it():
    assert np.array_equal(read_original(encoded(Image.fromarray(RGBA, "RGBA"))).image, RGBA)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_their_exif_says(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_original(encoded(Image.fromarray(RGB), exif=exif)).image
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }
    assert np.array_equal(found, turns[orientation](RGB))


def test_grey_of_8_and_16_bits_and_palettes_become_rgb():
    grey = RGB[..., 0]
    for data in (
        encoded(Image.fromarray(grey)),
        encoded(Image.fromarray(grey.astype(np.uint16) * 257)),
    ):
        assert np.array_equal(read_original(data).image, np.stack([grey] * 3, -1))
    palette = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(read_original(encoded(palette)).image, palette.convert("RGB"))


def test_cmyk_becomes_rgb():
    found = read_original(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")).image
    assert found.mode == "RGB"
    assert np.asarray(found)[0, 0].tolist() == [255, 0, 0]


def test_another_profile_is_kept_with_its_pixels_and_applied_for_models():
    profile = other_profile()
    data = encoded(Image.fromarray(RGB), icc_profile=profile)
    original = read_original(data)
    assert np.array_equal(original.image, RGB)
    assert original.profile == profile
    back = np.asarray(original.from_srgb(original.srgb)).astype(int)
    assert abs(back - RGB).max() <= 2
    assert read_original(encoded(Image.fromarray(RGB))).profile is None


def test_a_damaged_profile_changes_nothing():
    original = read_original(encoded(Image.fromarray(RGB), icc_profile=b"nonsense"))
    assert original.profile is None
    assert np.array_equal(original.srgb, RGB)


def test_nothing_of_a_files_metadata_comes_along():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    found = read_original(encoded(Image.fromarray(RGB), exif=exif)).image
    assert not found.info
    assert not found.getexif()


def bad_files(folder):
    png = encoded(Image.fromarray(RNG.integers(0, 256, (200, 200, 3), dtype=np.uint8)))
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("no image")
    (folder / "cut.png").write_bytes(png[: len(png) // 2])
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    Image.new("1", (1100, 1000)).save(folder / "huge.png")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.png", "There is no file .*nowhere.png"),
        (".", "is not a file"),
        ("empty.png", "empty.png is empty"),
        ("text.png", "text.png is not an image that can be read"),
        ("cut.png", "cut.png is damaged"),
        ("moving.gif", "moving.gif is an animation of 2 frames"),
        ("moving.webp", "moving.webp is an animation of 2 frames"),
        ("huge.png", "huge.png has 1100x1000 pixels; the limit is 1,000,000"),
    ],
)
def test_bad_files_are_named(name, message, tmp_path):
    bad_files(tmp_path)
    with pytest.raises(DataError, match=message):
        read_original(tmp_path / name, max_pixels=1_000_000)


@pytest.mark.parametrize(
    "given",
    [
        None,
        7,
        np.full((4, 4, 3), 2.0),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((5, 4, 5), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(given):
    with pytest.raises(ConfigError, match="image"):
        read_original(given)
