"""Requests that raise, kill, hang; processes that die, freeze, loop: who is guilty pays, and nobody else."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.torture.adapters.contract import Service, Setup
from benchmarks.torture.adapters.maas import Server, ask, serving, started
from benchmarks.torture.load import NUMBER, Load
from benchmarks.torture.models import (
    CRASHES,
    HANGS,
    NOT_A_NUMBER,
    RAISES,
    SLEEPS_IN_C,
    DiesOnLoad,
    Double,
    Habit,
)
from benchmarks.torture.processes import is_alive, tree, wait_until
from benchmarks.torture.scenario import Bench, Scenario
from benchmarks.torture.schedule import Phase
from benchmarks.torture.verdict import Check, at_least, at_most, exactly, for_the_record
from benchmarks.torture.versions import Model
from benchmarks.torture.wire import Answer, Connection, call, connections, post

_HABIT = {"habit": Model(Habit)}


def bad_row(bench: Bench) -> Sequence[Check]:
    with bench.adapter.serve(bench.folder, Setup()) as service:
        answers = _in_one_batch(service, [service.ask(RAISES if n == 3 else 0, 10 + n) for n in range(8)])
    return [
        exactly("answered", sum(answer.status == 200 for answer in answers), 7),
        exactly("bad one", answers[3].status, 500),
    ]


def raises(bench: Bench) -> Sequence[Check]:
    answers, server_ledger = _thirty_two(bench, RAISES)
    runs = [each for each in server_ledger if 10 <= max(each) < 100]
    return [
        exactly("failed of 32", sum(answer.status != 200 for answer in answers), 1),
        at_most("runs", len(runs), 11),
    ]


def not_a_number(bench: Bench) -> Sequence[Check]:
    with serving(bench.folder, _HABIT) as server:
        service = _service(server)
        answers = _in_one_batch(service, [ask(NOT_A_NUMBER if n == 3 else 0, 10 + n) for n in range(8)])
    guilty = answers.pop(3)
    return [
        exactly("guilty", f"{guilty.status} {guilty.code}", "500 non_finite_output"),
        exactly("others answered", sum(answer.status == 200 for answer in answers), 7),
    ]


def crashes(bench: Bench) -> Sequence[Check]:
    with serving(bench.folder, _HABIT) as server:
        guilty = ask(CRASHES, 10)
        answers = _in_one_batch(_service(server), [guilty, *(ask(0, n) for n in range(11, 42))])
        again = call(server.port, guilty)
        deaths = server.metric("maas_instance_deaths_total", model="habit")
    return [
        exactly("failed of 32", sum(answer.status != 200 for answer in answers), 1),
        exactly("guilty", f"{answers[0].status} {answers[0].code}", "500 model_crashed"),
        exactly("the same again", f"{again.status} {again.code}", "422 quarantined"),
        at_most("crashes", deaths, 2),
    ]


def hangs(bench: Bench) -> Sequence[Check]:
    return _hang(bench, HANGS)


def sleeps_in_c(bench: Bench) -> Sequence[Check]:
    return _hang(bench, SLEEPS_IN_C)


def _hang(bench: Bench, habit: float) -> Sequence[Check]:
    watchdog = 1.0
    with serving(bench.folder, _HABIT, models={"habit": {"compute_timeout": watchdog}}) as server:
        answers = _in_one_batch(_service(server), [ask(habit, 10), *(ask(0, n) for n in range(11, 18))])
        (first, *_) = (each for each in server.ledger.runs() if 10 in each.numbers)
        since = time.time() - time.monotonic()
        seen = [_logged_at(event) - since for event in server.events("instance_died")]
    return [
        exactly("guilty", answers[0].status, 504),
        exactly("innocents answered", sum(answer.status == 200 for answer in answers[1:]), 7),
        at_most("killed after", seen[0] - first.at, watchdog + 0.5, "s"),
    ]


def frozen(bench: Bench) -> Sequence[Check]:
    with serving(bench.folder, _HABIT) as server, connections(server.port, 1) as (waiting,):
        pid = server.worker("habit")
        os.kill(pid, signal.SIGSTOP)
        started_at = time.monotonic()
        waiting.send(ask(0, 10, X_Request_Timeout=1))
        answer = waiting.read()
        answered = time.monotonic() - started_at
        wait_until(lambda: server.worker("habit") != pid, 10, "another process is ready")
        replaced = time.monotonic() - started_at
        after = call(server.port, ask(0, 11))
    return [
        exactly("waiting request", answer.status, 504),
        at_most("answered after", answered, 1.02, "s"),
        at_most("replaced after", replaced, 4, "s"),
        exactly("then", after.status, 200),
    ]


def killed_in_flight(bench: Bench) -> Sequence[Check]:
    with bench.adapter.serve(bench.folder, Setup()) as service:
        call(service.port, service.ask(0, 1))
        with connections(service.port, 32, seconds=15) as waiting:
            for index, connection in enumerate(waiting):
                connection.send(service.ask(400, 10 + index))
            time.sleep(0.2)
            os.kill(service.ledger.worker(), signal.SIGKILL)
            killed = time.monotonic()
            healthy = _seconds_until_good(service, killed)
            answers = [_read_or_none(connection) for connection in waiting]
    statuses = Counter(answer.status if answer else 0 for answer in answers)
    return [
        exactly("neither answered nor refused", 32 - statuses[200] - statuses[503], 0),
        for_the_record("answered", statuses[200]),
        at_most("a request is answered again after", healthy, 3, "s"),
    ]


def ten_kills(bench: Bench) -> Sequence[Check]:
    """SIGKILL of the model process every three seconds under 100 requests/s."""
    with serving(bench.folder, _HABIT) as server:
        load = Load(server.port, (ask(20, f"1{NUMBER.decode()}"),), (Phase(100, 31),), doubles=True)
        running = bench.start(load)
        kills = []
        for _ in range(10):
            time.sleep(3)
            pid = server.worker("habit")
            wait_until(partial(is_alive, pid), 1, f"process {pid} lives")
            kills.append((time.time(), pid))
            os.kill(pid, signal.SIGKILL)
        trace = running.trace()
        notice, replace = zip(*(_life_after(server, at, pid) for at, pid in kills), strict=True)
    return [
        exactly("failed", trace.failed, 0),
        at_least("of requests", len(trace.status), 2500),
        at_most("noticed after", max(notice) * 1e3, 100, "ms"),
        at_most("replaced after", max(replace) * 1e3, 300, "ms"),
        for_the_record("p99", trace.percentile(99) * 1e3, "ms"),
    ]


def crash_loop(bench: Bench) -> Sequence[Check]:
    """One model dies over every request, and another while it loads; a third must not notice."""
    models = {"habit": Model(Habit), "good": Model(Habit), "stillborn": Model(DiesOnLoad, answers=Double)}
    good = post("/predict/good", b'{"x": [50, 1%b]}' % NUMBER)
    phases = (Phase(100, 12),)
    with serving(bench.folder, models) as server:
        solo = bench.run(Load(server.port, (good,), phases, doubles=True)).between(2, 12)
        running = bench.start(Load(server.port, (good,), phases, doubles=True))
        killers = Load(server.port, (ask(CRASHES, f"1{NUMBER.decode()}"),), (Phase(20, 12),), patience=40)
        bench.run(killers)
        trace = running.trace().between(2, 12)
        time.sleep(20)  # a restart that comes late would be counted
        restarts = len(server.events("instance_ready", "habit/")) - 1
        state = server.get("/v2/health/ready").json["failed"]
    return [
        exactly("other model failed", trace.failed, 0),
        at_most("its p99 against alone", trace.percentile(99) / solo.percentile(99), 1.3, "×"),
        at_most("restarts", restarts, 8),
        exactly("given up with a reason", sorted(state), ["habit/1", "stillborn/1"]),
    ]


def gateway_killed(bench: Bench) -> Sequence[Check]:
    """SIGKILL of the gateway under load: its children leave by themselves, and the next start finds nothing in its way."""
    before = _left_behind()
    with serving(bench.folder, _HABIT) as server:
        family = tree(server.process.pid)
        running = bench.start(Load(server.port, (ask(20, 1),), (Phase(100, 1),), patience=2))
        time.sleep(0.5)
        os.kill(server.process.pid, signal.SIGKILL)
        left = wait_until(lambda: not any(map(is_alive, family)), 10, "the model processes leave")
        port = server.port
        running.trace()
    started_at = time.monotonic()
    with started(bench.folder, server={"port": port}) as again:
        answer = call(again.port, ask(0, 1))
        ready = time.monotonic() - started_at
    return [
        at_most("all processes gone after", left, 1, "s"),
        exactly("on the same port", answer.status, 200),
        at_most("ready again after", ready, 3, "s"),
        exactly("left in shared memory", len(_left_behind() - before), 0),
    ]


def _left_behind() -> set[str]:
    return {entry.name for entry in Path("/dev/shm").iterdir()}


def _thirty_two(bench: Bench, habit: float) -> tuple[list[Answer], list[tuple[int, ...]]]:
    with serving(bench.folder, _HABIT) as server:
        requests = [ask(habit if n == 20 else 0, n) for n in range(10, 42)]
        answers = _in_one_batch(_service(server), requests)
        return answers, [each.numbers for each in server.ledger.runs()]


def _service(server: Server) -> Service:
    return Service(server.port, server.process, server.ledger, ask)


def _in_one_batch(service: Service, requests: Sequence[bytes]) -> list[Answer]:
    """The answers to requests that all wait while another is run, so that they make one batch together."""
    with connections(service.port, len(requests) + 1) as (busy, *waiting):
        busy.send(service.ask(300, 1))
        time.sleep(0.1)
        for connection, request in zip(waiting, requests, strict=True):
            connection.send(request)
        busy.read()
        return [connection.read() for connection in waiting]


def _seconds_until_good(service: Service, since: float) -> float:
    """From `since` until a new caller gets a good answer; 15 s where none does."""
    while (elapsed := time.monotonic() - since) < 15:
        try:
            if call(service.port, service.ask(0, 2), 5).status == 200:
                return time.monotonic() - since
        except OSError:
            pass
        time.sleep(0.02)
    return elapsed


def _read_or_none(connection: Connection) -> Answer | None:
    try:
        return connection.read()
    except OSError:
        return None


def _life_after(server: Server, killed: float, pid: int) -> tuple[float, float]:
    """Seconds from the kill until it was logged, and from then until the next process was ready."""
    died = next(_logged_at(event) for event in server.events("instance_died") if event["pid"] == pid)
    ready = next(at for event in server.events("instance_ready") if (at := _logged_at(event)) > died)
    return died - killed, ready - died


def _logged_at(event: dict[str, Any]) -> float:
    return float(event["timestamp"])


SCENARIOS = (
    Scenario("bad-row", "one of 8 requests in a batch makes the model raise", bad_row),
    Scenario("raises", "one of 32 makes the model raise: found by halving", raises, is_of_maas=True),
    Scenario("not-a-number", "one of 8 is answered with NaN", not_a_number, is_of_maas=True),
    Scenario("crashes", "one of 32 makes the model's process segfault", crashes, is_of_maas=True),
    Scenario("hangs", "one of 8 computes for ever, holding the interpreter", hangs, is_of_maas=True),
    Scenario("sleeps-in-c", "one of 8 sleeps for ever in C", sleeps_in_c, is_of_maas=True),
    Scenario("frozen", "the model's process is stopped (SIGSTOP)", frozen, is_of_maas=True),
    Scenario(
        "killed-in-flight", "SIGKILL of the model's process with 32 requests in flight", killed_in_flight
    ),
    Scenario("ten-kills", "ten SIGKILLs over 30 s of load", ten_kills, 90, is_of_maas=True),
    Scenario(
        "crash-loop",
        "a model dies over every request, another at every load",
        crash_loop,
        150,
        is_of_maas=True,
    ),
    Scenario("gateway-killed", "SIGKILL of the gateway under load", gateway_killed, 90, is_of_maas=True),
)
