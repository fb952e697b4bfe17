"""API keys: read from a file, compared in constant time, each with limits of its own."""

import codecs
import hashlib
import hmac
import re
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from open_imagen.errors import ConfigError, DataError, OpenImagenWarning

ANYONE = "anyone"
"""The owner of images where no keys are in use."""
MIN_KEY_LENGTH = 16
KEY = re.compile(r"[A-Za-z0-9._~+/=-]+")
"""What a bearer token can consist of (RFC 6750)."""
COMMENT = re.compile(r"(^|\s)#.*")
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks with which editors begin a text file."""


@dataclass(frozen=True)
class Client:
    """Who sends a request."""

    name: str
    """For logs: the name in the key file, or the start of the owner's digest."""
    owner: str
    """Whose images these are: a digest of the key, so that it does not depend on the file."""
    account: str
    """Whose device time and places in the queue these are: the owner, or an address."""
    max_queued: int | None = None
    """Images that may wait or be drawn at once; None: the server's own limit."""
    images_per_hour: float | None = None
    """None: the server's own limit."""


@dataclass(frozen=True)
class Keys:
    """API keys, by digest."""

    clients: dict[bytes, Client] = field(repr=False)

    def client(self, key: str) -> Client | None:
        """Whose key it is. All keys are compared, whichever of them fits."""
        given, found = _digest(key), None
        for known, client in self.clients.items():
            if hmac.compare_digest(given, known):
                found = client
        return found

    @property
    def names(self) -> list[str]:
        """Of the keys' holders, in the order of the file."""
        return [client.name for client in self.clients.values()]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def owner_of(key: str) -> str:
    """The owner of the images that are made with a key."""
    return "key-" + hashlib.sha256(f"gallery owner {key}".encode()).hexdigest()[:32]


def parse_keys(lines: Sequence[str]) -> Keys:
    """Keys from lines ``[NAME:]KEY [queue=N] [images-per-hour=N]``; ``#`` begins a comment.

    Raises:
        ConfigError: a line is wrong, or there is no key.
    """
    clients: dict[bytes, Client] = {}
    for number, line in enumerate(lines, 1):
        text = COMMENT.sub("", line).strip()
        if not text:
            continue
        key, client = _parse_line(text, f"Line {number} of the key file")
        if _digest(key) in clients:
            raise ConfigError(
                f"Line {number} of the key file: this key stands in the file twice.",
                "Give every client a key of its own.",
            )
        clients[_digest(key)] = client
    if not clients:
        raise ConfigError("The key file holds no key.", "Write one on each line.")
    return Keys(clients)


def _parse_line(text: str, where: str) -> tuple[str, Client]:
    head, *options = re.sub(r"\s*:\s*", ":", text, count=1).split()
    name, colon, key = head.rpartition(":")
    if ":" in name or not KEY.fullmatch(key):
        raise ConfigError(
            f"{where}: a key consists of letters, digits and - . _ ~ + / =, and a name before it "
            "ends with the line's only colon.",
            "Write NAME:KEY or KEY. Make a key with: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    if len(key) < MIN_KEY_LENGTH:
        raise ConfigError(
            f"{where}: a key needs at least {MIN_KEY_LENGTH} characters.",
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    limits = {"queue": 0, "images-per-hour": 0}
    for option in options:
        setting, _, value = option.partition("=")
        if setting not in limits or not re.fullmatch(r"[1-9][0-9]{0,8}", value):
            raise ConfigError(
                f"{where}: {option!r} is no limit.",
                "Write queue=N or images-per-hour=N after the key, N from 1 on.",
            )
        limits[setting] = int(value)
    owner = owner_of(key)
    return key, Client(
        name if colon and name else owner[:12],
        owner,
        owner,
        limits["queue"] or None,
        limits["images-per-hour"] or None,
    )


def read_keys(file: Path) -> Keys:
    """Keys from a text file, in UTF-8 or with a byte order mark. Warns if others may read it.

    Raises:
        DataError: it cannot be read.
        ConfigError: it holds no key, or one that cannot be used.
    """
    try:
        data = file.read_bytes()
        mode = file.stat().st_mode
    except OSError as error:
        raise DataError(f"Cannot read the key file {file}: {error.strerror}.") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        warnings.warn(
            f"Every user of this machine may read or write the key file {file}. Run: "
            f"chmod 600 {file}",
            OpenImagenWarning,
            stacklevel=2,
        )
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"The key file {file} is not text in UTF-8.") from error
    return parse_keys(text.splitlines())
