"""The comparison page: numbers that belong together, refusals by name, nothing from elsewhere."""

import json
import re

import pytest
from PIL import Image

from open_imagen.errors import ConfigError, DataError
from open_imagen.evaluation.comparison import category_table, compare_runs
from open_imagen.evaluation.comparison_page import write_comparison
from open_imagen.evaluation.human.study import Participation, create
from open_imagen.evaluation.human.votes import Store
from open_imagen.evaluation.image_set import open_images
from open_imagen.evaluation.metrics.scores import Protocol, Scorer, parse_measure
from open_imagen.evaluation.suites.runs import make_run
from open_imagen.worlds.suites import open_suite

EVIL = '"><script>alert(1)</script>'


class Flat:
    batch = 8

    def __init__(self, name, shade, side=24):
        self.name, self.shade, self.side = name, shade, side

    def record(self):
        return {"kind": "flat"}

    def draw(self, requests):
        return [
            Image.new("RGB", (self.side,) * 2, (self.shade, 20 * r.sample, 0)) for r in requests
        ]


@pytest.fixture
def made(tmp_path):
    suite = open_suite("shapes:single,background", 3)
    for k, name in enumerate(("one", "two", EVIL)):
        make_run(Flat(name, 80 * k), suite, tmp_path / f"run{k}", 2)
    return [tmp_path / f"run{k}" for k in range(3)]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))


def record(run, folder, measure="kid:pixels", size=None):
    scorer = Scorer(Protocol(size=size), run)
    found = scorer.measure(parse_measure(measure), open_images(run))
    folder.mkdir(exist_ok=True)
    (folder / f"{len(list(folder.iterdir()))}.json").write_text(json.dumps(found))
    return found


def test_numbers_of_the_same_images_stand_side_by_side(made, tmp_path):
    scores = tmp_path / "scores"
    values = {}
    for k, name in enumerate(("one", "two")):
        scorer = Scorer(Protocol(), made[0])
        found = scorer.measure(parse_measure("kid:pixels"), open_images(made[k]))
        scores.mkdir(exist_ok=True)
        (scores / f"{k}.json").write_text(json.dumps(found))
        values[name] = found["value"]
    (scores / "notes.json").write_text("[1]")
    found = compare_runs(made, [scores])
    rows = {row.label: row for row in found.measures}
    kid = rows["kernel distance (pixels)"]
    assert {n: one["value"] for n, one in kid.values.items()} == values
    assert not kid.higher_is_better
    assert set(rows["alignment, percent right (judge of the world)"].values) == {"one", "two", EVIL}
    assert rows["diversity of pixels (RMS difference)"].values["one"]["value"] > 0
    [table] = found.categories
    assert set(table.rows) == {"single", "background"}
    assert found.timings["one"].images == 12
    write_comparison(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert EVIL not in page
    assert set(re.findall(r'(?:src|href)="(\w+)[:/]', page)) == {"data"}
    assert page.count("<img") == 3 * 2 * 2 * 2  # systems, categories, prompts, images
    assert "kernel distance (pixels) &darr;" in page


def test_costs_follow_from_times_and_prices(made, tmp_path):
    timing = [{"images": 9, "seconds": 18.0, "device": "X"}, {"images": 1, "seconds": 2.0}]
    lines = [json.dumps(row) for row in timing]
    (made[0] / "timing.jsonl").write_text(lines[0] + "\n" + lines[1][:9])
    found = compare_runs(made, prices={"": 1.0, "one": 9.0})
    assert found.prices == {"one": 9.0, "two": 1.0, EVIL: 1.0}
    write_comparison(found, tmp_path / "page.html")
    # Two seconds an image: 1,000 images are 0.5556 hours.
    assert "<td>5.000</td>" in (tmp_path / "page.html").read_text()
    with pytest.raises(ConfigError, match="--price names 'three'"):
        compare_runs(made, prices={"three": 1.0})


def test_unlike_protocols_are_refused_by_name(made, tmp_path):
    scores = tmp_path / "scores"
    record(made[0], scores)
    record(made[1], scores, size=16)
    with pytest.raises(DataError, match=r"kid:pixels of one and of two .* protocol\.size = "):
        compare_runs(made[:2], [scores])
    with pytest.raises(DataError, match="no folder"):
        compare_runs(made[:2], [tmp_path / "nowhere"])


def test_two_protocols_that_all_systems_have_are_two_rows(made, tmp_path):
    reference, scores = made[2], tmp_path / "scores"
    scores.mkdir()
    for k, run in enumerate(made[:2]):
        for size in (None, 16):
            found = Scorer(Protocol(size=size), reference).measure(
                parse_measure("kid:pixels"), open_images(run)
            )
            (scores / f"{k}-{size}.json").write_text(json.dumps(found))
    rows = [row for row in compare_runs(made[:2], [scores]).measures if "kernel" in row.label]
    assert [len(row.values) for row in rows] == [2, 2]


def test_unlike_prompts_sizes_and_folders_are_refused_by_name(made, tmp_path):
    with pytest.raises(ConfigError, match="two runs at least"):
        compare_runs(made[:1])
    other = open_suite("shapes:counting", 3)
    make_run(Flat("x", 1), other, tmp_path / "other", 2)
    with pytest.raises(DataError, match=r"run0 and .*other have different prompts"):
        compare_runs([made[0], tmp_path / "other"])
    same = open_suite("shapes:single,background", 3)
    make_run(Flat("x", 1), same, tmp_path / "more", 3)
    with pytest.raises(DataError, match="different images per prompt"):
        compare_runs([made[0], tmp_path / "more"])
    make_run(Flat("large", 1, side=32), same, tmp_path / "large", 2)
    with pytest.raises(DataError, match=r"one has 24x24 .* large has 32x32"):
        compare_runs([made[0], tmp_path / "large"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty is not a run"):
        compare_runs([made[0], tmp_path / "empty"])
    with pytest.raises(DataError, match="nowhere is no folder"):
        compare_runs([made[0], tmp_path / "nowhere"])
    (made[1] / "00001/samples/0000.png").unlink()
    with pytest.raises(DataError, match="not finished"):
        compare_runs(made[:2])
    with pytest.raises(ConfigError, match="named twice"):
        compare_runs([made[0], made[0], made[0]])


def test_ratings_of_the_same_runs_are_shown_and_others_refused(made, tmp_path):
    terms = Participation(raters_per_part={}, parts_per_rater=0, controls=False, min_controls=None)
    study = create(tmp_path / "study", made[:2], "drawbench", participation=terms)
    with pytest.raises(DataError, match="no votes yet"):
        compare_runs(made[:2], study=study.folder)
    store = Store(study)
    for _ in range(2):
        rater, _ = store.join()
        for trial in store.order(rater):
            store.cast(rater, trial, {"quality": "one", "alignment": "tie"}, 9)
    store.close()
    write_comparison(compare_runs(made[:2], study=study.folder), tmp_path / "page.html")
    assert "Which set of images is of higher quality?" in (tmp_path / "page.html").read_text()
    with pytest.raises(DataError, match="is of two too"):
        compare_runs([made[0], made[2]], study=study.folder)


def test_differences_by_category_are_paired():
    values = {"a": [0, 100, 0, 100], "b": [100, 100, 0, 100], "c": [0, 100, 0, 100]}
    table = category_table("t", values, ["x", "x", "y", "y"], [0, 1, 2, 3])
    assert table.rows["x"]["a"].value == 50
    assert table.differences["x"]["b"].value == 50
    # No pair differs, of two: Wilson's interval of 0 of 2 reaches to 65.8 %.
    assert table.differences["y"]["b"] == pytest.approx((0, -65.76, 65.76), abs=0.01)
    assert table.differences["x"]["c"] == table.differences["y"]["b"]
    assert table.rows["x"]["b"] == pytest.approx((100, 34.24, 100), abs=0.01)
