"""Running the suite: images, judgements, intervals, and going on after a stop."""

import json

import pytest
import torch

from open_imagen.cascade.cascade import Cascade
from open_imagen.errors import ConfigError
from open_imagen.worlds.things.catalog import Catalog
from open_imagen.worlds.things.evaluate import (
    ThingsEvaluation,
    evaluate_things,
    look,
    share,
    suite_prompts,
    things_scores,
)
from open_imagen.worlds.things.judge import Judge
from open_imagen.worlds.things.scenes import COLORS
from open_imagen.worlds.things.suite import ExpectedScene, Prompt, Suite, Truth
from standins import make_cascade, make_stages
from things_judging import ATLAS, Nearest, make_judge, picture, placed

SUITE = Suite(Catalog(ATLAS.things, ATLAS.sprites, colors=tuple(COLORS), held_out=True))
CONFIG = ThingsEvaluation(count=3, categories=("label", "place"), stages=1)
PROMPTS = suite_prompts(SUITE, CONFIG)
JUDGE = make_judge()


@pytest.fixture
def cascade():
    """A model with alpha."""
    stages = make_stages(image_channels=4)
    return make_cascade(stages)


@pytest.fixture
def drawn(monkeypatch):
    """The prompts that models draw."""
    texts = []
    generate = Cascade.generate

    def counted(self, prompts, *args, **kwargs):
        texts.extend(prompts)
        return generate(self, prompts, *args, **kwargs)

    monkeypatch.setattr(Cascade, "generate", counted)
    return texts


def test_a_report_has_intervals_parts_and_the_judges_accuracy(cascade, tmp_path):
    report = evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "e")
    label, place = (report["categories"][name] for name in ("label", "place"))
    assert (label["of"], label["right"], label["low"]) == (3, 0, 0)
    assert label["high"] == pytest.approx(0.5615, abs=1e-3)
    assert label["judge"]["accepted"] == 0.99
    assert place["judge"] is None
    assert place["of_present"] is None
    assert set(place["parts"]["wording"]) == {one.parts["wording"] for one in PROMPTS["place"]}
    assert report["model_hash"] == "unsaved"
    assert report["settings"]["base"]["steps"] == 3
    assert json.loads((tmp_path / "e" / "report.json").read_text()) == report
    assert len(list((tmp_path / "e" / "images").rglob("*.png"))) == 6


def test_a_stopped_evaluation_goes_on(cascade, tmp_path, drawn):
    whole = evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "a")
    drawn.clear()

    def stop(name, done, total):
        if name == "label":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "b", progress=stop)
    [rows] = (tmp_path / "b").glob("judgements-*.jsonl")
    text = rows.read_text()
    rows.write_text(text[: len(text) - 20])  # cut short in the last line
    resumed = evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "b")
    assert sorted(drawn) == sorted(one.text for some in PROMPTS.values() for one in some)
    assert resumed == whole


def test_a_finished_evaluation_draws_and_looks_no_more(cascade, tmp_path, drawn):
    eye = Judge(Nearest())
    first = evaluate_things(cascade, PROMPTS, eye, CONFIG, out=tmp_path / "e")
    drawn.clear()
    looked = eye.classifier.looked
    assert evaluate_things(cascade, PROMPTS, eye, CONFIG, out=tmp_path / "e") == first
    assert not drawn
    assert eye.classifier.looked == looked


def test_another_judge_looks_at_the_same_images(cascade, tmp_path, drawn):
    evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "e")
    drawn.clear()
    stricter = make_judge()
    stricter.sure = type(stricter.sure)(probability=0.9)
    report = evaluate_things(cascade, PROMPTS, stricter, CONFIG, out=tmp_path / "e")
    assert report["judge"]["sure"]["probability"] == 0.9
    assert not drawn
    assert len(list((tmp_path / "e").glob("judgements-*.jsonl"))) == 2


def test_a_damaged_or_foreign_image_is_drawn_again(cascade, tmp_path, drawn):
    evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "e")
    [rows] = (tmp_path / "e").glob("judgements-*.jsonl")
    rows.unlink()
    images = sorted((tmp_path / "e" / "images" / "label").iterdir())
    images[0].write_bytes(b"nothing")
    images[2].replace(images[1])
    drawn.clear()
    evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "e")
    assert drawn == [one.text for one in PROMPTS["label"]]


def test_another_run_in_the_folder_is_refused(cascade, tmp_path):
    evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "e")
    other = ThingsEvaluation(count=3, categories=("label",), stages=1, seed=2)
    with pytest.raises(ConfigError, match="another evaluation"):
        evaluate_things(cascade, PROMPTS, JUDGE, other, out=tmp_path / "e")
    (tmp_path / "e" / "run.json").write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        evaluate_things(cascade, PROMPTS, JUDGE, CONFIG, out=tmp_path / "e")


def test_models_without_alpha_are_judged_as_well(tmp_path):
    cascade = make_cascade()
    config = ThingsEvaluation(count=1, categories=("transparency", "label"), stages=1)
    report = evaluate_things(
        cascade, suite_prompts(SUITE, config), JUDGE, config, out=tmp_path / "e"
    )
    assert report["categories"]["transparency"]["right"] == 0


def test_what_is_right_is_counted_and_given_among_what_is_present():
    places = [placed("cat", 0.25, 0.5, 0.2), placed("dog", 0.75, 0.5, 0.2)]
    images = torch.cat([picture(*places), picture(*places), picture(places[0])])
    wanted = (ExpectedScene(("cat",)), ExpectedScene(("dog",)))
    prompts = [
        Prompt("place", "x", Truth(wanted, relation)) for relation in ("left of", "above", "above")
    ]
    rows = look(JUDGE, images, prompts)
    assert [row["right"] for row in rows] == [True, False, False]
    assert [row["present"] for row in rows] == [True, True, False]
    assert rows[2]["found"][0]["name"] == "cat"


def test_intervals_are_wilsons():
    assert share([True] * 8 + [False] * 2) == {
        "right": 8,
        "of": 10,
        "share": 0.8,
        "low": pytest.approx(0.4902, abs=1e-4),
        "high": pytest.approx(0.9433, abs=1e-4),
    }


def test_a_trainer_can_watch_scores():
    by_text = {
        one.text: picture(placed(one.truth.wanted[0].names[0])) for one in SUITE.prompts("label", 8)
    }

    def draw(texts):
        return torch.cat([by_text[text] for text in texts])

    scores = things_scores(draw, SUITE, JUDGE, count=8, categories=("label",))
    assert scores == {"label": 1.0}
