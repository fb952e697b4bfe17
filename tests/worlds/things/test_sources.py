"""Art is taken only if it is the pinned one, and every refusal says what to do."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from open_imagen.errors import DataError, MissingDependency
from open_imagen.worlds.things.sources import SOURCES, Package, content_digest, open_packages

ROOT = Path(__file__).parents[3]


def silent(text):
    pass


def fake_npm(folder, script):
    """An npm on a PATH of its own."""
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!{sys.executable}\n{script}")
    npm.chmod(0o755)
    return str(folder)


def test_folders_and_tarballs_are_the_same_art(art, sources, tarballs):
    folder, pinned = tarballs
    unpacked = open_packages(art, silent, sources)
    packed = open_packages(folder, silent, pinned)
    assert unpacked.keys() == packed.keys() == {source.package for source in SOURCES}
    for source in sources:
        one, other = unpacked[source.package], packed[source.package]
        assert content_digest(one, source.files) == content_digest(other, source.files)
        assert one.identity == other.identity == (source.package, source.version)


def test_node_modules_are_found(art, sources, tmp_path):
    for source in sources:
        place = tmp_path / "node_modules" / source.package
        place.parent.mkdir(parents=True, exist_ok=True)
        (art / source.tarball.removesuffix(".tgz")).rename(place)
    assert len(open_packages(tmp_path, silent, sources)) == len(sources)


def test_a_missing_package_is_named(art, sources):
    (art / "iconify-json-noto-1.2.9" / "package.json").unlink()
    with pytest.raises(DataError, match=r"does not hold .*@iconify-json/noto 1\.2\.9") as caught:
        open_packages(art, silent, sources)
    assert "npm pack @iconify-json/noto@1.2.9" in caught.value.hint


def test_another_version_is_refused(art, sources):
    about = {"name": "@iconify-json/noto", "version": "1.3.0"}
    (art / "iconify-json-noto-1.2.9" / "package.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"noto 1\.3\.0, but .* version 1\.2\.9"):
        open_packages(art, silent, sources)


def test_changed_files_are_refused(art, sources):
    icons = art / "iconify-json-noto-1.2.9" / "icons.json"
    icons.write_text(icons.read_text().replace("#f00", "#f01"))
    with pytest.raises(DataError, match=r"is not @iconify-json/noto 1\.2\.9 as published"):
        open_packages(art, silent, sources)


def test_a_file_that_lacks_is_named(art, sources):
    (art / "iconify-json-noto-1.2.9" / "icons.json").unlink()
    with pytest.raises(DataError, match=r"has no icons\.json"):
        open_packages(art, silent, sources)


def test_a_damaged_tarball_is_named(tarballs):
    folder, pinned = tarballs
    path = folder / pinned[0].tarball
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"noto-1\.2\.9\.tgz is damaged"):
        open_packages(folder, silent, pinned)


def test_a_folder_that_is_none(tmp_path, sources):
    with pytest.raises(DataError, match="is not a folder"):
        open_packages(tmp_path / "none", silent, sources)


def test_npm_fetches_once_into_the_cache(tarballs, tmp_path, monkeypatch):
    folder, pinned = tarballs
    script = (
        "import shutil, sys\n"
        "name, _, version = sys.argv[2].rpartition('@')\n"
        "file = name.removeprefix('@').replace('/', '-') + '-' + version + '.tgz'\n"
        f"shutil.copy({str(folder)!r} + '/' + file, file)\n"
    )
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", script))
    messages = []
    assert len(open_packages(None, messages.append, pinned)) == len(pinned)
    assert sum(text.startswith("fetching") for text in messages) == len(pinned)
    assert "fetching @iconify-json/noto 1.2.9 (1 of 6)" in messages
    monkeypatch.setenv("PATH", os.devnull)
    assert len(open_packages(None, silent, pinned)) == len(pinned)

    other = (replace(pinned[0], integrity="sha512-other"), *pinned[1:])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DataError, match=r"with the checksum sha512-.*, not sha512-other"):
        open_packages(None, silent, other)


def test_without_npm(tmp_path, sources, monkeypatch):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(MissingDependency, match="there is no npm") as caught:
        open_packages(None, silent, sources)
    assert "Node.js" in caught.value.hint
    assert "--art" in caught.value.hint


def test_without_a_network(tmp_path, sources, monkeypatch):
    script = "import sys\nsys.exit('npm error code ENOTFOUND')\n"
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", fake_npm(tmp_path / "bin", script))
    with pytest.raises(DataError, match=r"could not fetch .*: npm error code ENOTFOUND") as caught:
        open_packages(None, silent, sources)
    assert "network" in caught.value.hint


def test_third_party_art_lists_every_package():
    text = (ROOT / "THIRD_PARTY_ART.md").read_text(encoding="utf-8")
    for source in SOURCES:
        row = next(line for line in text.splitlines() if f"`{source.package}` " in line)
        for part in (source.version, source.maker, source.licence, source.integrity, source.style):
            assert part in row
    assert "Copyright (c) Microsoft Corporation." in text
    assert "THE SOFTWARE IS PROVIDED" in text
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_package_reads_only_what_is_there(art):
    with pytest.raises(DataError, match=r"has no missing\.json"):
        Package(art / "iconify-json-noto-1.2.9").read("missing.json")
