"""The suite's prompts: what they ask for, and what is held out."""

import pytest

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.worlds.things import catalog as catalogs
from open_imagen.worlds.things import suite as suites
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.evaluate import ThingsEvaluation, suite_prompts
from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.suite import CATEGORIES, Suite, said
from open_imagen.worlds.things.wordings import WORDINGS
from things_judging import ATLAS

HELD_STYLES = {("3d", "cat"), ("flat", "dog")}
HELD_PAIRS = {frozenset(("cat", "mouse")), frozenset(("banana", "umbrella"))}


@pytest.fixture
def suite(monkeypatch):
    """With pairs, styles and tags held out that the small atlas has."""
    monkeypatch.setattr(
        suites, "style_held_out", lambda style, label: (style, label) in HELD_STYLES
    )
    monkeypatch.setattr(catalogs, "style_held_out", suites.style_held_out)
    monkeypatch.setattr(suites, "pair_held_out", lambda a, b: frozenset((a, b)) in HELD_PAIRS)
    monkeypatch.setattr(suites, "tag_held_out", lambda tag: tag in {"kitty", "puppy"})
    monkeypatch.setattr(
        suites, "color_held_out", lambda color, label: (color, label) == ("red", "cat")
    )
    return Suite(Catalog(ATLAS.things, ATLAS.sprites, colors=tuple(COLORS), held_out=True))


def labels(prompt):
    return [wanted.names[0] for wanted in prompt.truth.wanted]


def test_every_category_has_prompts_that_depend_on_the_seed_alone(suite):
    for name in CATEGORIES:
        prompts = suite.prompts(name, 12)
        assert prompts, name
        assert prompts == suite.prompts(name, 12)
        assert all(one.category == name for one in prompts)
    assert suite.prompts("place", 12) != suite.prompts("place", 12, seed=2)


def test_things_come_again_only_when_all_have_come(suite):
    asked = [labels(one)[0] for one in suite.prompts("counting", len(suite.counted))]
    assert len(set(asked)) == len(asked)


def test_held_out_categories_hold_what_is_held_out_and_the_others_do_not(suite):
    for one in suite.prompts("held_out_style", 50):
        assert (one.truth.wanted[0].style, labels(one)[0]) in HELD_STYLES
    for one in suite.prompts("style", 200):
        assert (one.truth.wanted[0].style, labels(one)[0]) not in HELD_STYLES
    for name in ("held_out_pair", "held_out_place"):
        assert all(frozenset(labels(one)) in HELD_PAIRS for one in suite.prompts(name, 20))
    for name in ("two_things", "place"):
        assert not any(frozenset(labels(one)) in HELD_PAIRS for one in suite.prompts(name, 100))
    assert {one.text for one in suite.prompts("held_out_tag", 9)} == {"a kitty", "a puppy"}
    assert not {"a kitty", "a puppy"} & {one.text for one in suite.prompts("tag", 99)}
    assert {one.text for one in suite.prompts("held_out_color", 9)} == {"a red cat"}
    assert "a red cat" not in {one.text for one in suite.prompts("color", 500)}


def test_places_come_in_every_wording_and_relation(suite):
    prompts = suite.prompts("place", 4 * len(WORDINGS))
    pairs = {(one.parts["wording"], one.parts["relation"]) for one in prompts}
    assert len(pairs) == 4 * len(WORDINGS)
    for one in prompts:
        wording = next(w for w in WORDINGS if w.name == one.parts["wording"])
        assert one.text == wording.say(one.truth.relation, *map(said, labels(one)))


def test_prompts_say_their_truth(suite):
    for one in suite.prompts("counting", 20):
        assert (
            one.text.split()[0] == ("two", "three", "four", "five")[one.truth.wanted[0].number - 2]
        )
    for one in suite.prompts("size", 20):
        assert one.truth.wanted[0].size in one.text
    for one in suite.prompts("ground", 20):
        assert all(color in one.text for color in one.truth.ground.split(" and "))
    for one in suite.prompts("unseen_words", 20):
        assert f'"{one.truth.word}"' in one.text
    assert any("background" in one.text for one in suite.prompts("transparency", 10))
    assert said("red apple") == "a red apple"
    assert said("umbrella", "red") == "a red umbrella"
    assert said("glasses") == "glasses"


def test_a_ground_is_none_that_the_thing_would_vanish_on():
    catalog = Catalog(ATLAS.things, ATLAS.sprites, colors=tuple(COLORS), held_out=True)
    suite = Suite(catalog, near=lambda sprite: frozenset(COLORS) - {"red", "blue"})
    for one in suite.prompts("ground", 30):
        assert set(one.truth.ground.split(" and ")) <= {"red", "blue"}


def test_wrong_settings_are_refused():
    with pytest.raises(UnknownName, match="category called 'colour'"):
        ThingsEvaluation(categories=("colour",))
    with pytest.raises(ConfigError, match="count = 0"):
        ThingsEvaluation(count=0)
    with pytest.raises(ConfigError, match="batch_size = 0"):
        ThingsEvaluation(batch_size=0)


def test_an_empty_category_is_refused(suite, monkeypatch):
    monkeypatch.setattr(suites, "style_held_out", lambda style, label: False)
    with pytest.raises(ConfigError, match="no prompt of the category 'held_out_style'"):
        suite_prompts(suite, ThingsEvaluation(categories=("held_out_style",)))
