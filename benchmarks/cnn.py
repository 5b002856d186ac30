"""A small CNN over images of 3×64×64 float32, by JSON and by binary tensors, against the model without a server.

    python -m benchmarks.cnn

Closed loop over 64 keep-alive connections, one image in a request. The ceilings are the version's own runner and eager
PyTorch in this process, one thread, in batches of 1, 8 and 32; ratios are to the best of the runner's in the same round.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.harness import load_runner, publish_cnn, serving
from benchmarks.load import Generator
from benchmarks.modules import Cnn
from benchmarks.offline import Eager, rows_per_second
from benchmarks.rounds import Measured, arguments, cell, finish, interleave, new_table, ratio_cell

from maas.bench.dialects import Protocol, encode_body
from maas.bench.inputs import Field, Form
from maas.bench.load import Request
from maas.bench.server import Model, Server, try_out
from maas.errors import InvalidRequest

FORM = Form((Field("image", "float32", ("batch", 3, 64, 64)),))
IMAGES = np.random.default_rng(0).standard_normal((32, 3, 64, 64)).astype(np.float32)
BATCHES = (1, 8, 32)


def main() -> None:
    parser = arguments(__doc__, rounds=5, seconds=4.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument(
        "--repository", type=Path, help="serve the `cnn` of this folder, such as an optimised version"
    )
    options = parser.parse_args()
    table = new_table("cnn", ["", "images/s", "p50 ms", "p99 ms", "× best ceiling"])
    generator = Generator(options.connections, options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        repository = options.repository or Path(folder) / "models"
        if options.repository is None:
            publish_cnn(repository)
        runner, eager = load_runner(repository, "cnn"), Eager(Cnn, "image")
        turns: dict[str, Callable[[], Measured]] = {}
        for size in BATCHES:
            parts = [{"image": IMAGES[at : at + size]} for at in range(0, len(IMAGES), size)]
            turns[f"offline, batches of {size}"] = partial(rows_per_second, runner, parts)
            turns[f"eager, batches of {size}"] = partial(rows_per_second, eager, parts)
        with serving(repository, models={"cnn": {"instances": 1, "threads": 1}}) as server:
            for name, protocol in (("maas, JSON", Protocol.NATIVE), ("maas, binary", Protocol.BINARY)):
                asked = requests(server.port, protocol)
                if asked is None:
                    table.notes.append(f"{name}: skipped, the server does not take binary tensors")
                else:
                    turns[name] = partial(generator.measure, name, server.port, asked)
            rounds = interleave(turns, options.rounds)
    offline = [rounds[f"offline, batches of {size}"] for size in BATCHES]
    best = [max(turn, key=lambda measured: measured["req/s"]) for turn in zip(*offline, strict=True)]
    for name, measured in rounds.items():
        latencies = [
            cell([each[column] for each in measured], 2) if column in measured[0] else "–"
            for column in ("p50 ms", "p99 ms")
        ]
        rate = cell([each["req/s"] for each in measured])
        table.rows.append([name, rate, *latencies, ratio_cell(measured, best, "req/s")])
    table.notes.append(
        f"{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s each; one instance of one thread"
    )
    table.notes += sorted(generator.notes)
    finish(table, options.json)


def requests(port: int, protocol: Protocol) -> list[Request] | None:
    """One for each image; None where the server does not take them."""
    server = Server.at(f"http://127.0.0.1:{port}")
    path = Model("cnn").path(protocol)
    bodies = [encode_body(protocol, FORM, {"image": IMAGES[at : at + 1]}) for at in range(len(IMAGES))]
    try:
        try_out(server, path, bodies[0], protocol)
    except InvalidRequest:
        if protocol is Protocol.BINARY:
            return None
        raise
    return [server.request(path, body) for body in bodies]


if __name__ == "__main__":
    main()
