"""Which client comes next: device time is shared equally among those who have work.

Every client has a virtual time: the seconds of device time that it has used. The one with the
least comes next. A client that returns after a pause starts from the least of those who are at
work, so that nobody saves up time (start-time fair queueing, Goyal et al. 1996).
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from open_imagen.server.batch_run import BatchRun
from open_imagen.server.jobs import Task

MAX_CLIENTS = 10_000
"""Clients whose virtual time is remembered."""


class FairShare:
    """Virtual times of clients."""

    def __init__(self) -> None:
        self._used: OrderedDict[str, float] = OrderedDict()
        self._floor = 0.0

    def enter(self, account: str, active: Iterable[str]) -> None:
        """A client has work again; ``active`` are those who had some already."""
        others = [self._used.get(one, 0.0) for one in active]
        self._floor = max(self._floor, min(others, default=self._floor))
        self._used[account] = max(self._floor, self._used.get(account, 0.0))
        self._used.move_to_end(account)
        while len(self._used) > MAX_CLIENTS:
            self._used.popitem(last=False)

    def charge(self, account: str, seconds: float) -> None:
        """A client has used device time."""
        self._used[account] = self._used.get(account, self._floor) + seconds

    def time(self, account: str) -> float:
        """The virtual time of a client."""
        return self._used.get(account, self._floor)

    def earliest(self, tasks: Iterable[Task]) -> float:
        """The least virtual time among the clients of tasks that somebody waits for."""
        times = (self.time(t.job.account) for t in tasks if not t.job.ended)
        return min(times, default=-math.inf)


def pick_batch(
    waiting: Iterable[Task], share: FairShare, room: Callable[[Task], int]
) -> list[Task]:
    """The next batch: led by the client whose turn it is, filled from all clients in turn.

    Args:
        room: how many images go into a batch with this one.
    """
    queues: dict[str, list[Task]] = {}
    for task in sorted(waiting, key=lambda task: task.number):
        queues.setdefault(task.job.account, []).append(task)
    if not queues:
        return []
    turn = sorted(queues, key=lambda one: (share.time(one), queues[one][0].number))
    lead = queues[turn[0]][0]
    limit, batch = room(lead), [lead]
    fitting = {one: [t for t in queues[one] if t is not lead and t.fits(lead)] for one in turn}
    # The leader's own come last in each round: others have waited longer for their turn.
    order = [*turn[1:], turn[0]]
    while len(batch) < limit and any(fitting.values()):
        for account in order:
            if fitting[account] and len(batch) < limit:
                batch.append(fitting[account].pop(0))
    return batch


def pick_suspended(
    suspended: Sequence[BatchRun], waiting: Sequence[Task], share: FairShare
) -> BatchRun | None:
    """The suspended batch whose client's turn it is; None if a new batch comes first.

    Abandoned ones come before all others, so that they end and free their memory.
    """
    abandoned = next((run for run in suspended if run.abandoned), None)
    if abandoned is not None or not suspended:
        return abandoned
    run = min(suspended, key=lambda run: share.earliest(run.tasks))
    new_is_first = bool(waiting) and share.earliest(waiting) < share.earliest(run.tasks)
    return None if new_is_first else run


def is_ahead(
    running: Sequence[Task], waiting: Iterable[Task], share: FairShare, quantum: float
) -> bool:
    """Whether a batch has used ``quantum`` seconds more than another client that waits."""
    accounts = {task.job.account for task in running}
    others = [t for t in waiting if t.job.account not in accounts and not t.job.ended]
    return bool(others) and share.earliest(others) + quantum < share.earliest(running)
