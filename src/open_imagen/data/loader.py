"""Batches from a source at an exact position, prefetched by workers."""

import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from open_imagen.errors import TrainingError
from open_imagen.types import Batch, PlannedSource, Source

Make = Callable[[int], Batch]


class Loader:
    """Consecutive batches of a source, from any position on.

    Workers are threads: a batch is a function of its position alone, and decoding releases the
    interpreter. They may finish in any order; batches come in theirs. Of a source whose batches
    are planned in Python (`PlannedSource`), workers are processes that plan, and one thread draws.
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
        """Set up the loader; `after` starts the workers.

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
        if set_group := getattr(source, "set_group", None):
            set_group(batch_size)

    def after(self, index: int) -> Iterator[Batch]:
        """Endless batches; the first step begins with example ``index``."""
        index += self.offset
        if self.workers < 1:
            while True:
                yield self.source.batch(index, self.part)
                index += self.batch_size
        if isinstance(self.source, PlannedSource):
            with Planners(self.source, self.workers, self.part, self.batch_size) as planners:
                yield from self._threaded(index, planners.batch, 1)
        else:
            yield from self._threaded(
                index, lambda place: self.source.batch(place, self.part), self.workers
            )

    def _threaded(self, index: int, make: Make, threads: int) -> Iterator[Batch]:
        # One short queue per thread, read in turn: thread k makes batches k, k + threads, ...
        stop = threading.Event()
        lanes: list[queue.Queue[Batch | BaseException]] = [
            queue.Queue(max(1, self.ahead // threads)) for _ in range(threads)
        ]

        def work(lane: int) -> None:
            place = index + lane * self.batch_size
            while not stop.is_set():
                made: Batch | BaseException
                try:
                    made = make(place)
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
                place += threads * self.batch_size

        running = [
            threading.Thread(target=work, args=(lane,), daemon=True) for lane in range(threads)
        ]
        for thread in running:
            thread.start()
        try:
            lane = 0
            while True:
                made = lanes[lane].get()
                if isinstance(made, BaseException):
                    raise made
                yield made
                lane = (lane + 1) % threads
        finally:
            stop.set()
            for thread in running:
                thread.join()


class Planners:
    """Processes that plan the batches of a source some steps ahead."""

    def __init__(self, source: PlannedSource, processes: int, part: int, stride: int) -> None:
        """Start the processes.

        Args:
            part: examples of a batch.
            stride: how far apart batches begin.
        """
        self.source, self.part, self.stride = source, part, stride
        self.ahead = 2 * processes
        self._plans: dict[int, Future[Any]] = {}
        # Not forked: this process may hold a GPU, or threads.
        self._pool = ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), _take, (source,)
        )

    def __enter__(self) -> "Planners":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def batch(self, place: int) -> Batch:
        """The batch from ``place`` on; asked for in their order.

        Raises:
            TrainingError: a process has died.
        """
        try:
            for later in range(place, place + self.ahead * self.stride, self.stride):
                if later not in self._plans:
                    self._plans[later] = self._pool.submit(_plan, later, self.part)
            plan = self._plans.pop(place).result()
        except BrokenProcessPool as error:
            raise TrainingError(
                "A process that plans batches has died: it was killed, perhaps for want of memory.",
                "Run the same command again; with a smaller train.workers less memory is needed.",
            ) from error
        return self.source.draw(plan)


_source: list[PlannedSource] = []
"""What a planning process plans for."""


def _take(source: PlannedSource) -> None:
    torch.set_num_threads(1)
    _source[:] = [source]


def _plan(start: int, size: int) -> Any:
    return _source[0].plan(start, size)
