"""One small model behind several servers, in interleaved rounds, against a bare uvicorn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.harness import load_runner, serving
from benchmarks.load import Generator, json_request
from benchmarks.peers.service import PATHS, PEERS, bare_uvicorn, peer, version_of
from benchmarks.rounds import Measured, Table, arguments, cell, finish, interleave, new_table, ratio_cell

from maas.bench.load import Request
from maas.runtimes.contract import Runner

_BARE = "bare uvicorn"
_OFFLINE = "offline ceiling"
_COLUMNS = ("req/s", "p50 ms", "p99 ms")

Publish = Callable[[Path], None]
Measure = Callable[[Runner], Measured]


def contest(
    name: str,
    text: str | None,
    model: str,
    publish: Publish,
    samples: Sequence[list[float]],
    offline: Measure | None = None,
) -> None:
    """The whole benchmark: requests of one of `samples` each as `x`, and `offline`, if given, of the version's runner."""
    parser = arguments(text, rounds=5, seconds=4.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument(
        "--peers", action="store_true", help="mosec and LitServe too, installed below build/peers"
    )
    parser.add_argument("--wrk", action="store_true", help="let wrk, if it is installed, make the load")
    options = parser.parse_args()
    generator = Generator(options.connections, options.seconds, uses_wrk=options.wrk)
    table = new_table(name, ["", *_COLUMNS, f"× {_BARE}"])

    def asked(path: str) -> list[Request]:
        return [json_request(path, {"x": sample}) for sample in samples]

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        publish(folder / "models")
        servers = {"maas": (stack.enter_context(serving(folder / "models")), asked(f"/predict/{model}"))}
        servers[_BARE] = (stack.enter_context(bare_uvicorn(folder)), asked(PATHS[_BARE]))
        for each in PEERS if options.peers else ():
            servers[each] = (stack.enter_context(peer(each, model, folder)), asked(PATHS[each]))
        turns: dict[str, Callable[[], Measured]] = {
            each: partial(generator.measure, each, server.port, requests)
            for each, (server, requests) in servers.items()
        }
        if offline is not None:
            turns[_OFFLINE] = partial(offline, load_runner(folder / "models", model))
        rounds = interleave(turns, options.rounds)
    _fill(table, rounds)
    table.notes += [
        f"{options.connections} connections, {options.rounds} rounds of {options.seconds:g} s each"
    ]
    table.notes += [version_of(each) for each in PEERS if options.peers]
    table.notes += sorted(generator.notes)
    finish(table, options.json)


def _fill(table: Table, rounds: dict[str, list[Measured]]) -> None:
    for name, measured in rounds.items():
        cells = [
            cell([each[column] for each in measured], 0 if column == "req/s" else 2)
            if column in measured[0]
            else "–"
            for column in _COLUMNS
        ]
        table.rows.append([name, *cells, ratio_cell(measured, rounds[_BARE], "req/s")])
