"""Batches from a source at an exact position, made ahead by workers."""

import queue
import threading
from collections.abc import Iterator

from open_imagen.types import Batch, Source


class Loader:
    """Consecutive batches of a source, from any position on.

    Workers are threads: a batch is a function of its position alone, and rendering and decoding
    release the interpreter. They may finish in any order; batches come in theirs.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        workers: int = 1,
        ahead: int = 4,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """
        Args:
            batch_size: examples of a step, over all processes.
            rank: this process's number of ``ranks``; it gets its equal part of every step.
        """
        self.source = source
        self.batch_size = batch_size
        self.part = batch_size // ranks
        self.offset = rank * self.part
        self.workers = workers
        self.ahead = ahead

    def after(self, index: int) -> Iterator[Batch]:
        """Endless batches; the first step begins with example ``index``."""
        index += self.offset
        if self.workers < 1:
            while True:
                yield self.source.batch(index, self.part)
                index += self.batch_size
        yield from self._threaded(index)

    def _threaded(self, index: int) -> Iterator[Batch]:
        # One short queue per worker, read in turn: worker k makes batches k, k + workers, ...
        stop = threading.Event()
        lanes: list[queue.Queue[Batch | BaseException]] = [
            queue.Queue(max(1, self.ahead // self.workers)) for _ in range(self.workers)
        ]

        def work(lane: int) -> None:
            place = index + lane * self.batch_size
            while not stop.is_set():
                made: Batch | BaseException
                try:
                    made = self.source.batch(place, self.part)
                except BaseException as error:  # handed to the reader, who raises it
                    made = error
                while not stop.is_set():
                    try:
                        lanes[lane].put(made, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if isinstance(made, BaseException):
                    return
                place += self.workers * self.batch_size

        threads = [
            threading.Thread(target=work, args=(lane,), daemon=True) for lane in range(self.workers)
        ]
        for thread in threads:
            thread.start()
        try:
            lane = 0
            while True:
                made = lanes[lane].get()
                if isinstance(made, BaseException):
                    raise made
                yield made
                lane = (lane + 1) % self.workers
        finally:
            stop.set()
            for thread in threads:
                thread.join()
