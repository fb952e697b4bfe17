"""Records of a run: files of one JSON object a line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Add a line to a record; its folder is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
