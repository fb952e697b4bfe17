"""Files of prompts with questions: DPG-Bench's CSV, TIFA's JSON, GenEval 2's JSONL."""

import json

import pytest

from open_imagen.errors import DataError
from open_imagen.evaluation.judges.atoms import atoms_of
from open_imagen.evaluation.suites.suite import open_suite

HEADER = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    "question_natural_language\n"
)


def test_dpg_bench(tmp_path):
    file = tmp_path / "dpg_bench.csv"
    file.write_text(
        HEADER + '0,"A cat, red",k,1,0,entity,whole,entity - whole (cat),Is there a cat?\n'
        '0,"A cat, red",k,2,1,attribute,color,"attribute - color (cat, red)",Is the cat red?\n'
        "COCO_7,Dogs,k,1,0,entity,whole,entity - whole (dogs),Are there dogs?\n"
        'COCO_7,Dogs,k,2,"0, 1",other,count,other - count (dogs),Are there two?\n'
    )
    suite = open_suite(str(file))
    assert [p.text for p in suite.prompts] == ["A cat, red", "Dogs"]
    assert [p.metadata["item_id"] for p in suite.prompts] == ["0", "COCO_7"]
    one, two = (atoms_of(p.metadata) for p in suite.prompts)
    assert [a.first_row for a in one + two] == [True, False, False, False]
    assert [a.parents for a in one + two] == [(), (1,), (), (1,)]
    assert [a.category for a in one] == ["entity - whole", "attribute - color"]
    assert two[0].question == "Are there dogs?"
    file.write_text(HEADER + "0,A cat,k,one,0,e,w,t,Is there a cat?\n")
    with pytest.raises(DataError, match="line 2, is not a row of DPG-Bench"):
        open_suite(str(file))
    file.write_text(HEADER + "0,A cat,k,1,0,e,w,t,\n")
    with pytest.raises(DataError, match="line 2: the text or its question is empty"):
        open_suite(str(file))


def test_tifa(tmp_path):
    file = tmp_path / "tifa.json"
    rows = [
        ("a", "A red cat", "is there a cat?", "yes", ["yes", "no"], "animal"),
        ("a", "A red cat", "what color is it?", "red", ["red", "blue"], "color"),
        ("b", "Two dogs", "how many dogs?", "2", ["1", "2"], "counting"),
    ]
    keys = ("id", "caption", "question", "answer", "choices", "element_type")
    file.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    suite = open_suite(str(file))
    assert [p.text for p in suite.prompts] == ["A red cat", "Two dogs"]
    one, two = (atoms_of(p.metadata) for p in suite.prompts)
    assert [a.choices for a in one] == [(), ("red", "blue")]
    assert (two[0].answer, two[0].category) == ("2", "counting")
    file.write_text(json.dumps([{"question": "is there a cat?"}]))
    with pytest.raises(DataError, match="entry 1 is not a question of TIFA"):
        open_suite(str(file))


def test_geneval_2(tmp_path):
    file = tmp_path / "geneval2.jsonl"
    row = {
        "prompt": "two red cats",
        "atom_count": 2,
        "vqa_list": [["Are there cats?", "Yes"], ["How many cats?", "two"]],
        "skills": ["object", "count"],
    }
    file.write_text(json.dumps(row) + "\n")
    [prompt] = open_suite(str(file)).prompts
    atoms = atoms_of(prompt.metadata)
    assert [(a.answer, a.category, a.binary) for a in atoms] == [
        ("Yes", "object", True),
        ("two", "count", False),
    ]
    file.write_text(json.dumps({**row, "vqa_list": ["x"]}))
    with pytest.raises(DataError, match='line 1: "vqa_list" is not a list'):
        open_suite(str(file))


def test_scenes_of_the_shapes_world_have_questions_with_dependencies():
    [prompt] = open_suite("shapes:counting", 1).prompts
    shape, color, count, *_ = atoms_of(prompt.metadata)
    assert (shape.category, color.parents, count.parents) == ("shape", (1,), (2,))
    [prompt] = open_suite("shapes:position", 1).prompts
    position = next(a for a in atoms_of(prompt.metadata) if a.category == "position")
    assert position.parents == (2, 4)
