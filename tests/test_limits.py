"""Limits of size: one duty per function, class and file. Docstrings count."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "open_imagen"
MAX_FUNCTION, MAX_CLASS, MAX_FILE = 60, 250, 400
"""Lines."""
COMMANDS = PACKAGE / "cli"
"""Not limited: a command's function is mostly the list of its options."""
FILES = {
    path.relative_to(PACKAGE).as_posix(): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if COMMANDS not in path.parents
}


def lines_of(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("name", FILES)
def test_files_classes_and_functions_are_short(name):
    text = FILES[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE, f"split {name}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert lines_of(node) <= MAX_FUNCTION, f"split {node.name}, line {node.lineno}"
        elif isinstance(node, ast.ClassDef):
            assert lines_of(node) <= MAX_CLASS, f"split {node.name}, line {node.lineno}"
