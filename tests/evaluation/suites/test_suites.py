"""Suites: ours, a world's, and files; every bad file says what is wrong and where."""

import csv
import json

import pytest

from open_imagen.errors import ConfigError, DataError, UnknownName
from open_imagen.worlds.shapes.judge import scene_of
from open_imagen.worlds.shapes.suite import CATEGORIES, make_items
from open_imagen.worlds.suites import open_suite


def test_our_suite_has_eleven_categories_of_twenty_prompts_with_what_each_probes():
    suite = open_suite("probes")
    assert len(suite.categories) == 11
    assert len(suite.prompts) == len({p.text for p in suite.prompts}) == 220
    for category in suite.categories:
        members = [p for p in suite.prompts if p.category == category]
        assert len(members) == 20
        assert len({p.metadata["probes"] for p in members}) == 1
    for prompt in suite.prompts:
        assert {"tag", "include", "prompt"} <= prompt.metadata.keys()
        for thing in prompt.metadata["include"]:
            assert isinstance(thing["class"], str)
            assert thing["count"] >= 1
            if "position" in thing:
                relation, other = thing["position"]
                assert relation in ("left of", "right of", "above", "below")
                assert 0 <= other < len(prompt.metadata["include"])
    assert len(open_suite("probes", 3).prompts) == 33


def test_scenes_say_in_genevals_schema_what_they_show_and_can_be_read_back():
    suite = open_suite("shapes:position,counting", 5, seed=3)
    assert suite.categories == ["position", "counting"]
    items = make_items("position", 5, 3) + make_items("counting", 5, 3)
    for prompt, item in zip(suite.prompts, items, strict=True):
        assert prompt.text == item.prompt
        assert scene_of(json.loads(json.dumps(prompt.metadata))) == item.scene
    position = suite.prompts[0]
    first, second = items[0].scene.kinds
    row = position.metadata["include"]
    assert (row[1]["class"], row[0]["class"]) == (first.shape, second.shape)
    assert items[0].scene.relation.endswith(row[1]["position"][0])
    assert row[1]["position"][1] == 0
    count = suite.prompts[5].metadata
    assert count["exclude"][0]["count"] == count["include"][0]["count"] + 1


def test_single_color_and_shape_are_one_set_of_prompts():
    assert len(open_suite("shapes:single,color,shape", 4).prompts) == 4
    assert len(open_suite("shapes", 2).prompts) == 2 * (len(CATEGORIES) - 2)


def test_files_are_read_in_the_usual_formats(tmp_path):
    lines = tmp_path / "a.txt"
    lines.write_text("a fox\n\n a hen \n")
    assert [p.text for p in open_suite(str(lines)).prompts] == ["a fox", "a hen"]

    table = tmp_path / "bench.csv"
    table.write_text('\ufeffPrompt,Category\n"A fox, and a hen.",Gary Marcus et al. \nA,B\n')
    [first, second] = open_suite(str(table)).prompts
    assert (first.text, first.category) == ("A fox, and a hen.", "Gary Marcus et al.")
    assert second.category == "B"

    rows = tmp_path / "c.jsonl"
    rows.write_text(
        '{"prompt": "two foxes", "tag": "counting", "include": [{"class": "fox", "count": 2}]}\n'
    )
    [row] = open_suite(str(rows)).prompts
    assert (row.category, row.metadata["include"][0]["count"]) == ("counting", 2)


def test_the_original_drawbench_is_read_if_it_is_there(shared_data):
    file = shared_data / "drawbench.csv"
    suite = open_suite(str(file))
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [p.text for p in suite.prompts] == [row["Prompt"].strip() for row in rows]
    assert (len(suite.prompts), len(suite.categories)) == (200, 11)
    ours = {p.text.lower() for p in open_suite("probes").prompts}
    assert not ours & {p.text.lower() for p in suite.prompts}


def test_coco_captions_are_drawn_one_of_each_picture(tmp_path):
    file = tmp_path / "captions.json"
    rows = [{"image_id": i, "caption": f"caption {k} of {i}"} for i in range(20) for k in range(5)]
    file.write_text(json.dumps({"annotations": rows}))
    suite = open_suite(str(file), 12, seed=0)
    assert len({p.metadata["image_id"] for p in suite.prompts}) == 12
    assert all(p.text.endswith(f" of {p.metadata['image_id']}") for p in suite.prompts)
    assert len({p.text.split()[1] for p in suite.prompts}) > 1
    assert open_suite(str(file), 12, seed=0) == suite
    assert open_suite(str(file), 12, seed=1) != suite
    with pytest.raises(DataError, match="captions of 20 pictures; 21 are wanted"):
        open_suite(str(file), 21)


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("a.jsonl", '{"prompt": "x"}\n{"text": "y"}\n', "line 2"),
        ("a.jsonl", '{"prompt": " "}\n', "line 1: the prompt is empty"),
        ("a.csv", "Text,Category\nx,y\n", "no column Prompt"),
        ("a.csv", "Prompt,Category\nx,y\n,y\n", "line 3: the prompt is empty"),
        ("a.txt", "\n \n", "holds no prompt"),
        ("a.json", "{}", "not a file of COCO captions"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        open_suite(str(tmp_path / name))


def test_unknown_suites_and_categories_are_refused(tmp_path):
    with pytest.raises(UnknownName, match="suite or file"):
        open_suite("prob")
    with pytest.raises(UnknownName, match="category"):
        open_suite("shapes:positions")
    with pytest.raises(ConfigError, match="count = 0"):
        open_suite("probes", 0)
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        open_suite(str(tmp_path / "b.txt"))
