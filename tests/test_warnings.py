"""Warnings of ours have a class of their own, and the command shows them by it."""

import ast
import warnings
from pathlib import Path

import pytest

from open_imagen.cli.main import _show_warning
from open_imagen.errors import OpenImagenWarning

PACKAGE = Path(__file__).parents[1] / "src" / "open_imagen"


def warn_calls():
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                yield path.relative_to(PACKAGE), node


def test_every_warning_of_ours_has_our_class():
    calls = list(warn_calls())
    assert len(calls) > 3
    for path, call in calls:
        category = ast.unparse(call.args[1]) if len(call.args) > 1 else "none"
        assert category == "OpenImagenWarning", f"{path}, line {call.lineno}: {category}"


class Special(OpenImagenWarning):
    pass


@pytest.mark.parametrize(
    "category, shown", [(OpenImagenWarning, True), (Special, True), (UserWarning, False)]
)
def test_the_command_shows_warnings_by_their_class(category, shown, monkeypatch, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", _show_warning)
        warnings.warn("noise_level = 0.4 is too high", category, stacklevel=1)
    err = capsys.readouterr().err
    assert err == ("Warning: noise_level = 0.4 is too high\n" if shown else "")
