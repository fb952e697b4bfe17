"""The commands that measure: what they write and print, and a clear refusal of bad input."""

import json
import subprocess
import sys
import urllib.request

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def made(imagen, model_folder, tmp_path):
    """A finished run of the tiny model, of its base alone."""
    words = ["--suite", "shapes:single", "--count", 4, "-n", 2, "--stages", 1, "--out"]
    done = imagen("evaluate", "prompts", model_folder, *words, tmp_path / "run")
    assert done.code == 0, done.err
    return tmp_path / "run"


def test_pictures_of_a_suite_and_numbers_with_their_records(imagen, made, tmp_path):
    assert (made / "index.html").is_file()
    words = ["--metrics", "alignment,reconstruction_rmse,kid:pixels", "--reference", made]
    done = imagen("evaluate", "measure", made, *words, "--out", tmp_path / "scores", "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert [s["measure"] for s in answer["scores"]] == [
        "alignment",
        "reconstruction_rmse",
        "kid:pixels",
    ]
    for file, score in zip(answer["files"], answer["scores"], strict=True):
        with open(file, encoding="utf-8") as text:
            record = json.load(text)
        assert record["value"] == score["value"]
        assert record["images"]["run"]["system"]["model_hash"]
        assert len(record["images"]["run"]["prompts"]["sha256"]) == 64
        assert record["images"]["run"]["seed"] == 0
    kid = imagen("evaluate", "kid", made, "--reference", made, "--features", "pixels")
    assert "kernel distance (pixels)" in kid.out
    shown = imagen("evaluate", "compare", *answer["files"][2:], *answer["files"][2:])
    assert shown.out.count("kernel distance") == 2


def test_statistics_stand_in_for_the_reference(imagen, made, tmp_path):
    done = imagen(
        "evaluate", "statistics", made, "--features", "pixels", "--out", tmp_path / "s.npz"
    )
    assert "8 pictures, 192 features" in done.out
    words = ["--features", "pixels", "--allow-few", "--reference"]
    by_folder = imagen("evaluate", "fid", made, *words, made, "--json")
    by_file = imagen("evaluate", "fid", made, *words, tmp_path / "s.npz", "--json")
    one, two = (json.loads(done.out)["scores"][0]["value"] for done in (by_folder, by_file))
    assert one == pytest.approx(two, abs=1e-6)


def test_few_steps_are_chosen(imagen, model_folder):
    words = ["--suite", "shapes:single", "--count", 2, "--steps", 2, "--reference-steps", 6]
    words += ["--max-evaluations", 4]
    done = imagen("evaluate", "steps", "-m", model_folder, *words)
    assert done.code == 0, done.err
    assert ", base: 2 steps" in done.out
    assert "timesteps = [" in done.out
    report = json.loads(imagen("evaluate", "steps", "-m", model_folder, *words, "--json").out)
    assert str(report["timesteps"]) in done.out
    assert report["distance_after"] <= report["distance_before"]
    refused = imagen("evaluate", "steps", "-m", model_folder, "--steps", 9, "--reference-steps", 9)
    assert refused.code
    assert "reference_steps = 9 must be more" in refused.err


def test_a_sweep_writes_table_plot_and_page(imagen, tmp_path):
    words = ["--vary", "base.guidance=1,3", "--suite", "shapes:single", "--count", 3, "--stages", 1]
    done = imagen("sweep", *words, "--out", tmp_path / "s")
    assert done.code == 0, done.err
    assert done.out.startswith("base.guidance,alignment")
    assert "Pareto front of alignment and reconstruction_rmse" in done.out
    names = {p.name for p in (tmp_path / "s").iterdir()}
    assert {
        "table.csv",
        "results.json",
        "index.html",
        "pareto-reconstruction_rmse-alignment.png",
    } <= names


@pytest.mark.parametrize(
    "words,message",
    [
        (("fid", "RUN", "--reference", "RUN", "--features", "pixels"), "8 pictures are too few"),
        (("fid", "RUN", "--features", "pixels"), "none are given"),
        (("fid", "RUN", "--reference", "RUN", "--features", "pixel"), "Did you mean 'pixels'"),
        (("fid", "nowhere", "--reference", "RUN", "--features", "pixels"), "no folder nowhere"),
        (
            ("kid", "RUN", "--reference", "RUN", "--weights", "x.safetensors"),
            "no Inception weights",
        ),
        (("kid", "RUN", "--reference", "RUN", "--resize", "bicubic"), "no resize called"),
        (("kid", "RUN", "--reference", "RUN", "--protocol", "coco"), "no protocol called"),
        (("kid", "RUN", "--features", "pixels", "--reference", "RUN", "--size", "0"), "--size 0"),
        (("measure", "RUN", "--metrics", "fids"), "Did you mean 'fid'"),
        (("clip", "RUN", "--features", "dinov2"), "defined on CLIP's features"),
        (("clip", "RUN", "--weights", "nowhere"), "There is no folder nowhere"),
        (("statistics", "RUN", "--out", "s.txt"), "must end in .npz"),
        (("compare", "RUN/run.json"), "not the record of a number"),
        (("prompts", "scenes", "--suite", "prob", "--out", "x"), "Did you mean 'probes'"),
        (("prompts", "scene", "--out", "x"), "Did you mean 'scenes'"),
        (("prompts", "folder:RUN/nowhere", "--out", "x"), "no folder"),
        (("prompts", "scenes", "--guidance", "nan", "--out", "x"), "nan is not a number"),
    ],
)
def test_bad_input_is_refused_in_words(imagen, made, words, message):
    words = [str(word).replace("RUN", str(made)) for word in words]
    done = imagen("evaluate", *words)
    assert done.code in (1, 2)
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "words,message",
    [
        (("--vary", "guidance"), "has no values"),
        (("--vary", "base.guidance=1", "--vary", "base.guidance=2"), "a setting twice"),
        (("--vary", "best.guidance=1"), "no stage called 'best'"),
        (("--vary", "guidance=1", "--metrics", "fid:pixels"), "none are given"),
    ],
)
def test_bad_sweeps_are_refused_before_any_picture(imagen, tmp_path, words, message):
    done = imagen("sweep", *words, "--out", tmp_path / "s")
    assert done.code == 2
    assert message in done.err
    assert not list(tmp_path.rglob("*.png"))


def ask(url, token="", body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-Rater": token, "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Only one rater")
def test_a_study_survives_sigkill_and_is_reported(imagen, tmp_path):
    for k, name in enumerate(("one", "two")):
        folder = tmp_path / name
        folder.mkdir()
        for i in range(3):
            Image.new("RGB", (8, 8), (80 * k, 0, 40 * i)).save(folder / f"{i}.png")
            (folder / f"{i}.txt").write_text(f"thing {i}")
    (tmp_path / "p.txt").write_text("thing 0\nthing 1\nthing 2\n")
    for name in ("one", "two"):
        words = [f"folder:{tmp_path / name}", "--suite", tmp_path / "p.txt", "-n", 1]
        assert imagen("evaluate", "prompts", *words, "--out", tmp_path / f"run-{name}").code == 0
    study = tmp_path / "study"
    refused = imagen("rate", "serve", "--study", study)
    assert "There is no study" in refused.err
    assert "is not a study" in imagen("rate", "report", study).err
    command = [sys.executable, "-m", "open_imagen", "rate", "serve", "--study", str(study)]
    command += ["--port", "0"]
    new = ["--raters", "0", "--parts-per-rater", "0", "--controls"]
    runs = [str(tmp_path / "run-one"), str(tmp_path / "run-two")]
    token = ""
    for names in (runs, []):
        process = subprocess.Popen(
            [*command, *names, *(new if names else [])], stdout=subprocess.PIPE, text=True
        )
        url = process.stdout.readline().split()[2]
        if not token:
            token = ask(f"{url}api/raters", body={})["token"]
        state = ask(f"{url}api/trial", token)
        while not state["finished"] and (names == [] or state["done"] < 2):
            answers = {q["id"]: "tie" for q in state["questions"]}
            state = ask(f"{url}api/votes", token, {"trial": state["trial"], "answers": answers})
        process.kill() if names else process.terminate()
        process.communicate(timeout=20)
    assert (state["finished"], state["total"]) == (True, 4)
    done = imagen("rate", "report", study, "--min-controls", 0, "--csv", tmp_path / "v.csv")
    assert done.code == 0, done.err
    assert "indifferent 100.0%" in done.out
    assert len((tmp_path / "v.csv").read_text().splitlines()) == 9
    assert (study / "report.html").is_file()
    other = imagen("rate", "serve", tmp_path / "one", "--study", study)
    assert "not of these runs" in other.err
