"""Options of all sources: captions, augmentation, conditions, sizes; functions of the index."""

import io
import json
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from open_imagen.data import open_source
from open_imagen.data.augment import AugmentConfig, draw
from open_imagen.data.where import Where
from open_imagen.errors import ConfigError, DataError, OpenImagenWarning

SIDES = (16, 24, 32, 48)


def noise(k, size):
    """A picture whose left half is red and whose rest is noise."""
    pixels = np.random.default_rng(k).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    pixels[:, : size[0] // 2] = (250, 0, 0)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


def rows(number=12):
    """(picture, columns) of examples."""
    return [
        (
            noise(k, (2 * SIDES[k % 4], SIDES[k % 4])),
            {"text": [f"caption {k}", f"other {k}"], "tags": f"solo, red, n{k}, end", "score": k},
        )
        for k in range(number)
    ]


def folder(path, **more):
    path.mkdir()
    lines = []
    for k, (data, columns) in enumerate(rows()):
        (path / f"{k}.png").write_bytes(data)
        lines.append(json.dumps({"file_name": f"{k}.png", **columns}))
    (path / "metadata.jsonl").write_text("\n".join(lines))
    if "caption" in more:
        more["caption_columns"] = more.pop("caption")
    return {"kind": "folder", "path": str(path), "size": 16, **more}


def shards(path, **more):
    path.mkdir()
    with tarfile.open(path / "0.tar", "w") as tar:
        for k, (data, columns) in enumerate(rows()):
            for suffix, member in (("png", data), ("json", json.dumps(columns).encode())):
                header = tarfile.TarInfo(f"{k}.{suffix}")
                header.size = len(member)
                tar.addfile(header, io.BytesIO(member))
    more["caption"] = [f"json:{name}" for name in more.get("caption", ["text"])]
    return {"kind": "shards", "path": str(path), "size": 16, **more}


def huggingface(path, **more):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    path.mkdir()
    table = {name: [columns[name] for _, columns in rows()] for name in rows()[0][1]}
    table["image"] = [{"bytes": data, "path": None} for data, _ in rows()]
    datasets.Dataset.from_dict(table).to_parquet(path / "train.parquet")
    return {"kind": "huggingface", "path": str(path), "size": 16, **more}


KINDS = [folder, shards, huggingface]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def captions_of(settings, number=240):
    return [c for k in range(0, number, 12) for c in open_source(settings).batch(k, 12).captions]


@pytest.mark.parametrize("kind", KINDS)
def test_one_of_several_captions_is_drawn_by_its_weight(tmp_path, kind):
    settings = kind(tmp_path / "d", pick_caption="random", caption_weights=[3.0, 1.0])
    counts = Counter(caption.split()[0] for caption in captions_of(settings))
    assert 150 <= counts["caption"] <= 210  # of 240, three in four
    source = open_source(settings)
    assert set(source.captions()) == {f"{w} {k}" for w in ("caption", "other") for k in range(12)}
    assert source.batch(5, 9).captions == open_source(settings).batch(0, 24).captions[5:14]
    first = kind(tmp_path / "e")
    assert {caption.split()[0] for caption in captions_of(first, 24)} == {"caption"}


@pytest.mark.parametrize("kind", KINDS)
def test_captions_of_several_columns(tmp_path, kind):
    settings = kind(tmp_path / "d", caption=["tags", "text"], pick_caption="random")
    counts = Counter(caption.split()[0] for caption in captions_of(settings))
    assert set(counts) == {"solo,", "caption", "other"}
    assert min(counts.values()) >= 50


def test_tags_are_shuffled_but_for_the_first(tmp_path):
    settings = folder(tmp_path / "d", caption=["tags"], shuffle_tags=True, keep_tags=1)
    source = open_source(settings)
    found = captions_of(settings)
    assert all(caption.startswith("solo, ") for caption in found)
    for k in range(12):
        orders = {c for c in found if f"n{k}," in f"{c},"}
        assert len(orders) > 3
        assert {frozenset(c.split(", ")) for c in orders} == {
            frozenset(["solo", "red", f"n{k}", "end"])
        }
    assert source.endless_captions
    mixture = open_source({"kind": "mixture", "sources": [settings]})
    assert mixture.endless_captions


def test_templates_are_drawn(tmp_path):
    templates = ["a photo of {caption}", "{caption}, {style} 100%"]
    settings = folder(tmp_path / "d", caption_templates=templates)
    found = captions_of(settings)
    assert set(found) == set(open_source(settings).captions())
    assert "a photo of caption 3" in found
    assert "caption 3, {style} 100%" in found


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pick_caption": "any"}, "data.pick_caption = 'any'"),
        ({"caption_weights": [1.0]}, "data.caption_weights needs"),
        ({"pick_caption": "random", "caption_weights": [0.0]}, "data.caption_weights = "),
        ({"pick_caption": "random", "caption_weights": [-1.0, 2.0]}, "data.caption_weights = "),
        ({"caption_templates": ["a photo"]}, "'a photo' does not hold {caption}"),
        ({"keep_tags": 1}, "data.keep_tags needs"),
        ({"shuffle_tags": True, "tag_separator": ""}, "data.tag_separator"),
        ({"flip": 1.5}, "data.flip = 1.5"),
        ({"zoom": 0.5}, "data.zoom = 0.5"),
        ({"color": float("nan")}, "data.color = nan"),
        ({"min_size": -1}, "data.min_size = -1"),
        ({"where": "score >"}, "data.where = 'score >'"),
        ({"caption_columns": []}, "data.caption_columns"),
    ],
)
def test_wrong_settings_are_named(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        open_source({"kind": "folder", "path": str(tmp_path), **settings})


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_leave_examples_out(tmp_path, kind):
    source = open_source(kind(tmp_path / "d", where="width >= 48 and not score in [5, 6]"))
    found = set(source.batch(0, 60).captions)
    assert found == {f"caption {k}" for k in range(12) if k % 4 and k not in (5, 6)}
    reason = {"left out by data.where": 5}
    assert source.skipped == (reason if kind is folder else {next(iter(reason)): 25})
    source.batch(60, 300)  # what a setting leaves out is not bad


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_columns_are_named(tmp_path, kind):
    settings = kind(tmp_path / "d", where="scroe > 3")
    with pytest.raises(DataError, match="reads 'scroe', which") as caught:
        open_source(settings).batch(0, 12)
    assert "score" in caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_small_images_are_left_out(tmp_path, kind):
    source = open_source(kind(tmp_path / "d", min_size=30))
    assert {int(c.split()[1]) % 4 for c in source.batch(0, 60).captions} == {2, 3}
    assert set(source.skipped) == {"too small"}


def test_enlarged_images_are_told_once(tmp_path):
    source = open_source(folder(tmp_path / "d", size=32))
    source.batch(0, 190)
    with pytest.warns(OpenImagenWarning, match=r"data\.min_size = 32 leaves them out"):
        source.batch(190, 12)
    source.batch(202, 12)


def test_a_mixture_repeats_sources(tmp_path):
    parts = [folder(tmp_path / name, caption_templates=[name + " {caption}"]) for name in "ab"]
    settings = {"kind": "mixture", "sources": [{**parts[0], "repeats": 3}, parts[1]]}
    source = open_source(settings)
    found = [c for k in range(0, 1000, 50) for c in source.batch(k, 50).captions]
    assert Counter(caption[0] for caption in found) == {"a": 750, "b": 250}
    assert source.describe()["shares"] == [0.75, 0.25]
    both = [{**parts[0], "repeats": 3}, {**parts[1], "weight": 1.0}]
    with pytest.raises(ConfigError, match="not both"):
        open_source({"kind": "mixture", "sources": both})
    for wrong in (0, -1, "3", True, float("inf")):
        with pytest.raises(ConfigError, match="repeats above 0"):
            open_source({"kind": "mixture", "sources": [{**parts[0], "repeats": wrong}]})


AUGMENT = {"random_crop": True, "flip": 0.5, "zoom": 1.5, "color": 0.2}


@pytest.mark.parametrize("kind", KINDS)
def test_augmentation_is_a_function_of_the_index(tmp_path, kind):
    settings = kind(tmp_path / "d", **AUGMENT)
    whole = open_source(settings).batch(0, 48)
    again = open_source({**settings, "workers": 1}).batch(17, 9)
    assert torch.equal(whole.images[17:26], again.images)
    settings = {name: value for name, value in settings.items() if name not in AUGMENT}
    assert not torch.equal(open_source(settings).batch(0, 48).images, whole.images)


def test_half_are_mirrored_but_none_that_says_left(tmp_path):
    def red_at_left(**more):
        settings = folder(tmp_path / f"{len(list(tmp_path.iterdir()))}", flip=0.5, **more)
        images = open_source(settings).batch(0, 120).images.float()
        return sum(int(image[0, :, :4].mean() > 240) for image in images)

    assert 40 <= red_at_left() <= 80
    assert red_at_left(caption_templates=["{caption} on the Left"]) == 120


def test_parts_are_inside_and_have_the_proportions_of_the_target():
    import random

    config = AugmentConfig(random_crop=True, zoom=3.0)
    for k in range(500):
        rng = random.Random(k)
        size = (rng.randint(8, 300), rng.randint(8, 300))
        target = (rng.choice((16, 32, 48)), rng.choice((16, 32, 48)))
        left, top, right, bottom = draw(config, size, target, "", rng).box
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        width, height = right - left, bottom - top
        assert width / height == pytest.approx(target[0] / target[1], rel=1e-9)
        if size[0] >= target[0] and size[1] >= target[1]:  # no zoom enlarges
            assert width >= target[0] - 1e-6


def test_colour_changes_stay_within_their_share(tmp_path):
    Image.new("RGB", (16, 16), (100, 100, 100)).save(tmp_path / "a.png")
    source = open_source(
        {"kind": "folder", "path": str(tmp_path), "size": 16, "caption": "x", "color": 0.2}
    )
    means = source.batch(0, 100).images.float().mean((1, 2, 3))
    assert 79 <= means.min() < 85
    assert 115 < means.max() <= 121


@pytest.mark.parametrize(
    "text, row, wanted",
    [
        ("width >= 256 and score > 5", {"width": 256, "score": 6}, True),
        ("width >= 256 and score > 5", {"width": 256, "score": 5}, False),
        ("a or b and c", {"a": 1, "b": 0, "c": 0}, True),
        ("(a or b) and c", {"a": 1, "b": 0, "c": 0}, False),
        ("not a == 1", {"a": 2}, True),
        ("score > 5", {}, False),
        ("score > 5", {"score": None}, False),
        ("score > 5", {"score": "7.5"}, True),
        ("score > 5", {"score": "high"}, False),
        ("name == '7'", {"name": "7"}, True),
        ("name == 'it is \"so\"'", {"name": 'it is "so"'}, True),
        ("'cat' in text", {"text": "a cat"}, True),
        ("'cat' not in text", {"text": "a dog"}, True),
        ("style in ['flat', '3d']", {"style": "3d"}, True),
        ("style not in ['flat']", {}, False),
        ("width / height < 1.5", {"width": 3, "height": 2}, False),
        ("width / height < 1.5", {"width": 3, "height": 0}, False),
        ("2 + 3 * 4 == 14 and -2 < 1 - 2", {}, True),
        ("nsfw == 0", {"nsfw": False}, True),
        ("h\u00f6he > 1e2", {"h\u00f6he": 101}, True),
    ],
)
def test_conditions(text, row, wanted):
    assert Where(text)(row) is wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a >",
        "a = 1",
        "a > 1 and",
        "(a",
        "a)",
        "a > > 1",
        "a b",
        "1 < a < 3",
        "[1, 2",
        "a not 3",
        "__import__('os').system('x')",
        "a.b",
        "a[0]",
        "lambda: 1",
        "a ** 2",
        "a; b",
        "'open",
        "a if b else c",
        "(" * 60 + "a" + ")" * 60,
        "not " * 60 + "a",
        "a" + " + 1" * 600 + " > 1",
        "a & b",
    ],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ConfigError, match=r"data\.where"):
        Where(text)
