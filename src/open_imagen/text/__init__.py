"""Frozen language models: captions to sequences of embeddings."""

from open_imagen.text.cache import Remembered
from open_imagen.text.encoders import ENCODERS, FrozenEncoder, load_encoder

__all__ = ["ENCODERS", "FrozenEncoder", "Remembered", "load_encoder"]
