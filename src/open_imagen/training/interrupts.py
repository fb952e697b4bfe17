"""SIGTERM and SIGINT end a run after the step it is in, with a checkpoint."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

log = logging.getLogger("open_imagen.training")


@contextlib.contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first SIGTERM or SIGINT. A second SIGINT is a KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may listen
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop()
        more = ""
        if number == signal.SIGINT:
            more = " Interrupt again to stop at once, without one."
            signal.signal(signal.SIGINT, signal.default_int_handler)
        name = signal.Signals(number).name
        log.warning("%s: stopping after this step, with a checkpoint.%s", name, more)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
