"""What every record of a number says: hashes of its definition, and versions of what made it."""

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from open_imagen.version import __version__


def digest(values: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of what computed a number."""
    found = {"open_imagen": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "pillow", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def differences(a: Any, b: Any, name: str = "") -> list[str]:
    """Where two records of plain values differ, one line each."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [
            line
            for key in keys
            for line in differences(a.get(key), b.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if a == b else [f"{name} = {a!r} and {b!r}"]
