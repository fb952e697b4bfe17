"""Open Imagen: type a sentence, get a picture.

>>> import open_imagen as oi
>>> cascade = oi.load("scenes")                                     # doctest: +SKIP
>>> cascade.generate(["a red circle above a blue square"]).images   # doctest: +SKIP

Nothing is loaded before it is used: importing this package does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_imagen import networks
    from open_imagen.cascade.cascade import Cascade
    from open_imagen.cascade.io import load
    from open_imagen.cascade.joining import join
    from open_imagen.cascade.output import GenerationOutput
    from open_imagen.cascade.runtime import RuntimeConfig
    from open_imagen.cascade.sampling import Sampling
    from open_imagen.errors import OpenImagenError, OpenImagenWarning, StopSampling
    from open_imagen.exporters.export import export
    from open_imagen.exporters.hub import push
    from open_imagen.version import __version__

_HOMES = {
    "Cascade": "open_imagen.cascade.cascade",
    "GenerationOutput": "open_imagen.cascade.output",
    "OpenImagenError": "open_imagen.errors",
    "OpenImagenWarning": "open_imagen.errors",
    "RuntimeConfig": "open_imagen.cascade.runtime",
    "Sampling": "open_imagen.cascade.sampling",
    "StopSampling": "open_imagen.errors",
    "__version__": "open_imagen.version",
    "export": "open_imagen.exporters.export",
    "join": "open_imagen.cascade.joining",
    "load": "open_imagen.cascade.io",
    "push": "open_imagen.exporters.hub",
}

__all__ = [
    "Cascade",
    "GenerationOutput",
    "OpenImagenError",
    "OpenImagenWarning",
    "RuntimeConfig",
    "Sampling",
    "StopSampling",
    "__version__",
    "export",
    "join",
    "load",
    "networks",
    "push",
]


def __getattr__(name: str) -> Any:
    if name == "networks":
        return import_module("open_imagen.networks")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'open_imagen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
