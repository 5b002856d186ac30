"""Stop strings over text in pieces, against a reading of all of it at once."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas.generation.stops import StopStrings


def fed(stops: Iterable[str], pieces: Iterable[str]) -> tuple[list[str], str | None]:
    """What comes out for each piece and at the end, and what was found."""
    strings = StopStrings(tuple(stops))
    out = [strings.feed(piece) for piece in pieces]
    return [*out, strings.finish()], strings.found


def expected(stops: list[str], text: str) -> tuple[str, str | None]:
    """By the definition: at the first character where any stop string is complete, the longest that is ends the text."""
    for end in range(1, len(text) + 1):
        if complete := [stop for stop in stops if text[:end].endswith(stop)]:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


letters = st.text("ab", min_size=1, max_size=6)


@given(st.lists(letters, max_size=6), st.text("abc", max_size=40), st.lists(st.integers(0, 40)))
def test_text_ends_where_a_stop_string_begins_however_it_is_cut(
    stops: list[str], text: str, cuts: list[int]
) -> None:
    """Any cutting gives what the whole text gives, passes nothing of a stop string on, and holds back no more than may begin one."""
    pieces = [
        text[start:end] for start, end in pairwise([0, *sorted(min(c, len(text)) for c in cuts), len(text)])
    ]
    out, found = fed(stops, pieces)
    before, stop = expected(stops, text)
    assert ("".join(out), found) == (before, stop)
    seen = ""
    for index, piece in enumerate(pieces):
        seen += piece
        if expected(stops, seen)[1] is not None:
            break
        passed = "".join(out[: index + 1])
        held = seen[len(passed) :]
        begun = [seen[start:] for start in range(len(seen))]
        assert held == next((tail for tail in begun if any(stop.startswith(tail) for stop in stops)), "")


@pytest.mark.parametrize(
    ("stops", "pieces", "out", "found"),
    [
        ([], ["a", "b"], ["a", "b", ""], None),
        (["\n\n"], ["a\n", "b\n", "\nc"], ["a", "\nb", "", ""], "\n\n"),
        (["STOP"], ["x ST", "IR"], ["x ", "STIR", ""], None),
        (["STOP"], ["x ST"], ["x ", "ST"], None),
        (["abcd", "c"], ["abcd"], ["ab", ""], "c"),
        (["bc", "abc"], ["xabc"], ["x", ""], "abc"),
        (["end"], ["the end", " and the end"], ["the ", "", ""], "end"),
        (["🙂🙂"], ["a🙂", "b🙂🙂"], ["a", "🙂b", ""], "🙂🙂"),
    ],
)
def test_stop_strings_by_example(
    stops: list[str], pieces: list[str], out: list[str], found: str | None
) -> None:
    """What may begin a stop string waits for the next piece, or for the end."""
    assert fed(stops, pieces) == (out, found)


def test_work_is_linear_in_text_and_stop_strings() -> None:
    """Stop strings that nearly match at every character do not multiply the work: comparing each with each would take minutes."""
    size = 20_000
    began = time.process_time()
    strings = StopStrings(["a" * size + "b", *(f"{n}x" for n in range(size))])
    passed = "".join(strings.feed("a" * size) for _ in range(3))
    assert passed == "a" * 2 * size  # all but what the longest holds back
    assert strings.feed("c") == "a" * size + "c"
    assert time.process_time() - began < 10
