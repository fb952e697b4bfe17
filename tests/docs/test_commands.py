"""The commands and the Python of the README and the quickstart run, in an empty folder."""

import os
import subprocess
import sys

import pytest

from markdown_pages import ROOT, fences

PAGES = ["README.md", "docs/quickstart.md"]


@pytest.fixture
def run(tmp_path):
    """Run a command line in an empty folder where `imagen` is this installation's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    shim = programs / "imagen"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m open_imagen "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    source = f"{ROOT / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": source}

    def run(*arguments, **options):
        return subprocess.run(
            arguments, cwd=work, env=environment, capture_output=True, text=True, **options
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_run(page, run):
    executed = 0
    for fence in fences((ROOT / page).read_text(encoding="utf-8")):
        if fence.not_run:
            continue
        if fence.language == "python":
            done = run(sys.executable, "-c", fence.code)
            assert done.returncode == 0, f"{fence.code}\n{done.stderr}"
            executed += 1
        elif fence.language == "bash":
            for command in fence.commands():
                done = run("bash", "-c", command)
                assert done.returncode == 0, f"{command}\n{done.stderr}"
                executed += 1
    assert executed >= 3


def test_what_is_not_run_says_why():
    for page in PAGES:
        for fence in fences((ROOT / page).read_text(encoding="utf-8")):
            runnable = fence.language in ("bash", "python")
            assert runnable, f"{page}: a fence without language is not checked: {fence.code[:40]}"
