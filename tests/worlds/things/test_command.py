"""imagen data things, in this process."""

import json
import sys

import pytest

from open_imagen.cli import main as door
from open_imagen.worlds.things import sources as art_sources
from open_imagen.worlds.things.atlas import Atlas


@pytest.fixture
def imagen(monkeypatch, capsys, sources, art):
    """Run `imagen data things` on the small packages."""
    monkeypatch.setattr(art_sources, "SOURCES", sources)

    def run(*words):
        line = ["imagen", "data", "things", "--art", str(art), "--workers", "1", *words]
        monkeypatch.setattr(sys, "argv", [str(word) for word in line])
        code = 0
        try:
            door.main()
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_an_atlas_is_made(imagen, tmp_path):
    code, out, err = imagen("--out", tmp_path / "atlas", "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["things"], report["sprites"]) == (6, 15)
    assert report["styles"]["3d"] == 4
    assert report["groups"]["people"] == 2
    assert "checking @iconify-json/noto" in err
    assert "64 and 256 pixels: 15 of 15 sprites" in err
    atlas = Atlas.open(tmp_path / "atlas")
    assert atlas.pixels(256).shape[0] == 15


def test_without_json_it_says_where(imagen, tmp_path):
    code, out, _ = imagen("--out", tmp_path / "atlas", "--sizes", "64")
    assert code == 0
    assert out.startswith("6 things, 15 sprites")
    assert str(tmp_path / "atlas") in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--sizes", "64,big"), 2, "--sizes 64,big must be numbers"),
        (("--sizes", "48"), 2, "--sizes 48: the atlas has sprites of 64, 256 and 1024"),
        (("--workers", "-1"), 2, "--workers -1 must be at least 0"),
        (("--art", "/none/such"), 1, "is not a folder"),
    ],
)
def test_mistakes(imagen, tmp_path, words, code, message):
    ended, _, err = imagen("--out", tmp_path / "atlas", *words)
    assert ended == code
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_without_resvg(imagen, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    code, _, err = imagen("--out", tmp_path / "atlas")
    assert code == 1
    assert "pip install" in err
