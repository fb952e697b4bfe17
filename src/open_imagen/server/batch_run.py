"""A batch that can be suspended between two steps and resumed later.

Sampling keeps its state in local variables (noise, generators, the sampler's history), so a
suspended batch is a thread that waits. Only one thread computes at any time, and the results are
the same to the bit as without a pause.
"""

import threading
import time
from collections.abc import Callable, Sequence

from open_imagen.server.jobs import Task


class Threads:
    """Daemon threads that are used again: without preemption only one is ever started."""

    def __init__(self) -> None:
        self._idle: list[_Thread] = []
        self._lock = threading.Lock()

    def start(self, work: Callable[[], None], done: Callable[[], None]) -> None:
        """Run ``work``, then ``done``, in a free thread or a new one."""
        with self._lock:
            thread = self._idle.pop() if self._idle else _Thread(self)
        thread.give((work, done))

    def put_back(self, thread: "_Thread") -> None:
        """A thread is free again."""
        with self._lock:
            self._idle.append(thread)

    def close(self) -> None:
        """End the threads that are free."""
        with self._lock:
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.give(None)


class _Thread:
    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._given = threading.Semaphore(0)
        self._work: tuple[Callable[[], None], Callable[[], None]] | None = None
        threading.Thread(target=self._loop, name="batch", daemon=True).start()

    def give(self, work: tuple[Callable[[], None], Callable[[], None]] | None) -> None:
        self._work = work
        self._given.release()

    def _loop(self) -> None:
        while self._given.acquire() and self._work is not None:
            work, done = self._work
            work()
            self._threads.put_back(self)
            done()


class BatchRun:
    """One batch of one stage, from its first step to its last."""

    def __init__(
        self, tasks: Sequence[Task], work: Callable[["BatchRun"], None], threads: Threads
    ) -> None:
        """Prepare a batch; its thread starts when it proceeds.

        Args:
            work: draws the batch and handles what comes of it; it never raises.
        """
        self.tasks, self.ended = tasks, False
        self.seconds = 0.0
        """Of computing, without pauses."""
        self._work, self._threads, self._started = work, threads, False
        self._resumed, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._since = 0.0

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for any of its images."""
        return all(task.job.ended for task in self.tasks)

    def proceed(self) -> None:
        """Start or resume, and return when it has been suspended or has ended."""
        self._since = time.monotonic()
        if self._started:
            self._resumed.release()
        else:
            self._started = True
            self._threads.start(lambda: self._work(self), self._end)
        self._stopped.acquire()

    def _end(self) -> None:
        self.ended = True
        self._stopped.release()

    def lap(self) -> float:
        """Seconds of computing since the last call, the start or the last pause."""
        now = time.monotonic()
        took, self._since = now - self._since, now
        self.seconds += took
        return took

    def suspend(self) -> None:
        """Called in its own thread between two steps: let others compute until it is resumed."""
        self._stopped.release()
        self._resumed.acquire()
