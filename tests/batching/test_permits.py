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


@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from(["acquire", "forgo", "release"]), st.integers(0, 4))),
)
def test_permits_are_conserved(limit: int, actions: list[tuple[str, int]]) -> None:
    """Held permits never exceed the limit, and when all are given back all are free."""
    permits = Permits(limit)
    turns = [lambda: None for _ in range(5)]
    held = [0] * 5
    for action, who in actions:
        if action == "acquire":
            held[who] += permits.acquire(turns[who])
        elif action == "forgo":
            permits.forgo(turns[who])
        elif held[who]:
            held[who] -= 1
            permits.release()
        assert sum(held) <= limit
    for turn in turns:
        permits.forgo(turn)
    for _ in range(sum(held)):
        permits.release()
        for turn in turns:
            permits.forgo(turn)
    assert [permits.acquire(turns[0]) for _ in range(limit + 1)] == [True] * limit + [False]
