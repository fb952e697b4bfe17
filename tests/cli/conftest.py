"""Running the command in this process."""

import sys

import pytest

from open_imagen.cli import main as door


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def imagen(monkeypatch, capsys, model_folder, tmp_path_factory):
    """Run the command in this process, on the tiny model unless told otherwise."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))

    def run(*words, model=model_folder):
        if words[0] in ("generate", "edit", "upscale", "sweep") and model:
            words = (*words, "--model", str(model))
        if words[:2] == ("evaluate", "shapes") and model:
            words = (*words, "--model", str(model))
        monkeypatch.setattr(sys, "argv", ["imagen", *(str(word) for word in words)])
        capsys.readouterr()
        code = 0
        try:
            door.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return run
