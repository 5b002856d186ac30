"""More than the server can do: it does what it can, in time, and says at once what it cannot."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.torture.adapters.contract import Service, Setup
from benchmarks.torture.load import NUMBER, Load
from benchmarks.torture.processes import resident_bytes
from benchmarks.torture.scenario import Bench, Scenario
from benchmarks.torture.schedule import Phase
from benchmarks.torture.trace import Trace
from benchmarks.torture.verdict import Check, at_least, at_most, exactly, for_the_record

DEADLINE = 0.25  # seconds, for every request
_BATCH = 0.05  # seconds that one takes
_SATURATING = 64  # clients in a closed loop: one batch runs, one waits
_CALM, _AFTER = 4.0, 4.0  # seconds of half the peak before and after the burst
_MEMORY = 10e6  # bytes: what counts as flat


def twice(bench: Bench) -> Sequence[Check]:
    return _burst(bench, 2)


def ten_times(bench: Bench) -> Sequence[Check]:
    return _burst(bench, 10)


def retry_storm(bench: Bench) -> Sequence[Check]:
    return _storm(bench, honours_retry_after=False)


def retries_when_told(bench: Bench) -> Sequence[Check]:
    return _storm(bench, honours_retry_after=True)


def _burst(bench: Bench, factor: float, seconds: float = 60.0) -> Sequence[Check]:
    with bench.adapter.serve(bench.folder, Setup(deadline=DEADLINE)) as service:
        peak = _peak(bench, service)
        phases = (Phase(peak / 2, _CALM), Phase(peak * factor, seconds), Phase(peak / 2, _AFTER))
        load = Load(
            service.port,
            _requests(service),
            phases,
            connections=256,
            patience=10,
            doubles=True,
        )
        running = bench.start(load)
        growth = _growth(service, _CALM + 10, _CALM + seconds - 1)
        trace = running.trace()
    burst = trace.between(_CALM, _CALM + seconds)
    calm, after = trace.between(1, _CALM), trace.between(_CALM + seconds + 1, _CALM + seconds + _AFTER)
    return [
        for_the_record("offered", len(burst.status) / seconds, "/s"),
        *_shared_checks(burst, peak, seconds, growth),
        at_most("slowest refusal", _slowest_refusal(burst) * 1e3, 50, "ms"),
        at_most("p50 a second after, against before", after.percentile(50) / calm.percentile(50), 1.25, "×"),
    ]


def _storm(bench: Bench, *, honours_retry_after: bool, seconds: float = 15.0) -> Sequence[Check]:
    with bench.adapter.serve(bench.folder, Setup(deadline=DEADLINE)) as service:
        peak = _peak(bench, service)
        calm_load = Load(service.port, _requests(service), (Phase(peak / 2, _CALM),), doubles=True)
        calm = bench.run(calm_load).between(1, _CALM)
        load = Load(
            service.port,
            _requests(service),
            clients=2000,
            seconds=seconds,
            patience=10,
            honours_retry_after=honours_retry_after,
            doubles=True,
        )
        running = bench.start(load)
        growth = _growth(service, 5, seconds - 1)
        trace = running.trace()
        after = bench.run(calm_load).between(1, _CALM)
    storm = trace.between(1, seconds)
    return [
        for_the_record("tries", len(storm.status) / (seconds - 1), "/s"),
        *_shared_checks(storm, peak, seconds - 1, growth),
        at_most("p50 a second after, against before", after.percentile(50) / calm.percentile(50), 1.25, "×"),
    ]


def _shared_checks(burst: Trace, peak: float, seconds: float, growth: float) -> list[Check]:
    goodput = burst.good(DEADLINE + _BATCH) / seconds
    accepted = burst.where(burst.status != 503)
    return [
        at_least("goodput", goodput / peak * 100, 90, f"% of {peak:.0f}/s"),
        at_most("p99 of accepted", accepted.percentile(99) * 1e3, (DEADLINE + _BATCH) * 1e3, "ms"),
        exactly("refusals without Retry-After", int((~burst.refused.retry_after).sum()), 0),
        exactly("lost", burst.lost, 0),
        for_the_record("outcomes", burst.summary()),
        at_most("memory grew by", growth / 1e6, _MEMORY / 1e6, "MB"),
    ]


def _peak(bench: Bench, service: Service) -> float:
    """Good answers a second when there is always enough to do and never too much."""
    load = Load(service.port, _requests(service), clients=_SATURATING, seconds=6, doubles=True)
    return bench.run(load).between(1, 6).good(DEADLINE) / 5


def _requests(service: Service) -> tuple[bytes]:
    return (service.ask(_BATCH * 1e3, f"1{NUMBER.decode()}"),)


def _slowest_refusal(trace: Trace) -> float:
    """0 where nothing was refused."""
    return float(trace.refused.latency.max(initial=0.0))


def _growth(service: Service, start: float, stop: float) -> float:
    """Bytes by which the server's first process grows between two moments from now."""
    time.sleep(start)
    before = resident_bytes(service.process.pid)
    time.sleep(stop - start)
    return resident_bytes(service.process.pid) - before


SCENARIOS = (
    Scenario("overload-2x", "60 s of twice the peak, open loop: clients do not back off", twice, 120),
    Scenario("overload-10x", "60 s of ten times the peak", ten_times, 120),
    Scenario("retry-storm", "2,000 connections that retry every 503 at once", retry_storm),
    Scenario("retry-after", "2,000 connections that come back when they are told to", retries_when_told),
)
