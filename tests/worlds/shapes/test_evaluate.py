"""The suite of the shapes world: fixed prompts, a report with intervals, resuming after a stop."""

import json
import random

import pytest
import torch

from open_imagen.errors import ConfigError, UnknownName
from open_imagen.worlds.shapes.evaluate import (
    ALIGNMENT_CATEGORIES,
    ShapesEvaluation,
    alignment,
    evaluate_shapes,
)
from open_imagen.worlds.shapes.render import render
from open_imagen.worlds.shapes.scenes import (
    COLOR_SYNONYMS,
    SHAPE_SYNONYMS,
    UNSEEN_PAIRS,
    draw_layout,
)
from open_imagen.worlds.shapes.suite import CATEGORIES, make_items


def test_prompts_are_a_function_of_category_seed_and_number():
    for category in CATEGORIES:
        assert make_items(category, 5, 1) == make_items(category, 9, 1)[:5]
        assert make_items(category, 5, 1) != make_items(category, 5, 2)


def test_unseen_things_are_unseen_and_seen_things_seen():
    for item in make_items("unseen_pairs", 50, 0):
        assert (item.scene.kinds[0].color, item.scene.kinds[0].shape) in UNSEEN_PAIRS
    words = {*COLOR_SYNONYMS, *SHAPE_SYNONYMS}
    assert all(
        words & set(item.prompt.replace(",", "").split())
        for item in make_items("unseen_words", 50, 0)
    )
    for category in ("single", "two_objects", "position", "counting", "unseen_words"):
        for item in make_items(category, 200, 0):
            assert not {(k.color, k.shape) for k in item.scene.kinds} & UNSEEN_PAIRS


def test_a_report_counts_every_category(cascade):
    config = ShapesEvaluation(count=3, categories=("single", "color", "two_objects"), stages=1)
    progress = []
    report = evaluate_shapes(cascade, config, progress=lambda *t: progress.append(t))
    assert list(report["categories"]) == ["single", "color", "two_objects"]
    assert all(row["of"] == 3 for row in report["categories"].values())
    assert progress[-1] == ("two_objects", 6, 6)
    assert report["stages"] == 1
    assert report["settings"]["base"]["steps"] == 3


def test_verdicts_are_kept_and_a_stopped_evaluation_goes_on(cascade, tmp_path, monkeypatch):
    config = ShapesEvaluation(count=4, categories=("single", "size"), stages=1)
    whole = evaluate_shapes(cascade, config, out=tmp_path / "a")
    assert json.loads((tmp_path / "a" / "report.json").read_text()) == json.loads(json.dumps(whole))

    rows = (tmp_path / "a" / "rows.jsonl").read_text()
    (tmp_path / "b").mkdir()
    # header, the first set, and a line that a kill cut short
    (tmp_path / "b" / "rows.jsonl").write_text("\n".join(rows.split("\n")[:5]) + '\n{"set": "si')
    made = []
    generate = cascade.generate
    monkeypatch.setattr(cascade, "generate", lambda p, **k: made.extend(p) or generate(p, **k))
    assert evaluate_shapes(cascade, config, out=tmp_path / "b") == whole
    assert len(made) == 4
    assert (tmp_path / "b" / "rows.jsonl").read_text() == rows

    with pytest.raises(ConfigError, match="holds another evaluation"):
        evaluate_shapes(cascade, ShapesEvaluation(count=5, stages=1), out=tmp_path / "a")


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError):
        ShapesEvaluation(count=0)
    with pytest.raises(UnknownName) as caught:
        ShapesEvaluation(categories=("colour",))
    assert caught.value.hint == "Did you mean 'color'?"


def test_the_alignment_score_of_training_is_right_about_the_truth():
    score = alignment(count=3)

    def exact(prompts):
        items = {i.prompt: i for name in ALIGNMENT_CATEGORIES for i in make_items(name, 3, 1)}
        rng = random.Random(0)
        return render([draw_layout(items[prompt].scene, rng) for prompt in prompts], 128)

    def nothing(prompts):
        return torch.full((len(prompts), 3, 64, 64), 250, dtype=torch.uint8)

    assert score(exact) == dict.fromkeys(ALIGNMENT_CATEGORIES, 1.0)
    assert score(nothing) == dict.fromkeys(ALIGNMENT_CATEGORIES, 0.0)
