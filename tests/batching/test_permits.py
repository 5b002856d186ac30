"""Permits are conserved and handed out in turn."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from maas.batching.permits import Permits


def test_freed_permit_is_kept_for_who_waited_longest() -> None:
    """Between the call and its turn nobody else can take the permit."""
    permits, called = Permits(1), []
    turns: dict[str, Callable[[], None]] = {name: lambda name=name: called.append(name) for name in "abc"}  # type: ignore[misc]
    assert permits.acquire(turns["a"])
    assert not permits.acquire(turns["b"])
    assert not permits.acquire(turns["c"])
    permits.release()
    assert called == ["b"]
    assert not permits.acquire(turns["c"])
    assert permits.acquire(turns["b"])


def test_forgone_permit_goes_to_the_next() -> None:
    """Who is called and wants it no more passes it on; who merely waits leaves the line."""
    permits, called = Permits(1), []
    turns: dict[str, Callable[[], None]] = {name: lambda name=name: called.append(name) for name in "abcd"}  # type: ignore[misc]
    permits.acquire(turns["a"])
    for name in "bcd":
        permits.acquire(turns[name])
    permits.forgo(turns["c"])
    permits.release()
    permits.forgo(turns["b"])
    assert called == ["b", "d"]


def test_raised_limit_is_handed_out_at_once() -> None:
    """Who waits is called for the permits that are there now, the longest first; nobody needs to release one."""
    permits, called = Permits(1), []
    turns: dict[str, Callable[[], None]] = {name: lambda name=name: called.append(name) for name in "abcd"}  # type: ignore[misc]
    assert [permits.acquire(turns[name]) for name in "abcd"] == [True, False, False, False]
    permits.resize(3)
    assert called == ["b", "c"]
    assert [permits.acquire(turns[name]) for name in "bcd"] == [True, True, False]


def test_lowered_limit_holds_as_permits_come_back() -> None:
    """What is out stays out; what comes back over the limit is given to nobody."""
    permits, called = Permits(3), []
    turns: dict[str, Callable[[], None]] = {name: lambda name=name: called.append(name) for name in "abcd"}  # type: ignore[misc]
    assert [permits.acquire(turns[name]) for name in "abcd"] == [True, True, True, False]
    permits.resize(1)
    permits.release()
    permits.release()
    assert called == []
    permits.release()
    assert called == ["d"]


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["acquire", "forgo", "release", "resize"]), st.integers(0, 4))),
)
def test_permits_are_conserved(limit: int, actions: list[tuple[str, int]]) -> None:
    """Held permits never exceed the limit, and when all are given back all of the last limit are free."""
    permits, most = Permits(limit), limit
    turns = [lambda: None for _ in range(5)]
    held = [0] * 5
    for action, who in actions:
        if action == "acquire":
            held[who] += permits.acquire(turns[who])
        elif action == "forgo":
            permits.forgo(turns[who])
        elif action == "resize":
            limit = who + 1
            permits.resize(limit)
        elif held[who]:
            held[who] -= 1
            permits.release()
        most = max(most, limit)  # what was out or kept when the limit was lowered stays so
        assert sum(held) <= most
    for turn in turns:
        permits.forgo(turn)
    for _ in range(sum(held)):
        permits.release()
        for turn in turns:
            permits.forgo(turn)
    assert [permits.acquire(turns[0]) for _ in range(limit + 1)] == [True] * limit + [False]
