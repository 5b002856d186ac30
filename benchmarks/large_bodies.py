"""Images of 3×224×224 float32, by JSON and by binary tensors: what one costs the gateway, and whom it keeps waiting.

    python -m benchmarks.large_bodies

Closed loop over 4 keep-alive connections, one image in a request, to a model that costs next to nothing. The gateway's time is
by the kernel, all of its threads. Who waits is a prober in a process of its own, which asks for `/v2/health/live` 200 times a
second, whatever became of the last one: its worst wait is how long the event loop was held up, and what the machine's
scheduler adds, which is why it also asks while nothing else runs, and while only other processes keep all cores busy.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.brightness import Brightness
from benchmarks.harness import Serving, serving
from benchmarks.load import request
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table
from benchmarks.torture.processes import cpu_seconds

import maas
from maas.bench.clients import send
from maas.bench.dialects import Protocol, encode_body
from maas.bench.inputs import Field, Form
from maas.bench.load import Load, Request, Tally

SHAPE = (3, 224, 224)
_FORM = Form((Field("image", "float32", ("batch", *SHAPE)),))
_CONNECTIONS = 4
_PROBES = 200.0  # a second
_COLUMNS = {"gateway ms": 2, "worst wait ms": 1, "p99 wait ms": 1, "req/s": 0}  # and their digits


def main() -> None:
    options = arguments(__doc__, rounds=5, seconds=3.0).parse_args()
    table = new_table("large_bodies", ["", *_COLUMNS])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        publish(folder / "models")
        server = stack.enter_context(serving(folder / "models"))
        prober = stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
        turns: dict[str, Callable[[], Measured]] = {
            "nothing else": partial(probe, prober, server, options.seconds),
            "busy cores": partial(probe_beside_spinners, prober, server, options.seconds),
        }
        for name, asked in bodies().items():
            turns[f"{name}, {len(asked.content) / 1e6:.1f} MB"] = partial(
                measure, prober, server, asked, options.seconds
            )
        rounds = interleave(turns, options.rounds)
    for name, measured in rounds.items():
        cells = [
            cell([each[column] for each in measured], digits) if column in measured[0] else "–"
            for column, digits in _COLUMNS.items()
        ]
        table.rows.append([name, *cells])
    table.notes.append(
        f"{_CONNECTIONS} connections, {options.rounds} rounds of {options.seconds:g} s each without the prober and with it"
    )
    finish(table, options.json)


def publish(repository: Path) -> None:
    maas.publish(
        Brightness,
        {"image": np.ones((2, *SHAPE), np.float32)},
        name="brightness",
        repository=repository,
        outputs={"mean": "float32[batch]"},
    )


def bodies() -> dict[str, Request]:
    """The same image with as many digits as people send, with those of a double, and as it is."""
    image = np.random.default_rng(0).standard_normal(SHAPE)
    found = {
        name: request("/predict/brightness", json.dumps({"image": values.tolist()}).encode())
        for name, values in (("JSON", image.round(6)), ("JSON, every digit", image))
    }
    body = encode_body(Protocol.BINARY, _FORM, {"image": image[None].astype(np.float32)})
    headers = [f"{name}: {value}" for name, value in body.headers.items()]
    return found | {"binary": request("/v2/models/brightness/infer", body.content, *headers)}


def measure(prober: Executor, server: Serving, asked: Request, seconds: float) -> Measured:
    """What such requests cost; then, while they go on, how long others wait."""
    load = Load("127.0.0.1", server.port, (asked,), _CONNECTIONS, seconds=seconds, warm_up=0.0)
    before = cpu_seconds([server.pid])
    tally = answered_well(send(load))
    spent = cpu_seconds([server.pid]) - before
    probing = prober.submit(send, _probes(server, seconds))
    answered_well(send(load))
    return {
        "gateway ms": spent / tally.requests * 1e3,
        "req/s": tally.completed / tally.seconds,
        **_waits(probing.result()),
    }


def probe(prober: Executor, server: Serving, seconds: float) -> Measured:
    return _waits(prober.submit(send, _probes(server, seconds)).result())


def probe_beside_spinners(prober: Executor, server: Serving, seconds: float) -> Measured:
    with spinning():
        return probe(prober, server, seconds)


@contextmanager
def spinning() -> Iterator[None]:
    """A process for each core that does nothing, without end."""
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _probes(server: Serving, seconds: float) -> Load:
    asked = Request(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return Load("127.0.0.1", server.port, (asked,), 4, _PROBES, seconds=seconds, warm_up=0.2)


def _waits(tally: Tally) -> Measured:
    latencies = answered_well(tally).latencies
    return {"worst wait ms": latencies.max * 1e3, "p99 wait ms": latencies.percentile(99) * 1e3}


def answered_well(tally: Tally) -> Tally:
    if tally.errors:
        raise RuntimeError(f"not answered well: {tally.errors}")
    return tally


if __name__ == "__main__":
    main()
