"""Wordings by hand, pairs that belong together, and drops against the plain wording."""

import random

import numpy as np
import pytest

from open_imagen.errors import DataError, UnknownName
from open_imagen.evaluation.suites.paraphrases import (
    PLAIN,
    WORDINGS,
    Judged,
    Meaning,
    drops,
    judged_rows,
    plain,
    wordings,
)
from open_imagen.evaluation.suites.runs import image_requests
from open_imagen.worlds.suites import open_suite

RELATED = Meaning(("a cat", "two dogs"), "above", "on a red background", absent="fox")
ONE, MANY = Meaning(("a cat",)), Meaning(("three cats",), several=True)


@pytest.mark.parametrize(
    "meaning,wording,text",
    [
        (RELATED, PLAIN, "a cat above two dogs on a red background"),
        (RELATED, "word order", "above two dogs is a cat on a red background"),
        (RELATED, "there is", "there is a cat above two dogs on a red background"),
        (RELATED, "passive", "a cat is placed above two dogs on a red background"),
        (RELATED, "plural", "two things, a cat above two dogs on a red background"),
        (RELATED, "digits", "a cat above 2 dogs on a red background"),
        (RELATED, "capitals", "A CAT ABOVE TWO DOGS ON A RED BACKGROUND"),
        (RELATED, "negation", "a cat above two dogs on a red background, but no fox"),
        (ONE, "word order", None),
        (ONE, "plural", None),
        (ONE, "negation", None),
        (ONE, "digits", "1 cat"),
        (ONE, "passive", "a cat is shown"),
        (ONE._replace(ground="on red"), "word order", "on red, a cat"),
        (MANY, "there is", "there are three cats"),
        (MANY, "passive", "three cats are shown"),
        (MANY, "plural", "a group of three cats"),
        (MANY, "digits", "3 cats"),
        (Meaning(("a cat", "a dog")), "word order", "a dog and a cat"),
        (Meaning(("a cat", "a dog")), "passive", "a cat is shown with a dog"),
        (Meaning(("a cat", "a dog")), "digits", None),
        (Meaning(("the moon",)), "digits", None),
    ],
)
def test_wordings_by_hand(meaning, wording, text):
    assert wordings(meaning, random.Random(0)).get(wording) == text


def test_politeness_keeps_the_prompt_and_adds_to_it():
    texts = {wordings(ONE, random.Random(k))["politeness"] for k in range(20)}
    assert len(texts) == 3
    assert all("a cat" in text for text in texts)


def test_a_typo_is_one_slip_in_a_word_of_an_object():
    meaning = Meaning(("three purple hexagons",), ground="on a white background", several=True)
    said = plain(meaning)
    for k in range(200):
        typed = wordings(meaning, random.Random(k))["typo"]
        changed = [(a, b) for a, b in zip(said.split(), typed.split(), strict=True) if a != b]
        [(before, after)] = changed
        assert before in ("purple", "hexagons")
        assert after[0] == before[0]
        assert abs(len(after) - len(before)) <= 1
        assert sorted(after) == sorted(before) or len(after) != len(before)
    assert "typo" not in wordings(ONE, random.Random(0))  # "cat" is too short to be read again


def test_all_wordings_of_a_scene_share_its_truth_and_its_noise(tmp_path):
    suite = open_suite("shapes:paraphrases", 3, seed=2)
    by_pair = {}
    for prompt in suite.prompts:
        by_pair.setdefault(prompt.metadata["pair"], []).append(prompt)
    assert len(by_pair) == 18
    seeds = {
        str(file): request.seed for file, request in image_requests(suite, tmp_path, 2, seed=10)
    }
    for pair, some in by_pair.items():
        assert some[0].category == PLAIN
        assert len({str(one.metadata["scene"]) for one in some}) == 1
        assert all(one.metadata["prompt"] == one.text for one in some)
        for one in some:
            number = suite.prompts.index(one)
            assert seeds[str(tmp_path / f"{number:05d}/samples/0001.png")] == 10 + 2 * pair + 1
    assert set(suite.categories) == {PLAIN, *WORDINGS}
    assert open_suite("shapes:paraphrases", 3, seed=2).prompts == suite.prompts
    with pytest.raises(UnknownName, match="paraphrase"):
        open_suite("shapes:paraphrase")


def test_drops_by_hand():
    judged = [Judged(PLAIN, k, 1.0) for k in range(4)]
    judged += [Judged("typo", k, float(k < 1)) for k in range(4)]
    judged += [Judged("digits", k, 1.0) for k in (0, 1)]
    found = drops(judged)
    assert (found["typo"].share.value, found["typo"].plain.value) == (25, 100)
    assert (found["typo"].drop.value, found["typo"].pairs) == (75, 4)
    assert found["digits"].pairs == 2
    assert found["digits"].plain.value == 100
    assert found["digits"].drop.value == 0
    assert found["digits"].drop.low < 0 < found["digits"].drop.high
    # Pair by pair: 0 has three rows that lose nothing, 1 has one of two, 2 and 3 lose all.
    assert found["all paraphrases"].drop.value == pytest.approx((0 + 50 + 100 + 100) / 4)


def test_the_interval_of_a_drop_is_paired_and_covers():
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(200):
        easy = rng.random(60) < 0.7  # scenes that are right in any words, mostly
        worse = easy & (rng.random(60) >= 0.2)
        rows = [Judged(PLAIN, k, float(v)) for k, v in enumerate(easy)]
        rows += [Judged("typo", k, float(v)) for k, v in enumerate(worse)]
        one = drops(rows)["typo"].drop
        covered += one.low <= 14.0 <= one.high
        widths.append(one.high - one.low)
    assert 180 <= covered <= 199
    # Unpaired, the interval of a difference of .7 and .56 over 60 is 34 points wide.
    assert np.mean(widths) < 22


def test_runs_without_paraphrases_are_refused():
    with pytest.raises(DataError, match="no paraphrases beside"):
        drops([Judged(PLAIN, 0, 1.0)])
    with pytest.raises(DataError, match="no paraphrases beside"):
        drops([Judged("typo", 0, 1.0)])
    with pytest.raises(DataError, match="are no paraphrases"):
        judged_rows([{"prompt": "a cat"}], [1.0])
