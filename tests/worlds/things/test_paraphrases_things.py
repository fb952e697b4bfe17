"""Scenes of the things world in other words: one truth, one noise, a paired drop."""

import pytest

from open_imagen.cascade.cascade import Cascade
from open_imagen.errors import ConfigError
from open_imagen.evaluation.suites.paraphrases import PLAIN, WORDINGS
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.evaluate import ThingsEvaluation, evaluate_things
from open_imagen.worlds.things.paraphrases import PARAPHRASED, paraphrase_prompts
from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.suite import Suite
from standins import make_cascade, make_stages
from things_judging import ATLAS, make_judge

SUITE = Suite(Catalog(ATLAS.things, ATLAS.sprites, colors=tuple(COLORS), held_out=True))


def test_all_wordings_of_a_scene_have_its_truth():
    prompts = paraphrase_prompts(SUITE, 4, 1)
    assert set(prompts) == {PLAIN, *WORDINGS}
    truths = {one.pair: one.truth for one in prompts[PLAIN]}
    assert {one.parts["category"] for one in prompts[PLAIN]} == set(PARAPHRASED)
    for wording, some in prompts.items():
        for one in some:
            assert one.category == wording
            assert one.truth == truths[one.pair]
    counted = [one for one in prompts[PLAIN] if one.parts["category"] == "counting"]
    assert all(one.text.split()[0] in ("two", "three", "four", "five") for one in counted)
    placed = [one for one in prompts[PLAIN] if one.parts["category"] == "place"]
    assert all(
        any(words in one.text for words in ("to the left of", "to the right of", "above", "below"))
        for one in placed
    )
    assert paraphrase_prompts(SUITE, 4, 1) == prompts
    with pytest.raises(ConfigError, match="'style' cannot be paraphrased"):
        paraphrase_prompts(SUITE, 4, 1, ["style"])


def test_wordings_start_from_one_noise_and_the_report_has_drops(monkeypatch):
    cascade = make_cascade(make_stages(image_channels=4))
    seeds = {}
    generate = Cascade.generate

    def noted(self, prompts, *args, seed, **kwargs):
        seeds.update(zip(prompts, seed, strict=True))
        return generate(self, prompts, *args, seed=seed, **kwargs)

    monkeypatch.setattr(Cascade, "generate", noted)
    prompts = paraphrase_prompts(SUITE, 1, 1, ["label", "place"])
    prompts = {name: prompts[name] for name in (PLAIN, "plural", "capitals")}
    config = ThingsEvaluation(count=1, stages=1)
    report = evaluate_things(cascade, prompts, make_judge(), config)
    for some in prompts.values():
        for one in some:
            assert seeds[one.text] == 1_000_000 + one.pair
    assert report["paraphrases"]["capitals"]["pairs"] == 2
    assert report["paraphrases"]["plural"]["pairs"] == 1
    assert report["paraphrases"]["capitals"]["drop"]["value"] == 0
