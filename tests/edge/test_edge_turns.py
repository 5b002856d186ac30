"""Turns: a pass of the loop handles so many reads, and the line behind them is served from its end."""

from __future__ import annotations

import asyncio
from typing import cast

from maas.edge.turns import READS, Turns


class Loop:
    """Holds what is to be called in the next pass."""

    def __init__(self) -> None:
        self.soon: list[object] = []

    def call_soon(self, callback: object, *arguments: object) -> None:
        self.soon.append((callback, arguments))

    def run_pass(self) -> None:
        due, self.soon = self.soon, []
        for callback, arguments in due:  # type: ignore[misc]
            callback(*arguments)


class Client:
    """Remembers in `looked_at` when its bytes were looked at."""

    def __init__(self, number: int, looked_at: list[int]) -> None:
        self.number = number
        self._looked_at = looked_at

    def receive_postponed(self, late: float) -> None:
        assert late >= 0
        self._looked_at.append(self.number)


def flood(count: int, patience: float) -> tuple[Turns, Loop, list[int], list[int]]:
    """`count` connections readable in one pass: the turns, the loop, who was handled at once, and who is later."""
    turns, loop = Turns(patience=patience), Loop()
    at_once: list[int] = []
    later: list[int] = []
    for number in range(count):
        if turns.take(cast("asyncio.AbstractEventLoop", loop)):
            at_once.append(number)
        else:
            turns.postpone(Client(number, later))
    return turns, loop, at_once, later


def test_pass_handles_so_many_reads_and_the_next_goes_on() -> None:
    """Each pass as many, until nobody stands in line; then nothing is scheduled any more."""
    _, loop, at_once, later = flood(3 * READS, patience=60)
    assert at_once == list(range(READS))
    loop.run_pass()
    assert len(later) == READS
    loop.run_pass()
    assert at_once + later == list(range(3 * READS))
    loop.run_pass()
    assert loop.soon == []


def test_line_that_waits_too_long_is_served_from_its_end_but_for_every_eighth_turn() -> None:
    """Seven of eight turns are for who came last; the eighth keeps anybody from waiting for ever."""
    _, loop, _, later = flood(5 * READS, patience=0)
    loop.run_pass()
    oldest = [number for number in later if number < 2 * READS]
    assert oldest == list(range(READS, READS + READS // 8))
    newest = [number for number in later if number not in oldest]
    assert newest == list(range(5 * READS - 1, 5 * READS - 1 - len(newest), -1))


def test_connection_that_is_lost_leaves_the_line() -> None:
    """What is forgotten is not looked at."""
    turns, loop = Turns(reads=1), Loop()
    looked_at: list[int] = []
    first, second = Client(1, looked_at), Client(2, looked_at)
    assert turns.take(cast("asyncio.AbstractEventLoop", loop))
    turns.postpone(first)
    turns.postpone(second)
    turns.forget(first)
    turns.forget(first)
    for _ in range(3):
        loop.run_pass()
    assert looked_at == [2]
