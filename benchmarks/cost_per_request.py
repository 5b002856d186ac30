"""What a small request costs the gateway: stage by stage in this process, and from socket to socket in a running server.

    python -m benchmarks.cost_per_request

Socket to socket it is the CPU time of the gateway process alone (by the kernel, all of its threads; the model computes in
another process) over a counted number of requests of 64 keep-alive connections: by the fast lane; with access logs on; and by
ASGI, which a chunked body takes. Instructions are counted by `perf stat` where it may.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from benchmarks.harness import Serving, publish_mlp, serving
from benchmarks.load import request
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table
from benchmarks.stages import BODY, stages
from benchmarks.torture.processes import cpu_seconds

from maas.bench.clients import send
from maas.bench.load import Load, Request

_CONNECTIONS = 64
_PATH = "/predict/mlp"


def main() -> None:
    options = arguments(__doc__, rounds=5, seconds=4.0).parse_args()
    table = new_table("cost_per_request", ["", "µs per request", "instructions per request"])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        publish_mlp(folder / "models")
        plain = stack.enter_context(serving(folder / "models"))
        logged = stack.enter_context(serving(folder / "models", logging={"access": True}))
        turns: dict[str, Callable[[], Measured]] = {
            f"stage: {name}": partial(_as_measured, measure) for name, measure in stages().items()
        }
        for name, server, asked in (
            ("socket to socket, fast lane", plain, request(_PATH, BODY)),
            ("socket to socket, fast lane, access logs", logged, request(_PATH, BODY)),
            ("socket to socket, ASGI", plain, chunked(BODY)),
        ):
            turns[name] = partial(gateway_cost, server, asked, options.seconds)
        rounds = interleave(turns, options.rounds)
    for name, measured in rounds.items():
        counted = [each["instructions"] for each in measured if "instructions" in each]
        instructions = cell(counted) if counted else "–"
        table.rows.append([name, cell([each["µs"] for each in measured], 2), instructions])
    table.notes.append(
        f"{options.rounds} rounds; {_CONNECTIONS} connections, {options.seconds:g} s of load in each"
    )
    if not any("instructions" in each for measured in rounds.values() for each in measured):
        table.notes.append("instructions: `perf stat` is not there, or counts none on this machine")
    finish(table, options.json)


def _as_measured(measure: Callable[[], float]) -> Measured:
    return {"µs": measure()}


def gateway_cost(server: Serving, asked: Request, seconds: float) -> Measured:
    """CPU time of the gateway for each request that it answered; raises where it did not answer all of them well."""
    load = Load("127.0.0.1", server.port, (asked,), _CONNECTIONS, seconds=seconds, warm_up=0.0)
    send(Load("127.0.0.1", server.port, (asked,), _CONNECTIONS, seconds=0.5, warm_up=0.0))
    with counting_instructions(server.pid) as counted:
        before = cpu_seconds([server.pid])
        tally = send(load)
        spent = cpu_seconds([server.pid]) - before
    if tally.errors:
        raise RuntimeError(f"not answered well: {tally.errors}")
    measured = {"µs": spent / tally.requests * 1e6, "req/s": tally.completed / tally.seconds}
    if counted:
        measured["instructions"] = counted[0] / tally.requests
    return measured


def chunked(content: bytes) -> Request:
    """The same body in one chunk."""
    head = (
        f"POST {_PATH} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{len(content):x}\r\n"
    )
    return Request(head.encode() + content + b"\r\n0\r\n\r\n")


@contextmanager
def counting_instructions(pid: int) -> Iterator[list[int]]:
    """A list that holds, at the end, how many instructions the process has retired in the meantime, if `perf` can say."""
    counted: list[int] = []
    if (perf := shutil.which("perf")) is None:
        yield counted
        return
    command = [perf, "stat", "-x", ",", "-e", "instructions", "-p", str(pid)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield counted
        finally:
            process.send_signal(signal.SIGINT)
            _, output = process.communicate(timeout=10)
    if (found := re.search(r"^(\d+),", output, re.MULTILINE)) is not None:
        counted.append(int(found[1]))


if __name__ == "__main__":
    main()
