"""Captioned images: the scene world, folders, shards, mixtures, and the loader that feeds them."""

from open_imagen.data import dreambooth, folder, huggingface, mixture, shards, synthetic
from open_imagen.data.registry import SOURCES, open_source

__all__ = [
    "SOURCES",
    "dreambooth",
    "folder",
    "huggingface",
    "mixture",
    "open_source",
    "shards",
    "synthetic",
]
