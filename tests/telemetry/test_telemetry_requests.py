"""What is recorded of a request: when it is logged, with which facts, and what is counted."""

from __future__ import annotations

import json

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from tests.api.harness import Model, in_loop, recorded_logs, serving

from maas.api.request_id import plain_id
from maas.batching.request import Timings
from maas.errors import MaasError, ModelFailed, QueueFull
from maas.telemetry import requests
from maas.telemetry.metrics import Metrics
from maas.telemetry.requests import AccessPolicy, AnsweredLine, RequestRecorder

VERSION = ("double", "3")


def record(policy: AccessPolicy, *totals: float) -> list[dict[str, object]]:
    with recorded_logs() as lines:
        recorder = RequestRecorder(Metrics(list), policy)
        for number, total in enumerate(totals):
            recorder.answered(VERSION, f"r{number}".encode(), Timings(queue=0.001, compute=0.002), total)
    return lines


def test_answered_request_is_not_logged_by_default() -> None:
    """A successful request that is not slow leaves no line."""
    assert record(AccessPolicy(), 0.01, 0.5, 0.999) == []


def test_access_log_has_every_answered_request() -> None:
    """With `log_all` each has a line with its version, id and times in milliseconds."""
    first, second = record(AccessPolicy(log_all=True), 0.01, 0.02)
    assert {key: first[key] for key in first if key != "timestamp"} == {
        "event": "request_answered",
        "level": "info",
        "model": "double/3",
        "request_id": "r0",
        "queue_ms": 1.0,
        "compute_ms": 2.0,
        "total_ms": 10.0,
    }
    assert second["request_id"] == "r1"


SECONDS = st.floats(0, 1e5)


@given(
    request_id=st.binary(max_size=140).filter(plain_id)
    | st.sampled_from([b'"', b"\\", b'"},{"a":"', b"\\u0041"]),
    queue=SECONDS,
    compute=SECONDS,
    total=SECONDS,
    at=st.floats(0, 2e9),
    is_slow=st.booleans(),
)
def test_line_of_an_answered_request_reads_as_structlog_would_write_it(
    request_id: bytes, queue: float, compute: float, total: float, at: float, is_slow: bool
) -> None:
    """Put together by hand, it has the names, in their order, and the values of an event."""
    render = structlog.processors.JSONRenderer(ensure_ascii=True)
    event = {
        "model": "double/3",
        "request_id": request_id.decode(),
        "queue_ms": round(queue * 1e3, 3),
        "compute_ms": round(compute * 1e3, 3),
        "total_ms": round(total * 1e3, 3),
        "event": "request_slow" if is_slow else "request_answered",
        "level": "info",
        "timestamp": at,
    }
    line = AnsweredLine(VERSION, request_id, queue, compute, total, is_slow).render(at)
    found, expected = (json.loads(text, object_pairs_hook=list) for text in (line, render(None, "", event)))
    assert found == expected
    assert line.isascii()
    assert line.isprintable()


def test_share_of_answered_requests_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a share, those are logged for which chance says so."""
    chances = iter([0.05, 0.2, 0.0999, 0.1])
    monkeypatch.setattr(requests.random, "random", lambda: next(chances))
    lines = record(AccessPolicy(share=0.1), 0.01, 0.01, 0.01, 0.01)
    assert [line["request_id"] for line in lines] == ["r0", "r2"]


def test_slow_request_is_always_logged_as_slow() -> None:
    """From `slow_seconds` on a request is logged as slow, whatever the policy for the others."""
    for policy in AccessPolicy(slow_seconds=0.5), AccessPolicy(log_all=True, slow_seconds=0.5):
        lines = record(policy, 0.499, 0.5, 3)
        slow = [line for line in lines if line["event"] == "request_slow"]
        assert [line["request_id"] for line in slow] == ["r1", "r2"]
        assert len(lines) == (3 if policy.log_all else 2)


def test_overhead_is_what_is_neither_queue_nor_compute() -> None:
    """The rest of the total is the overhead, never below nothing."""
    metrics = Metrics(list)
    recorder = RequestRecorder(metrics, AccessPolicy())
    recorder.answered(VERSION, b"r", Timings(queue=0.25, compute=0.5), 1.0)
    recorder.answered(VERSION, b"r", Timings(queue=0.25, compute=0.5), 0.7)
    assert b'maas_overhead_seconds_sum{model="double",version="3"} 0.25' in metrics.expose()
    assert b'maas_overhead_seconds_count{model="double",version="3"} 2' in metrics.expose()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (QueueFull("full", retry_after=1), "queue_full"),
        (ModelFailed("NaN", code="non_finite_output"), "non_finite_output"),
    ],
)
def test_failed_and_refused_requests_are_logged_and_counted(error: MaasError, code: str) -> None:
    """Each has a warning with its code, message and id, and is counted under its code."""
    metrics = Metrics(list)
    with recorded_logs() as lines:
        RequestRecorder(metrics, AccessPolicy()).failed(VERSION, "r7", error, 0.0015)
    (line,) = lines
    assert (line["event"], line["level"], line["code"], line["error"]) == (
        "request_failed",
        "warning",
        code,
        error.message,
    )
    assert (line["model"], line["request_id"], line["total_ms"]) == ("double/3", "r7", 1.5)
    assert "trace" not in line
    assert (
        f'maas_requests_total{{model="double",outcome="{code}",version="3"}} 1.0'.encode() in metrics.expose()
    )


def test_trace_of_a_model_is_logged() -> None:
    """What led to a model's failure is in the log, and only there."""
    with recorded_logs() as lines:
        failure = ModelFailed("the model raised", trace="Traceback …\nKeyError")
        RequestRecorder(Metrics(list), AccessPolicy()).failed(None, "r", failure, 0)
    assert (lines[0]["trace"], lines[0]["model"]) == ("Traceback …\nKeyError", None)


def test_bug_is_logged_whole_and_counted_as_error() -> None:
    """An error outside our tree has its trace in the log, and counts as `error`."""
    metrics = Metrics(list)
    with recorded_logs() as lines:
        try:
            raise RuntimeError("\r\n" + "x" * 1000)
        except RuntimeError as error:
            RequestRecorder(metrics, AccessPolicy()).failed(VERSION, "r", error, 0)
    assert lines[0]["event"] == "request_met_a_bug"
    assert "test_telemetry_requests.py" in lines[0]["exception"]
    assert "x" * 1000 in lines[0]["exception"]
    assert b'maas_requests_total{model="double",outcome="error",version="3"} 1.0' in metrics.expose()


@in_loop
async def test_service_logs_what_its_policy_says() -> None:
    """Over HTTP: a refused request is logged with its id, an answered one only with the access log."""
    for log_all, events in (False, ["request_failed"]), (True, ["request_answered", "request_failed"]):
        with recorded_logs() as lines:
            async with serving(Model(), access=AccessPolicy(log_all=log_all)) as service:
                await service.predict({"x": [1, 2]}, headers={"X-Request-Id": "good"})
                await service.predict({"x": "\r\n\x1b[31m" * 1000}, headers={"X-Request-Id": "bad"})
        assert [line["event"] for line in lines] == events
        assert lines[-1]["request_id"] == "bad"
        assert lines[-1]["code"] == "invalid_request"
        assert all(len(value) <= 256 for line in lines for value in line.values() if isinstance(value, str))
