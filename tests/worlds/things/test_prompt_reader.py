"""Prompts of other suites, read as what they ask for."""

import pytest

from open_imagen.errors import DataError
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.prompt_reader import Vocabulary, read_drawbench, read_prompt
from open_imagen.worlds.things.scenes import COLORS
from things_judging import ATLAS

CATALOG = Catalog(ATLAS.things, ATLAS.sprites, colors=tuple(COLORS), held_out=True)
VOCABULARY = Vocabulary(CATALOG)


def read(text):
    found = read_prompt(text, VOCABULARY)
    if found is None:
        return None
    kinds = [(one.names[0], one.number, one.color) for one in found.truth.wanted]
    return kinds, found.truth.relation, found.ignored


@pytest.mark.parametrize(
    "text, meant",
    [
        ("A purple colored umbrella.", ([("umbrella", 1, "purple")], "", "")),
        ("a grey cat", ([("cat", 1, "gray")], "", "")),
        ("a red apple", ([("red apple", 1, "")], "", "")),
        ("a blue apple", ([("red apple", 1, "blue")], "", "")),
        ("Four kittens on the roof.", ([("cat", 4, "")], "", "on the roof")),
        ("2 mice", ([("mouse", 2, "")], "", "")),
        ("One puppy and two cats sleeping", None),
        ("One puppy and two cats.", ([("dog", 1, ""), ("cat", 2, "")], "", "")),
        (
            "A pink banana and a green teddy bear.",
            ([("banana", 1, "pink"), ("teddy bear", 1, "green")], "", ""),
        ),
        (
            "An hourglass on top of a mouse.",
            ([("hourglass", 1, ""), ("mouse", 1, "")], "above", ""),
        ),
        ("A dog underneath a cat.", ([("dog", 1, ""), ("cat", 1, "")], "below", "")),
        ("A cat is to the left of a dog", ([("cat", 1, ""), ("dog", 1, "")], "left of", "")),
        ("A cat on the right of a dog.", ([("cat", 1, ""), ("dog", 1, "")], "right of", "")),
        ("two slices of pizza", ([("slice of pizza", 2, "")], "", "")),
        ("a purple hexagon", ([("shape hexagon", 1, "purple")], "", "")),
        ("A zeppelin on top of a cat.", None),
        ("A cat wearing a hat.", None),
        ("A storefront with 'TEA' written on it.", None),
        ("a cat and a dog and a mouse and a banana", None),
        ("two cats above a dog", None),
        ("", None),
    ],
)
def test_prompts_are_read_as_what_they_ask_for(text, meant):
    assert read(text) == meant


@pytest.mark.parametrize(
    "text, word",
    [
        ("A sign that says 'Tea'.", "TEA"),
        ('a sign saying "Coffee"', "COFFEE"),
        ("a sign with the word \u201cmilk\u201d on it", "MILK"),
        ("A sign that says 'Two words'.", None),
        ("A sign that says 'a1'.", None),
    ],
)
def test_signs_with_one_word_are_read(text, word):
    found = read_prompt(text, VOCABULARY)
    assert (found and found.truth.word) == word


def test_a_named_ground_is_asked_for():
    assert read_prompt("a cat on a blue background", VOCABULARY).truth.ground == "blue"
    assert read_prompt("a cat on a starry background", VOCABULARY) is None
    assert read_prompt("a cat", VOCABULARY).truth.ground is None


def test_sizes_and_styles_are_read():
    [wanted] = read_prompt("a tiny flat cat", VOCABULARY).truth.wanted
    assert (wanted.size, wanted.style) == ("small", "flat")


def test_a_name_of_several_things_may_be_any_of_them():
    class Another(type(ATLAS)):
        def __init__(self):
            super().__init__()
            self.things = [
                t._replace(tags=("beast",)) if t.group == "animals" else t for t in self.things
            ]

    atlas = Another()
    vocabulary = Vocabulary(Catalog(atlas.things, atlas.sprites, colors=tuple(COLORS)))
    [wanted] = read_prompt("a beast", vocabulary).truth.wanted
    assert set(wanted.names) == {"cat", "dog", "mouse"}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_the_prompts_that_can_be_judged_are_selected(tmp_path):
    rows = (
        "Prompt,Category\nA pink cat.,Colors\nA pink zeppelin.,Colors\n"
        "Three dogs by night.,Counting\nThree dogs on the moon.,Counting\n"
        "A sign that says 'No'.,Text\nA cat dreaming.,Descriptions\n"
    )
    found = read_drawbench(write(tmp_path / "p.csv", rows), CATALOG)
    assert [one.text for one in found.prompts] == [
        "A pink cat.",
        "Three dogs on the moon.",
        "A sign that says 'No'.",
    ]
    assert found.of == {"Colors": 2, "Counting": 2, "Positional": 0, "Text": 1}


@pytest.mark.parametrize(
    "text, message",
    [
        ("Text,Kind\na,b\n", "no column Category and no Prompt"),
        ("Prompt,Category\nA pink zeppelin.,Colors\n", "no prompt whose things"),
        ("", "no column"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_drawbench(write(tmp_path / "p.csv", text), CATALOG)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="Cannot read"):
        read_drawbench(tmp_path / "none.csv", CATALOG)
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        read_drawbench(tmp_path / "b.csv", CATALOG)
