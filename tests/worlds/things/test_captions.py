"""Captions of things: every stated fact is said, and nothing that is held out."""

import random
import re

import pytest

from fake_atlas import FakeAtlas, Thing
from open_imagen.data.scenes import UNSEEN_PAIRS
from open_imagen.data.words import UNSEEN
from open_imagen.worlds.things import scenes
from open_imagen.worlds.things.captions import Speaker, caption, where
from open_imagen.worlds.things.catalog import Catalog, all_tags
from open_imagen.worlds.things.held_out import (
    SYNONYMS,
    color_held_out,
    pair_held_out,
    style_held_out,
    tag_held_out,
)
from open_imagen.worlds.things.layout import Layout, relation_holds
from open_imagen.worlds.things.more_names import MORE_NAMES
from open_imagen.worlds.things.scenes import (
    COLORS,
    SHAPE,
    SIGN,
    Item,
    Mixture,
    Scene,
    Shares,
    draw_scene,
)
from open_imagen.worlds.things.source import Things, ThingsConfig
from open_imagen.worlds.things.wordings import QUOTES, STYLE_ADJECTIVES, WORDINGS

ATLAS = FakeAtlas()
CAT = ATLAS.label_of("cat")
SOURCE = Things(ThingsConfig(shapes=0.1, others=0.2), atlas=ATLAS)
EXAMPLES = [SOURCE.example(k) for k in range(3000)]
ONLY_SIGNS = {name: float(name == "sign") for name in Mixture.__dataclass_fields__}
LABELS = {thing.label for thing in ATLAS.things}


def test_colors_counts_and_grounds_are_always_said():
    for scene, text, _ in EXAMPLES:
        said = text.lower().replace("grey", "gray")
        for item in scene.items:
            assert item.color in said
        for color in scene.ground.split(" and "):
            assert color in said
        if scene.count > 1:
            numbers = ("two", "three", "four", "five")
            assert numbers[scene.count - 2] in said or str(scene.count) in said


def test_styles_that_are_stated_are_said():
    for scene, text, _ in EXAMPLES:
        for style in {item.style for item in scene.items} - {""}:
            words = (style, *STYLE_ADJECTIVES[style], "drawing")
            assert any(word in text.lower() for word in words), text


def test_what_a_caption_says_is_in_the_picture():
    for scene, _, layout in EXAMPLES:
        shown = [one.item for one in layout.objects]
        stated = scene.items * scene.count if len(scene.items) == 1 else scene.items
        assert len(shown) == len(stated)
        for item, one in zip(stated, layout.objects, strict=True):
            assert (item.thing, item.label, item.color) == (*one.item[:2], one.item.color)
            if one.sprite >= 0:
                sprite = ATLAS.sprites[one.sprite]
                assert sprite.thing == item.thing
                assert item.style in ("", sprite.style)
                assert item.gender in ("", sprite.gender)
                assert item.tone in ("", sprite.tone)
        if scene.relation:
            first, second = layout.objects
            assert relation_holds(scene.relation, first.x - second.x, first.y - second.y)


def test_objects_lie_inside_and_apart():
    for _, text, layout in EXAMPLES:
        boxes = []
        for one in layout.objects:
            if one.sprite < 0:
                continue
            sprite = ATLAS.sprites[one.sprite]
            w, h = one.radius * sprite.width, one.radius * sprite.height
            assert w <= min(one.x, 1 - one.x), text
            assert h <= min(one.y, 1 - one.y), text
            for x, y, other_w, other_h in boxes:
                assert abs(x - one.x) >= w + other_w or abs(y - one.y) >= h + other_h, text
            boxes.append((one.x, one.y, w, h))


def test_nothing_held_out_is_shown():
    for scene, text, layout in EXAMPLES:
        labels = [item.label for item in scene.items if item.thing >= 0]
        assert not any(pair_held_out(a, b) for a in labels for b in labels)
        for one in layout.objects:
            if one.sprite >= 0:
                assert not style_held_out(ATLAS.sprites[one.sprite].style, one.item.label)
            if one.item.color and one.item.thing >= 0:
                assert not color_held_out(one.item.color, one.item.label)
            if one.item.thing == SHAPE:
                assert (one.item.color, one.item.label) not in UNSEEN_PAIRS
            if one.item.thing == SIGN:
                assert one.item.label not in UNSEEN
        tags = {tag for tags in SOURCE.catalog.all_tags for tag in tags if tag_held_out(tag)}
        assert not any(re.search(rf"\b{tag}\b", text.lower()) for tag in tags), text


def test_synonyms_of_the_shapes_world_are_never_said():
    said = {word for _, text, _ in EXAMPLES for word in re.findall("[a-z]+", text.lower())}
    signs = {item.label.lower() for scene, _, _ in EXAMPLES for item in scene.items}
    assert not (SYNONYMS | {word + "s" for word in SYNONYMS}) & (said - signs)


def test_held_out_shares():
    things = [f"thing {k}" for k in range(400)]
    colors = sum(color_held_out(color, thing) for color in COLORS for thing in things)
    assert 0.04 < colors / (len(COLORS) * 400) < 0.06
    styles = sum(style_held_out(style, thing) for style in STYLE_ADJECTIVES for thing in things)
    assert 0.035 < styles / 2000 < 0.065
    pairs = sum(pair_held_out(a, b) for a in things for b in things if a < b)
    assert 0.018 < pairs / (200 * 399) < 0.022
    assert 0.15 < sum(map(tag_held_out, things)) / 400 < 0.25
    assert color_held_out("red", "glowing star")
    assert color_held_out("yellow", "ring")
    assert pair_held_out("cat", "dog") == pair_held_out("dog", "cat")


def test_held_out_choices_do_not_change():
    """They are part of published figures."""
    labels = ("cat", "dog", "car", "house", "tree")
    chosen = [
        (color, label) for label in labels for color in COLORS if color_held_out(color, label)
    ]
    assert chosen == [("blue", "cat"), ("purple", "house"), ("blue", "tree")]


def test_recolored_things_have_no_color_in_their_label():
    assert not any(i.label == "red apple" and i.color for s, _, _ in EXAMPLES for i in s.items)
    assert any(item.label == "banana" and item.color for s, _, _ in EXAMPLES for item in s.items)


@pytest.mark.parametrize("wording", WORDINGS, ids=lambda wording: wording.name)
@pytest.mark.parametrize("relation", ["left of", "right of", "above", "below"])
def test_wordings_name_both_things_and_the_place(wording, relation):
    text = wording.say(relation, "a cat", "a dog")
    assert text.count("a cat") == text.count("a dog") == 1
    assert wording.fronted == (text.index("a dog") < text.index("a cat"))
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert text != wording.say(opposite[relation], "a cat", "a dog")
    if wording.name not in ("ends", "ends fronted", "other end first"):
        assert text != wording.say(opposite[relation], "a dog", "a cat")


def test_there_are_many_wordings_in_both_orders():
    assert len(WORDINGS) >= 8
    assert len({wording.name for wording in WORDINGS}) == len(WORDINGS)
    assert sum(wording.fronted for wording in WORDINGS) >= 4


def test_the_order_of_mention_does_not_tell_the_order_in_space():
    left_first = []
    for scene, text, _ in EXAMPLES:
        if scene.relation not in ("left of", "right of") or any(i.thing < 0 for i in scene.items):
            continue
        places = [text.lower().find(item.label) for item in scene.items]
        if min(places) >= 0:
            first_is_left = scene.relation == "left of"
            left_first.append((places[0] < places[1]) == first_is_left)
    assert len(left_first) > 80
    assert 0.35 < sum(left_first) / len(left_first) < 0.65


def test_random_words_on_signs_are_never_held_out(monkeypatch):
    drawn = iter(["LION", "TENT", "ZUB"])
    monkeypatch.setattr(scenes, "random_word", lambda rng: next(drawn))
    scene = draw_scene(
        random.Random(0), SOURCE.catalog, Mixture(**ONLY_SIGNS), Shares(seen_words=0.0)
    )
    assert scene.items == (Item(SIGN, "ZUB"),)


def test_signs_are_quoted():
    signs = [(s, t) for s, t, _ in EXAMPLES if any(item.thing == SIGN for item in s.items)]
    assert len(signs) > 100
    for scene, text in signs:
        [word] = [item.label for item in scene.items if item.thing == SIGN]
        assert any(
            quote.format(word) in text.replace(word.title(), word).replace(word.lower(), word)
            for quote in QUOTES
        ), text
        assert word.isupper()
        assert 1 <= len(word) <= 7


def test_people_are_described_in_part_of_the_captions():
    people = [item for s, _, _ in EXAMPLES for item in s.items if item.label == "firefighter"]
    assert 0.2 < sum(bool(item.gender) for item in people) / len(people) < 0.6


def test_people_take_the_word_of_their_gender():
    say = Speaker(random.Random(0), SOURCE.catalog)
    item = Item(ATLAS.label_of("person in tuxedo"), "person in tuxedo", gender="woman", tone="dark")
    texts = {say.one(item) for _ in range(40)}
    assert "a dark-skinned woman in tuxedo" in texts
    assert "a woman in tuxedo with dark skin" in texts
    guard = Item(ATLAS.label_of("firefighter"), "firefighter", gender="woman")
    several = {say.several(guard, 2) for _ in range(40)}
    assert several == {"two female firefighters", "2 female firefighters"}


def test_tags_are_used_in_a_third_of_the_mentions():
    texts = [t.lower() for s, t, _ in EXAMPLES if any(i.label == "umbrella" for i in s.items)]
    tags = list(SOURCE.catalog.tags(ATLAS.label_of("umbrella")))
    share = sum(any(tag in text for tag in tags) for text in texts) / len(texts)
    assert tags
    assert 0.2 < share < 0.5


def test_other_names_say_no_held_out_pair_of_shapes():
    assert "life ring" in MORE_NAMES["ring buoy"]
    item = Item(CAT, "ring buoy", color="yellow")
    catalog = Catalog(ATLAS.things, ATLAS.sprites, colors=("yellow",))
    catalog.all_tags[CAT] = ("life ring",)
    say = Speaker(random.Random(0), catalog)
    texts = {say.one(item) for _ in range(50)}
    assert not any("life ring" in text for text in texts)
    assert any("life ring" in say.one(item._replace(color="red")) for _ in range(50))


def test_tags_mean_one_thing_alone():
    things = (
        Thing("cat", "animals", ("feline",)),
        Thing("cat face", "animals", ("kitten", "pet")),
        Thing("dog", "animals", ("pet", "cat", "mutt")),
        Thing("mage", "people", ("sorcerer", "spellcaster")),
    )
    cat, face, dog, mage = all_tags(things)
    assert "feline" in cat
    assert "kitten" not in cat
    assert face == ("kitten", "kitty", "kitty face")
    assert dog.count("hound") == dog.count("mutt") == 1
    assert not {"pet", "cat"} & {*dog}
    assert mage == ("spellcaster",)


def test_short_captions_are_shorter():
    scene = Scene((Item(ATLAS.label_of("cat"), "cat", "flat", "", "small"),))
    layout = Layout(())
    layout = SOURCE.example(0)[2] if not layout.objects else layout
    say = {caption(scene, layout, random.Random(k), SOURCE.catalog, rich=False) for k in range(50)}
    assert not any("corner" in text for text in say)


def test_places_are_named_by_ninths():
    assert where(0.1, 0.1) == "in the top left corner"
    assert where(0.5, 0.5) == "in the middle"
    assert where(0.9, 0.5) == "on the right"
    assert where(0.5, 1.0) == "at the bottom"
