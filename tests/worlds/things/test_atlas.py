"""Atlases: what they hold, going on after a stop, and what their readers refuse."""

import json
from dataclasses import replace

import numpy as np
import pytest

from open_imagen.errors import ConfigError, DataError, OutputError
from open_imagen.worlds.things import build
from open_imagen.worlds.things.atlas import Atlas
from open_imagen.worlds.things.build import build_atlas
from open_imagen.worlds.things.look_alikes import look_alikes


def labelled(atlas):
    return [
        (atlas.things[s.thing].label, s.style, s.gender, s.tone, s.vector) for s in atlas.sprites
    ]


@pytest.fixture
def atlas(planned, tmp_path):
    build_atlas(*planned, tmp_path / "atlas", (64, 256))
    return Atlas.open(tmp_path / "atlas")


def test_pictures_are_matched_by_code_point(atlas):
    assert labelled(atlas) == [
        ("artist", "drawn", "", "", True),
        ("artist", "3d", "", "dark", False),
        ("artist", "3d", "woman", "", False),
        ("cat face", "drawn", "", "", True),
        ("cat face", "flat", "", "", True),
        ("cat face", "shiny", "", "", True),
        ("cat face", "3d", "", "", False),
        ("eye", "drawn", "", "", True),
        ("magnifying glass", "drawn", "", "", True),
        ("magnifying glass", "flat", "", "", True),
        ("magnifying glass", "flat", "", "", True),
        ("red apple", "drawn", "", "", True),
        ("red apple", "old", "", "", True),
        ("red heart", "old", "", "", True),
        ("red heart", "3d", "", "", False),
    ]


def test_things_without_a_picture_are_no_part_of_it(atlas):
    assert [thing.label for thing in atlas.things] == [
        "artist",
        "cat face",
        "eye",
        "magnifying glass",
        "red apple",
        "red heart",
    ]


def test_questions(atlas):
    cat = atlas.of("cat face")
    assert len(atlas.sprites_of(cat)) == 4
    (flat,) = atlas.sprites_of(cat, "flat")
    assert atlas.sprites[flat].source == "@iconify-json/fluent-emoji-flat"
    with pytest.raises(DataError, match="no thing called 'dog'"):
        atlas.of("dog")
    assert {source["style"] for source in atlas.sources} >= {"drawn", "old", "flat", "shiny", "3d"}


def test_pixels(atlas):
    large, small = atlas.pixels(256), atlas.pixels(64)
    assert isinstance(large, np.memmap)
    assert large.shape == (15, 256, 256, 4)
    assert (large[..., :3] <= large[..., 3:]).all()
    means = large.reshape(15, 64, 4, 64, 4, 4).mean((2, 4))
    assert np.abs(small - means).max() <= 0.5
    left, right = atlas.sprites_of(atlas.of("magnifying glass"), "flat")
    assert np.abs(large[left][:, ::-1].astype(int) - large[right]).mean() < 0.5
    (eye,) = atlas.sprites_of(atlas.of("eye"))
    assert (atlas.sprites[eye].width, atlas.sprites[eye].height) == (0.5, 1.0)


def test_large_sprites(planned, tmp_path):
    plan, arts = planned
    few = [n for n, sprite in enumerate(plan.sprites) if plan.things[sprite.thing].label == "eye"]
    few += [len(plan.sprites) - 1]
    assert not plan.sprites[few[1]].vector
    sprites, codes = [plan.sprites[n] for n in few], [plan.codes[n] for n in few]
    build_atlas(replace(plan, sprites=sprites, codes=codes), arts, tmp_path, (256, 1024))
    atlas = Atlas.open(tmp_path)
    large = atlas.large(0)
    assert large.shape == (1024, 1024, 4)
    blocks = large.reshape(256, 4, 256, 4, 4).mean((1, 3))
    assert np.abs(blocks - atlas.pixels(256)[0]).mean() < 1
    with pytest.raises(DataError, match="256 pixels"):
        atlas.large(1)


def test_large_sprites_that_were_not_rendered(atlas):
    with pytest.raises(DataError, match="missing or damaged") as caught:
        atlas.large(0)
    assert "--sizes 1024" in caught.value.hint


def test_processes_make_the_same(planned, atlas, tmp_path):
    build_atlas(*planned, tmp_path / "other", (64, 256), workers=2)
    other = Atlas.open(tmp_path / "other")
    assert other.sprites == atlas.sprites
    assert (other.pixels(256) == atlas.pixels(256)).all()


class Stop(Exception):
    pass


def test_a_stopped_run_goes_on(planned, atlas, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FLUSH", 1)
    out = tmp_path / "stopped"

    def stop(what, done, total):
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        build_atlas(*planned, out, (64,), progress=stop)
    with pytest.raises(DataError, match="half-rendered") as caught:
        Atlas.open(out)
    assert f"imagen data things --out {out}" in caught.value.hint

    counts = []
    build_atlas(*planned, out, (64, 256), progress=lambda what, done, total: counts.append(done))
    assert counts[0] == 0  # no sprite has both sizes
    resumed = Atlas.open(out)
    assert resumed.sprites == atlas.sprites
    for size in (64, 256):
        assert (resumed.pixels(size) == atlas.pixels(size)).all()


def test_what_is_there_is_not_rendered_again(planned, atlas, monkeypatch):
    def render(job):
        raise AssertionError(job)

    monkeypatch.setattr(build._Worker, "render", render)
    counts = []
    build_atlas(*planned, atlas.folder, progress=lambda *state: counts.append(state), sizes=(64,))
    assert counts == [("64 pixels", 15, 15)]


def test_a_damaged_size_is_rendered_again(planned, atlas):
    wanted = np.array(atlas.pixels(64))
    path = atlas.folder / "sprites-64.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"sprites-64\.npy is damaged"):
        atlas.pixels(64)
    build_atlas(*planned, atlas.folder, (64,))
    assert (atlas.pixels(64) == wanted).all()


def test_another_atlas_is_not_overwritten(planned, atlas, tmp_path):
    plan, arts = planned
    changed = replace(plan, sources=[])
    with pytest.raises(OutputError, match="other pictures or other versions"):
        build_atlas(changed, arts, atlas.folder, (64,))
    (atlas.folder / "rendering.json").unlink()
    with pytest.raises(OutputError, match=r"without rendering\.json"):
        build_atlas(plan, arts, atlas.folder, (64,))


def test_labels_change_without_rendering(planned, atlas, monkeypatch):
    plan, arts = planned
    things = [replace(thing, tags=("new",)) for thing in plan.things]
    monkeypatch.setattr(build._Worker, "render", None)
    build_atlas(replace(plan, things=things), arts, atlas.folder, (64, 256))
    assert Atlas.open(atlas.folder).things[0].tags == ("new",)


def test_unknown_sizes(planned, tmp_path):
    with pytest.raises(ConfigError, match="--sizes 32: the atlas has"):
        build_atlas(*planned, tmp_path, (32,))


def test_a_picture_that_cannot_be_drawn_is_named(planned, tmp_path):
    plan, arts = planned
    broken = replace(arts["@iconify-json/noto"], read=lambda name: b"no picture")
    with pytest.raises(DataError, match="@iconify-json/noto, 1f9d1-200d-1f3a8: "):
        build_atlas(plan, {**arts, "@iconify-json/noto": broken}, tmp_path / "atlas", (64,))


def test_readers_refuse_what_they_cannot_read(atlas, tmp_path):
    with pytest.raises(DataError, match="There is no atlas") as caught:
        Atlas.open(tmp_path / "none")
    assert "imagen data things --out" in caught.value.hint
    with pytest.raises(DataError, match=r"of 1024 pixels .* are not rendered"):
        atlas.pixels(1024)
    path = atlas.folder / "atlas.json"
    values = json.loads(path.read_text())
    np.save(atlas.folder / "sprites-64.npy", np.zeros((2, 64, 64, 4), np.uint8))
    with pytest.raises(DataError, match="has shape"):
        atlas.pixels(64)
    path.write_text(json.dumps({**values, "format": 9}))
    with pytest.raises(DataError, match="has format 9"):
        Atlas.open(atlas.folder)
    path.write_text(json.dumps({**values, "sprites": [{"style": "flat"}]}))
    with pytest.raises(DataError, match="is damaged"):
        Atlas.open(atlas.folder)
    path.write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        Atlas.open(atlas.folder)


def test_look_alikes_are_found_mirrored_too(atlas):
    (drawn,) = atlas.sprites_of(atlas.of("red apple"), "drawn")
    (eye,) = atlas.sprites_of(atlas.of("eye"))
    (cat,) = atlas.sprites_of(atlas.of("cat face"), "drawn")
    (glass,) = atlas.sprites_of(atlas.of("magnifying glass"), "drawn")
    pixels = np.array(atlas.pixels(256))
    assert ("eye", "red apple") not in {(p.first, p.second) for p in look_alikes(atlas)}
    pixels[eye] = pixels[drawn]
    pixels[cat, :, :100] = 0
    pixels[glass] = pixels[cat][:, ::-1]
    np.save(atlas.folder / "sprites-256.npy", pixels)
    found = {(p.style, p.first, p.second): p.distance for p in look_alikes(atlas)}
    assert found["drawn", "eye", "red apple"] < 0.001
    assert found["drawn", "cat face", "magnifying glass"] < 0.001
