"""The data source: example k is a function of (seed, k), in any batch and any process."""

import pickle

import pytest
import torch

from fake_atlas import FakeAtlas
from open_imagen.config import parse, plain
from open_imagen.data.registry import SOURCES
from open_imagen.errors import ConfigError, DataError, OpenImagenWarning, UnknownName
from open_imagen.types import PlannedSource
from open_imagen.worlds.things import catalog
from open_imagen.worlds.things.held_out import color_held_out
from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.source import Things, ThingsConfig

ATLAS = FakeAtlas()
CAT = ATLAS.label_of("cat")


def things(**settings):
    return Things(parse(ThingsConfig, settings, "data."), atlas=ATLAS)


def test_it_is_a_planned_source_with_endless_captions():
    source = things()
    assert isinstance(source, PlannedSource)
    assert source.endless_captions
    assert len(list(source.captions())) == 2000
    assert SOURCES["things"] == (ThingsConfig, Things)
    assert parse(ThingsConfig, plain(source.config), "data.") == source.config


def test_an_example_does_not_depend_on_its_batch():
    source = things(size=32, crop=16, lowres=16)
    whole = source.batch(10, 6)
    for k in range(6):
        one = source.batch(10 + k, 1)
        assert one.captions == whole.captions[k : k + 1]
        assert (one.images[0].int() - whole.images[k].int()).abs().max() <= 1
        assert (one.lowres[0].int() - whole.lowres[k].int()).abs().max() <= 1


def test_the_low_resolution_image_of_a_crop_shows_the_crop():
    batch = things(size=64, crop=32, lowres=16).batch(0, 8)
    assert batch.lowres.shape == (8, 4, 8, 8)
    average = torch.nn.functional.avg_pool2d(batch.images.float(), 4)
    assert (average - batch.lowres.float()).abs().max() <= 1


def test_the_same_seed_gives_the_same_examples():
    first, again, other = things(), things(), things(seed=1)
    assert torch.equal(first.batch(5, 8).images, again.batch(5, 8).images)
    assert first.batch(5, 8).captions != other.batch(5, 8).captions


def test_plans_and_sources_can_be_pickled():
    source = things()
    plan = source.plan(0, 4)
    images = source.draw(plan).images
    assert torch.equal(source.draw(pickle.loads(pickle.dumps(plan))).images, images)
    copy = pickle.loads(pickle.dumps(source))
    assert torch.equal(copy.batch(0, 4).images, images)


def test_without_a_named_ground_a_picture_is_transparent():
    source = things(shapes=0.5)
    for k in range(40):
        scene, _, layout = source.example(k)
        edge = source.draw(source.plan(k, 1)).images[0, 3, 0]
        assert bool(layout.ground.colors) == bool(scene.ground)
        assert (edge == 255).all() if scene.ground else (edge == 0).all()


def test_shapes_come_in_their_share():
    source = things(shapes=0.2)
    scenes = [source.example(k)[0] for k in range(1000)]
    alone = sum(all(item.thing < 0 for item in scene.items) for scene in scenes)
    assert 180 < alone < 300  # with a few signs


def test_a_close_up_fills_the_image():
    settings = {"shapes": 0.0, "rich": 1.0, "close_up": 1.0}
    scenes = [things(**settings).example(k) for k in range(300)]
    seen = 0
    for scene, _, layout in scenes:
        [first, *others] = layout.objects
        if len(scene.items) > 1 or scene.count > 1 or scene.items[0].size or first.sprite < 0:
            continue
        assert not others
        assert (first.x, first.y, first.radius) == (0.5, 0.5, 0.46)
        seen += 1
    assert seen > 80
    usual = [things(shapes=0.0).example(k)[2].objects[0].radius for k in range(50)]
    assert len(set(usual)) > 40


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 4},
        {"crop": 30},
        {"lowres": 40},
        {"shapes": 1.5},
        {"close_up": -0.1},
        {"mixture": {"single": -1.0}},
        {"shares": {"color": 2.0}},
        {"styles": ["flat", "clay"]},
        {"colors": ["teal"]},
    ],
)
def test_wrong_settings_are_named(settings):
    with pytest.raises(ConfigError) as caught:
        things(**settings)
    assert next(iter(settings)) in str(caught.value) or isinstance(caught.value, UnknownName)


def test_unknown_things_are_named():
    with pytest.raises(UnknownName, match="catt"):
        things(things=["catt"])


def first_held_out(test, names):
    labels = [thing.label for thing in ATLAS.things]
    return next((name, label) for name in names for label in labels if test(name, label))


def test_a_held_out_color_asked_for_is_refused():
    color, label = first_held_out(color_held_out, COLORS)
    with pytest.raises(ConfigError, match=rf"{label}.*held out in data.colors"):
        things(things=[label], colors=[color])


def test_a_held_out_style_asked_for_is_refused(monkeypatch):
    monkeypatch.setattr(catalog, "style_held_out", lambda style, label: style == "flat")
    with pytest.raises(ConfigError, match=r"'cat'.*held out in data.styles"):
        things(things=["cat"], styles=["flat"])
    assert things(things=["cat"], styles=["flat", "3d"]).catalog.styles(CAT) == ["3d"]


def test_a_held_out_pair_asked_for_is_refused(monkeypatch):
    monkeypatch.setattr(catalog, "pair_held_out", lambda one, other: {one, other} == {"cat", "dog"})
    with pytest.raises(ConfigError, match="a pair that is held out"):
        things(things=["dog", "cat"])
    things(things=["dog", "cat", "banana"])


def test_only_the_chosen_things_styles_and_colors_come():
    source = things(shapes=0.0, things=["cat", "dog", "banana"], styles=["flat"], colors=["green"])
    for k in range(200):
        scene, _, layout = source.example(k)
        for one in layout.objects:
            assert one.item.thing < 0 or one.item.label in ("cat", "dog", "banana")
            assert one.sprite < 0 or ATLAS.sprites[one.sprite].style == "flat"
        assert {item.color for item in scene.items if item.thing >= 0} <= {"", "green"}


def test_vector_art_alone_is_drawn_large():
    source = things(size=512, crop=64, shapes=0.0)
    assert source.sprite_size == 1024
    placed = [one for k in range(40) for one in source.example(k)[2].objects if one.sprite >= 0]
    assert all(ATLAS.sprites[one.sprite].vector for one in placed)
    assert source.batch(0, 1).images.shape == (1, 4, 64, 64)


def test_things_stand_out_from_their_ground():
    source = things(shapes=0.0)
    for k in range(300):
        _, text, layout = source.example(k)
        for one in layout.objects:
            drawn = one.sprite >= 0 and not one.item.color
            near = source.palette.near(one.sprite) if drawn else {one.item.color}
            assert not near & {*layout.ground.colors}, text


class PartAtlas(FakeAtlas):
    """An atlas of which only some sprites are there at 1024 pixels."""

    rendered: frozenset[int] = frozenset()

    def large_numbers(self):
        return self.rendered


def test_large_sprites_that_are_missing_must_be_allowed_to_be():
    atlas = PartAtlas()
    vector = sorted(FakeAtlas.large_numbers(atlas))
    with pytest.raises(DataError, match=r"Only 0 of the atlas's \d+ sprites of 1024 pixels"):
        Things(ThingsConfig(size=1024, partial_atlas=True), atlas=atlas)
    atlas.rendered = frozenset(vector[:6])
    with pytest.raises(DataError, match="Only 6 of") as caught:
        Things(ThingsConfig(size=1024), atlas=atlas)
    assert "--sizes 1024" in caught.value.hint
    assert "data.partial_atlas" in caught.value.hint
    with pytest.warns(OpenImagenWarning, match="made of 6 of"):
        source = Things(ThingsConfig(size=1024, partial_atlas=True, shapes=0), atlas=atlas)
    drawn = {one.sprite for k in range(60) for one in source.example(k)[2].objects}
    assert drawn - {-1} <= atlas.rendered
    assert source.describe()["sprites"] == 6
    atlas.rendered = frozenset(vector)
    assert "sprites" not in Things(ThingsConfig(size=1024), atlas=atlas).describe()


def test_objects_outside_of_a_crop_are_not_drawn_and_change_nothing():
    source = things(size=64, crop=16, lowres=16)
    plan = source.plan(0, 16)
    whole = source.compose([source.example(k)[2] for k in range(16)])
    assert len(plan.drawing.sprites) < sum(len(source.example(k)[2].objects) for k in range(16))
    for image, crop, (x, y) in zip(whole, source.draw(plan).images, plan.corners, strict=True):
        left, top = round(64 * x), round(64 * y)
        shown = image[:, top : top + 16, left : left + 16].int()
        assert (shown - crop.int()).abs().max() <= 1
