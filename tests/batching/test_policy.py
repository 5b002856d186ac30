"""The policy is a table: what waits, how many instances are idle, and the time → what runs now."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas.batching.policy import BatchPolicy, Decision, Take


@dataclass(frozen=True)
class Waiting:
    rows: int = 1
    arrived: float = 0.0


def test_nothing_waiting_decides_nothing() -> None:
    """Without requests there is neither a batch nor a time to ask again."""
    assert BatchPolicy().decide({}, idle=1, now=0.0) == Decision()


def test_no_idle_instance_decides_nothing() -> None:
    """While every instance is busy the queue only grows."""
    assert BatchPolicy().decide({"a": [Waiting()]}, idle=0, now=0.0) == Decision()


def test_idle_instance_never_waits_for_company() -> None:
    """Without a queue delay a lone request runs at once."""
    assert BatchPolicy(max_batch_size=32).decide({"a": [Waiting()]}, 1, 0.0) == Decision((Take("a", 1),))


@pytest.mark.parametrize(
    ("rows", "max_batch_size", "taken"),
    [
        ([1, 1, 1], 32, 3),
        ([1, 1, 1], 2, 2),
        ([2, 2], 3, 1),
        ([3, 1], 4, 2),
        ([4, 1], 4, 1),
        ([1, 4, 1], 4, 1),  # the second does not fit, and none overtakes it
    ],
)
def test_batch_takes_the_oldest_that_fit(rows: list[int], max_batch_size: int, taken: int) -> None:
    """A batch is the longest run of oldest requests whose rows fit."""
    decision = BatchPolicy(max_batch_size).decide({"a": [Waiting(n) for n in rows]}, 1, 0.0)
    assert decision.batches == (Take("a", taken),)


def test_rows_are_shared_out_over_idle_instances() -> None:
    """Two idle instances get half of what waits each, instead of all and nothing."""
    decision = BatchPolicy(max_batch_size=32).decide({"a": [Waiting()] * 10}, 2, 0.0)
    assert decision.batches == (Take("a", 5), Take("a", 5))


def test_group_with_the_oldest_request_goes_first() -> None:
    """Requests that cannot be stacked take turns by age."""
    groups = {"young": [Waiting(arrived=2.0)], "old": [Waiting(arrived=1.0), Waiting(arrived=3.0)]}
    assert BatchPolicy().decide(groups, 1, 5.0).batches == (Take("old", 2),)
    assert BatchPolicy().decide(groups, 2, 5.0).batches == (Take("old", 1), Take("young", 1))


def test_queue_delay_holds_a_young_batch_back_until_it_is_due() -> None:
    """With a queue delay the oldest request waits that long for company, and no longer."""
    policy = BatchPolicy(max_batch_size=4, max_queue_delay=0.5)
    groups = {"a": [Waiting(arrived=10.0), Waiting(arrived=10.3)]}
    assert policy.decide(groups, 1, now=10.4) == Decision((), ask_again_at=10.5)
    assert policy.decide(groups, 1, now=10.5) == Decision((Take("a", 2),))


def test_full_batch_does_not_wait_for_the_queue_delay() -> None:
    """There is no company to wait for when the batch is full."""
    policy = BatchPolicy(max_batch_size=2, max_queue_delay=0.5)
    assert policy.decide({"a": [Waiting(arrived=10.0)] * 2}, 1, now=10.0).batches == (Take("a", 2),)


def test_held_back_group_does_not_hold_others_back() -> None:
    """An idle instance runs a full group while a younger one still waits."""
    policy = BatchPolicy(max_batch_size=2, max_queue_delay=0.5)
    groups = {"lone": [Waiting(arrived=9.9)], "full": [Waiting(arrived=10.0)] * 2}
    assert policy.decide(groups, 1, now=10.0) == Decision((Take("full", 2),), ask_again_at=10.4)


groups_of_requests = st.dictionaries(
    st.integers(0, 3),
    st.lists(st.builds(Waiting, st.integers(1, 8), st.floats(0, 10)), min_size=1, max_size=40).map(
        lambda requests: sorted(requests, key=lambda request: request.arrived)
    ),
    min_size=1,
)


@given(groups_of_requests, st.integers(1, 5), st.integers(8, 16))
def test_decision_is_sound_and_work_conserving(
    groups: dict[int, list[Waiting]], idle: int, max_batch_size: int
) -> None:
    """Batches fit, take only what waits, begin with the oldest of all, and leave an instance idle only for want of work."""
    decision = BatchPolicy(max_batch_size).decide(groups, idle, now=10.0)
    left = {key: list(requests) for key, requests in groups.items()}
    oldest = min(request.arrived for requests in groups.values() for request in requests)
    assert groups[decision.batches[0].key][0].arrived == oldest
    for take in decision.batches:
        batch, left[take.key] = left[take.key][: take.count], left[take.key][take.count :]
        assert len(batch) == take.count > 0
        assert len(batch) == 1 or sum(request.rows for request in batch) <= max_batch_size
    assert len(decision.batches) == idle or not any(left.values())
