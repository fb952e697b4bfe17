"""The worker: batches, fairness, limits, and pictures that do not depend on their company."""

import queue
import threading
import time

import numpy as np
import pytest
import torch

from open_imagen.cascade.io import load
from open_imagen.cascade.requests import ImageRequest, StageRequest
from open_imagen.cascade.sampling import Sampling
from open_imagen.server.admission import Admission
from open_imagen.server.fairness import FairShare
from open_imagen.server.jobs import (
    DeadlineExceeded,
    Failed,
    Finished,
    Job,
    Progress,
    QueueFull,
    Task,
    WorkerStopping,
)
from open_imagen.server.worker import Observer, Worker
from open_imagen.text.cache import Remembered
from standins import WordEncoder


class Watcher(Observer):
    def __init__(self):
        self.batches = []

    def on_batch(self, stage, size, seconds):
        self.batches.append((stage, size))


def job_of(cascade, heard, prompts=("a red ring",), client="me", stages=None, deadline=60, **given):
    """A job; ``heard`` is called with its events."""
    chosen = cascade.chosen(stages)
    settings = cascade.complete_settings(chosen, {"base": Sampling(**given)})
    images = [ImageRequest(prompt, 10 + k) for k, prompt in enumerate(prompts)]
    return Job(client, "tiny", images, chosen, settings, heard, time.monotonic() + deadline)


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
            found[event.image_index] = event
    return found


def test_what_may_differ_in_a_batch_differs_and_what_may_not_does_not(tiny):
    """One batch of pictures with other guidance, noise level and negative words, and each alone."""
    base, sr = tiny.stages.values()
    settings = tiny.complete_settings([base, sr], None)
    weights = [Sampling(guidance=w).over(settings["base"]).resolve() for w in (2.0, 5.0, 9.0)]
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
    levels = [Sampling(noise_level=a).over(settings["sr256"]).resolve() for a in (0.0, 0.3)]
    orders = [
        StageRequest("a", 4, level, below=picture)
        for level, picture in zip(levels, together, strict=False)
    ]
    together = tiny.draw(sr, orders)
    for k, order in enumerate(orders):
        assert (together[k].int() - tiny.draw(sr, [order])[0].int()).abs().max() <= 1


def test_settings_share_a_batch_only_where_the_sampler_allows():
    base = Sampling(guidance=3.0).resolve()
    assert base.together == Sampling(guidance=7.0, noise_level=0.4).resolve().together
    for other in (
        Sampling(guidance=1.0),
        Sampling(guidance=3.0, steps=9),
        Sampling(guidance=3.0, sampler="ddim"),
        Sampling(guidance=3.0, threshold="static"),
    ):
        assert base.together != other.resolve().together


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


def test_a_full_queue_refuses_and_says_when_there_is_room(tiny, worker):
    gate, events = Gate(tiny), queue.Queue()
    worker.submit(job_of(tiny, events.put, ["a"] * 10))
    assert gate.entered.wait(20)
    with pytest.raises(
        QueueFull, match="10 images are waiting already; the server takes 12"
    ) as full:
        worker.submit(job_of(tiny, events.put, ["b"] * 3, client="you"))
    assert full.value.code == "queue_full"
    assert full.value.retry_after >= 1
    worker.submit(job_of(tiny, events.put, ["b"] * 2, client="you"))
    gate.open.set()


def test_a_client_that_floods_the_queue_leaves_room_for_others(tiny):
    worker = Worker({"tiny": tiny}, queue_size=24)
    gate, events = Gate(tiny), queue.Queue()
    try:
        for _ in range(12):
            worker.submit(job_of(tiny, events.put, ["a"], client="flooder", stages=1))
        with pytest.raises(QueueFull) as full:  # half: as many as it leaves free
            worker.submit(job_of(tiny, events.put, ["a"], client="flooder", stages=1))
        assert full.value.code == "client_limit"
        for _ in range(6):
            worker.submit(job_of(tiny, events.put, ["b"], client="modest", stages=1))
        capped = job_of(tiny, events.put, ["c"], client="capped", stages=1)
        capped.max_queued = 1
        worker.submit(capped)
        again = job_of(tiny, events.put, ["c"], client="capped", stages=1)
        again.max_queued = 1
        with pytest.raises(QueueFull, match="takes 1 of one client"):
            worker.submit(again)
    finally:
        gate.open.set()
        worker.close(30)


def test_the_time_to_come_again_is_measured():
    admission = Admission(10)
    admission.seconds, admission.images = 30.0, 10.0
    assert admission.seconds_for(4) == 12
    assert admission.seconds_for(10_000) == 600
    for _ in range(200):
        admission.seconds += 1.0
        admission.finished()
    assert admission.seconds_for(10) == 11  # it follows what is measured now


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
        assert isinstance(event.error, DeadlineExceeded)


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
    fractions, stages = [], []
    events = queue.Queue()
    worker.submit(job_of(tiny, events.put))
    while not isinstance(event := events.get(timeout=30), Finished):
        assert isinstance(event, Progress)
        fractions.append(event.fraction)
        stages.append(event.stage)
        picture = event.estimate()
        assert (picture.dtype, picture.shape[0]) == (torch.uint8, 3)
    assert fractions == sorted(fractions)
    assert list(dict.fromkeys(stages)) == ["base", "sr256"]


def test_large_pictures_come_in_smaller_batches(tiny):
    worker = Worker({"tiny": tiny}, batch_size=8)
    try:
        heard = queue.Queue()
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
    with pytest.raises(WorkerStopping):
        worker.submit(job_of(tiny, events.put))
    assert not worker.alive


class Preempting:
    """Submits a job of another client after the first steps of the first batch."""

    def __init__(self, cascade, submit, steps=1):
        self.plain, self.submit, self.steps, self.log = cascade.draw, submit, steps, []
        cascade.draw = self

    def __call__(self, stage, requests, watch=None):
        name = requests[0].prompt

        def watched(step, steps, x):
            self.log.append((name, stage.config.name, step))
            if self.submit is not None and step == self.steps:
                submit, self.submit = self.submit, None
                submit()
            watch(step, steps, x)

        return self.plain(stage, requests, watched)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ddpm", "unipc"])
def test_a_preempted_image_is_the_same_to_the_bit(tiny, sampler):
    """A long job is suspended between two steps for another client's, and resumed."""
    given = {"steps": 8, "sampler": sampler, "guidance": 3.0}
    images, logs = [], []
    for preempt in (False, True):
        worker, events, others = Worker({"tiny": tiny}, quantum=0.0), queue.Queue(), queue.Queue()
        short = job_of(tiny, others.put, ("short",), client="you", stages=1, steps=2)
        draw = Preempting(tiny, (lambda w=worker, s=short: w.submit(s)) if preempt else None)
        try:
            worker.submit(job_of(tiny, events.put, ("long",), **given))
            images.append(finished(events, 1)[0])
            if preempt:
                finished(others, 1)
        finally:
            worker.close(30)
            tiny.draw = draw.plain
        logs.append(draw.log)
    plain, preempted = logs
    assert [entry for entry in preempted if entry[0] == "long"] == plain
    first, last = (preempted.index(entry) for entry in (plain[0], plain[-1]))
    assert any(entry[0] == "short" for entry in preempted[first:last])  # between its steps
    assert np.array_equal(np.asarray(images[0].image), np.asarray(images[1].image))
    assert images[0].record == images[1].record


def test_a_long_batch_lets_a_short_one_pass_and_the_short_one_is_done_first(tiny):
    worker, ends = Worker({"tiny": tiny}, quantum=0.0), queue.Queue()

    def heard(name):
        return lambda event: ends.put(name) if isinstance(event, Finished) else None

    short = job_of(tiny, heard("short"), ("short",), client="you", stages=1, steps=2)
    draw = Preempting(tiny, lambda: worker.submit(short))
    worker.submit(job_of(tiny, heard("long"), ("long",), stages=1, steps=40))
    assert [ends.get(timeout=60) for _ in range(2)] == ["short", "long"]
    worker.close(60)
    tiny.draw = draw.plain


def test_a_client_does_not_preempt_itself(tiny):
    worker, events = Worker({"tiny": tiny}, quantum=0.0), queue.Queue()
    again = job_of(tiny, events.put, ("again",), stages=1, steps=2)
    draw = Preempting(tiny, lambda: worker.submit(again))
    worker.submit(job_of(tiny, events.put, ("first",), stages=1, steps=6))
    while sum(isinstance(e, Finished) for e in list(events.queue)) < 2:
        time.sleep(0.01)
    worker.close(60)
    tiny.draw = draw.plain
    assert [name for name, _, _ in draw.log] == ["first"] * 6 + ["again"] * 2


def test_a_suspended_job_can_be_cancelled_and_expires(tiny):
    worker, events, others = Worker({"tiny": tiny}, quantum=0.0), queue.Queue(), queue.Queue()
    long = job_of(tiny, events.put, ("long",), stages=1, steps=50)
    short = job_of(tiny, others.put, ("short",), client="you", stages=1, steps=3)

    def submit():
        worker.submit(short)
        long.deadline = 0.0  # it expires while it is suspended, or at the next step

    draw = Preempting(tiny, submit)
    worker.submit(long)
    finished(others, 1)
    worker.close(60)
    tiny.draw = draw.plain
    failures = [e for e in list(events.queue) if isinstance(e, Failed)]
    assert [type(e.error) for e in failures] == [DeadlineExceeded]
    assert sum(name == "long" for name, _, _ in draw.log) < 5
    assert worker.depth == 0


def test_weights_that_were_offloaded_meanwhile_are_loaded_again(tiny, tmp_path, monkeypatch):
    """One cascade whose stages are read again for each batch: preempted, images stay the same."""
    monkeypatch.setattr("open_imagen.server.worker.OFFLOAD_QUANTUM", 0.0)
    tiny.save(tmp_path / "model")
    images = []
    for preempt in (False, True):
        cascade = load(tmp_path / "model", device="cpu", offload=True)
        cascade.text = Remembered(WordEncoder())
        worker, events, others = (
            Worker({"tiny": cascade}, quantum=0.0),
            queue.Queue(),
            queue.Queue(),
        )
        other = job_of(cascade, others.put, ("a new caption",), client="you")
        Preempting(cascade, (lambda w=worker, o=other: w.submit(o)) if preempt else None)
        worker.submit(job_of(cascade, events.put, ("long",), steps=6))
        images.append(np.asarray(finished(events, 1)[0].image))
        worker.close(60)
        assert not preempt or finished(others, 1)
    assert np.array_equal(*images)


def test_what_is_aborted_is_told_so(tiny):
    worker, events = Worker({"tiny": tiny}), queue.Queue()
    gate = Gate(tiny)
    worker.submit(job_of(tiny, events.put, ["a"] * 3, stages=1))
    assert gate.entered.wait(20)
    worker.abort()
    gate.open.set()
    worker.close(30)
    assert [type(e.error) for e in list(events.queue) if isinstance(e, Failed)] == [WorkerStopping]
    assert not worker.alive


def test_device_time_is_shared_equally_and_not_saved_up():
    share = FairShare()
    share.enter("a", [])
    share.charge("a", 10.0)
    share.enter("b", ["a"])
    assert share.time("b") == 10.0  # it starts from those who are at work
    share.charge("b", 1.0)
    assert share.time("a") < share.time("b")
    share.enter("a", ["b"])
    assert share.time("a") == share.time("b") == 11.0
