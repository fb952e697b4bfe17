"""Every error and warning a user can meet. Errors share one base class, and carry a hint.

OpenImagenError
|-- ConfigError          a value in a config file or on the command line is wrong
|   `-- UnknownName      a sampler, stage, encoder ... we have never heard of
|-- DataError            a picture or a dataset cannot be read as described
|-- CheckpointError      weights or a checkpoint are missing, damaged, or made for another model
|-- OutputError          a result cannot be written where it was asked for
|-- SamplingError        an image cannot be sampled
|   `-- StopSampling     raised by a progress callback, to stop
|-- TrainingError        a training run cannot go on
`-- MissingDependency    an optional package or file is needed for this

OpenImagenWarning is every warning of ours that is meant for users.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class OpenImagenError(Exception):
    """Something the user can put right. Commands show it without a traceback."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(OpenImagenError, ValueError):
    """A setting is wrong."""


class UnknownName(ConfigError):
    """A name that is in no table."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Choose from: {', '.join(known)}."
        super().__init__(f"There is no {kind} called {name!r}.", hint)


class DataError(OpenImagenError):
    """A picture or a dataset cannot be read as described."""


class CheckpointError(OpenImagenError):
    """Weights or a checkpoint are missing, damaged, or made for another model."""


class OutputError(OpenImagenError, OSError):
    """A result cannot be written where it was asked for."""


class SamplingError(OpenImagenError):
    """An image cannot be sampled."""


class StopSampling(SamplingError):
    """A progress callback raises it to stop; it reaches whoever called `generate`."""

    def __init__(self, message: str = "Sampling was stopped.", hint: str = "") -> None:
        super().__init__(message, hint)


class TrainingError(OpenImagenError):
    """A training run cannot go on."""


class MissingDependency(OpenImagenError, ImportError):
    """An optional package or file is needed for this."""


class OpenImagenWarning(UserWarning):
    """Something the user should know; the work goes on. Commands show it as one line."""


def install_hint(extra: str) -> str:
    """How to install an extra of this package, which comes from its source code alone.

    >>> install_hint("serve")
    "In the folder of open_imagen's source code, run: pip install -c constraints.txt '.[serve]'"
    """
    return (
        "In the folder of open_imagen's source code, run: "
        f"pip install -c constraints.txt '.[{extra}]'"
    )
