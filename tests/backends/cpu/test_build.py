"""Compiling the kernels: where to, and what is said where it cannot be done."""

import pytest

from open_imagen.backends.cpu import build
from open_imagen.errors import MissingDependency


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OPEN_IMAGEN_CACHE", str(tmp_path / "cache"))
    build.library.cache_clear()
    yield tmp_path / "cache"
    monkeypatch.undo()
    build.library.cache_clear()


def test_without_a_compiler_there_is_one_message(monkeypatch, cache):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingDependency, match=r"no C\+\+ compiler 'no-such-compiler'") as error:
        build.library()
    assert "g++" in error.value.hint
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(MissingDependency, match=r"false does not build our kernels"):
        build.library()
    assert not list(cache.iterdir())
    monkeypatch.undo()
    build.library.cache_clear()
    assert build.library()


def test_what_is_in_the_cache_is_not_compiled_again(monkeypatch, cache):
    """A file of the right name in $OPEN_IMAGEN_CACHE is loaded; a damaged one is named."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    cache.mkdir()
    file = cache / f"kernels-{build._fingerprint()}.so"
    file.write_bytes(b"no library")
    with pytest.raises(MissingDependency, match="cannot be loaded") as error:
        build.library()
    assert str(file) in str(error.value)
    assert "Remove it" in error.value.hint
