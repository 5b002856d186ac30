"""Stop strings over text that comes in pieces: the answer ends where one begins, and no part of it is ever passed on.

The stop string that is complete first ends the answer; of those that end at the same character, the longest. So the text that is
passed on does not depend on how it was cut. After Aho and Corasick, "Efficient string matching" (1975): linear in
the text and in the stop strings, however many there are and however they overlap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from maas.generation.refusals import refuse, shown

MAX_STOPS = 4
MAX_STOP_LENGTH = 256  # characters


def check_stops(stops: object) -> tuple[str, ...]:
    """What a request may ask for as stop strings. Raises `InvalidRequest`."""
    if not isinstance(stops, tuple | list):
        refuse("stop", f"stop is {shown(stops)}; it must be a list of strings")
    if len(stops) > MAX_STOPS:
        refuse("stop", f"stop has {len(stops)} strings; at most {MAX_STOPS} are allowed")
    for stop in stops:
        if not isinstance(stop, str) or not stop:
            refuse("stop", f"a stop string is {shown(stop)}; it must be text of at least one character")
        if len(stop) > MAX_STOP_LENGTH:
            refuse("stop", f"a stop string has {len(stop)} characters; at most {MAX_STOP_LENGTH} are allowed")
    return tuple(stops)


class StopStrings:
    """Text goes in by `feed` and comes out as far as no stop string can begin in it; `finish` gives the rest at the end."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._start = _automaton(stops)
        self._state = self._start
        self._held = ""
        self.found: str | None = None
        """The stop string that has ended the text; nothing comes out after it."""

    def feed(self, text: str) -> str:
        """What may be passed on now."""
        if self.found is not None:
            return ""
        for end, character in enumerate(text, 1):
            self._state = self._state.after(character)
            if self._state.stop is not None:
                self.found = self._state.stop
                return self._take(text[:end], len(self.found))
        return self._take(text, self._state.depth)

    def finish(self) -> str:
        """What was held back, as no more text comes."""
        return "" if self.found is not None else self._take("", 0)

    def _take(self, text: str, kept: int) -> str:
        """All but the last `kept` characters of what was held and `text`, which stay held."""
        whole = self._held + text
        middle = len(whole) - kept
        self._held = whole[middle:]
        return whole[:middle]


class _State:
    """The longest end of the text that begins a stop string, which has `depth` characters; `stop` is the longest one that is
    complete there."""

    __slots__ = ("depth", "fallback", "next", "stop")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.fallback: _State | None = None  # the next shorter such end; None only at the start
        self.next: dict[str, _State] = {}
        self.stop: str | None = None

    def after(self, character: str) -> _State:
        state = self
        while character not in state.next:
            if state.fallback is None:
                return state
            state = state.fallback
        return state.next[character]


def _automaton(stops: Sequence[str]) -> _State:
    start = _State(0)
    for stop in stops:
        state = start
        for character in stop:
            state = state.next.setdefault(character, _State(state.depth + 1))
        state.stop = stop
    start.stop = None  # an empty string stops nothing
    states = deque([start])
    while states:
        state = states.popleft()
        for character, child in state.next.items():
            child.fallback = start if state.fallback is None else state.fallback.after(character)
            child.stop = child.stop or child.fallback.stop
            states.append(child)
    return start
