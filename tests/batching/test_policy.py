"""The policy is a table: what waits, how many instances are idle, and the time → what runs now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas.batching.policy import BatchPolicy, Decision, Take
from maas.batching.priority import WEIGHTS, Priority
from maas.batching.queue import Group, GroupKey
from maas.batching.sizes import Sizes, unmeasured


@dataclass(frozen=True)
class Waiting:
    rows: int = 1
    arrived: float = 0.0
    deadline: float = 100.0

    @property
    def order(self) -> tuple[float, int]:
        return (self.deadline, int(self.arrived * 1000))


def decide(
    policy: BatchPolicy,
    groups: Mapping[GroupKey, Sequence[Waiting]],
    idle: int,
    now: float,
    shares: Mapping[Priority, float] | None = None,
    sizes: Callable[[int], Sizes] = unmeasured,
) -> Decision:
    return policy.decide({key: Group(group) for key, group in groups.items()}, idle, now, shares, sizes)


def standard(stack: object = "a") -> GroupKey:
    return GroupKey(Priority.STANDARD, stack)  # type: ignore[arg-type]


A = standard("a")
INTERACTIVE = GroupKey(Priority.INTERACTIVE, "a")
BULK = GroupKey(Priority.BULK, "a")


def test_nothing_waiting_decides_nothing() -> None:
    """Without requests there is neither a batch nor a time to ask again."""
    assert decide(BatchPolicy(), {}, idle=1, now=0.0) == Decision()


def test_no_idle_instance_decides_nothing() -> None:
    """While every instance is busy the queue only grows."""
    assert decide(BatchPolicy(), {A: [Waiting()]}, idle=0, now=0.0) == Decision()


def test_idle_instance_never_waits_for_company() -> None:
    """Without a queue delay a lone request runs at once."""
    assert decide(BatchPolicy(max_batch_size=32), {A: [Waiting()]}, 1, 0.0).batches == ((Take(A, 1),),)


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
def test_batch_takes_the_first_that_fit(rows: list[int], max_batch_size: int, taken: int) -> None:
    """A batch is the longest run of the first requests whose rows fit."""
    decision = decide(BatchPolicy(max_batch_size), {A: [Waiting(n) for n in rows]}, 1, 0.0)
    assert decision.batches == ((Take(A, taken),),)


def test_rows_are_shared_out_over_idle_instances() -> None:
    """Two idle instances get half of what waits each, instead of all and nothing."""
    decision = decide(BatchPolicy(max_batch_size=32), {A: [Waiting()] * 10}, 2, 0.0)
    assert decision.batches == ((Take(A, 5),), (Take(A, 5),))


def test_group_with_the_earliest_deadline_goes_first() -> None:
    """Requests that cannot be stacked take turns by urgency."""
    late, soon = standard("late"), standard("soon")
    groups = {late: [Waiting(deadline=9.0)], soon: [Waiting(deadline=5.0), Waiting(deadline=9.0)]}
    assert decide(BatchPolicy(), groups, 1, 0.0).batches == ((Take(soon, 2),),)
    assert decide(BatchPolicy(), groups, 2, 0.0).batches == ((Take(soon, 1),), (Take(late, 1),))


def test_queue_delay_holds_a_young_batch_back_until_it_is_due() -> None:
    """With a queue delay the oldest request waits that long for company, and no longer."""
    policy = BatchPolicy(max_batch_size=4, max_queue_delay=0.5)
    groups = {A: [Waiting(arrived=10.0), Waiting(arrived=10.3)]}
    held = decide(policy, groups, 1, now=10.4)
    assert (held.batches, held.ask_again_at) == ((), 10.5)
    assert decide(policy, groups, 1, now=10.5).batches == ((Take(A, 2),),)


def test_full_batch_does_not_wait_for_the_queue_delay() -> None:
    """There is no company to wait for when the batch is full."""
    policy = BatchPolicy(max_batch_size=2, max_queue_delay=0.5)
    assert decide(policy, {A: [Waiting(arrived=10.0)] * 2}, 1, now=10.0).batches == ((Take(A, 2),),)


def test_held_back_group_does_not_hold_others_back() -> None:
    """An idle instance runs a full group while a more urgent one still waits for company."""
    policy = BatchPolicy(max_batch_size=2, max_queue_delay=0.5)
    lone, full = standard("lone"), standard("full")
    groups = {lone: [Waiting(arrived=9.9, deadline=20.0)], full: [Waiting(arrived=10.0)] * 2}
    decision = decide(policy, groups, 1, now=10.0)
    assert (decision.batches, decision.ask_again_at) == (((Take(full, 2),),), 10.4)


def test_higher_class_leads_and_lower_ones_fill_its_batch() -> None:
    """Room that the leading class leaves is used by the others, which stack with it."""
    groups = {BULK: [Waiting()] * 5, INTERACTIVE: [Waiting()] * 2}
    assert decide(BatchPolicy(max_batch_size=4), groups, 1, 0.0).batches == (
        (Take(INTERACTIVE, 2), Take(BULK, 2)),
    )


def test_classes_that_are_never_empty_get_rows_by_their_weights() -> None:
    """Under a flood of each class, bulk is slow and never starves."""
    policy = BatchPolicy(max_batch_size=4)
    groups = {GroupKey(priority, "a"): [Waiting()] * 8 for priority in Priority}
    rows = dict.fromkeys(Priority, 0)
    shares = None
    for _ in range(1000):
        decision = decide(policy, groups, 1, 0.0, shares)
        shares = decision.shares
        for take in decision.batches[0]:
            rows[take.key.priority] += take.count
    assert sum(rows.values()) == 4000
    for priority in Priority:
        assert rows[priority] == pytest.approx(4000 * WEIGHTS[priority] / sum(WEIGHTS.values()), rel=0.02)


def test_class_that_was_idle_has_saved_no_turns_up() -> None:
    """Coming back after a long silence a class gets its share, not all that it did not use."""
    policy = BatchPolicy(max_batch_size=1)
    shares = None
    for _ in range(1000):
        shares = decide(policy, {INTERACTIVE: [Waiting()]}, 1, 0.0, shares).shares
    both = {INTERACTIVE: [Waiting()], BULK: [Waiting()]}
    leaders = []
    for _ in range(34):
        decision = decide(policy, both, 1, 0.0, shares)
        shares = decision.shares
        leaders.append(decision.batches[0][0].key.priority)
    assert leaders.count(Priority.BULK) == 2


groups_of_requests = st.dictionaries(
    st.builds(GroupKey, st.sampled_from(Priority), st.integers(0, 2), st.just(())),
    st.lists(
        st.builds(Waiting, st.integers(1, 8), st.floats(0, 10), st.floats(10, 20)), min_size=1, max_size=40
    ).map(lambda requests: sorted(requests, key=lambda request: request.order)),
    min_size=1,
)


@given(groups_of_requests, st.integers(1, 5), st.integers(8, 16))
def test_decision_is_sound_and_work_conserving(
    groups: dict[GroupKey, list[Waiting]], idle: int, max_batch_size: int
) -> None:
    """Batches fit, stack, take only what waits, begin with the most urgent of the leading class, and leave an instance
    idle only for want of work."""
    decision = decide(BatchPolicy(max_batch_size), groups, idle, now=10.0)
    left = {key: list(requests) for key, requests in groups.items()}
    leading = min(key.priority for key in groups)
    first = min(requests[0].order for key, requests in groups.items() if key.priority == leading)
    assert groups[decision.batches[0][0].key][0].order == first
    for takes in decision.batches:
        rows = []
        for take in takes:
            taken, left[take.key] = left[take.key][: take.count], left[take.key][take.count :]
            assert len(taken) == take.count > 0
            rows += [request.rows for request in taken]
        assert len({take.key.stack for take in takes}) == 1
        assert len(rows) == 1 or sum(rows) <= max_batch_size
    assert len(decision.batches) == idle or not any(left.values())
