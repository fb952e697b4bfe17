"""imagen evaluate things."""

import json

import numpy as np
import pytest

from things_judging import ATLAS, write_atlas, write_judge


@pytest.fixture
def words(tmp_path, model_folder):
    atlas = write_atlas(tmp_path / "atlas")
    judge = write_judge(tmp_path / "judge.safetensors")
    return ("evaluate", "things", "-m", model_folder, "--atlas", atlas, "--judge", judge)


SMALL = ("--count", 2, "--stages", 1, "--categories", "label,place")


def test_it_prints_a_table_and_keeps_a_record(imagen, words, tmp_path):
    table = imagen(*words, *SMALL)
    assert table.code == 0, table.err
    assert "label" in table.out
    assert "judge: not measured" in table.out
    assert "0 of    2" in table.out
    done = imagen(*words, *SMALL, "--out", tmp_path / "e", "--json")
    report = json.loads(done.out)
    assert report["categories"]["place"]["of"] == 2
    assert json.loads((tmp_path / "e" / "report.json").read_text())["seed"] == 1
    refused = imagen(*words, *SMALL, "--seed", 2, "--out", tmp_path / "e")
    assert (refused.code, "another evaluation" in refused.err) == (2, True)


def test_prompts_of_a_file_are_judged(imagen, words, tmp_path):
    file = tmp_path / "prompts.csv"
    file.write_text("Prompt,Category\nA pink cat.,Colors\nA pink zeppelin.,Colors\n")
    done = imagen(*words, "--stages", 1, "--drawbench", file)
    assert done.code == 0, done.err
    assert "1 of the file's 2 prompts" in done.out


def test_paraphrases_are_compared_with_plain_words(imagen, words):
    more = ("--paraphrases", "--count", 1, "--stages", 1, "--categories", "label,counting")
    done = imagen(*words, *more)
    assert done.code == 0, done.err
    assert "drop of typo" in done.out
    assert "drop of all paraphrases" in done.out


@pytest.mark.parametrize(
    "more, code, message",
    [
        (("--categories", "colour"), 2, "no category called 'colour'"),
        (("--count", "0"), 2, "count = 0"),
        (("--atlas", "nowhere"), 1, "no atlas in nowhere"),
        (("--judge", "none.safetensors"), 1, "none.safetensors are missing"),
        (("--paraphrases", "--categories", "style"), 2, "cannot be paraphrased"),
        (("--paraphrases", "--drawbench", "none.csv"), 2, "two kinds of prompts"),
        (("--drawbench", "none.csv"), 1, "Cannot read none.csv"),
        (("--steps", "0"), 2, "steps = 0"),
    ],
)
def test_wrong_input_is_refused(imagen, words, more, code, message):
    refused = imagen(*words, *more)
    assert (refused.code, message in refused.err) == (code, True), refused.err


def test_the_nearest_sprite_stands_beside_a_model(imagen, words, tmp_path):
    atlas = words[words.index("--atlas") + 1]
    np.save(atlas / "sprites-256.npy", ATLAS.pixels(256))
    done = imagen(
        *words, *SMALL[:2], "--categories", "label", "--baseline", "--out", tmp_path / "b"
    )
    assert done.code == 0, done.err
    assert done.out.startswith("nearest-sprite ")
    assert len(list((tmp_path / "b" / "images" / "label").glob("*.png"))) == 2
