"""The public face of the network presets: names() and build(name)."""

from open_imagen.models import build, names

__all__ = ["build", "names"]
