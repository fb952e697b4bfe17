"""API keys from a file, compared in constant time."""

import hashlib
import hmac
from pathlib import Path

from open_imagen.errors import ConfigError, DataError

ANYONE = "anyone"
"""The client where no keys are asked for."""


class Keys:
    """The keys of a file: one on each line, perhaps after a name and a colon; # begins a remark."""

    def __init__(self, lines: list[str]) -> None:
        self._digests: dict[bytes, str] = {}
        for number, line in enumerate(lines, 1):
            text = line.split("#")[0].strip()
            if text:
                name, _, key = text.rpartition(":")
                if len(key.strip()) < 16:
                    raise ConfigError(
                        f"Line {number} of the key file: a key needs at least 16 characters.",
                        "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())'",
                    )
                self._digests[_digest(key.strip())] = name.strip() or f"key {number}"
        if not self._digests:
            raise ConfigError("The key file holds no key.", "Write one on each line.")

    def client(self, key: str) -> str | None:
        """Whose key it is. All keys are looked at, whatever the first ones say."""
        given, found = _digest(key), None
        for known, name in self._digests.items():
            if hmac.compare_digest(given, known):
                found = name
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def read_keys(file: Path) -> Keys:
    """Keys from a file.

    Raises:
        DataError: it cannot be read.
        ConfigError: it holds no key, or one that is too short.
    """
    try:
        return Keys(file.read_text(encoding="utf-8").splitlines())
    except OSError as error:
        raise DataError(f"Cannot read the key file {file}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"The key file {file} is not text in UTF-8.") from error
