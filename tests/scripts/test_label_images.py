"""Blind labels of generated images, and the judge held to them."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from open_imagen.storage import read_json, write_json

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import label_images as tool

KNOWN = frozenset({"cat face", "dog", "8 ball"})


@pytest.fixture
def evaluation(tmp_path):
    """24 images of cats, of which the judge takes the last six for dogs; and two signs."""
    folder = tmp_path / "evaluation"
    write_json(folder / "run.json", {"model_hash": "abc", "seed": 1})
    rows = []
    for k in range(24):
        found = [{"name": "cat face" if k < 18 else "dog"}]
        rows.append({"category": "label", "k": k, "prompt": "a cat face", "found": found})
    for k, right in enumerate((True, False)):
        prompt = 'a sign that says "OPEN"'
        rows.append({"category": "shown_words", "k": k, "prompt": prompt, "right": right})
    for row in rows:
        path = folder / "images" / row["category"] / f"{row['k']:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (32, 32), (200, 0, 0, 128)).save(path)
    text = "".join(json.dumps({"right": True, **row}) + "\n" for row in rows)
    (folder / "judgements-1.jsonl").write_text(text)
    return folder


def fill_in(path, label):
    """Write the same label everywhere."""
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{line}{label}" for line in lines[1:])]) + "\n")


def test_a_sample_is_labelled_and_compared(evaluation, tmp_path, capsys):
    out = tmp_path / "labels"
    assert tool.main(["sheet", str(evaluation), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        *("things-01.png", "things-02.png", "things.html", "things.csv"),
    }
    blind = (out / "things.html").read_text() + (out / "things.csv").read_text()
    assert "a cat face" not in blind
    assert "label/" not in blind
    fill_in(out / "things.csv", "cat/cat face")
    words = ["sheet", str(evaluation), "--kind", "signs", "--out", str(out)]
    assert tool.main(words) == 0
    fill_in(out / "signs.csv", "open")
    both = [str(out / "things.csv"), str(out / "signs.csv")]
    assert tool.main(["agree", str(evaluation), *both, "--out", str(tmp_path / "a.json")]) == 0
    found = read_json(tmp_path / "a.json")
    assert (found["things"]["right"], found["things"]["of"]) == (18, 24)
    assert 0.5 < found["things"]["low"] < 0.75 < found["things"]["high"] < 0.9
    assert (found["signs"]["right"], found["signs"]["of"]) == (1, 2)
    assert "18 of 24 agree" in capsys.readouterr().out


@pytest.mark.parametrize(
    "label, found, same",
    [
        ("cat face", ["cat face"], True),
        ("cat/cat face", ["cat face"], True),
        ("dog", ["cat face"], False),
        ("", ["cat face"], False),
        ("", [""], True),
        ("dog", [""], False),
        ("2 dog, cat face", ["dog", "cat face", "dog"], True),
        ("2 dog", ["dog", "dog", "dog"], False),
        ("3 dog", ["dog", "dog"], False),
        ("8 ball", ["8 ball"], True),
    ],
)
def test_when_label_and_judge_agree(label, found, same):
    judgement = {"found": [{"name": name} for name in found]}
    assert tool.things_agree(label, judgement, KNOWN) is same


@pytest.mark.parametrize(
    "label, right, same",
    [("OPEN", True, True), ("O?EN", False, True), ("OPEN", False, False), ("SHUT", True, False)],
)
def test_when_label_and_reader_agree(label, right, same):
    assert tool.signs_agree(label, {"right": right}, "OPEN") is same


def test_bad_input_is_refused(evaluation, tmp_path, capsys):
    out = tmp_path / "labels"
    assert tool.main(["sheet", str(tmp_path), "--out", str(out)]) == 1
    assert "judgements of 0 judges" in capsys.readouterr().err
    assert tool.main(["sheet", str(evaluation), "--out", str(out)]) == 0
    assert tool.main(["sheet", str(evaluation), "--out", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert tool.main(["agree", str(evaluation), str(tmp_path / "none.csv")]) == 1
    assert "Cannot read" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("number,image,label\n1,0123456789ab,dog\n")
    assert tool.main(["agree", str(evaluation), str(tmp_path / "other.csv")]) == 1
    assert "does not have" in capsys.readouterr().err
    (tmp_path / "bare.csv").write_text("image\nx\n")
    assert tool.main(["agree", str(evaluation), str(tmp_path / "bare.csv")]) == 1
    assert "no column label, number" in capsys.readouterr().err
