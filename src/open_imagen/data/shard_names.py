"""Which tar files the setting `path` of shards stands for: paths, URLs, patterns and lists."""

import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from open_imagen.data.caption_text import decode_text
from open_imagen.data.remote import shown
from open_imagen.errors import DataError

PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz", ".zip")
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST = 10_000_000
"""Names that a pattern may stand for."""


def expand(pattern: str | tuple[str, ...]) -> list[str]:
    """The tar files that a path, URL, pattern, folder or list of them stands for, in order.

    Braces hold a range or alternatives; ``::`` joins several; a ``.txt`` file lists one a line.

    >>> expand("s3://b/{08..11}.tar")
    ['s3://b/08.tar', 's3://b/09.tar', 's3://b/10.tar', 's3://b/11.tar']
    >>> expand("https://h/{a,b}-{0..1}.tar")
    ['https://h/a-0.tar', 'https://h/a-1.tar', 'https://h/b-0.tar', 'https://h/b-1.tar']

    Raises:
        DataError: there are none, or they cannot be read as shards.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    names = [
        name
        for one in patterns
        for part in one.split("::")
        for braced in _braces(part.strip())
        for name in _files(braced)
    ]
    if not names:
        raise DataError("data.path names no tar file.")
    return list(dict.fromkeys(names))


def _braces(pattern: str) -> Iterator[str]:
    match = BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    before, after = pattern[: match.start()], pattern[match.end() :]
    numbers = RANGE.fullmatch(match[1])
    if numbers:
        first, last = numbers.groups()
        if not 0 <= int(last) - int(first) < MOST:
            raise DataError(
                f"data.path: {{{match[1]}}} is no range of numbers from small to large."
            )
        middles = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    else:
        middles = match[1].split(",")
    for middle in middles:
        yield from _braces(before + middle + after)


def _files(name: str) -> list[str]:
    if name.startswith("pipe:"):
        raise DataError(
            f"data.path = {name!r}: the output of a command cannot be read at any place.",
            "Name the URL itself: http, https, s3, gs, hf and others are read.",
        )
    if name.lower().startswith("file://"):
        name = urllib.request.url2pathname(urllib.parse.urlsplit(name).path)
    if name.lower().endswith(PACKED):
        raise DataError(
            f"{shown(name) if '://' in name else name} is compressed: no example in it can be "
            "read alone.",
            "Unpack it to .tar files (gunzip, unzstd, unzip); images in it are compressed already.",
        )
    if "://" in name:
        return _at_url(name)
    path = Path(name).expanduser()
    if path.suffix == ".txt" and path.is_file():
        return _listed(path)
    names = sorted(map(str, path.glob("*.tar"))) if path.is_dir() else sorted(glob(str(path)))
    if not names:
        raise DataError(f"There is no tar file {name}.", _hint(path))
    return names


def _hint(path: Path) -> str:
    packed = (
        [one.name for one in path.glob("*") if one.name.endswith(PACKED)] if path.is_dir() else []
    )
    if packed:
        return f"It holds {len(packed)} compressed files ({packed[0]}): unpack them to .tar files."
    return "" if not path.is_dir() else 'For a folder of pictures set data.kind = "folder".'


def _at_url(url: str) -> list[str]:
    path = url.split("?", 1)[0]
    if "*" not in path:
        return [url]
    scheme = url.split("://", 1)[0].lower()
    if scheme in ("http", "https"):
        raise DataError(
            f"data.path = {shown(url)!r}: web servers have no list of files for a *.",
            "Write the numbers: {00000..00099}; or name a .txt file with a URL a line.",
        )
    try:
        import fsspec

        files, place = fsspec.core.url_to_fs(url)
        return [f"{scheme}://{name.lstrip('/')}" for name in sorted(files.glob(place))]
    except Exception as error:  # of a network, whatever its library raises
        raise DataError(f"{shown(url)} cannot be listed: {error}.") from error


def _listed(path: Path) -> list[str]:
    try:
        lines = decode_text(path.read_bytes()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The list of shards {path} cannot be read: {error}.") from error
    names = [line.strip() for line in lines]
    return expand(tuple(name for name in names if name and not name.startswith("#")))
