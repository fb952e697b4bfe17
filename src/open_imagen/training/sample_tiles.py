"""The images of sample sheets, small and encoded for a page."""

import base64
import io
from pathlib import Path

from PIL import Image

from open_imagen.errors import OpenImagenError
from open_imagen.storage import read_json
from open_imagen.training.callbacks.samples import CAPTIONS, COLUMNS, FOLDER, sheets

MAX_SHEETS = 40
"""Steps that a page shows; of more, evenly spread ones and the newest."""
MAX_SIDE = 192
"""Larger images are scaled down."""
MAX_TILES = 24
"""Images of a step that a page shows."""


class SampleTiles:
    """Reads the sheets of a run and keeps what it has encoded."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._encoded: dict[Path, list[str]] = {}

    def read(self) -> dict[str, object]:
        """{"captions": [...], "steps": [{"images": N, "tiles": ["data:image/webp;...", ...]}]}."""
        captions = self._captions()
        if not captions:
            return {"captions": [], "steps": []}
        chosen = _spread(sorted(sheets(self.run).items()), MAX_SHEETS)
        paths = {path for _, path in chosen}
        self._encoded = {path: tiles for path, tiles in self._encoded.items() if path in paths}
        steps = []
        for images, path in chosen:
            if path not in self._encoded:
                self._encoded[path] = _tiles(path, len(captions))
            if self._encoded[path]:
                steps.append({"images": images, "tiles": self._encoded[path][:MAX_TILES]})
        return {"captions": captions[:MAX_TILES], "steps": steps}

    def _captions(self) -> list[str]:
        try:
            found = read_json(self.run / FOLDER / CAPTIONS)["captions"]
        except (OpenImagenError, OSError, KeyError, TypeError):
            return []
        return [str(caption) for caption in found]


def _spread(found: list[tuple[int, Path]], number: int) -> list[tuple[int, Path]]:
    """At most ``number`` of them, evenly spread, the first and the last among them."""
    if len(found) <= number:
        return found
    last = len(found) - 1
    return [found[round(k * last / (number - 1))] for k in range(number)]


def _tiles(path: Path, number: int) -> list[str]:
    """The images of a sheet as data URLs; none if it cannot be read."""
    rows = -(-number // COLUMNS)
    try:
        with Image.open(path) as opened:
            sheet = opened.convert("RGB")
    except (OSError, ValueError):
        return []
    width, height = sheet.width // COLUMNS, sheet.height // rows
    if not width or not height:
        return []
    tiles = []
    for k in range(number):
        left, top = k % COLUMNS * width, k // COLUMNS * height
        tile = sheet.crop((left, top, left + width, top + height))
        tile.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        tile.save(buffer, "WEBP", quality=88, method=4)
        data = base64.b64encode(buffer.getvalue()).decode("ascii")
        tiles.append(f"data:image/webp;base64,{data}")
    return tiles
