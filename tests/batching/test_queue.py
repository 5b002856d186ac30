"""What waits, what it weighs, and what is ahead of whom."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import FakeInstance

from maas.batching.batch import Batch
from maas.batching.pace import Pace
from maas.batching.priority import Priority
from maas.batching.quarantine import Quarantine
from maas.batching.queue import GroupKey, WaitingQueue
from maas.batching.request import Answer, Outcome, Request, Timings
from maas.types import Signature

SIGNATURE = Signature.parse({"x": "float32[batch]"}, {"y": "float32[batch]"}, {})


def ignore(_: Outcome) -> None:
    """A caller who does not look."""


def request(
    deadline: float = 100.0, rows: int = 1, priority: Priority = Priority.STANDARD, place: int = 0
) -> Request:
    made = Request({"x": np.zeros(rows, np.float32)}, rows, deadline, ignore, priority)
    made.order = (deadline, place)
    made.nbytes = 4 * rows
    return made


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 4), st.sampled_from(Priority)), max_size=30),
    st.data(),
)
def test_groups_stay_sorted_and_sums_true(
    plan: list[tuple[float, int, Priority]], data: st.DataObject
) -> None:
    """However requests come and go, each group is in the order of its deadlines and the sums are of what is there."""
    queue = WaitingQueue()
    waiting = [request(*facts, place=place) for place, facts in enumerate(plan)]
    for each in waiting:
        queue.add(each)
    for _ in range(data.draw(st.integers(0, len(waiting)))):
        gone = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        assert queue.remove(gone)
        assert not queue.remove(gone)
    assert len(queue) == len(waiting)
    assert queue.rows == sum(each.rows for each in waiting)
    assert queue.nbytes == sum(each.nbytes for each in waiting)
    for key, group in queue.groups.items():
        assert group
        assert group == sorted(group, key=lambda each: each.order)
        assert all(each.priority is key.priority for each in group)


def test_take_gives_the_first_of_a_group() -> None:
    """The earliest deadlines leave first, and an emptied group is no group."""
    queue = WaitingQueue()
    waiting = [request(deadline, place=place) for place, deadline in enumerate([3.0, 1.0, 2.0])]
    for each in waiting:
        queue.add(each)
    key = GroupKey(Priority.STANDARD, None)
    assert [each.deadline for each in queue.take(key, 2)] == [1.0, 2.0]
    assert [each.deadline for each in queue.take(key, 1)] == [3.0]
    assert queue.groups == {}


def test_rows_ahead_are_those_that_are_due_earlier() -> None:
    """An urgent request has nobody before it; a patient one all of its class."""
    queue = WaitingQueue()
    for place in range(10):
        queue.add(request(deadline=50.0 + place, rows=2, place=place))
    assert queue.rows_ahead(request(deadline=10.0)) == 0
    assert queue.rows_ahead(request(deadline=54.5)) == 10
    assert queue.rows_ahead(request(deadline=99.0)) == 20


def test_rows_ahead_count_other_classes_by_their_weight() -> None:
    """A flood of bulk delays an interactive request by hardly anything, and a bulk request waits for the interactive."""
    queue = WaitingQueue()
    for place in range(160):
        queue.add(request(priority=Priority.BULK, place=place))
        queue.add(request(priority=Priority.INTERACTIVE, place=place))
    assert queue.rows_ahead(request(deadline=200, priority=Priority.INTERACTIVE)) == 160 + 10
    assert queue.rows_ahead(request(deadline=200, priority=Priority.BULK)) == 160 + 160


@given(
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 4), st.sampled_from(Priority)), max_size=30),
    st.lists(st.floats(0, 10), max_size=4),
)
def test_what_is_due_leaves_the_queue(plan: list[tuple[float, int, Priority]], moments: list[float]) -> None:
    """At every moment exactly what has reached its deadline is taken out, and the queue knows which is the next."""
    queue = WaitingQueue()
    waiting = [request(*facts, place=place) for place, facts in enumerate(plan)]
    for each in waiting:
        queue.add(each)
    for now in sorted(moments):
        due = {id(each) for each in queue.take_due(now)}
        assert due == {id(each) for each in waiting if each.deadline <= now}
        waiting = [each for each in waiting if each.deadline > now]
        assert queue.earliest() == min((each.deadline for each in waiting), default=math.inf)
        assert (len(queue), queue.rows) == (len(waiting), sum(each.rows for each in waiting))


def test_a_batch_gives_its_expired_requests_once() -> None:
    """What is done already is none of them, and what is not due yet stays."""
    requests = [request(deadline) for deadline in (3.0, 1.0, 2.0, 9.0)]
    batch = Batch(FakeInstance(SIGNATURE), requests, started=0.0)
    requests[2].abandon()
    assert batch.deadline == 1.0
    assert batch.take_due(0.5) == []
    assert [each.deadline for each in batch.take_due(5.0)] == [3.0, 1.0]
    for each in requests[:2]:
        each.abandon()
    assert batch.deadline == 9.0
    assert batch.take_due(5.0) == []
    assert batch.take_due(9.0) == [requests[3]]
    assert batch.deadline == math.inf


def test_completed_request_lets_go_of_its_caller() -> None:
    """Its outcome is told once, and a record that a running batch still holds keeps no caller alive."""
    answered = request()
    caller = Caller()
    answered.complete = caller.hear
    gone = weakref.ref(caller)
    answer = Answer({}, Timings(0.0, 0.0))
    answered.finish(answer)
    answered.finish(Answer({}, Timings(1.0, 1.0)))
    assert caller.heard == [answer]
    del caller
    assert gone() is None


class Caller:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[Outcome] = []

    def hear(self, outcome: Outcome) -> None:
        self.heard.append(outcome)


def test_pace_judges_by_the_nearest_size_that_was_seen() -> None:
    """Unknown sizes are neither scaled up nor taken for free; nothing seen is no time at all."""
    pace = Pace()
    assert pace.seconds_for(8) == 0.0
    pace.observe(1, 0.05)
    assert pace.seconds_for(32) == 0.05
    pace.observe(32, 0.4)
    assert pace.seconds_for(1) == 0.05
    assert pace.seconds_for(64) == 0.4
    for _ in range(100):
        pace.observe(32, 0.1)
    assert abs(pace.seconds_for(32) - 0.1) < 1e-6


def test_pace_leaves_a_margin_for_what_it_gets_wrong() -> None:
    """Nothing while answers come as foreseen; as much as they are late, and more where that varies; at most a batch."""
    pace = Pace()
    pace.observe(4, 0.1)
    pace.observe_lateness(0.0)
    assert pace.margin(4) == 0.0
    for _ in range(100):
        pace.observe_lateness(0.03)
    assert pace.margin(4) == pytest.approx(0.03, rel=0.01)
    for seconds in (0.0, 0.04) * 50:
        pace.observe_lateness(seconds)
    assert 0.04 < pace.margin(4) < 0.1
    pace.observe_lateness(60.0)
    assert pace.margin(4) == pytest.approx(0.1)
    for _ in range(100):
        pace.observe_lateness(-0.05)
    assert pace.margin(4) == 0.0


def test_quarantine_knows_an_input_by_its_contents() -> None:
    """Equal tensors in another order of names are the same input; another shape, dtype or value is another one."""
    quarantine = Quarantine()
    guilty = {"a": np.array([1.0, 2.0]), "b": np.array([b"x", b"yz"], dtype=object)}
    assert quarantine.seconds_left(guilty, 0.0) == 0.0
    quarantine.add(guilty, now=0.0)
    same = {"b": guilty["b"].copy(), "a": guilty["a"].copy()}
    assert quarantine.seconds_left(same, 20.0) == 40.0
    assert quarantine.seconds_left({**same, "a": np.array([[1.0, 2.0]])}, 20.0) == 0.0
    assert quarantine.seconds_left({**same, "a": np.array([1.0, 2.0], np.float32)}, 20.0) == 0.0
    assert quarantine.seconds_left({**same, "b": np.array([b"xy", b"z"], dtype=object)}, 20.0) == 0.0
    assert quarantine.seconds_left(same, 60.0) == 0.0


def test_quarantine_looks_at_parts_of_what_is_large() -> None:
    """A large input is known again, in another layout too, and is not taken for another of its size."""
    quarantine = Quarantine()
    large = np.random.default_rng(0).normal(size=(1000, 2000))
    quarantine.add({"a": large}, now=0.0)
    assert quarantine.seconds_left({"a": np.asfortranarray(large)}, 20.0) == 40.0
    assert quarantine.seconds_left({"a": large + 1}, 20.0) == 0.0
    for place in range(0, large.size, 9973):  # within the pieces that are read and between them
        other = large.copy()
        other.flat[place] += 1
        assert quarantine.seconds_left({"a": other}, 20.0) == 0.0
    assert quarantine.seconds_left({"a": large[::-1]}, 20.0) == 0.0


def test_quarantine_is_bounded() -> None:
    """A flood of guilty inputs pushes the oldest out rather than growing."""
    quarantine = Quarantine()
    inputs = [{"a": np.array([index])} for index in range(1100)]
    for each in inputs:
        quarantine.add(each, now=0.0)
    assert quarantine.seconds_left(inputs[0], 1.0) == 0.0
    assert quarantine.seconds_left(inputs[-1], 1.0) == 59.0
