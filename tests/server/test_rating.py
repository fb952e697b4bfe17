"""Rating: the page in a browser, blindness, votes once, and reports equal to a count by hand."""

import csv
import io
import json
import os
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from open_imagen.errors import ConfigError, DataError
from open_imagen.evaluation.human.ratings import Votes, mean_intervals
from open_imagen.evaluation.human.report import report, write_report
from open_imagen.evaluation.human.study import (
    NOISE,
    Participation,
    create,
    open_study,
    right_answer,
)
from open_imagen.evaluation.human.votes import Store
from open_imagen.evaluation.suites.runs import make_run
from open_imagen.server.rating_app import make_app
from open_imagen.worlds.suites import open_suite
from server.browser import chromium, served

SHADES = {"alpha": (200, 40, 40), "beta": (40, 40, 200), "gamma": (40, 160, 60)}
OPEN = Participation(raters_per_part={}, parts_per_rater=0, controls=True, min_controls=0.8)
EVIL = '<img src=x onerror="document.title=1"> & "quotes"'


class Flat:
    """A system whose pictures are all of one colour, so that a test can tell them apart."""

    batch = 8

    def __init__(self, name):
        self.name = name

    def record(self):
        return {"kind": "flat"}

    def draw(self, requests):
        return [Image.new("RGB", (24, 24), SHADES[self.name]) for _ in requests]


@pytest.fixture
def runs(tmp_path):
    file = tmp_path / "suite.csv"
    rows = [("a fox", "animals"), (EVIL, "animals"), ("a hen", "animals"), ("a red hat", "things")]
    with file.open("w", newline="") as text:
        csv.writer(text).writerows([("Prompt", "Category"), *rows, ("a blue cup", "things")])
    suite = open_suite(str(file))
    for name in SHADES:
        make_run(Flat(name), suite, tmp_path / name, 8)
    return {name: tmp_path / name for name in SHADES}


@pytest.fixture
def study(runs, tmp_path):
    return create(
        tmp_path / "study", [runs["alpha"], runs["beta"]], "drawbench", seed=3, participation=OPEN
    )


@pytest.fixture
def store(study):
    opened = Store(study)
    yield opened
    opened.close()


def test_a_study_has_every_pair_once_and_controls_in_each_part(study, runs, tmp_path):
    real = [t for t in study.trials.values() if not t.control]
    assert [t.prompt for t in real] == [0, 1, 2, 3, 4]
    assert all(t.systems == ("alpha", "beta") for t in real)
    for part in study.parts.values():
        assert sum(t.control for t in part) == 1
        assert all(t.systems[1] == NOISE for t in part if t.control)
    three = create(tmp_path / "three", list(runs.values()), "drawbench", participation=OPEN)
    assert sum(not t.control for t in three.trials.values()) == 5 * 3
    again = open_study(study.folder)
    assert (again.trials, again.images) == (study.trials, study.images)


def test_orders_and_sides_differ_between_raters_and_stay_for_each(study):
    parts = list(study.parts)
    orders = {tuple(t.id for t in study.order(f"r{k}", parts)) for k in range(30)}
    assert len(orders) > 10
    assert study.order("r1", parts) == study.order("r1", parts)
    flips = [study.flipped(f"r{k}", t) for k in range(100) for t in study.trials.values()]
    assert 0.42 < sum(flips) / len(flips) < 0.58


def test_the_coco_protocol_asks_of_model_and_reference(runs, tmp_path):
    study = create(tmp_path / "coco", [runs["alpha"]], "coco", runs["beta"])
    kinds = [(t.kind, t.systems) for t in study.trials.values() if not t.control]
    assert kinds.count(("photorealism", ("alpha", "beta"))) == 5
    assert kinds.count(("caption", ("alpha",))) == kinds.count(("caption", ("beta",))) == 5
    controls = [t for t in study.trials.values() if t.control]
    assert {right_answer(t) for t in controls} == {"beta", "no"}
    assert study.images_per_side == 1


def judge(url, prefer, pause=None):
    """A rater over HTTP who answers by the colour that is seen; the number of trials judged."""
    with httpx.Client(base_url=url, timeout=30) as client:
        token = client.post("/api/raters").json()["token"]
        client.headers["X-Rater"] = token
        state, count = client.get("/api/trial").json(), 0
        while not state["finished"]:
            if pause is not None and count == pause:
                return token
            seen = [looked(client, side[0]) for side in state["sides"]]
            answers = {q["id"]: prefer(seen, q["id"], state) for q in state["questions"]}
            body = {"trial": state["trial"], "answers": answers, "ms": 900}
            answer = client.post("/api/votes", json=body)
            assert answer.status_code == 200, answer.text
            state, count = answer.json(), count + 1
        return count


def looked(client, address):
    """Which system made a picture, as a rater with an eye for colours sees it."""
    pixels = np.asarray(Image.open(io.BytesIO(client.get(address).content)))
    if pixels.std(axis=(0, 1)).max() > 30:
        return NOISE
    return min(SHADES, key=lambda name: np.abs(pixels[0, 0] - np.array(SHADES[name])).sum())


def prefers(name):
    def answer(seen, question, state):
        if question == "caption":
            return "no" if seen == [NOISE] else "yes" if seen == [name] else "somewhat"
        if NOISE in seen:
            return ("left", "right")[1 - seen.index(NOISE)]
        return ("left", "right")[seen.index(name)] if question != "alignment" else "tie"

    return answer


def test_raters_at_the_same_time_and_a_report_equal_to_a_hand_count(store, tmp_path):
    with served(make_app(store)) as url, ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda name: judge(url, prefers(name)), ["alpha"] * 3 + ["beta"]))
    assert counts == [7, 7, 7, 7]
    found = report(store)
    quality = found["questions"]["quality"]["pairs"]["alpha | beta"]
    assert (quality["votes"], quality["a"]["value"], quality["b"]["value"]) == (20, 0.75, 0.25)
    assert found["questions"]["alignment"]["pairs"]["alpha | beta"]["tie"]["value"] == 1.0
    assert {n: c["votes"] for n, c in quality["categories"].items()} == {"animals": 12, "things": 8}
    assert found["raters_left_out"] == []
    assert all(c == {"right": 4, "of": 4} for c in found["controls"].values())
    rows = list(csv.DictReader(io.StringIO(store.to_csv())))
    assert len(rows) == 4 * 7 * 2
    by_hand = [r["choice"] for r in rows if r["question"] == "quality" and r["control"] == "0"]
    assert (by_hand.count("alpha"), by_hand.count("beta")) == (15, 5)
    assert {r["left"] for r in rows if r["control"] == "0"} == {"alpha", "beta"}
    write_report(found, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "75.0 %" in page
    assert "src=" not in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.filterwarnings("ignore:Only one rater")
def test_raters_who_fail_controls_are_left_out_and_counted(store):
    def careless(seen, question, state):
        return "left"

    with served(make_app(store)) as url:
        judge(url, prefers("alpha"))
        for _ in range(6):  # some of these are right by luck
            judge(url, careless)
    found = report(store, 1.0)
    assert 1 <= len(found["raters_left_out"]) <= 6
    assert "r0001" not in found["raters_left_out"]
    kept = found["raters"] - len(found["raters_left_out"])
    assert found["questions"]["quality"]["pairs"]["alpha | beta"]["votes"] == 5 * kept
    assert report(store, 0.0)["raters_left_out"] == []
    with pytest.raises(ConfigError, match="between 0 and 1"):
        report(store, 2.0)


@pytest.mark.filterwarnings("ignore:Only one rater")
def test_the_coco_report_scores_captions_0_50_100(runs, tmp_path):
    store = Store(create(tmp_path / "coco", [runs["alpha"]], "coco", runs["beta"]))
    with served(make_app(store)) as url:
        assert judge(url, prefers("beta")) == 17
    found = report(store)
    systems = found["questions"]["caption"]["systems"]
    assert (systems["alpha"]["value"], systems["beta"]["value"]) == (50, 100)
    pair = found["questions"]["photorealism"]["pairs"]["alpha | beta"]
    assert (pair["votes"], pair["a"]["value"]) == (5, 0.0)
    store.close()


def test_three_systems_have_strengths_in_their_order(runs, tmp_path):
    store = Store(create(tmp_path / "three", list(runs.values()), "drawbench", participation=OPEN))
    rng = random.Random(0)
    worth = {"alpha": 4.0, "beta": 1.0, "gamma": 2.0}

    def by_worth(seen, question, state):
        if NOISE in seen:
            return ("left", "right")[1 - seen.index(NOISE)]
        return rng.choices(("left", "right"), [worth[name] for name in seen])[0]

    with served(make_app(store)) as url:
        for _ in range(6):
            judge(url, by_worth)
    strengths = report(store)["questions"]["quality"]["strengths"]
    assert sorted(strengths, key=lambda n: strengths[n]["value"]) == ["beta", "gamma", "alpha"]
    for one in strengths.values():
        assert one["low"] < one["value"] < one["high"]
    store.close()


def test_known_preferences_of_simulated_raters_are_recovered():
    rng = np.random.default_rng(5)
    truth = 0.7
    p, r = (x.ravel() for x in np.meshgrid(range(200), range(25), indexing="ij"))
    values = (rng.random(len(p)) < truth)[:, None].astype(float)
    [found] = mean_intervals(Votes(list(p), list(r), values))
    assert found.low < truth < found.high
    assert found.high - found.low < 0.06


def test_a_vote_posted_twice_counts_once_and_the_last_answer_holds(store):
    with served(make_app(store)) as url, httpx.Client(base_url=url) as client:
        client.headers["X-Rater"] = client.post("/api/raters").json()["token"]
        state = client.get("/api/trial").json()
        body = {"trial": state["trial"], "answers": {"quality": "left", "alignment": "tie"}}
        for _ in range(3):
            assert client.post("/api/votes", json=body).status_code == 200
        assert len(store.all()) == 2
        body["answers"]["quality"] = "right"
        client.post("/api/votes", json=body)
        [quality] = [v for v in store.all() if v.question == "quality"]
        flipped = store.study.flipped("r0001", store.study.trials[quality.trial])
        assert quality.choice == store.study.trials[quality.trial].systems[0 if flipped else 1]
        back = client.post("/api/undo").json()
        assert (back["trial"], back["done"]) == (state["trial"], 0)
        assert store.all() == []


def test_bad_calls_get_clear_answers(store):
    with served(make_app(store)) as url, httpx.Client(base_url=url) as client:
        assert client.get("/api/trial", headers={"X-Rater": "nobody"}).status_code == 401
        assert client.get("/api/trial").status_code == 422
        client.headers["X-Rater"] = client.post("/api/raters").json()["token"]
        trial = client.get("/api/trial").json()["trial"]
        for body, status in (
            ({"trial": "x", "answers": {}}, 404),
            ({"trial": trial, "answers": {"quality": "left"}}, 422),
            ({"trial": trial, "answers": {"quality": "up", "alignment": "tie"}}, 422),
            ({"trial": trial, "answers": {"quality": "left", "alignment": "tie"}, "ms": -1}, 422),
            ({"trial": trial, "answers": {}, "more": 1}, 422),
            ([], 422),
        ):
            assert client.post("/api/votes", json=body).status_code == status, body
        assert client.get("/images/../study.json.png").status_code == 404
        assert client.get("/images/" + "0" * 32 + ".png").status_code == 404
        assert store.all() == []


def test_nothing_that_raters_get_tells_who_made_what(store):
    with served(make_app(store)) as url, httpx.Client(base_url=url) as client:
        client.headers["X-Rater"] = client.post("/api/raters").json()["token"]
        answer = client.get("/api/trial")
        state = answer.json()
        text = answer.text + client.get("/").text
        image = client.get(state["sides"][0][0]).content
        for name in ("alpha", "beta", NOISE, "control"):
            assert name not in text
            assert name.encode() not in image
        assert list(Image.open(io.BytesIO(image)).info) == []


def test_studies_that_cannot_be_are_refused(runs, tmp_path, store):
    with pytest.raises(ConfigError, match="two systems"):
        create(tmp_path / "s", [runs["alpha"]], "drawbench")
    with pytest.raises(ConfigError, match="reference"):
        create(tmp_path / "s", [runs["alpha"]], "coco")
    with pytest.raises(ConfigError, match="drawbenc"):
        create(tmp_path / "s", list(runs.values()), "drawbenc")
    (tmp_path / "other.txt").write_text("a cow")
    make_run(Flat("gamma"), open_suite(str(tmp_path / "other.txt")), tmp_path / "other", 8)
    with pytest.raises(DataError, match="different prompts"):
        create(tmp_path / "s", [runs["alpha"], tmp_path / "other"], "drawbench")
    with pytest.raises(DataError, match="no votes that count"):
        report(store)
    other = create(tmp_path / "s", [runs["alpha"], runs["gamma"]], "drawbench")
    os.link(store.path, tmp_path / "votes.db")
    with pytest.raises(DataError, match="votes of another study"):
        Store(other, store.path)
    (tmp_path / "text.db").write_text("no database, but long enough to be taken for one" * 30)
    with pytest.raises(DataError, match="not a file of votes"):
        Store(other, tmp_path / "text.db")
    (runs["beta"] / "00002" / "samples" / "0003.png").unlink()
    with pytest.raises(DataError, match="not finished"):
        create(tmp_path / "t", [runs["alpha"], runs["beta"]], "drawbench")


def test_votes_are_kept_in_wal_mode_and_survive_a_crash(store):
    rater, _ = store.join()
    trial = next(iter(store.study.trials.values()))
    store.cast(rater, trial, {"quality": "alpha", "alignment": "tie"}, 5)
    with sqlite3.connect(store.path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("SELECT count(*) FROM votes").fetchone() == (2,)
    other.close()


@pytest.mark.slow
def test_two_raters_in_a_browser_by_mouse_and_by_keyboard(store, tmp_path):
    """One answers with the mouse, closes half-way and comes back; one uses the keyboard alone."""
    shots = Path(os.environ.get("SCREENSHOTS", tmp_path))
    with served(make_app(store)) as url, chromium() as browser:
        mouse = browser.new_context(viewport={"width": 1280, "height": 900})
        keys = browser.new_context(viewport={"width": 1024, "height": 800}, color_scheme="dark")
        first, second = mouse.new_page(), keys.new_page()
        errors = []
        for page in (first, second):
            page.on("pageerror", lambda error: errors.append(error))
            page.goto(url)
        first.get_by_role("button", name="Begin").click()
        second.wait_for_selector("#begin:focus")
        second.keyboard.press("Enter")

        expected = {"mouse": [], "keys": []}
        for turn in range(3):
            _answer_with_mouse(first, expected["mouse"])
            _answer_with_keys(second, expected["keys"])
            if turn == 0:
                first.screenshot(path=shots / "rate-1280.png")
                second.screenshot(path=shots / "rate-1024-dark.png")
        first.close()
        first = mouse.new_page()
        first.on("pageerror", lambda error: errors.append(error))
        first.goto(url)
        first.wait_for_selector("fieldset")
        assert first.inner_text("#count") == "3 / 7"
        first.set_viewport_size({"width": 390, "height": 844})
        first.screenshot(path=shots / "rate-390.png")
        while first.locator("fieldset").count() and first.is_visible("#trial"):
            _answer_with_mouse(first, expected["mouse"])
        _answer_with_keys(second, expected["keys"])
        second.keyboard.press("Backspace")
        expect(second.locator("#count")).to_have_text("3 / 7")
        expected["keys"].pop()
        while second.is_visible("#trial"):
            _answer_with_keys(second, expected["keys"])
        assert "Thank you" in first.inner_text("#message")
        assert "Thank you" in second.inner_text("#message")
        assert errors == []
        assert first.title() == "Rate pictures"

    found = report(store, 0.0)
    for rater, progress in (("r0001", expected["mouse"]), ("r0002", expected["keys"])):
        votes = {(v.trial, v.question): v.choice for v in store.all() if v.rater == rater}
        assert sorted(votes.values()) == sorted(choice for pair in progress for choice in pair)
    real = [
        v for v in store.all()
        if v.question == "quality" and not store.study.trials[v.trial].control
    ]  # fmt: skip
    pair = found["questions"]["quality"]["pairs"]["alpha | beta"]
    for name, key in (("alpha", "a"), ("tie", "tie"), ("beta", "b")):
        assert pair[key]["value"] == sum(v.choice == name for v in real) / 10
    write_report(found, shots / "report.html")
    (shots / "report.json").write_text(json.dumps(found))


def _sides(page):
    """Which system is on the left and on the right, by the colour of the first picture."""
    script = """async side => { const image = side.querySelector('img');
      const c = document.createElement('canvas');
      await image.decode();
      c.width = c.height = 24; const x = c.getContext('2d'); x.drawImage(image, 0, 0);
      return [...x.getImageData(0, 0, 24, 24).data]; }"""
    found = []
    for side in page.locator(".side").element_handles():
        pixels = np.array(side.evaluate(script)).reshape(-1, 4)[:, :3]
        flat = pixels.std(axis=0).max() < 5
        near = min(SHADES, key=lambda n: np.abs(pixels[0] - np.array(SHADES[n])).sum())
        found.append(near if flat else NOISE)
    return found


def _answer_with_mouse(page, progress):
    page.wait_for_selector("fieldset")
    before, sides = page.inner_text("#count"), _sides(page)
    assert len(page.locator(".set").first.locator("img").all()) == 8
    page.locator("fieldset[data-question=alignment] button[data-answer=tie]").click()
    page.locator("fieldset[data-question=quality] button[data-answer=left]").click()
    expect(page.locator("#count")).not_to_have_text(before)
    progress.append((sides[0], "tie"))


def _answer_with_keys(page, progress):
    page.wait_for_selector("fieldset")
    before, sides = page.inner_text("#count"), _sides(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("1")
    expect(page.locator("#count")).not_to_have_text(before)
    progress.append((sides[1], sides[0]))
