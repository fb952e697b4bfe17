"""Captioned images: folders, shards, mixtures, and the loader that feeds them."""

from open_imagen.data import dreambooth, folder, huggingface, mixture, shards
from open_imagen.data.registry import SOURCES, open_source

__all__ = [
    "SOURCES",
    "dreambooth",
    "folder",
    "huggingface",
    "mixture",
    "open_source",
    "shards",
]
