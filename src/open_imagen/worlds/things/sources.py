"""The pinned art packages: what they are, where they are found, and how they are checked."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from open_imagen.errors import DataError, MissingDependency
from open_imagen.storage import atomic, cache_directory


@dataclass(frozen=True)
class Source:
    """One npm package.

    Attributes:
        package, version: as the npm registry names them.
        integrity: of the package's tarball, as the registry publishes it (sha512, base64).
        digest: SHA-256 of the files that we read (``content_digest``), for unpacked packages.
        style: which style its pictures have; "" for the package of names.
        files: what we read, as glob patterns inside the package.
        names_from: package whose ``chars.json`` says which code point a picture's name means, if
            this package's own file is empty.
    """

    package: str
    version: str
    integrity: str
    digest: str
    style: str
    licence: str
    maker: str
    files: tuple[str, ...]
    names_from: str = ""

    @property
    def vector(self) -> bool:
        """Whether its pictures can be rendered at any size."""
        return "icons.json" in self.files

    @property
    def tarball(self) -> str:
        """The file name that `npm pack` gives it."""
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


GOOGLE, MICROSOFT = "Google", "Microsoft Corporation"
ICONS = ("icons.json", "chars.json")
SOURCES = (
    Source(
        "@iconify-json/noto",
        "1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        "6ea84582683850841055af035db31bfc608e4ee7b8d0b70704e14c3d8ee26b90",
        "drawn",
        "Apache-2.0",
        GOOGLE,
        ICONS,
    ),
    Source(
        "@iconify-json/noto-v1",
        "1.2.5",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        "3025b46543132ece635da53ceb2a3b03f2757cb928b20bce495b92483b50ede8",
        "old",
        "Apache-2.0",
        GOOGLE,
        ICONS,
        names_from="@iconify-json/noto",
    ),
    Source(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        "f87b56788dcfb7806644de238b3c3c04569b1f90991b196201ec553cf59c2199",
        "flat",
        "MIT",
        MICROSOFT,
        ICONS,
    ),
    Source(
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        "6eea04612a5e1aa722507745b88905f11e4fe24f293555b8dd544f722e05a54b",
        "shiny",
        "MIT",
        MICROSOFT,
        ICONS,
        names_from="@iconify-json/fluent-emoji-flat",
    ),
    Source(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        "b9c2a5e3f4a25f6bec7736866d481253e33334660bd9a61c6b2f3078364627d6",
        "3d",
        "MIT",
        MICROSOFT,
        ("assets/*.webp",),
    ),
    Source(
        "emojibase-data",
        "17.0.0",
        "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
        "b7c9c0050d2cf666708b5cc44491b06a07d958d72bf0311d95c0f0e7ed36c529",
        "",
        "MIT",
        "Miles Johnson",
        ("en/data.json",),
    ),
)
STYLES = tuple(source.style for source in SOURCES if source.style)


class Package:
    """The files of one package, unpacked in a folder or inside its tarball."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, bytes] = {}
        if path.is_dir():
            return
        try:
            with tarfile.open(path, "r:gz") as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    if file is not None:  # every name begins with one folder, "package/"
                        self._files[member.name.partition("/")[2]] = file.read()
        except (OSError, tarfile.TarError, EOFError) as error:
            raise DataError(
                f"{path} is damaged: {error}.", "Remove it and fetch it again."
            ) from error

    def names(self, pattern: str) -> list[str]:
        """Names that match a glob pattern, sorted."""
        if self.path.is_dir():
            found = (path.relative_to(self.path).as_posix() for path in self.path.glob(pattern))
        else:
            found = (name for name in self._files if Path(name).match(pattern))
        return sorted(found)

    def read(self, name: str) -> bytes:
        """One file.

        Raises:
            DataError: the package has no such file.
        """
        try:
            return self._files[name] if self._files else (self.path / name).read_bytes()
        except (KeyError, OSError) as error:
            raise DataError(f"{self.path} has no {name}.", "Fetch the package again.") from error

    @property
    def identity(self) -> tuple[str, str]:
        """The package's name and version, as it says itself; empty if it does not say."""
        try:
            values = json.loads(self.read("package.json"))
            return str(values["name"]), str(values["version"])
        except (DataError, ValueError, KeyError, TypeError):
            return "", ""


def content_digest(package: Package, patterns: tuple[str, ...]) -> str:
    """SHA-256 of the files that match, with their names.

    Raises:
        DataError: nothing matches one of the patterns.
    """
    digest = hashlib.sha256()
    for pattern in patterns:
        names = package.names(pattern)
        if not names:
            raise DataError(f"{package.path} has no {pattern}.", "Fetch the package again.")
        for name in names:
            content = package.read(name)
            digest.update(f"{name}\n{len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def integrity(path: Path) -> str:
    """A file's SHA-512 as npm writes it."""
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


ProgressCallback = Callable[[str], None]


def open_packages(
    art: Path | None, progress: ProgressCallback, sources: tuple[Source, ...] = SOURCES
) -> dict[str, Package]:
    """Every package by name, from ``art`` or fetched with npm into the cache directory.

    Raises:
        DataError: a package is missing from ``art``, damaged, or of another version.
        MissingDependency: npm is needed and missing, or the network is.
    """
    places = _found_in(art, sources) if art is not None else _fetched(progress, sources)
    opened = {}
    for source in sources:
        progress(f"checking {source.package}")
        package = places[source.package]
        digest = content_digest(package, source.files)
        if digest != source.digest:
            raise DataError(
                f"{package.path} is not {source.package} {source.version} as published: the "
                f"SHA-256 of its files is {digest}, not {source.digest}.",
                "Remove it and fetch the package again.",
            )
        opened[source.package] = package
    return opened


def _found_in(art: Path, sources: tuple[Source, ...]) -> dict[str, Package]:
    if not art.is_dir():
        raise DataError(f"--art {art} is not a folder.", "Name a folder of npm packages.")
    wanted = {source.package: source for source in sources}
    found: dict[str, Package] = {}
    other: dict[str, str] = {}
    for path in _candidates(art):
        package = Package(path)
        name, version = package.identity
        if name in wanted and version == wanted[name].version:
            found.setdefault(name, package)
        elif name in wanted:
            other[name] = version
    for source in sources:
        if source.package in found:
            continue
        if source.package in other:
            raise DataError(
                f"{art} holds {source.package} {other[source.package]}, but the atlas is made "
                f"from version {source.version}.",
                f"Run there: npm pack {source.package}@{source.version}",
            )
        raise DataError(
            f"{art} does not hold the package {source.package} {source.version}.",
            f"Run there: npm pack {source.package}@{source.version}",
        )
    return found


def _candidates(art: Path) -> Iterator[Path]:
    """Tarballs and unpacked packages, at most three folders down (node_modules/@scope/name)."""
    yield from sorted(art.glob("*.tgz"))
    for pattern in ("package.json", "*/package.json", "*/*/package.json", "*/*/*/package.json"):
        yield from sorted(path.parent for path in art.glob(pattern))


def _fetched(progress: ProgressCallback, sources: tuple[Source, ...]) -> dict[str, Package]:
    folder = cache_directory() / "art"
    found = {}
    for number, source in enumerate(sources, 1):
        path = folder / source.tarball
        if not path.is_file() or integrity(path) != source.integrity:
            progress(f"fetching {source.package} {source.version} ({number} of {len(sources)})")
            _npm_pack(source, path)
        found[source.package] = Package(path)
    return found


def _npm_pack(source: Source, path: Path) -> None:
    npm = shutil.which("npm")
    by_hand = (
        f"Or run npm pack {source.package}@{source.version} on another machine, also for the other "
        "packages that THIRD_PARTY_ART.md lists, and give their folder with --art."
    )
    if npm is None:
        raise MissingDependency(
            "The art comes as npm packages, and there is no npm.",
            f"Install Node.js, which brings npm. {by_hand}",
        )
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", f"{source.package}@{source.version}", "--silent"]
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        tarballs = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not tarballs:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise DataError(
                f"npm could not fetch {source.package}@{source.version}: "
                f"{lines[0] if lines else f'it ended with {done.returncode}'}",
                f"Check the network and npm's registry setting. {by_hand}",
            )
        if integrity(tarballs[0]) != source.integrity:
            raise DataError(
                f"npm fetched {source.package}@{source.version} with the checksum "
                f"{integrity(tarballs[0])}, not {source.integrity}.",
                "The registry serves another file than the published one; use another registry.",
            )
        with atomic(path) as temporary:
            shutil.copyfile(tarballs[0], temporary)
