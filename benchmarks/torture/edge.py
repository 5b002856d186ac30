"""What comes from outside: clients that are slow on purpose, bodies made to be expensive, names without end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.torture.adapters.maas import Server, ask, serving
from benchmarks.torture.load import NUMBER, Load
from benchmarks.torture.models import Habit, Long, Wide
from benchmarks.torture.processes import resident_bytes, wait_until
from benchmarks.torture.scenario import Bench, Scenario
from benchmarks.torture.schedule import Phase
from benchmarks.torture.verdict import Check, at_least, at_most, exactly, for_the_record
from benchmarks.torture.versions import Model
from benchmarks.torture.wire import call, get, post

_HABIT = {"habit": Model(Habit)}
_WIDTH = 16_384
_WIDE = Model(
    Wide,
    inputs={"x": f"float32[batch, {_WIDTH}]"},
    outputs={"y": "float32[batch]"},
    sample={"x": np.ones((1, _WIDTH), np.float32)},
)
_LONG = Model(
    Long, inputs={"n": "int64[batch]"}, outputs={"text": "bytes[batch]"}, sample={"n": np.array([1, 2])}
)
_ESTABLISHED = "01"  # as the kernel writes it
_STATED = 50_000_000  # bytes of a long answer


# ── slow clients ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Held:
    """How long the server held a connection, and the status of what it said at the end; 0 where it said nothing."""

    seconds: float
    status: int


def slow_clients(bench: Bench) -> Sequence[Check]:
    """With the limits that a server has by default, while others are served."""
    with serving(bench.folder, _HABIT) as server:
        load = Load(server.port, (ask(0, f"1{NUMBER.decode()}"),), (Phase(50, 20),), doubles=True)
        running = bench.start(load)
        headers, bodies, idle = asyncio.run(_hold_all(server.port, 500))
        others = running.trace()
    return [
        exactly("slow header", _statuses(headers), {408}),
        at_most("for", max(each.seconds for each in headers), 6, "s"),
        exactly("slow body", _statuses(bodies), {408}),
        at_most("for", max(each.seconds for each in bodies), 8, "s"),
        exactly("idle", _statuses(idle), {0}),
        at_most("for", max(each.seconds for each in idle), 16, "s"),
        exactly("others failed", others.failed, 0),
    ]


def _statuses(held: Sequence[Held]) -> set[int]:
    return {each.status for each in held}


async def _hold_all(port: int, count: int) -> list[list[Held]]:
    head = b"POST /predict/habit HTTP/1.1\r\nHost: localhost\r\n"
    slow_header = (head, b"x", 1.0)
    slow_body = (head + b"Content-Length: 10000\r\n\r\n", b" ", 0.5)
    idle = (b"", b"", 1.0)
    async with asyncio.timeout(40):
        kinds = [_hold_many(port, count, *kind) for kind in (slow_header, slow_body, idle)]
        return await asyncio.gather(*kinds)


def _hold_many(port: int, count: int, start: bytes, drip: bytes, every: float) -> Awaitable[list[Held]]:
    return asyncio.gather(*(_hold(port, start, drip, every) for _ in range(count)))


async def _hold(port: int, start: bytes, drip: bytes, every: float) -> Held:
    """Send `start`, then `drip` again and again, until the server has closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()
    writer.write(start)
    answer = b""
    with contextlib.suppress(ConnectionError):
        while not reader.at_eof():
            with contextlib.suppress(TimeoutError):
                answer += await asyncio.wait_for(reader.read(4096), every)
            writer.write(drip)
    writer.close()
    return Held(time.monotonic() - started, int(answer[9:12] or 0))


def slow_reader(bench: Bench) -> Sequence[Check]:
    """One client reads the answer, so that what is allocated once is there; another reads none of it."""
    request = post("/predict/long", {"n": [_STATED]})
    with serving(bench.folder, {"long": _LONG}) as server:
        assert len(call(server.port, request).body) > _STATED
        time.sleep(1)
        before = resident_bytes(server.process.pid)
        with contextlib.closing(socket.socket()) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", server.port))
            slow.sendall(request)
            slow.recv(1, socket.MSG_PEEK)
            end = slow.getsockname()[1]
            held = wait_until(lambda: not _has_open(server.port, end), 30, "the slow reader is cut off", 0.1)
        time.sleep(1)
        after = resident_bytes(server.process.pid)
        status = call(server.port, request).status
    return [
        at_most("cut off after", held, 12, "s"),
        at_most("resident set grew by", (after - before) / 1e6, 10, "MB"),
        exactly("another reader", status, 200),
    ]


def _has_open(port: int, peer: int) -> bool:
    """Whether the server holds its end of a connection. What it wrote may still be in the kernel when it has let go."""
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    ends = (f"0100007F:{port:04X}", f"0100007F:{peer:04X}")
    return any((local, remote) == ends and state == _ESTABLISHED for _, local, remote, state, *_ in lines)


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────


def json_bombs(bench: Bench) -> Sequence[Check]:
    """A prober asks whether the server is live, 200 times a second: its worst answer is what the loop stalled."""
    megabytes = 8 << 20
    bombs = {
        "depth": b'{"x": %b%b}' % (b"[" * 100_000, b"]" * 100_000),
        "objects in depth": b'{"x": %b1%b}' % (b'{"a":' * 100_000, b"}" * 100_000),
        "lists": b'{"x": [%b[]]}' % (b"[]," * (megabytes // 3)),
        "objects": b'{"x": [%b{}]}' % (b"{}," * (megabytes // 3)),
        "texts": b'{"x": [%b""]}' % (b'"",' * (megabytes // 3)),
        "integer": b'{"x": [%b]}' % (b"9" * 5000),
        "duplicate keys": b'{"x": [0, 1], "x": [0, 1]}',
        "bad UTF-8": b'{"x": "\xff\xfe"}',
        "lone surrogate": b'{"\\ud800": 1, "x": [0, 1]}',
        "byte order mark": b'\xef\xbb\xbf{"x": [0, 1]}',
        "UTF-16": '{"x": [0, 1]}'.encode("utf-16"),
    }
    with serving(bench.folder, {**_HABIT, "wide": _WIDE}) as server:
        answers = {}

        def explode() -> None:
            for name, bomb in bombs.items():
                for path in ("/predict/wide", "/predict/habit", "/v2/models/wide/infer"):
                    answer = call(server.port, post(path, bomb))
                    answers[name, path] = answer.status, bool(answer.code or b"error" in answer.body)

        stall = _stall_while(server, explode, bench)
        lives = call(server.port, ask(0, 1)).status
    wrong = {name: said for name, said in answers.items() if said not in ((400, True), (413, True))}
    return [
        exactly("neither 400 nor 413 with a code", wrong or "none", "none"),
        at_most("loop stalled", stall * 1e3, 50, "ms"),
        exactly("afterwards", lives, 200),
    ]


def large_bodies(bench: Bench) -> Sequence[Check]:
    """Valid ones, of eight megabytes: 16,384 × 32 numbers."""
    row = b"[%b]" % b",".join([b"0.1234567890123"] * _WIDTH)
    body = b'{"x": [%b]}' % b",".join([row] * 32)
    with serving(bench.folder, {"wide": _WIDE}) as server:
        statuses: list[int] = []
        stall = _stall_while(
            server,
            lambda: statuses.extend(call(server.port, post("/predict/wide", body)).status for _ in range(8)),
            bench,
        )
    return [
        exactly("answered of 8", statuses.count(200), 8),
        for_the_record("of", len(body) / 1e6, "MB"),
        at_most("loop stalled", stall * 1e3, 10, "ms"),
    ]


def _stall_while(server: Server, act: Callable[[], object], bench: Bench) -> float:
    """Seconds of the prober's worst answer in the time that `act` took."""
    load = Load(server.port, (get("/v2/health/live"),), (Phase(200, 15),), connections=8)
    running = bench.start(load)
    time.sleep(1)
    started = time.monotonic()
    act()
    stopped = time.monotonic()
    trace = running.trace()
    probes = trace.between(started - trace.started - 0.02, stopped - trace.started)
    assert trace.failed == 0
    return probes.percentile(100)


def many_names(bench: Bench) -> Sequence[Check]:
    count = 100_000
    paths = tuple(
        request
        for path in ("/predict/m%b", "/v2/models/m%b/infer", "/predict/habit/versions/v%b")
        for request in [post((path.encode() % NUMBER).decode(), b'{"x": [0, 1]}')]
    )
    with serving(bench.folder, _HABIT) as server:
        memory = resident_bytes(server.process.pid)
        trace = bench.run(Load(server.port, paths, clients=32, seconds=80, most=count))
        series = [
            line for line in server.get("/metrics").body.decode().splitlines() if not line.startswith("#")
        ]
        grown = resident_bytes(server.process.pid) - memory
    return [
        at_least("names", len(trace.status), count),
        exactly("answered otherwise than 404", int((trace.status != 404).sum()), 0),
        at_most("series", len(series), 2000),
        for_the_record("memory grew by", grown / 1e6, "MB"),
    ]


SCENARIOS = (
    Scenario(
        "slow-clients",
        "500 slow headers, 500 slow bodies and 500 idle connections at once",
        slow_clients,
        is_of_maas=True,
    ),
    Scenario("slow-reader", "a client that does not read its answer of 50 MB", slow_reader, is_of_maas=True),
    Scenario("json-bombs", "bodies that are expensive to refuse", json_bombs, is_of_maas=True),
    Scenario("large-bodies", "bodies that are expensive to answer", large_bodies, is_of_maas=True),
    Scenario("many-names", "100,000 names of models that are not there", many_names, 110, is_of_maas=True),
)
