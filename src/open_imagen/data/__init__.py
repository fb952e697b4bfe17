"""Captioned images: the scene world, folders, and the loader that feeds them."""

from open_imagen.data import folder, synthetic
from open_imagen.data.registry import SOURCES, open_source

__all__ = ["SOURCES", "folder", "open_source", "synthetic"]
