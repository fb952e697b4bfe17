"""Prompts with questions about what must be seen: DPG-Bench, TIFA and GenEval 2 as published."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from open_imagen.errors import DataError
from open_imagen.evaluation.suites.prompts import Prompt, plain_prompt

DPG_COLUMNS = ("item_id", "text", "proposition_id", "dependency", "question_natural_language")


def read_dpg(text: str, file: str) -> tuple[Prompt, ...]:
    """DPG-Bench's CSV: a question in each row, those of a prompt together."""
    rows = csv.DictReader(io.StringIO(text, newline=""))
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(rows):
        try:
            item, said = row["item_id"].strip(), row["text"].strip()
            parents = [int(one) for one in row["dependency"].split(",")]
            atom = {
                "id": int(row["proposition_id"]),
                "question": row["question_natural_language"].strip(),
                "answer": "yes",
                "parents": [parent for parent in parents if parent],
                "category": (row.get("tuple") or "").split("(")[0].strip(),
                # The reference script skips this row; the compatible rule does too.
                **({"first_row": True} if number == 0 else {}),
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{file}, line {rows.line_num}, is not a row of DPG-Bench: {error!r}."
            ) from error
        if not said or not atom["question"]:
            raise DataError(f"{file}, line {rows.line_num}: the text or its question is empty.")
        if item not in prompts:
            prompt = plain_prompt(said, "dpg")
            metadata = {**prompt.metadata, "item_id": item, "atoms": []}
            prompts[item] = prompt._replace(metadata=metadata)
        prompts[item].metadata["atoms"].append(atom)
    return tuple(prompts.values())


def is_tifa(text: str) -> bool:
    """Whether a JSON file holds TIFA's questions."""
    try:
        rows = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(rows, list)
        and bool(rows)
        and isinstance(rows[0], dict)
        and ("question" in rows[0])
    )


def read_tifa(text: str, file: str) -> tuple[Prompt, ...]:
    """TIFA's JSON: a list of questions with the caption that each is about."""
    prompts: dict[str, Prompt] = {}
    for number, row in enumerate(json.loads(text), 1):
        try:
            said = str(row.get("caption") or row["text"]).strip()
            question, answer = str(row["question"]).strip(), str(row["answer"]).strip()
            choices = [str(one) for one in row.get("choices", ())]
            category = str(row.get("element_type", ""))
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(
                f"{file}: entry {number} is not a question of TIFA: {error!r}.",
                'Each has "caption", "question", "choices", "answer" and "element_type".',
            ) from error
        prompt = prompts.setdefault(str(row.get("id", said)), _with_atoms(said, "tifa"))
        atoms = prompt.metadata["atoms"]
        atoms.append(
            {
                "id": len(atoms) + 1,
                "question": question,
                "answer": answer,
                # Choices of yes and no are a question of yes or no.
                "choices": [] if {c.lower() for c in choices} <= {"yes", "no"} else choices,
                "category": category,
            }
        )
    return tuple(prompts.values())


def _with_atoms(said: str, category: str) -> Prompt:
    prompt = plain_prompt(said, category)
    return prompt._replace(metadata={**prompt.metadata, "atoms": []})


def geneval2_atoms(row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """GenEval 2's questions: "vqa_list" holds pairs of question and answer, "skills" their kinds.

    Raises:
        DataError: they are not such pairs.
    """
    try:
        pairs = [(str(question), str(answer)) for question, answer in row["vqa_list"]]
    except (TypeError, ValueError) as error:
        raise DataError(f'{where}: "vqa_list" is not a list of questions and answers.') from error
    skills = row.get("skills") or []
    return [
        {
            "id": number,
            "question": question,
            "answer": answer,
            "category": str(skills[number - 1]) if number <= len(skills) else "",
        }
        for number, (question, answer) in enumerate(pairs, 1)
    ]
