"""The load generator's pure parts: when requests are due, how answers are read, what follows from a trace."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.torture.load import NUMBER, Load
from benchmarks.torture.recorder import Pending, Recorder, own_number
from benchmarks.torture.schedule import Phase, poisson_arrivals
from benchmarks.torture.trace import Trace, percentile
from benchmarks.torture.wire import Answer, parse_answer, post

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nX-Model-Digest: abc\r\n\r\n[42]"
REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 21\r\n\r\n"
    b'{"code":"queue_full"}'
)


# -- the schedule


def test_the_same_seed_gives_the_same_arrivals() -> None:
    """Two servers that are compared get the very same load."""
    phases = [Phase(100, 5), Phase(1000, 1)]
    assert np.array_equal(poisson_arrivals(phases, 7), poisson_arrivals(phases, 7))
    assert not np.array_equal(poisson_arrivals(phases, 7)[:50], poisson_arrivals(phases, 8)[:50])


def test_arrivals_are_sorted_and_keep_the_rates_of_their_phases() -> None:
    """Phase follows phase, each with its own rate, within five standard deviations."""
    arrivals = poisson_arrivals([Phase(200, 10), Phase(2000, 5)], 1)
    assert (np.diff(arrivals) >= 0).all()
    first, second = (arrivals < 10).sum(), (arrivals >= 10).sum()
    assert abs(first - 2000) < 5 * math.sqrt(2000)
    assert abs(second - 10_000) < 5 * math.sqrt(10_000)
    assert arrivals[-1] < 15


def test_gaps_are_those_of_a_poisson_process() -> None:
    """Exponential gaps: their standard deviation is their mean."""
    gaps = np.diff(poisson_arrivals([Phase(1000, 20)], 3))
    assert gaps.mean() == pytest.approx(1e-3, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_load_survives_its_way_to_the_generator() -> None:
    """Bytes that are no text among them."""
    load = Load(80, (b"\xff@@@@@@", b"x"), (Phase(1, 2), Phase(3, 4)), clients=5, doubles=True)
    assert Load.parse(load.dump()) == load
    assert load.length == 6


# -- answers


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_an_answer_that_is_cut_anywhere_is_awaited(cut: int) -> None:
    """Nothing is made of an answer before its last byte is there."""
    assert parse_answer(GOOD[:cut]) is None


def test_what_follows_an_answer_is_kept() -> None:
    """Two answers at once are read one after the other."""
    first, rest = parse_answer(GOOD + REFUSED) or pytest.fail("two are there")
    assert (first.status, first.body, first.code, first.is_last) == (200, b"[42]", "", False)
    assert first.header("x-model-digest") == "abc"
    second, rest = parse_answer(rest) or pytest.fail("another is there")
    assert (second.status, second.code, second.is_last, rest) == (503, "queue_full", True, b"")
    assert second.header("retry-after") == "1"
    assert second.header("retry-after-ms") is None


def test_an_answer_without_a_length_is_no_answer() -> None:
    """The generator would wait for ever; it says so instead."""
    with pytest.raises(ValueError, match="without a length"):
        parse_answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")


def test_a_request_has_its_length_and_headers() -> None:
    """Names with underscores become header names; bytes go as they are."""
    assert post("/p", b"{}", X_Request_Timeout=0.5) == (
        b"POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"X-Request-Timeout: 0.5\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_numbers_have_the_digits_that_stand_for_them_and_fit_a_float32() -> None:
    """A number put into a request changes no length, and its double is exact where models compute."""
    for index in (0, 1, 999_999, 1_000_000):
        number = own_number(index)
        assert str(number) == "1" + f"{index % 1_000_000:0{len(NUMBER)}d}"
        assert int(np.float32(number) * 2) == 2 * number


# -- traces


def answer(data: bytes) -> Answer:
    parsed = parse_answer(data)
    assert parsed is not None
    return parsed[0]


def trace_of(*rows: dict[str, Any]) -> Trace:
    """A trace from what differs from an answer of 200 that took a tenth of a second."""
    usual = {
        "scheduled": 0.0,
        "done": 0.1,
        "status": 200,
        "code": 0,
        "version": 0,
        "connection": 1,
        "retry_after": False,
        "is_own": True,
    }
    whole = [{**usual, **row} for row in rows]
    columns: dict[str, Any] = {name: np.array([row[name] for row in whole]) for name in usual}
    return Trace(0.0, 1.0, 0.0, ("", "queue_full", "v1", "v2"), **columns)


@pytest.mark.parametrize(("percent", "expected"), [(1, 1.0), (50, 2.0), (75, 3.0), (76, 4.0), (100, 4.0)])
def test_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    """Nothing is interpolated between two requests."""
    assert percentile(np.array([4.0, 1.0, 3.0, 2.0]), percent) == expected


def test_percentile_of_nothing_is_no_number() -> None:
    """So it meets no mark."""
    assert math.isnan(percentile(np.array([]), 50))


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A server that stalls cannot hide what it kept from being sent."""
    trace = trace_of({"scheduled": 1.0, "done": 1.5})
    assert trace.percentile(50) == 0.5
    assert (trace.good(0.5), trace.good(0.49)) == (1, 0)


def test_goodput_counts_only_good_answers_in_time() -> None:
    """A refusal, a loss and a late answer are none."""
    trace = trace_of({}, {"status": 503}, {"status": 0}, {"done": 9.0})
    assert trace.good(1.0) == 1
    assert (trace.failed, trace.lost) == (2, 1)


def test_an_answer_meant_for_another_is_a_failure() -> None:
    """Its status does not matter."""
    assert trace_of({"is_own": False}).failed == 1


def test_outcomes_are_told_by_status_and_code() -> None:
    """The most frequent first; what was lost is called so."""
    rows = [{"status": 503, "code": 1}] * 3 + [{}] * 2 + [{"status": 0}]
    assert list(trace_of(*rows).outcomes().items()) == [("503 queue_full", 3), ("200", 2), ("lost", 1)]


def test_between_picks_by_when_requests_were_due() -> None:
    """Half open: who is due at the end belongs to what comes next."""
    trace = trace_of({"scheduled": 0.0}, {"scheduled": 1.0}, {"scheduled": 2.0})
    assert trace.between(0, 2).scheduled.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("versions", "mixed"), [([2, 2, 3, 3], 0), ([2, 3, 2], 1), ([2, 3, 3, 2, 2], 1), ([3], 0)]
)
def test_a_version_that_comes_back_on_a_connection_is_no_clean_cut(versions: list[int], mixed: int) -> None:
    """Between connections it may come back: they are not asked in order."""
    rows = [{"version": version} for version in versions]
    assert trace_of(*rows, {"version": 2, "connection": 2}).mixed_connections() == mixed


def test_trace_survives_its_file(tmp_path: Path) -> None:
    """What the generator writes is what the scenario reads."""
    trace = trace_of({}, {"status": 503, "retry_after": True})
    trace.save(tmp_path / "trace.npz")
    read = Trace.read(tmp_path / "trace.npz")
    assert read.words == trace.words
    assert read.status.tolist() == [200, 503]
    assert read.retry_after.tolist() == [False, True]


def test_recorder_keeps_what_an_answer_says() -> None:
    """Status, code, version with its stamp, whether to come back, and whether the answer is the request's own."""
    recorder = Recorder(doubles=True)
    pending = Pending(1.0, 5, b"")
    own = b"[%d]" % (2 * own_number(5))
    head = b"HTTP/1.1 200 OK\r\nx-model-digest: abc\r\ncontent-length: %d\r\n\r\n" % len(own)
    for data in (head + own, GOOD, REFUSED):
        recorder.record(pending, 3, answer(data))
    recorder.record(pending, 4, None, "broken")
    trace = recorder.trace(0.0, 1.0)
    assert trace.status.tolist() == [200, 200, 503, 0]
    assert trace.is_own.tolist() == [True, False, True, True]
    assert trace.retry_after.tolist() == [False, False, True, False]
    assert list(trace.outcomes()) == ["200", "503 queue_full", "lost broken"]
    assert f"abc {2 * own_number(5)}" in trace.words
    assert replace(trace, started=1.0).between(0, 1).lost == 1
