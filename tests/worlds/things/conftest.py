"""Fixtures of the world `things`: small art packages, and a plan of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from open_imagen.worlds.things.sources import SOURCES, Package, content_digest
from things_art import FILES, integrity_of, pack, write_package


@pytest.fixture
def art(tmp_path):
    """A folder with all packages unpacked."""
    folder = tmp_path / "art"
    for source in SOURCES:
        name = source.tarball.removesuffix(".tgz")
        write_package(folder / name, source.package, source.version, FILES[source.package])
    return folder


@pytest.fixture
def sources(art):
    """The pinned packages with the digests of these small ones."""
    return tuple(
        replace(s, digest=content_digest(Package(art / s.tarball.removesuffix(".tgz")), s.files))
        for s in SOURCES
    )


@pytest.fixture
def tarballs(art, sources, tmp_path) -> tuple[Path, tuple]:
    """A folder with all packages as npm packs them, and sources with their integrity."""
    folder = tmp_path / "tarballs"
    folder.mkdir()
    paths = [pack(art / s.tarball.removesuffix(".tgz"), folder / s.tarball) for s in sources]
    pinned = zip(sources, paths, strict=True)
    return folder, tuple(replace(s, integrity=integrity_of(path)) for s, path in pinned)


@pytest.fixture
def planned(art, sources):
    """A plan of the small atlas, and its art."""
    from open_imagen.worlds.things.build import plan_atlas
    from open_imagen.worlds.things.sources import open_packages

    return plan_atlas(open_packages(art, lambda text: None, sources), sources)
