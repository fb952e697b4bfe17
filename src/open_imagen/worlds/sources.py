"""Data sources by name, those of the worlds among them: importing this registers them."""

from open_imagen.data.registry import open_source
from open_imagen.worlds.shapes import source as shapes
from open_imagen.worlds.things import source as things

__all__ = ["open_source", "shapes", "things"]
