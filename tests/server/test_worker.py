"""The worker: batches, fairness, limits, and pictures that do not depend on their company."""

import queue
import threading
import time

import numpy as np
import pytest
import torch

from open_imagen.cascade.pipeline import StageRequest
from open_imagen.cascade.sampling import Sampling
from open_imagen.server.worker import (
    Expired,
    Failed,
    Finished,
    Full,
    Job,
    Observer,
    Picture,
    Progress,
    Stopping,
    Worker,
)


class Watcher(Observer):
    def __init__(self):
        self.batches = []

    def batch(self, stage, size, seconds):
        self.batches.append((stage, size))


def job_of(cascade, heard, prompts=("a red ring",), client="me", stages=None, deadline=60, **given):
    chosen = cascade.chosen(stages)
    settings = cascade.complete_settings(chosen, {"base": Sampling(**given)})
    pictures = [Picture(prompt, "", 10 + k) for k, prompt in enumerate(prompts)]
    return Job(client, "tiny", pictures, chosen, settings, heard, time.monotonic() + deadline)


class Gate:
    """Holds the worker in its first batch until the test has queued everything."""

    def __init__(self, cascade):
        self.open, self.entered = threading.Event(), threading.Event()
        self.plain, self.order = cascade.draw, []
        cascade.draw = self

    def __call__(self, stage, orders, watch=None):
        self.order.append((stage.config.name, [one.prompt for one in orders]))
        self.entered.set()
        assert self.open.wait(20)
        return self.plain(stage, orders, watch)


@pytest.fixture
def worker(tiny):
    opened = Worker({"tiny": tiny}, batch_size=4, queue_size=12, observer=Watcher())
    yield opened
    opened.close(30)


def finished(events, number):
    found = {}
    while len(found) < number:
        event = events.get(timeout=30)
        assert not isinstance(event, Failed), event.error
        if isinstance(event, Finished):
            found[event.picture] = event
    return found


def test_what_may_differ_in_a_batch_differs_and_what_may_not_does_not(tiny):
    """One batch of pictures with other guidance, noise level and negative words, and each alone."""
    base, sr = tiny.stages.values()
    settings = tiny.complete_settings([base, sr], None)
    weights = [Sampling(guidance=w).over(settings["base"]).complete() for w in (2.0, 5.0, 9.0)]
    orders = [
        StageRequest("a red ring", 1, weights[0]),
        StageRequest("a blue star, not small at all", 2, weights[1], "green"),
        StageRequest("a hat", 3, weights[2], "a big brown box"),
    ]
    together = tiny.draw(base, orders)
    for k, order in enumerate(orders):
        alone = tiny.draw(base, [order])[0]
        assert (together[k].int() - alone.int()).abs().max() <= 1
    assert (together[0].int() - together[1].int()).abs().max() > 20
    levels = [Sampling(noise_level=a).over(settings["sr256"]).complete() for a in (0.0, 0.3)]
    orders = [
        StageRequest("a", 4, level, below=picture)
        for level, picture in zip(levels, together, strict=False)
    ]
    together = tiny.draw(sr, orders)
    for k, order in enumerate(orders):
        assert (together[k].int() - tiny.draw(sr, [order])[0].int()).abs().max() <= 1


def test_settings_share_a_batch_only_where_the_sampler_allows():
    base = Sampling(guidance=3.0)
    assert base.together == Sampling(guidance=7.0, noise_level=0.4).together
    for other in (
        Sampling(guidance=1.0),
        Sampling(guidance=3.0, steps=9),
        Sampling(guidance=3.0, sampler="ddim"),
        Sampling(guidance=3.0, threshold="static"),
    ):
        assert base.together != other.together


def test_a_picture_is_what_generate_makes_of_it(tiny, worker):
    events = queue.Queue()
    worker.submit(job_of(tiny, events.put, ("a red ring", "a blue star"), guidance=3.0))
    found = finished(events, 2)
    made = tiny.generate(
        ["a red ring", "a blue star"], seed=10, settings={"base": Sampling(guidance=3.0)}
    )
    for k in range(2):
        difference = np.asarray(found[k].image).astype(int) - np.asarray(made.images[k])
        assert np.abs(difference).max() <= 1
        assert found[k].record == made.records[k]


def test_requests_share_batches_stage_by_stage(tiny, worker):
    gate, events = Gate(tiny), queue.Queue()
    worker.submit(job_of(tiny, events.put, ("first",)))
    assert gate.entered.wait(20)
    for k in range(3):
        worker.submit(job_of(tiny, events.put, (f"more {k}",), client=f"c{k}", guidance=2.0 + k))
    gate.open.set()
    counted = 0
    while counted < 4:
        counted += isinstance(events.get(timeout=30), Finished)
    names = [name for name, _ in gate.order]
    assert names.count("base") == 2
    assert ("base", 3) in worker.observer.batches
    assert max(size for name, size in worker.observer.batches if name == "sr256") >= 3


def test_a_client_with_much_to_do_does_not_keep_others_waiting(tiny, worker):
    gate, events = Gate(tiny), queue.Queue()
    worker.batch_size = 1
    many = job_of(tiny, events.put, [f"many {k}" for k in range(6)], client="greedy", stages=1)
    worker.submit(many)
    assert gate.entered.wait(20)
    worker.submit(job_of(tiny, events.put, ("modest",), client="modest", stages=1))
    gate.open.set()
    while sum(isinstance(e, Finished) for e in list(events.queue)) < 7:
        time.sleep(0.01)
    assert gate.order[1] == ("base", ["modest"])


def test_a_full_queue_refuses_and_says_how_full_it_is(tiny, worker):
    gate, events = Gate(tiny), queue.Queue()
    worker.submit(job_of(tiny, events.put, ["a"] * 10))
    assert gate.entered.wait(20)
    with pytest.raises(Full, match="10 pictures are waiting already; the server takes 12"):
        worker.submit(job_of(tiny, events.put, ["b"] * 3))
    worker.submit(job_of(tiny, events.put, ["b"] * 2))
    gate.open.set()


def test_a_client_that_has_gone_frees_its_place(tiny, worker):
    gate, events = Gate(tiny), queue.Queue()
    gone = job_of(tiny, events.put, ["a"] * 10)
    worker.submit(gone)
    assert gate.entered.wait(20)
    worker.cancel(gone)
    assert worker.depth == 4  # the batch that is being drawn
    gate.open.set()
    deadline = time.monotonic() + 20
    while not worker.idle and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.idle
    assert not any(isinstance(e, Finished) for e in list(events.queue))
    # Its batch ended at the first step: no stage was finished for nobody.
    assert worker.observer.batches == []


def test_a_job_that_takes_too_long_is_given_up(tiny, worker):
    gate, events = Gate(tiny), queue.Queue()
    worker.submit(job_of(tiny, events.put, deadline=0.05))
    assert gate.entered.wait(20)
    waiting = queue.Queue()
    worker.submit(job_of(tiny, waiting.put, deadline=0.01, client="other"))
    time.sleep(0.1)
    gate.open.set()
    for heard in (events, waiting):
        event = heard.get(timeout=20)
        assert isinstance(event, Failed)
        assert isinstance(event.error, Expired)


def test_a_failure_is_its_own_jobs_alone(tiny, worker):
    plain, events, others = tiny.draw, queue.Queue(), queue.Queue()

    def fails(stage, orders, watch=None):
        if any(one.prompt == "bad" for one in orders):
            raise RuntimeError("out of luck")
        return plain(stage, orders, watch)

    tiny.draw = fails
    gate = Gate(tiny)
    worker.submit(job_of(tiny, others.put, ("first",), stages=1))
    assert gate.entered.wait(20)
    worker.submit(job_of(tiny, events.put, ("bad",), stages=1))
    worker.submit(job_of(tiny, others.put, ("good",), stages=1))
    gate.open.set()
    while not isinstance(event := events.get(timeout=20), Failed):
        pass
    assert str(event.error) == "out of luck"
    while sum(isinstance(e, Finished) for e in list(others.queue)) < 2:
        time.sleep(0.01)
    assert worker.alive


def test_progress_goes_from_the_first_stage_to_the_last(tiny, worker):
    events = queue.Queue()
    worker.submit(job_of(tiny, events.put))
    finished(events, 1)
    shares, stages = [], []
    events = queue.Queue()
    worker.submit(job_of(tiny, events.put))
    while not isinstance(event := events.get(timeout=30), Finished):
        assert isinstance(event, Progress)
        shares.append(event.share)
        stages.append(event.stage)
        picture = event.estimate()
        assert (picture.dtype, picture.shape[0]) == (torch.uint8, 3)
    assert shares == sorted(shares)
    assert list(dict.fromkeys(stages)) == ["base", "sr256"]


def test_large_pictures_come_in_smaller_batches(tiny):
    worker = Worker({"tiny": tiny}, batch_size=8)
    try:
        heard = queue.Queue()
        from open_imagen.server.worker import Task

        small = Task(job_of(tiny, heard.put), 0, 0)
        assert worker._room(small) == 8
        large = Task(job_of(tiny, heard.put), 0, 0)
        large.job.size = (512, 512)
        assert worker._room(large) == 2
    finally:
        worker.close(10)


def test_a_closed_worker_finishes_what_it_has_and_takes_no_more(tiny):
    worker, events = Worker({"tiny": tiny}), queue.Queue()
    worker.submit(job_of(tiny, events.put, ["a"] * 3))
    worker.close(30)
    assert sum(isinstance(e, Finished) for e in list(events.queue)) == 3
    with pytest.raises(Stopping):
        worker.submit(job_of(tiny, events.put))
    assert not worker.alive
