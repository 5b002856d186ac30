"""Which lengths share a batch, by what padding and batches cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.batching.test_policy import Waiting, decide

from maas.batching.buckets import bucket_of
from maas.batching.policy import BatchPolicy, Take
from maas.batching.priority import Priority
from maas.batching.queue import GroupKey
from maas.batching.sizes import Sizes, unmeasured
from maas.types import Lengths

POLICY = BatchPolicy(max_batch_size=32)


def of(*lengths: int, priority: Priority = Priority.STANDARD) -> GroupKey:
    return GroupKey(priority, None, lengths)


def costing(overhead: float, limit: int = 32) -> Callable[[int], Sizes]:
    """A batch costs so much, and each element of its rows 1."""
    return lambda elements: Sizes(limit, overhead, float(elements))


def waiting(**lengths: int) -> dict[GroupKey, list[Waiting]]:
    """`L8=3`: three requests of length 8. The shorter are the more urgent."""
    return {of(int(name[1:])): [Waiting(deadline=float(name[1:]))] * count for name, count in lengths.items()}


def together(groups: dict[GroupKey, list[Waiting]], sizes: Callable[[int], Sizes]) -> dict[int, int]:
    """How many of each length are in the next batch."""
    (takes,) = decide(POLICY, groups, 1, 0.0, sizes=sizes).batches
    return {take.key.lengths[0]: take.count for take in takes}


@pytest.mark.parametrize(
    ("groups", "overhead", "expected"),
    [
        (waiting(L8=4, L16=4), 0, {8: 4}),  # padding costs, and batches do not
        (waiting(L8=4, L16=4), 1000, {8: 4, 16: 4}),  # nothing costs but batches
        (waiting(L8=1, L128=31), 0, {8: 1}),
        (
            waiting(L8=1, L128=31),
            200,
            {8: 1, 128: 31},
        ),  # one that is padded costs less than a batch of its own
        (waiting(L8=16, L128=16), 200, {8: 16}),  # sixteen that are padded cost more
        (waiting(L8=1, L15=31, L16=31, L128=31), 50, {8: 1, 15: 31}),  # the nearest that fill a batch
        (waiting(L8=2, L9=2, L64=2, L72=2), 20, {8: 2, 9: 2}),  # neighbours, and not the others
    ],
)
def test_lengths_are_grouped_by_what_is_measured(
    groups: dict[GroupKey, list[Waiting]], overhead: float, expected: dict[int, int]
) -> None:
    """The same queue is cut into other batches where a batch costs more."""
    assert together(groups, costing(overhead)) == expected


def test_most_urgent_request_is_in_the_batch_that_others_make_worthwhile() -> None:
    """A batch of long ones takes it along, however short it is, and though its group is not drawn on further."""
    groups = {
        of(8): [Waiting(deadline=1.0)] + [Waiting(deadline=99.0)] * 9,
        of(128): [Waiting(deadline=50.0)] * 40,
    }
    (takes,) = decide(POLICY, groups, 1, 0.0, sizes=costing(2000)).batches
    assert Take(of(8), 1) in takes
    assert sum(take.count for take in takes) == 32


def test_padding_is_bounded_by_the_batch_s_cost() -> None:
    """`max_batch_cost` counts rows × the longest length among them."""
    policy = BatchPolicy(max_batch_size=32, max_batch_cost=256)
    groups = {of(8): [Waiting(deadline=1.0)] * 20, of(64): [Waiting(deadline=2.0)] * 20}
    for takes in decide(policy, groups, 9, 0.0, sizes=costing(1e6)).batches:
        longest = max(take.key.lengths[0] for take in takes)
        assert longest * sum(take.count for take in takes) <= 256


def test_a_request_that_costs_more_than_a_batch_may_runs_alone() -> None:
    """It has been accepted, so it is run."""
    policy = BatchPolicy(max_batch_size=32, max_batch_cost=10)
    groups = {of(8): [Waiting(rows=3), Waiting(rows=1)]}
    assert decide(policy, groups, 1, 0.0).batches == ((Take(of(8), 1),),)


def test_batches_are_cut_where_throughput_stops_rising() -> None:
    """A measured limit holds as `max_batch_size` does, for each length its own."""
    sizes = {8: Sizes(16, 0.0, 8.0), 128: Sizes(2, 0.0, 128.0)}
    assert together({of(8): [Waiting()] * 40}, sizes.__getitem__) == {8: 16}
    assert together({of(128): [Waiting()] * 40}, sizes.__getitem__) == {128: 2}


def test_cut_batches_leave_rows_for_the_next_instance() -> None:
    """What does not go into the first batch is shared out over the other idle instances."""
    groups = {of(): [Waiting()] * 12}
    decision = decide(POLICY, groups, 3, 0.0, sizes=lambda _: Sizes(5, 1.0, 1.0))
    assert [takes[0].count for takes in decision.batches] == [4, 4, 4]
    assert [
        takes[0].count for takes in decide(POLICY, groups, 2, 0.0, sizes=lambda _: Sizes(5, 1, 1)).batches
    ] == [5, 5]


def test_who_waits_for_company_waits_no_longer_than_it_is_worth() -> None:
    """With a queue delay, a batch that has reached its measured limit is full."""
    policy = BatchPolicy(max_batch_size=32, max_queue_delay=1.0)
    groups = {of(): [Waiting(arrived=10.0)] * 4}
    assert decide(policy, groups, 1, 10.0, sizes=lambda _: Sizes(8, 1, 1)).batches == ()
    assert decide(policy, groups, 1, 10.0, sizes=lambda _: Sizes(4, 1, 1)).batches == ((Take(of(), 4),),)


def test_boxes_of_two_dimensions_hold_what_fits_in_both() -> None:
    """A wide and a high one share a batch only where that is worth the corner that neither fills."""
    groups = {
        of(8, 2): [Waiting(deadline=1.0)] * 3,
        of(2, 8): [Waiting(deadline=2.0)] * 3,
        of(2, 2): [Waiting()] * 3,
    }
    (takes,) = decide(POLICY, groups, 1, 0.0, sizes=costing(40)).batches
    assert {take.key.lengths for take in takes} == {(8, 2), (2, 2)}
    (takes,) = decide(POLICY, groups, 1, 0.0, sizes=costing(10000)).batches
    assert {take.key.lengths for take in takes} == {(8, 2), (2, 8), (2, 2)}


lengths = st.tuples(st.integers(1, 200)) | st.tuples(st.integers(1, 20), st.integers(1, 20))
queues = st.integers(1, 2).flatmap(
    lambda rank: st.dictionaries(
        st.builds(
            GroupKey,
            st.sampled_from(Priority),
            st.integers(0, 1),
            st.tuples(*[st.integers(1, 40)] * rank).map(bucket_of),
        ),
        st.lists(
            st.builds(Waiting, st.integers(1, 5), st.floats(0, 10), st.floats(10, 20)),
            min_size=1,
            max_size=12,
        ).map(lambda requests: sorted(requests, key=lambda request: request.order)),
        min_size=1,
        max_size=12,
    )
)


@given(queues, st.integers(1, 4), st.integers(5, 16), st.none() | st.integers(100, 4000), st.floats(0, 5000))
def test_decision_over_lengths_is_sound_and_work_conserving(
    groups: dict[GroupKey, list[Waiting]], idle: int, size: int, cost: int | None, overhead: float
) -> None:
    """Batches fit in rows and in cost, stack, take only what waits, from the most urgent on; the first holds the most
    urgent of the leading class; and an instance is left idle only for want of work."""
    policy = BatchPolicy(size, max_batch_cost=cost)
    decision = decide(policy, groups, idle, 10.0, sizes=costing(overhead, limit=size))
    left = {key: list(requests) for key, requests in groups.items()}
    leading = min(key.priority for key in groups)
    urgent = min(requests[0].order for key, requests in groups.items() if key.priority == leading)
    assert urgent in [
        groups[take.key][0].order for take in decision.batches[0] if take.key.priority == leading
    ]
    for takes in decision.batches:
        assert len({take.key for take in takes}) == len(takes)
        assert len({take.key.stack for take in takes}) == 1
        rows = []
        for take in takes:
            taken, left[take.key] = left[take.key][: take.count], left[take.key][take.count :]
            assert len(taken) == take.count > 0
            rows += [request.rows for request in taken]
        assert len(rows) == 1 or sum(rows) <= size
        assert (
            len(rows) == 1
            or cost is None
            or sum(rows) * _elements([take.key.lengths for take in takes]) <= cost
        )
    assert len(decision.batches) == idle or not any(left.values())


def _elements(many: list[Lengths]) -> int:
    elements = 1
    for column in zip(*many, strict=True):
        elements *= max(column)
    return elements


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.floats(0, 1000))
def test_nobody_is_starved_by_lengths(many: list[int], overhead: float) -> None:
    """However the lengths lie, each batch takes the most urgent that is left: nothing waits behind more batches than
    there were requests before it."""
    queue = {}
    for number, length in enumerate(many):
        queue.setdefault(GroupKey(Priority.STANDARD, None, bucket_of((length,))), []).append(
            Waiting(deadline=float(number))
        )
    for _ in many:
        if not queue:
            break
        urgent = min(requests[0].deadline for requests in queue.values())
        (takes,) = decide(POLICY, queue, 1, 0.0, sizes=costing(overhead)).batches
        taken = []
        for take in takes:
            taken += queue[take.key][: take.count]
            queue[take.key] = queue[take.key][take.count :]
        queue = {key: requests for key, requests in queue.items() if requests}
        assert urgent in [request.deadline for request in taken]
    assert not queue


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 100, 127, 128, 129, 1000, 4097])
def test_a_bucket_is_no_more_than_an_eighth_longer_than_its_requests(length: int) -> None:
    """Up to eight, and for powers of two, a bucket is the length itself; else the next of eight for each doubling."""
    (bucket,) = bucket_of((length,))
    assert length <= bucket < length * 9 / 8
    assert bucket_of((bucket,)) == (bucket,)
    if length <= 8 or length & (length - 1) == 0:
        assert bucket == length


@pytest.mark.parametrize(("rank", "steps"), [(2, 4), (3, 2), (5, 2)])
def test_buckets_of_several_lengths_are_coarser(rank: int, steps: int) -> None:
    """They multiply, so each length has fewer: a bucket is longer than its requests by less than one step of a doubling."""
    for length in range(1, 300):
        bucket = bucket_of((length,) * rank)
        assert len(set(bucket)) == 1
        assert length <= bucket[0] < length * (1 + 1 / steps)
        assert bucket_of(bucket) == bucket


def test_a_decision_over_thousands_of_shapes_looks_at_few() -> None:
    """Where nearly each request has a bucket of its own, what is weighed does not grow with what waits: the loop stands still
    meanwhile."""
    groups = {of(a, b, c): [Waiting()] for a in range(1, 16) for b in range(1, 16) for c in range(1, 16)}
    asked = 0

    def sizes(elements: int) -> Sizes:
        nonlocal asked
        asked += 1
        return Sizes(32, 1e6, float(elements))

    (takes,) = decide(POLICY, groups, 1, 0.0, sizes=sizes).batches
    assert sum(take.count for take in takes) == 32
    assert asked < 200


def test_the_leading_bucket_is_drawn_on_however_many_are_smaller() -> None:
    """Those that would fit into it are not nearer to the leading request than its own."""
    groups = {of(a, b): [Waiting(deadline=9.0)] for a in range(1, 9) for b in range(1, 9)}
    groups[of(8, 8)] = [Waiting(deadline=1.0)] * 5
    (takes,) = decide(POLICY, groups, 1, 0.0, sizes=costing(1)).batches
    assert Take(of(8, 8), 5) in takes


def test_without_a_measurement_lengths_are_grouped_all_the_same() -> None:
    """Before anything has run, a batch is taken to cost as much as one row of it."""
    assert together(waiting(L8=4, L9=4, L64=4), unmeasured) == {8: 4, 9: 4}
