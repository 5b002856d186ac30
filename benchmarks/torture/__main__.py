"""`python -m benchmarks.torture`: run the scenarios, print one table, and fail where a mark is missed."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.torture import edge, failures, latency, lifecycle, overload
from benchmarks.torture.adapters.choice import ADAPTERS
from benchmarks.torture.adapters.contract import Adapter
from benchmarks.torture.report import as_json, describe_machine, row, table
from benchmarks.torture.scenario import Bench, Scenario
from benchmarks.torture.verdict import Round, Verdict, best_of

SCENARIOS = (
    *latency.SCENARIOS,
    *failures.SCENARIOS,
    *overload.SCENARIOS,
    *lifecycle.SCENARIOS,
    *edge.SCENARIOS,
)


def main() -> None:
    options = _parse_options()
    if options.list:
        print("\n".join(f"{each.name:20} {each.what}" for each in SCENARIOS))
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # thousands of connections are opened
    adapter = ADAPTERS[options.server]()
    machine = describe_machine(adapter.versions())
    print(machine, flush=True)
    chosen = [each for each in SCENARIOS if not options.only or each.name in options.only]
    verdicts = _run_all(chosen, adapter, options)
    print(f"\n{table(verdicts)}")
    if options.json:
        options.json.write_text(json.dumps(as_json(machine, verdicts), indent=1, default=str))
    sys.exit(not all(verdict.is_passed for verdict in verdicts))


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[each.name for each in SCENARIOS])
    parser.add_argument("--server", choices=sorted(ADAPTERS), default="maas", help="what is tortured")
    parser.add_argument("--rounds", type=int, default=3, help="runs of a scenario until one passes")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1,
        help="factor by which what is measured may miss its mark; what is counted may not",
    )
    parser.add_argument("--minutes", type=float, default=17, help="after which no round is repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round")
    return parser.parse_args()


def _run_all(chosen: Sequence[Scenario], adapter: Adapter, options: argparse.Namespace) -> list[Verdict]:
    stop = time.monotonic() + options.minutes * 60
    verdicts = []
    for scenario in chosen:
        verdict = _run(scenario, adapter, options, stop)
        verdicts.append(verdict)
        print(f"{verdict.seconds:5.0f} s  {'  '.join(row(verdict))}", flush=True)
    return verdicts


def _run(scenario: Scenario, adapter: Adapter, options: argparse.Namespace, stop: float) -> Verdict:
    lacking = adapter.lacks().get(scenario.name)
    if scenario.is_of_maas and adapter.name != "maas":
        lacking = "needs what only maas has"
    if lacking:
        return Verdict(scenario.name, not_applicable=lacking)
    started = time.monotonic()
    verdict = best_of(
        scenario.name,
        lambda: _run_once(scenario, adapter, options.seed),
        options.rounds,
        lambda: time.monotonic() < stop,
        options.tolerance,
    )
    verdict.seconds = time.monotonic() - started
    return verdict


def _run_once(scenario: Scenario, adapter: Adapter, seed: int) -> Round:
    with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as folder:
        bench = Bench(adapter, Path(folder), seed)
        try:
            with _at_most(scenario.seconds), closing(bench):
                checks = scenario.run(bench)
        except Exception as error:  # whatever went wrong, the others are still run
            traceback.print_exc()
            return Round(error=f"{type(error).__name__}: {error}"[:200], load_average=os.getloadavg()[0])
        return Round(checks, load_average=os.getloadavg()[0])


class OutOfTime(Exception):
    """The scenario took too long. No `TimeoutError`, which a scenario may take for a server's silence."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in what takes longer, whatever it waits for."""

    def ring(*_: object) -> None:
        raise OutOfTime(f"over {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


if __name__ == "__main__":
    main()
