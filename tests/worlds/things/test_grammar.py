"""English of labels."""

import pytest

from open_imagen.worlds.things.grammar import article, plural, takes_article
from open_imagen.worlds.things.more_names import MORE_NAMES


@pytest.mark.parametrize(
    "label, several",
    [
        ("cat", "cats"),
        ("slice of pizza", "slices of pizza"),
        ("person in tuxedo", "people in tuxedos"),
        ("woman dancing", "women dancing"),
        ("sheep", "sheep"),
        ("tropical fish", "tropical fish"),
        ("computer mouse", "computer mice"),
        ("kitchen knife", "kitchen knives"),
        ("maple leaf", "maple leaves"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("bus", "buses"),
        ("glass of milk", "glasses of milk"),
        ("wing", "wings"),
        ("chart increasing", "charts increasing"),
        ("potato", "potatoes"),
        ("snowman", "snowmen"),
        ("octopus", "octopuses"),
    ],
)
def test_plurals(label, several):
    assert plural(label) == several
    assert takes_article(label)


@pytest.mark.parametrize(
    "label",
    [
        "glasses",
        "scissors",
        "french fries",
        "cooked rice",
        "fire",
        "field hockey",
        "admission tickets",
    ],
)
def test_what_is_plural_or_not_counted_has_neither_plural_nor_article(label):
    assert plural(label) == ""
    assert not takes_article(label)


def test_things_with_something_else_are_not_counted():
    assert plural("sun behind cloud") == plural("bow and arrow") == ""
    assert takes_article("sun behind cloud")


@pytest.mark.parametrize(
    "phrase, word",
    [
        ("hourglass", "an"),
        ("unicorn", "a"),
        ("ewe", "a"),
        ("umbrella", "an"),
        ("european castle", "a"),
        ("one-piece swimsuit", "a"),
        ("x-ray", "an"),
        ("owl", "an"),
        ("SUV", "an"),
        ("ufo", "a"),
    ],
)
def test_articles_go_by_sound(phrase, word):
    assert article(phrase) == word


def test_every_other_name_means_one_thing():
    names = [name for names in MORE_NAMES.values() for name in names]
    assert len(names) == len(set(names)) > 1000
    assert not set(names) & set(MORE_NAMES)
