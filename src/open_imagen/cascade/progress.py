"""Progress of sampling: the callback that callers may pass, and a bar.

A callback is called as ``progress(stage, step, steps, preview)`` after each estimate of the clean
images:

    stage     the stage's name
    step      how many steps are done, from 1; heun and heun_sde make two estimates a step
    steps     of all batches of the stage together
    preview   the estimate [B, C, H, W], float32, mostly in [-1, 1]: RGB, or premultiplied RGBA. A
              copy: it may be kept, and what is done to it changes nothing

It returns None to go on, or a tensor of the preview's shape to go on with that estimate instead. To
stop, it raises `StopSampling`, or any other exception; it reaches whoever called `generate`.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from torch import Tensor

from open_imagen.errors import ConfigError

Progress = Callable[[str, int, int, Tensor], Tensor | None]
WIDTH = 30
"""Characters of a bar."""


@contextmanager
def as_callback(progress: Any) -> Iterator[Progress | None]:
    """The callback for what a caller passed: True is a bar, False and None are none.

    Raises:
        ConfigError: it is none of these.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        bar = Bar(sys.stderr)
        try:
            yield bar
        finally:
            bar.close()
    elif callable(progress):
        yield progress
    else:
        raise ConfigError(
            f"progress = {progress!r} must be True, or callable(stage, step, steps, preview)."
        )


class Bar:
    """A bar of text for each stage: redrawn in a terminal or notebook, one line elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        kernel = type(stream).__module__.startswith("ipykernel")
        self.is_redrawn = kernel or stream.isatty()
        self._stage, self._started, self._open = "", 0.0, False

    def __call__(self, stage: str, step: int, steps: int, preview: Tensor) -> None:
        """Show a step; see the callback above."""
        if stage != self._stage:
            self.close()
            self._stage, self._started = stage, time.monotonic()
        if not self.is_redrawn and step < steps:
            return
        done = WIDTH * step // steps
        seconds = time.monotonic() - self._started
        line = f"{stage:8} [{'#' * done}{'.' * (WIDTH - done)}] {step}/{steps} {seconds:.1f} s"
        self.stream.write(f"\r{line}" if self.is_redrawn else f"{line}\n")
        self.stream.flush()
        self._open = self.is_redrawn

    def close(self) -> None:
        """End the line of the last bar."""
        if self._open:
            self.stream.write("\n")
            self._open = False
