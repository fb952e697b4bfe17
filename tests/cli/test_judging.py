"""The commands that judge by models, compare runs, draw pairs, and measure paraphrases."""

import json

import pytest
from PIL import Image

from evaluation.judges import tiny_models


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def owlvit(tmp_path_factory):
    return tiny_models.owlvit(tmp_path_factory.mktemp("models") / "owlvit")


@pytest.fixture
def made(imagen, tmp_path):
    """Runs over the world's suite, of images that somebody else made."""

    def run(name, shade=90, side=24, suite="shapes:single", count=2):
        from open_imagen.worlds.suites import open_suite

        folder = tmp_path / f"images-{name}"
        folder.mkdir()
        for k, prompt in enumerate(open_suite(suite, count).prompts):
            Image.new("RGB", (side, side), (shade, k, 0)).save(folder / f"{k:03d}.png")
            (folder / f"{k:03d}.txt").write_text(prompt.text)
        words = ["--suite", suite, "--count", count, "-n", 1, "--out", tmp_path / name]
        done = imagen("evaluate", "prompts", f"folder:{folder}", *words)
        assert done.code == 0, done.err
        return tmp_path / name

    return run


def test_a_judge_its_accuracy_and_a_page_of_both_systems(imagen, made, owlvit, tmp_path):
    judge = ["--judge", "geneval", "--weights", owlvit, "--threshold", "0.0"]
    known = tmp_path / "accuracy.json"
    done = imagen("evaluate", "judge-accuracy", *judge, "--count", 12, "--out", known)
    assert done.code == 0, done.err
    assert "GenEval rules, detector owlvit on 10 exact scenes of shapes" in done.out
    assert "2 scenes that it cannot judge were skipped" in done.out
    runs, out = [made("one"), made("two", 200)], tmp_path / "scores"
    for run in runs:
        done = imagen("evaluate", "judge", run, *judge, "--accuracy", known, "--out", out)
        assert done.code == 0, done.err
        assert "accuracy of the judge on exact scenes" in done.out
    page = tmp_path / "page.html"
    done = imagen("evaluate", "report", *runs, "--scores", out, "--out", page, "--json")
    assert done.code == 0, done.err
    numbers = json.loads(done.out)["numbers"]
    assert set(numbers["GenEval rules, detector owlvit"]) == {"images-one", "images-two"}
    assert "exact scenes of shapes" in page.read_text()
    other = [*judge[:-1], "0.5"]
    done = imagen("evaluate", "judge", runs[0], *other, "--accuracy", known, "--out", out)
    assert "not of this judge" in done.err


def test_paraphrases_of_a_run(imagen, made, tmp_path):
    run = made("words", suite="shapes:paraphrases", count=1)
    done = imagen("evaluate", "paraphrases", run)
    assert done.code == 0, done.err
    assert "word order" in done.out
    assert "all paraphrases" in done.out
    table = json.loads(imagen("evaluate", "paraphrases", run, "--json").out)
    assert table["negation"]["pairs"] == 6
    assert "are no paraphrases" in imagen("evaluate", "paraphrases", made("plain")).err
    record = tmp_path / "scores.json"
    record.write_text("{}")
    assert "not a record" in imagen("evaluate", "paraphrases", run, "--record", record).err


def test_pairs_are_drawn_by_command(imagen, made, tmp_path):
    made("one", count=4)
    done = imagen("rate", "sample", tmp_path / "images-one", "--count", 3, "--out", tmp_path / "p")
    assert done.code == 0, done.err
    assert done.out.startswith("3 pairs in ")
    assert len(list((tmp_path / "p/images").glob("*.png"))) == 3
    done = imagen(
        *("evaluate", "prompts", f"folder:{tmp_path / 'p/images'}", "-n", 1),
        *("--suite", tmp_path / "p/prompts.jsonl", "--out", tmp_path / "reference"),
    )
    assert done.code == 0, done.err
    again = imagen("rate", "sample", tmp_path / "images-one", "--out", tmp_path / "q")
    assert again.code == 2
    assert "--count 200 is too many" in again.err


@pytest.mark.parametrize(
    "words,message",
    [
        (("judge", "RUN", "--judge", "vqascor"), "Did you mean 'vqascore'"),
        (("judge", "RUN", "--judge", "vqascore"), "needs weights, and none are given"),
        (("judge", "RUN", "--judge", "vqascore", "--weights", "nowhere"), "no folder nowhere"),
        (("judge", "RUN", "--judge", "vqascore", "--weights", "RUN"), "holds no weights"),
        (("judge", "RUN", "--judge", "dpg", "--rule", "x"), "rule = 'x' must be one of"),
        (("judge", "RUN", "--judge", "geneval", "--nms", "2"), "nms_threshold = 2.0"),
        (("judge", "RUN", "--judge", "dpg", "--accuracy", "none.json"), "Cannot read none.json"),
        (("judge-accuracy", "--judge", "dpg", "--world", "shape"), "Did you mean 'shapes'"),
        (("report", "RUN", "--out", "x.html"), "needs two runs"),
        (("report", "RUN", "nowhere", "--out", "x.html"), "nowhere is no folder"),
        (("report", "RUN", "RUN", "--out", "x.pdf"), "must end in .html"),
        (("report", "RUN", "RUN", "--out", "x.html", "--price", "much"), "is not a price"),
        (("report", "RUN", "RUN", "--out", "x.html", "--examples", "-1"), "must be 0 or more"),
        (("paraphrases", "nowhere"), "no folder nowhere"),
        (("fid", "RUN", "--reference", "RUN", "--protocol", "imagen-coco-30k"), "30k-"),
    ],
)
def test_bad_input_is_refused_in_words(imagen, made, words, message):
    run = made("one")
    done = imagen("evaluate", *(str(run) if word == "RUN" else word for word in words))
    assert done.code in (1, 2)
    assert message in done.err
    assert "Traceback" not in done.err
