"""Buckets: batches of one shape, nothing distorted, every image once, a function of the index."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from open_imagen.data import open_source
from open_imagen.data.buckets import (
    BucketConfig,
    BucketOrder,
    Shape,
    bucket_shapes,
    choose_shape,
)
from open_imagen.data.loader import Loader
from open_imagen.errors import ConfigError, DataError
from open_imagen.training import Trainer, read_recipe
from standins import WordEncoder

SIZES = [(300, 100), (200, 150), (160, 160), (150, 200), (90, 180), (100, 101)]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    for k in range(23):
        size = SIZES[k % len(SIZES)]
        image = Image.new("RGB", size, (10 * k, 0, 0))
        middle = (size[0] / 2, size[1] / 2)
        radius = min(size) * 0.4
        box = [middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius]
        ImageDraw.Draw(image).ellipse(box, fill=(10 * k, 255, 0))
        image.save(path / f"{k:02d}.png")
        (path / f"{k:02d}.txt").write_text(f"{k}")
    return path


def opened(folder, **more):
    settings = {"kind": "folder", "path": str(folder), "size": 64, "buckets": True}
    return open_source({**settings, "bucket_step": 16, **more})


@pytest.mark.parametrize("size, step", [(64, 8), (64, 16), (256, 32), (1024, 64)])
def test_shapes_have_about_as_many_pixels_and_divisible_sides(size, step):
    shapes = bucket_shapes(size, step, 2.0)
    assert Shape(size, size) in shapes
    assert all(s.width % step == s.height % step == 0 for s in shapes)
    assert all(0.7 * size**2 <= s.width * s.height <= size**2 for s in shapes)
    assert {Shape(s.height, s.width) for s in shapes} == set(shapes)
    assert max(s.width / s.height for s in shapes) <= 2


@pytest.mark.parametrize("shape", [(640, 427), (427, 640), (1000, 1000), (3000, 500)])
def test_the_shape_of_least_loss_is_chosen(shape):
    shapes = bucket_shapes(64, 8, 2.0)
    chosen = choose_shape(shape, shapes, BucketConfig(buckets=True))
    losses = {s: abs(math.log(shape[0] / shape[1] * s.height / s.width)) for s in shapes}
    assert losses[chosen] == min(losses.values())


def test_small_images_have_small_shapes_where_nothing_is_enlarged():
    config = BucketConfig(buckets=True, bucket_step=16, upscale=False)
    shapes = bucket_shapes(64, 16, 2.0)
    assert choose_shape((50, 40), shapes, config) == (48, 32)
    assert choose_shape((300, 20), shapes, config) == (32, 16)
    assert choose_shape((15, 300), shapes, config) is None
    assert choose_shape((500, 300), shapes, config) in shapes
    for width in range(16, 130, 7):
        for height in range(16, 130, 5):
            shape = choose_shape((width, height), shapes, config)
            assert shape.width <= width
            assert shape.height <= height
            assert shape.width * shape.height <= 64 * 64
            assert max(shape) <= 2 * min(shape)


@pytest.mark.parametrize("group", [1, 4, 7])
def test_no_image_is_lost_or_doubled(group):
    shapes = [Shape(8, 8)] * 10 + [Shape(16, 8)] * 3 + [Shape(8, 16)] * 25
    order = BucketOrder(shapes, group, seed=1)
    count = 38 * group  # in so many epochs everything comes out even
    places = [order[k] for k in range(38 * group)]
    assert Counter(place.member for place in places) == dict.fromkeys(range(38), count // 38)
    for start in range(0, count, group):
        assert len({place.shape for place in places[start : start + group]}) == 1
    assert all(shapes[place.member] == place.shape for place in places)
    later = [BucketOrder(shapes, group, seed=1)[k] for k in range(count - 5, count + 5)]
    assert later[:5] == places[-5:]


def test_batches_are_of_one_shape_and_not_distorted(folder):
    batches = Loader(source := opened(folder), 4, workers=2).after(0)
    shapes = set()
    for _ in range(23):
        batch = next(batches)
        shapes.add(tuple(batch.images.shape[2:]))
        for image in batch.images:
            # The disc is as wide as it is high, to a pixel.
            disc = image[1] > 128
            wide, high = disc.any(0).sum(), disc.any(1).sum()
            assert abs(int(wide) - int(high)) <= 1
    batches.close()
    assert len(shapes) == 3
    counts = source.describe()["bucket_sizes"]
    assert sum(counts.values()) == 23
    assert set(counts) == {f"{width}x{height}" for height, width in shapes}


def test_resume_in_the_middle_and_on_other_ranks_is_the_same_to_the_bit(folder):
    loader = Loader(opened(folder), 4).after(0)
    whole = [next(loader) for _ in range(20)]
    loader.close()
    again = Loader(opened(folder), 4, workers=2).after(28)
    for batch in whole[7:12]:
        other = next(again)
        assert torch.equal(other.images, batch.images)
        assert other.captions == batch.captions
    again.close()
    ranks = [Loader(opened(folder), 4, rank=rank, ranks=2).after(28) for rank in range(2)]
    for batch in whole[7:12]:
        parts = [next(rank) for rank in ranks]
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    for rank in ranks:
        rank.close()


def test_damaged_images_are_replaced_in_their_shape(folder):
    (folder / "02.png").write_bytes(b"")
    source = opened(folder, max_bad=0.9)
    source.set_group(4)
    for start in range(0, 92, 4):
        assert "2" not in source.batch(start, 4).captions
    assert source.skipped == {"empty file": 4}


def test_a_batch_of_several_shapes_is_refused(folder):
    source = opened(folder)
    source.set_group(4)
    with pytest.raises(DataError, match="are of several shapes"):
        source.batch(2, 3)


def test_low_resolution_inputs_have_the_shape_too(folder):
    batch = opened(folder, lowres=16).batch(0, 4)
    assert batch.lowres.shape[2] * 4 == batch.images.shape[2]
    assert batch.lowres.shape[3] * 4 == batch.images.shape[3]


def test_no_image_is_enlarged_if_so_asked(folder):
    source = open_source({"kind": "folder", "path": str(folder), "size": 120, "upscale": False})
    assert source.skipped == {"too small": sum(min(SIZES[k % 6]) < 120 for k in range(23))}
    assert sum(source.skipped.values()) + len(source) == 23
    everything = opened(folder, size=256, upscale=False)
    assert len(everything) == 23
    assert max(map(int, "x".join(everything.describe()["bucket_sizes"]).split("x"))) <= 192


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"bucket_step": 0}, "data.bucket_step = 0"),
        ({"bucket_step": 65}, "data.bucket_step = 65"),
        ({"max_aspect": 0.5}, "data.max_aspect = 0.5"),
        ({"crop": 32}, "data.crop = 32"),
        ({"lowres": 2}, "data.bucket_step = 16 must be a multiple of 32"),
    ],
)
def test_wrong_settings_are_named(folder, settings, message):
    with pytest.raises(ConfigError, match=message):
        opened(folder, **settings)


def test_sources_without_sizes_refuse_buckets(folder):
    with pytest.raises(ConfigError, match=r"needs data\.kind"):
        open_source({"kind": "shards", "path": str(folder), "buckets": True})
    part = {"kind": "folder", "path": str(folder), "buckets": True}
    with pytest.raises(ConfigError, match="take turns"):
        open_source({"kind": "mixture", "sources": [part]})


def trained(folder, out, images, **more):
    data = f"{{kind='folder', path='{folder}', size=64, buckets=true, bucket_step=16}}"
    settings = [f"out={out}", f"data={data}", f"train.images={images}", "train.batch_size=4"]
    settings += ["train.sample_every=0", "train.save_every=8", "train.precision=fp32"]
    recipe = read_recipe(Path(__file__).parents[2] / "recipes" / "tiny.toml", tuple(settings))
    trainer = Trainer(recipe, open_source(recipe.data), WordEncoder())
    assert trainer.fit()
    return trainer.network.state_dict()


@pytest.mark.slow
def test_a_run_trains_on_buckets_and_resumes_to_the_bit(folder, tmp_path):
    whole = trained(folder, tmp_path / "a", 16)
    trained(folder, tmp_path / "b", 8)
    resumed = trained(folder, tmp_path / "b", 16)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
