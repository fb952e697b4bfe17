"""Who rates what: the paper's quotas, places, controls, warnings; and pairs drawn for COCO."""

import json
import time
import warnings

import pytest
from PIL import Image

from open_imagen.errors import ConfigError, DataError, OpenImagenWarning
from open_imagen.evaluation.human import votes as votes_module
from open_imagen.evaluation.human.people import WORDS, names_people
from open_imagen.evaluation.human.report import report, write_report
from open_imagen.evaluation.human.sampling import sample_pairs
from open_imagen.evaluation.human.study import (
    FILE,
    PROTOCOLS,
    Participation,
    create,
    open_study,
    right_answer,
)
from open_imagen.evaluation.human.votes import Store
from open_imagen.evaluation.suites.prompts import Suite, plain_prompt
from open_imagen.evaluation.suites.runs import make_run


class Flat:
    batch = 8

    def __init__(self, name, shade):
        self.name, self.shade = name, shade

    def record(self):
        return {"kind": "flat"}

    def draw(self, requests):
        return [Image.new("RGB", (8, 8), self.shade) for _ in requests]


@pytest.fixture
def runs(tmp_path):
    rows = [("a fox", "animals"), ("a man", "animals"), ("a cup", "things"), ("a hat", "things")]
    suite = Suite("s", tuple(plain_prompt(*row) for row in rows))
    for name, shade in (("one", (9, 9, 9)), ("two", (200, 0, 0))):
        make_run(Flat(name, shade), suite, tmp_path / name, 1)
    return [tmp_path / "one", tmp_path / "two"]


def terms(**changes):
    values = {"raters_per_part": {"pair": 2}, "parts_per_rater": 1, "controls": False}
    return Participation(**{**values, "min_controls": None, **changes})


def opened(runs, folder, protocol="drawbench", **changes):
    reference = runs[1] if protocol == "coco" else None
    chosen = runs[:1] if protocol == "coco" else runs
    return Store(create(folder, chosen, protocol, reference, participation=terms(**changes)))


def vote(store, rater, trials, choice="one"):
    for trial in trials:
        answer = right_answer(trial) if trial.control else choice
        store.cast(rater, trial, {"quality": answer, "alignment": answer}, 100)


def test_the_protocols_are_the_papers(runs, tmp_path):
    drawbench, coco = PROTOCOLS["drawbench"], PROTOCOLS["coco"]
    assert drawbench.raters_per_part == {"pair": 25}
    assert (drawbench.parts_per_rater, drawbench.min_controls) == (1, None)
    assert coco.raters_per_part == {"photorealism": 73, "caption": 51}
    assert (coco.controls, coco.min_controls) == (True, 0.8)
    study = create(tmp_path / "s", runs, "drawbench")
    assert not any(trial.control for trial in study.trials.values())
    assert open_study(study.folder).participation == drawbench


def test_each_category_gets_as_many_raters_as_its_quota_and_no_more(runs, tmp_path):
    store = opened(runs, tmp_path / "s")
    parts = []
    for _ in range(4):
        rater, _ = store.join()
        trials = store.order(rater)
        assert len(trials) == 2
        assert store.order(rater) == trials
        vote(store, rater, trials)
        assert store.order(rater) == trials  # one category each, and no further one
        parts.append(trials[0].part)
    assert sorted(parts) == ["animals", "animals", "things", "things"]
    late, _ = store.join()
    assert store.order(late) == []
    found = report(store)
    assert found["quotas"]["animals"] == {"raters": 2, "asked": 2}
    store.close()


def test_a_rater_may_go_through_all_open_categories_one_after_the_other(runs, tmp_path):
    store = opened(runs, tmp_path / "s", parts_per_rater=0, raters_per_part={"pair": 1})
    rater, _ = store.join()
    first = store.order(rater)
    vote(store, rater, first[:1])
    assert store.order(rater) == first
    vote(store, rater, first)
    both = store.order(rater)
    assert both[:2] == first
    assert len({trial.part for trial in both}) == 2
    store.close()


def test_a_place_of_a_rater_who_leaves_is_given_away_after_a_while(runs, tmp_path, monkeypatch):
    store = opened(runs, tmp_path / "s", raters_per_part={"pair": 1})
    for _ in range(2):
        rater, _ = store.join()
        vote(store, rater, store.order(rater)[:1])
    assert store.order(store.join()[0]) == []
    later = time.time() + votes_module.HOLD_SECONDS + 1
    monkeypatch.setattr(votes_module.time, "time", lambda: later)
    assert len(store.order(store.join()[0])) == 2
    store.close()


def test_who_fails_the_controls_of_coco_does_not_fill_a_quota(runs, tmp_path):
    quotas = {"photorealism": 1, "caption": 1}
    store = opened(
        runs,
        tmp_path / "s",
        "coco",
        raters_per_part=quotas,
        parts_per_rater=0,
        controls=True,
        min_controls=0.8,
    )
    careless, _ = store.join()
    for trial in store.order(careless):
        wrong = "yes" if trial.kind == "caption" else trial.systems[-1]
        store.cast(careless, trial, {trial.kind: wrong}, 5)
    first = store.order(careless)[0].part
    careful, _ = store.join()
    seen = set()
    for _ in range(2):
        trials = store.order(careful)
        seen |= {trial.part for trial in trials}
        for trial in trials:
            right = right_answer(trial) if trial.control else trial.systems[0]
            answer = right if trial.kind != "caption" else "no"
            store.cast(careful, trial, {trial.kind: answer}, 5)
    assert first in seen
    with pytest.warns(OpenImagenWarning, match="Only one rater"):
        found = report(store)
    assert found["raters_left_out"] == ["r0001"]
    store.close()


def test_drawbench_leaves_nobody_out_even_with_controls(runs, tmp_path):
    store = opened(runs, tmp_path / "s", controls=True, parts_per_rater=0, raters_per_part={})
    for _ in range(2):
        rater, _ = store.join()
        for trial in store.order(rater):
            wrong = trial.systems[-1]
            store.cast(rater, trial, {"quality": wrong, "alignment": wrong}, 5)
    assert report(store)["raters_left_out"] == []
    with pytest.raises(DataError, match="2 raters failed"):
        report(store, 0.8)
    page = tmp_path / "r.html"
    write_report(report(store), page)
    assert "none left out" in page.read_text()
    store.close()


def test_a_single_rater_is_warned_of(runs, tmp_path):
    store = opened(runs, tmp_path / "s", parts_per_rater=0)
    rater, _ = store.join()
    vote(store, rater, store.order(rater))
    vote(store, rater, store.order(rater))
    with pytest.warns(OpenImagenWarning, match="one rater has judged animals, things"):
        found = report(store)
    write_report(found, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "One rater alone" in text
    assert "Fewer raters than the protocol asks for (2)" in text
    other, _ = store.join()
    vote(store, other, store.order(other))
    vote(store, other, store.order(other), "two")
    with warnings.catch_warnings():
        warnings.simplefilter("error", OpenImagenWarning)
        report(store)
    store.close()


def test_a_study_of_the_first_format_keeps_its_controls(runs, tmp_path):
    study = create(tmp_path / "s", runs, "drawbench", participation=terms(controls=True))
    record = json.loads((study.folder / FILE).read_text())
    record["format"] = 1
    del record["participation"]
    (study.folder / FILE).write_text(json.dumps(record))
    again = open_study(study.folder)
    assert again.trials == study.trials
    assert not again.participation.raters_per_part
    record["format"] = 2
    (study.folder / FILE).write_text(json.dumps(record))
    with pytest.raises(DataError, match="is not a study"):
        open_study(study.folder)


def test_the_subset_without_people_has_shares_of_its_own(runs, tmp_path):
    store = opened(runs, tmp_path / "s", "coco", raters_per_part={}, parts_per_rater=0)
    for _ in range(2):
        rater, _ = store.join()
        for trial in store.order(rater):
            people = names_people(store.study.prompts[trial.prompt]["prompt"])
            pick = trial.systems[0] if people else trial.systems[-1]
            answer = ("no" if people else "yes") if trial.kind == "caption" else pick
            store.cast(rater, trial, {trial.kind: answer}, 5)
    questions = report(store)["questions"]
    [pair] = questions["photorealism"]["pairs"].values()
    assert pair["a"]["value"] == 1 / 4
    assert pair["categories"]["no people"]["a"]["value"] == 0
    assert pair["categories"]["no people"]["votes"] == 6
    captions = questions["caption"]["systems"]
    assert captions["one"]["value"] == 75
    assert captions["one, no people"]["value"] == 100
    store.close()


def test_people_are_named_by_whole_words_of_the_papers_list():
    assert all(names_people(f"One {word.title()}, here") for word in WORDS)
    for caption in ("a mannequin", "a womanly hat", "childish", "a personal car", "a cowboy hat"):
        assert not names_people(caption)
    assert names_people("A baseball player.")


def test_negative_quotas_are_refused():
    with pytest.raises(ConfigError, match="pair = -1"):
        terms(raters_per_part={"pair": -1})


@pytest.fixture
def coco(tmp_path):
    folder = tmp_path / "val2014"
    folder.mkdir()
    images, annotations = [], []
    for k in range(12):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / f"image{k}.png")
        images.append({"id": k, "file_name": f"image{k}.png"})
        for n in range(2):
            who = "a man" if k % 3 == 0 else "a dog"
            annotations.append({"image_id": k, "caption": f"{who} {k} {n} "})
    file = tmp_path / "captions.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    return file, folder


def test_pairs_are_drawn_once_each_and_kept_with_their_images(coco, tmp_path):
    file, folder = coco
    pairs = sample_pairs(file, tmp_path / "out", folder, count=7, seed=4)
    assert len({pair.image for pair in pairs}) == 7
    rows = [json.loads(line) for line in (tmp_path / "out/prompts.jsonl").read_text().splitlines()]
    for number, (pair, row) in enumerate(zip(pairs, rows, strict=True)):
        assert row["prompt"] == pair.caption
        assert f" {pair.image.stem.removeprefix('image')} " in pair.caption
        copy = tmp_path / "out/images" / f"{number:05d}.png"
        assert copy.read_bytes() == pair.image.read_bytes()
        assert copy.with_suffix(".txt").read_text().strip() == pair.caption
    assert sample_pairs(file, tmp_path / "again", folder, 7, seed=4) == pairs
    assert sample_pairs(file, tmp_path / "other", folder, 7, seed=5) != pairs
    without = sample_pairs(file, tmp_path / "nobody", folder, 8, no_people=True)
    assert all("dog" in pair.caption for pair in without)


def test_pairs_that_cannot_be_drawn_are_refused(coco, tmp_path):
    file, folder = coco
    with pytest.raises(ConfigError, match="12 pairs; --count 13"):
        sample_pairs(file, tmp_path / "out", folder, 13)
    with pytest.raises(ConfigError, match="8 pairs whose caption names no people"):
        sample_pairs(file, tmp_path / "out", folder, 9, no_people=True)
    with pytest.raises(ConfigError, match="need the folder of their images"):
        sample_pairs(file, tmp_path / "out")
    with pytest.raises(ConfigError, match="not an empty folder"):
        sample_pairs(file, folder, folder, 3)
    with pytest.raises(ConfigError, match="count = 0"):
        sample_pairs(file, tmp_path / "out", folder, 0)
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(DataError, match="not a file of COCO captions"):
        sample_pairs(tmp_path / "bad.json", tmp_path / "out", folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no captioned images"):
        sample_pairs(tmp_path / "empty", tmp_path / "out")
    (folder / "image3.png").unlink()
    with pytest.raises(DataError, match=r"image3\.png of .* is missing"):
        sample_pairs(file, tmp_path / "out", folder, 12)
