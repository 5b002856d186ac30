"""A wall clock that jumps: requests, deadlines and limits go by another one."""

from __future__ import annotations

import ast
import email.utils
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.assets import fault_models
from tests.edge.sockets import Raw, get, post
from tests.test_server import Server, _wait_until, serving
from tests.versions import store

SOURCE = Path(__file__).parents[2] / "src" / "maas"
LIBRARIES = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
HOUR = timedelta(hours=1)

WALL_CLOCKS = {"time", "time_ns", "now", "utcnow", "today", "localtime", "gmtime"}
MAY_READ_IT = {
    "models/publishing.py",
    "telemetry/logs.py",
    "telemetry/metrics.py",  # statistics say when a batch was last run
}  # a version says when it was made, a line when it was written


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that holds how far the wall clock of processes that are started is off."""
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed (on Debian: apt-get install faketime)")
    file = tmp_path / "clock"
    set_clock(file, timedelta())
    for variable, value in {
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }.items():
        monkeypatch.setenv(variable, value)
    return file


def set_clock(file: Path, offset: timedelta) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{offset.total_seconds():+.0f}\n")
    fresh.rename(file)  # a reader never sees half of it


def date_of(server: Server) -> datetime:
    return email.utils.parsedate_to_datetime(server.get("/v2/health/live").headers["date"])


def test_clock_that_jumps_an_hour_loses_nobody(clock: Path, tmp_path: Path) -> None:
    """Forwards, and back by two: what runs is answered, what waits keeps its deadline, connections stay open, and
    idle ones are closed at their own time."""
    store(tmp_path / "models", name="double")
    store(tmp_path / "models", fault_models.Waiting, name="slow", max_batch_size=1)
    options = {"port": 0, "idle_timeout": 1.0, "keep_alive_timeout": 60.0}
    patient = {"slow": {"refuse_unreachable": False}}
    with (
        serving(tmp_path / "models", tmp_path, server=options, models=patient) as server,
        Raw(server.port) as kept,
    ):
        assert kept.is_open()  # a first request, after which it may be idle for long
        for offset in (HOUR, -HOUR):
            with ThreadPoolExecutor(2) as threads, Raw(server.port) as idle:
                opened = time.monotonic()
                running = threads.submit(server.post, "/predict/slow", {"x": [900, 0]})
                _wait_until(lambda: server.metric("maas_running_requests", model="slow") == 1)
                waiting = threads.submit(timed_out, server)
                _wait_until(lambda: server.metric("maas_queue_requests", model="slow") == 1)
                set_clock(clock, offset)
                _wait_until(lambda o=offset: abs(date_of(server) - datetime.now(UTC) - o) < HOUR / 2)
                assert kept.is_open()
                reply = kept.send(post("/predict/double")).read()
                assert reply is not None
                assert reply.status == 200
                assert 0.5 <= waiting.result() < 1.5
                assert running.result().status_code == 200
                assert idle.is_closed_within(9)
                assert 1.0 <= time.monotonic() - opened < 9
        assert server.metric("maas_instance_deaths_total") == 0
        assert kept.send(get("/v2/health/live")).read() is not None


def timed_out(server: Server) -> float:
    """Seconds after which a request with a deadline of 0.5 s is told."""
    started = time.monotonic()
    answer = server.post("/predict/slow", {"x": [1, 0]}, headers={"X-Request-Timeout": "0.5"})
    assert answer.json()["code"] == "deadline_exceeded"
    return time.monotonic() - started


def wall_clock_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in WALL_CLOCKS:
            owner = ast.unparse(node.value)
            if owner in ("time", "datetime", "date", "datetime.datetime", "datetime.date"):
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"time.{alias.name}" for alias in node.names if alias.name in WALL_CLOCKS)


def test_no_duration_is_taken_from_the_wall_clock() -> None:
    """Nothing reads it but a version's date of birth, the log's timestamps and when a batch was last run."""
    found = {str(path.relative_to(SOURCE)): set(wall_clock_calls(path)) for path in SOURCE.rglob("*.py")}
    assert {file for file, calls in found.items() if calls} == MAY_READ_IT
