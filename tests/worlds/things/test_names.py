"""Things, their variants and their tags."""

import json

import pytest

from open_imagen.errors import DataError
from open_imagen.worlds.things.names import read_names
from open_imagen.worlds.things.near_doubles import LEFT_OUT, MERGED, RENAMED
from open_imagen.worlds.things.tags import MOST, TABLES, clean_tags, plain, read_table
from things_art import NAMES, entry


@pytest.fixture
def named():
    return read_names(json.dumps(NAMES).encode())


def test_things_are_sorted_and_grouped(named):
    things, _, _ = named
    groups = {thing.label: thing.group for thing in things}
    assert list(groups) == sorted(groups)
    assert groups == {
        "artist": "people",
        "cat face": "animals",
        "eye": "people",
        "handshake": "people",
        "harp": "objects",
        "magnifying glass": "objects",
        "red apple": "food",
        "red heart": "hearts",
    }


def test_near_doubles_are_one_thing(named):
    things, variants, _ = named
    glass = next(thing for thing in things if thing.label == "magnifying glass")
    assert glass.hexcodes == ("1F50D", "1F50E")
    assert glass.also == ("magnifying glass tilted left", "magnifying glass tilted right")
    assert {v.code for v in variants if v.label == "magnifying glass"} == {"1f50d", "1f50e"}


def test_gender_and_tone_are_variants(named):
    _, variants, _ = named
    artists = {(v.code, v.gender, v.tone) for v in variants if v.label == "artist"}
    assert artists == {
        ("1f9d1-200d-1f3a8", "", ""),
        ("1f9d1-1f3ff-200d-1f3a8", "", "dark"),
        ("1f469-200d-1f3a8", "woman", ""),
    }
    assert [v.code for v in variants if v.label == "handshake"] == ["1f91d"]


@pytest.mark.parametrize("label", ["blue heart", "light blue heart"])
def test_held_out_pairs_of_the_other_world_are_left_out(label):
    things, variants, _ = read_names(json.dumps([entry(label, "1F499", 0, 14)]).encode())
    assert not things
    assert not variants


def test_every_change_has_a_reason_and_one_owner():
    taken = [label for labels, _ in MERGED.values() for label in labels]
    assert len(taken) == len(set(taken))
    assert all(reason for _, reason in MERGED.values())
    assert all(LEFT_OUT.values())
    assert not set(taken) & (set(RENAMED) | set(LEFT_OUT))


def test_damaged_names():
    with pytest.raises(DataError, match="emojibase"):
        read_names(b"[{]")
    with pytest.raises(DataError, match="emojibase"):
        read_names(b'[{"group": 3}]')


def test_tags_name_few_things_and_no_label():
    table = {
        "cat": ("feline", "Cats", "dog", "pet", "kitty-cat"),
        "dog": ("pet",),
        "cow": ("pet",),
        "pig": ("pet", "hog", "pork belly!"),
        "box": ("boxes", "case"),
    }
    tags = clean_tags(table, dict.fromkeys(table, ()))
    assert tags["cat"] == ("feline", "kitty cat")
    assert tags["dog"] == tags["cow"] == ()
    assert tags["pig"] == ("hog", "pork belly")
    assert tags["box"] == ("case",)


def test_tags_may_be_labels_that_were_merged_into_their_thing():
    also = {"calendar": ("tear-off calendar",), "cat": ()}
    table = {"calendar": ("tear-off calendar",), "cat": ("tear-off calendar",)}
    assert clean_tags(table, also) == {"calendar": ("tear off calendar",), "cat": ()}


def test_the_table_is_plain():
    table = read_table(*TABLES)
    names = [plain(name) for names in table.values() for name in names]
    assert all(names)
    assert len(table) == sum(block.count(": ") for block in TABLES), "a label twice"
    assert max(names.count(name) for name in set(names)) <= MOST
