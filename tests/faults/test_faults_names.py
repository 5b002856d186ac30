"""Names that nobody serves, by the thousand, and names that would break a log: neither memory nor a line gives way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.assets import worker_models
from tests.edge.sockets import Raw, request
from tests.edge.test_edge_time import own_memory
from tests.test_server import Server, _wait_until, serving
from tests.versions import store

PIPELINED = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("names")
    store(folder / "models", worker_models.Moody, name="moody")
    with serving(folder / "models", folder) as running:
        yield running


def ask(server: Server, numbers: range) -> int:
    """How many of as many unknown models are not found, in both dialects, over one connection at a time."""
    count = 0
    for start in range(numbers.start, numbers.stop, 1000):
        with Raw(server.port, 60) as client:
            for first in range(start, min(start + 1000, numbers.stop), PIPELINED):
                paths = [
                    f"/predict/name-{n}" if n % 2 else f"/v2/models/name-{n}/infer"
                    for n in range(first, first + PIPELINED)
                ]
                client.send(
                    b"".join(
                        request(f"POST {path} HTTP/1.1\nHost: localhost\nContent-Length: 2", b"{}")
                        for path in paths
                    )
                )
                replies = [client.read() for _ in paths]
                count += sum(reply is not None and reply.status == 404 for reply in replies)
    return count


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_random_names_make_neither_series_nor_memory(count: int, server: Server) -> None:
    """Each is 404; the metrics have as many series as before, far under two thousand; the gateway is as large as before."""
    assert ask(server, range(5_000)) == 5_000  # what it keeps of paths, it has by now
    before, series = own_memory(server.process.pid), len(server.get("/metrics").text.splitlines())
    assert ask(server, range(5_000, 5_000 + count)) == count
    assert len(server.get("/metrics").text.splitlines()) - series < 5
    assert series < 2_000
    assert own_memory(server.process.pid) - before < 8_000
    assert server.metric("maas_requests_total", model="other") >= 5_000 + count


def test_nothing_that_a_caller_sends_breaks_a_log_line(server: Server) -> None:
    """Line ends, colours and a megabyte, in path, id and input: every line is JSON of its own and short."""
    hostile = ("%0D%0A{}", "%1B%5B31m", "é" * 3, "x" * 4000, "%00")
    threads = [
        threading.Thread(target=server.post, args=(f"/predict/{name}", {"x": [1, 2]})) for name in hostile
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Raw(server.port) as client:
        head = f"POST /predict/moody HTTP/1.1\nHost: localhost\nX-Request-Id: a\x1b[31m{'b' * 5000}\nContent-Length: 18"
        client.send(request(head, b'{"x": [-1.0, 0.0]}')).read()
    with Raw(server.port) as client:
        client.send(
            request(f"POST /predict/moody HTTP/1.1\nHost: localhost\nX-Long: {'c' * (1 << 20)}")
        ).read()
    server.post("/predict/moody", {"x": [-1.0, 0.0]})
    _wait_until(lambda: any("RuntimeError" in e.get("trace", "") for e in server.events()))
    for line in server.log.read_bytes().splitlines():
        event = json.loads(line)
        assert not any(byte < 0x20 or byte == 0x7F for byte in line)
        assert all(len(str(value)) <= 300 for key, value in event.items() if key != "trace")


def test_own_memory_is_that_of_a_process() -> None:
    """The measure of these tests is not always the same: this process has something of its own."""
    assert own_memory(int(Path("/proc/self").resolve().name)) > 1_000
