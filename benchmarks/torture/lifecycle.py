"""Callers that leave, servers that are told to leave, and versions that come and go while requests are served."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from subprocess import TimeoutExpired

from benchmarks.torture.adapters.contract import Setup
from benchmarks.torture.adapters.maas import Server, ask, serving
from benchmarks.torture.load import NUMBER, Load
from benchmarks.torture.models import (
    DiesOnLoad,
    Double,
    Habit,
    Narrow,
    NeverLoads,
    NotANumber,
    Slow,
    Stamp,
    Triple,
)
from benchmarks.torture.processes import wait_until
from benchmarks.torture.scenario import Bench, Scenario
from benchmarks.torture.verdict import Check, at_least, at_most, exactly, for_the_record
from benchmarks.torture.versions import Model, store
from benchmarks.torture.wire import Connection, connections, post

_HABIT = {"habit": Model(Habit)}
_NUMBERED = b'{"x": [0, 1%b]}' % NUMBER


def callers_leave(bench: Bench) -> Sequence[Check]:
    with bench.adapter.serve(bench.folder, Setup(max_batch_size=1)) as service:
        with connections(service.port, 7) as (busy, *waiting):
            busy.send(service.ask(600, 1))
            time.sleep(0.15)
            for index, connection in enumerate(waiting):
                connection.send(service.ask(0, 10 + index))
            time.sleep(0.15)
            for connection in waiting[:5]:
                connection.close()
            status = waiting[5].read().status
        time.sleep(0.5)
        executed = service.ledger.executed() & set(range(10, 16))
    return [exactly("executed of 6", len(executed), 1), exactly("who stayed", status, 200)]


def leavers_are_counted(bench: Bench) -> Sequence[Check]:
    """Half of a hundred callers leave while they wait, ten while their batch runs; nobody else is touched."""
    options = {"habit": {"max_batch_size": 20}}
    with serving(bench.folder, _HABIT, models=options) as server:
        with connections(server.port, 120) as callers:
            running, waiting = callers[:20], callers[20:]
            running[0].send(ask(600, 1))
            time.sleep(0.1)
            for index, connection in enumerate([*running[1:], *waiting]):
                connection.send(ask(600, 10 + index))
            time.sleep(0.7)  # the first is answered, a batch of 20 runs
            left = [*running[1:11], *waiting[50:]]
            for connection in left:
                connection.close()
            stayed = [c for c in callers if c not in left]
            answered = sum(connection.read().status == 200 for connection in stayed)
        time.sleep(0.3)
        cancelled = server.metric("maas_requests_total", model="habit", outcome="cancelled")
        ok = server.metric("maas_requests_total", model="habit", outcome="ok")
        waiting_now = server.metric("maas_queue_requests", model="habit")
        running_now = server.metric("maas_running_requests", model="habit")
    return [
        exactly("left", len(left), 60),
        exactly("counted as cancelled", int(cancelled), 60),
        exactly("answered of 60 that stayed", answered, 60),
        exactly("billed as answered", int(ok), 60),
        exactly("waiting or running at the end", int(waiting_now + running_now), 0),
    ]


def sigterm_with_queue(bench: Bench) -> Sequence[Check]:
    with (
        bench.adapter.serve(bench.folder, Setup(max_batch_size=1)) as service,
        connections(service.port, 51, seconds=20) as (busy, *waiting),
    ):
        busy.send(service.ask(500, 1))
        time.sleep(0.15)
        for index, connection in enumerate(waiting):
            connection.send(service.ask(20, 10 + index))
        time.sleep(0.15)
        service.process.send_signal(signal.SIGTERM)
        answered = _count_good(waiting, time.monotonic() + 15)
        try:
            code: object = service.process.wait(15)
        except TimeoutExpired:
            code = "still there"
    return [exactly("answered of 50", answered, 50), exactly("exit code", code, 0)]


def sigterm_under_load(bench: Bench) -> Sequence[Check]:
    """The load goes on for two of the three seconds in which the server says that it leaves, as from a load balancer
    that looks every second."""
    with serving(bench.folder, {"double": Model()}, server={"drain_delay": 3}) as server:
        load = Load(server.port, (post("/predict/double", _NUMBERED),), clients=32, seconds=12, doubles=True)
        running = bench.start(load)
        time.sleep(10)
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        time.sleep(0.2)
        readiness = server.get("/v2/health/ready").status
        code = server.process.wait(30)
        left = time.monotonic() - told
        trace = running.trace()
    return [
        exactly("failed", trace.failed, 0),
        at_least("of requests", len(trace.status), 20_000),
        exactly("readiness", readiness, 503),
        exactly("exit code", code, 0),
        at_most("gone after", left, 3 + 1, "s"),
        for_the_record("connections used", len(set(trace.connection.tolist()))),
    ]


def sigterm_with_long_request(bench: Bench) -> Sequence[Check]:
    options = {
        "server": {"drain_timeout": 2},
        "models": {"habit": {"compute_timeout": 120, "request_timeout": 120}},
    }
    with serving(bench.folder, _HABIT, **options) as server, connections(server.port, 1) as (long,):
        long.send(ask(60_000, 1))
        wait_until(lambda: server.ledger.runs(), 5, "it runs")
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        status = long.read().status
        answered = time.monotonic() - told
        code = server.process.wait(30)
        left = time.monotonic() - told
    return [
        exactly("status", status, 503),
        at_most("answered after", answered, 2 + 1, "s"),
        at_most("gone after", left, 2 + 1, "s"),
        exactly("exit code", code, 0),
    ]


def second_sigterm(bench: Bench) -> Sequence[Check]:
    options = {"models": {"habit": {"compute_timeout": 120, "request_timeout": 120}}}
    with serving(bench.folder, _HABIT, **options) as server, connections(server.port, 1) as (long,):
        long.send(ask(60_000, 1))
        wait_until(lambda: server.ledger.runs(), 5, "it runs")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        status = long.read().status
        server.process.wait(30)
        left = time.monotonic() - told
    return [exactly("status", status, 503), at_most("gone after", left, 1, "s")]


def reload(bench: Bench, versions: int = 20) -> Sequence[Check]:
    """New versions one after the other under 32 callers; each answers with its own number."""
    options = {"models": {"model": {"versions": "highest"}}}
    with serving(bench.folder, {"model": Model(Stamp)}, **options) as server:
        load = Load(server.port, (post("/predict/model", _NUMBERED),), clients=32, seconds=60, doubles=True)
        running = bench.start(load)
        for version in range(2, versions + 2):
            store(bench.folder / "models", "model", Model(Stamp), str(version))
            server.post("/admin/refresh", None)
            is_active = partial(_is_active, server, str(version))
            wait_until(is_active, 10, f"version {version} is active", every=0.02)
            time.sleep(0.1)
        running.stop()
        trace = running.trace()
    stamped = {word for word in trace.words if word}
    return [
        exactly("failed", trace.failed, 0),
        for_the_record("of requests", len(trace.status)),
        exactly("versions that answered", len({word.split()[0] for word in stamped}), versions + 1),
        exactly("answers of one under another's name", len(stamped) - versions - 1, 0),
        exactly("connections without a clean cut", trace.mixed_connections(), 0),
    ]


def bad_versions(bench: Bench) -> Sequence[Check]:
    """Each is published above the one that serves, under load."""
    bad: dict[str, Callable[[Path, str], object]] = {
        "truncated": _store_truncated,
        "wrong shape": lambda at, v: store(at, "model", Model(Narrow, answers=Double), v),
        "failing golden": lambda at, v: store(at, "model", Model(Triple, answers=Double), v),
        "NaN": lambda at, v: store(at, "model", Model(NotANumber, answers=Double), v),
        "dies": lambda at, v: store(at, "model", Model(DiesOnLoad), v),
        "much slower": lambda at, v: store(at, "model", Model(Slow), v),
        "never loads": lambda at, v: store(at, "model", Model(NeverLoads), v),
    }
    options = {"models": {"model": {"versions": "highest", "load_timeout": 3}}}
    reasons: dict[str, str] = {}
    with serving(bench.folder, {"model": Model()}, **options) as server:
        load = Load(server.port, (post("/predict/model", _NUMBERED),), clients=8, seconds=60, doubles=True)
        running = bench.start(load)
        back = []
        for version, publish in enumerate(bad.values(), start=2):
            publish(bench.folder / "models", str(version))
            server.post("/admin/refresh", None)
            label = f"model/{version}"
            wait_until(partial(_has_failed, server, label), 10, f"{label} has failed", every=0.05)
            back.append(wait_until(partial(_is_active, server, "1"), 10, "the old one is active"))
            reasons |= _failed(server)
        running.stop()
        trace = running.trace()
    return [
        exactly("refused, with a reason", len([reason for reason in reasons.values() if reason]), len(bad)),
        exactly("failed", trace.failed, 0),
        at_most("old version active after", max(back), 1, "s"),
        exactly("versions that answered", len([word for word in trace.words if word]), 1),
    ]


def _store_truncated(repository: Path, version: str) -> None:
    golden = store(repository, "model", Model(), version) / "golden.safetensors"
    golden.write_bytes(golden.read_bytes()[:-3])


def _is_active(server: Server, version: str) -> bool:
    return bool(server.get("/models/model").json["version"] == version)


def _has_failed(server: Server, label: str) -> bool:
    return label in _failed(server)


def _failed(server: Server) -> dict[str, str]:
    failed: dict[str, str] = server.get("/v2/health/ready").json.get("failed", {})
    return failed


def _count_good(waiting: Sequence[Connection], deadline: float) -> int:
    """How many are answered with 200 until then."""
    good = 0
    for connection in waiting:
        connection.socket.settimeout(max(0.01, deadline - time.monotonic()))
        with suppress(OSError):
            good += connection.read().status == 200
    return good


SCENARIOS = (
    Scenario("callers-leave", "6 requests wait, 5 of their callers close", callers_leave),
    Scenario(
        "leavers-counted", "60 of 120 callers leave, waiting or running", leavers_are_counted, is_of_maas=True
    ),
    Scenario("sigterm-queue", "SIGTERM with 50 requests waiting", sigterm_with_queue),
    Scenario(
        "sigterm-load", "SIGTERM under 32 clients, with a drain delay", sigterm_under_load, is_of_maas=True
    ),
    Scenario(
        "sigterm-long",
        "SIGTERM with a request of 60 s, drain timeout 2 s",
        sigterm_with_long_request,
        is_of_maas=True,
    ),
    Scenario("sigterm-twice", "a second SIGTERM", second_sigterm, is_of_maas=True),
    Scenario("reload", "20 new versions under 32 clients", reload, 90, is_of_maas=True),
    Scenario(
        "bad-versions",
        "seven new versions that must not serve, under load",
        bad_versions,
        90,
        is_of_maas=True,
    ),
)
