"""Captioned images: the scene world, folders, and the loader that feeds them."""

from open_imagen.data import synthetic
from open_imagen.data.registry import SOURCES, open_source

__all__ = ["SOURCES", "open_source", "synthetic"]
