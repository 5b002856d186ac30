"""`maas serve --take-over PID`: a new server takes the place of a running one, and nobody who calls notices."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.assets import worker_models
from tests.edge.sockets import Raw, get, post
from tests.test_reload import called
from tests.test_server import Server, _wait_until, is_alive, serving
from tests.versions import store

from maas.config import ServerOptions
from maas.errors import ConfigurationError
from maas.server.handover import Ready, Released, Serving, _address, _check_address, _decoder, _encoder


@contextmanager
def successor(server: Server, folder: Path, /, pid: int | None = None, **changes: Any) -> Iterator[Server]:
    """A server that takes the place of `server`, with its configuration but for `changes`; killed at the end if need be."""
    folder.mkdir()
    tree = json.loads((server.log.parent / "maas.yaml").read_text())
    (folder / "maas.yaml").write_text(json.dumps({**tree, **changes}))
    command = [sys.executable, "-m", "maas", "serve", "--config", str(folder / "maas.yaml")]
    log = folder / "log.jsonl"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--take-over", str(pid or server.process.pid)], stderr=stream, stdin=subprocess.DEVNULL
        )
    try:
        yield Server(process, server.url, log)
    finally:
        process.kill()
        process.wait(10)


def has_logged(server: Server, event: str) -> bool:
    return any(found["event"] == event for found in _json_events(server))


def _json_events(server: Server) -> list[dict[str, Any]]:
    """Of a log that may end in a sentence."""
    whole, _, _ = server.log.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def sentence(server: Server) -> str:
    """What the command says at its end, which is exit code 1."""
    assert server.process.wait(30) == 1
    (line,) = [line for line in server.log.read_text().splitlines() if not line.startswith("{")]
    return line


def test_nothing_is_lost_over_two_take_overs(tmp_path: Path) -> None:
    """Under callers with kept connections the first server is succeeded twice: no request fails, each old one exits with
    0, and the last has the connections and the address."""
    store(tmp_path / "models", name="double")
    with serving(tmp_path / "models", tmp_path) as first, ExitStack() as others:
        with called(first, "double") as calls:
            second = others.enter_context(successor(first, tmp_path / "second"))
            assert first.process.wait(30) == 0
            third = others.enter_context(successor(second, tmp_path / "third", limits={"body_bytes": 5000}))
            assert second.process.wait(30) == 0
            time.sleep(0.5)
        seen = calls()
        assert set(seen) == {200}
        assert seen[200] > 100
        assert [has_logged(server, "successor_serves") for server in (first, second, third)] == [
            True,
            True,
            False,
        ]
        assert third.post("/predict/double", {"x": [[1.0] * 2] * 500}).status_code == 413
        assert third.metric("maas_requests_total") > 0
        third.process.send_signal(signal.SIGTERM)
        assert third.process.wait(30) == 0
        assert _meeting_places() == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", first.port), timeout=5)


def _meeting_places() -> list[str]:
    """Abstract sockets of this test's servers that are left; those of other servers on the machine belong to live pids."""
    names = [
        line.split()[-1]
        for line in Path("/proc/net/unix").read_text().splitlines()
        if "maas-hand-over" in line
    ]
    return [name for name in names if not is_alive(int(name.rpartition("-")[2]))]


def test_accepted_requests_are_answered_and_kept_connections_sent_away(tmp_path: Path) -> None:
    """What runs when the successor serves ends where it began; a kept connection is served once more, told to close, and
    never that the server is not ready; one that asks nothing keeps the old one for a while, and no longer."""
    store(tmp_path / "models", worker_models.Slow, name="slow")
    with serving(tmp_path / "models", tmp_path) as old, ExitStack() as clients:
        kept = [clients.enter_context(Raw(old.port)) for _ in range(3)]
        assert all(client.is_open() for client in kept)
        conn = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        conn.settimeout(20)
        conn.connect(_address(old.process.pid))
        _receive_socket(conn)
        running = clients.enter_context(Raw(old.port, seconds=30)).send(
            post("/predict/slow", b'{"x": [1500, 0]}')
        )
        _wait_until(lambda: old.metric("maas_running_requests", model="slow") == 1)
        started = time.monotonic()
        conn.send(_encoder.encode(Ready()))
        assert _decoder.decode(conn.recv(4096)) == Released()
        conn.send(_encoder.encode(Serving()))
        assert conn.recv(4096) == b""
        _wait_until(lambda: has_logged(old, "leaving"))
        for client, asked in zip(kept, (get("/v2/health/ready"), post("/predict/slow")), strict=False):
            (reply,) = client.send(asked).read_all()
            assert (reply.status, reply.is_last) == (200, True)
        (reply,) = running.read_all()
        assert (reply.status, reply.is_last) == (200, True)
        assert kept[2].is_closed_within(20)
        assert time.monotonic() - started > 4.5
        assert old.process.wait(20) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limits": {"bodybytes": 1}}, "limits.bodybytes: unknown key"),
        ({"server": {"port": 1}}, "the running server listens on 127.0.0.1:"),
        ({"models": {"double": {"versions": []}}}, "is not taken over: no model is ready"),
        ({"models": {"double": {"load_timeout": 0.001}}}, "is not taken over: no model is ready; double/1: "),
    ],
    ids=str,
)
def test_successor_that_fails_leaves_the_old_one_serving(
    predecessor: Server, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """It says why in one sentence and exits with 1; callers of the old one notice nothing, and another may come."""
    with (
        called(predecessor, "double", 2) as calls,
        successor(predecessor, tmp_path / "new", **changes) as new,
    ):
        told = sentence(new)
        assert told.startswith("Error: ")
        assert message in told
    assert set(calls()) == {200}
    assert predecessor.process.poll() is None
    assert not has_logged(predecessor, "leaving")


def test_only_the_same_address_is_taken_over() -> None:
    """Under any of its names, and with any port or the one that it has; another is refused with both."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        for host, number in (("127.0.0.1", 0), ("localhost", port)):
            _check_address(sock, ServerOptions(host=host, port=number))
        for host, number in (("127.0.0.2", 0), ("127.0.0.1", port ^ 1), ("no such host", 0)):
            with pytest.raises(ConfigurationError, match=rf"on 127.0.0.1:{port}; .* says {host}:{number}"):
                _check_address(sock, ServerOptions(host=host, port=number))


def _is_free(server: Server) -> bool:
    """Whether nobody is taking it over any more: what has begun has failed."""
    events = [event["event"] for event in _json_events(server)]
    return events.count("successor_starts") == events.count("successor_failed")


@pytest.fixture(scope="module")
def steadfast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nobody succeeds in taking over."""
    folder = tmp_path_factory.mktemp("predecessor")
    store(folder / "models", name="double")
    with serving(folder / "models", folder) as server:
        yield server


@pytest.fixture
def predecessor(steadfast: Server) -> Server:
    """The server that is left as it was, once it knows that whoever tried before has failed."""
    _wait_until(lambda: _is_free(steadfast))
    return steadfast


def test_second_successor_is_refused_while_there_is_one(predecessor: Server, tmp_path: Path) -> None:
    """Of two at a time the first goes on, and the second says why not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as first:
        first.settimeout(10)
        first.connect(_address(predecessor.process.pid))
        _receive_socket(first)
        with successor(predecessor, tmp_path / "second") as second:
            assert "another server is taking it over" in sentence(second)
        assert not _is_free(predecessor)


def test_successor_that_is_killed_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """SIGKILL while it loads; the next one then takes over."""
    store(tmp_path / "models", worker_models.Late, name="late")
    with serving(tmp_path / "models", tmp_path) as old, ExitStack() as others:
        with called(old, "late", 2) as calls:
            first = others.enter_context(successor(old, tmp_path / "first"))
            _wait_until(lambda: has_logged(old, "successor_starts"))
            assert first.process.poll() is None
            first.process.kill()
            _wait_until(lambda: has_logged(old, "successor_failed"))
            others.enter_context(successor(old, tmp_path / "second"))
            assert old.process.wait(30) == 0
        assert set(calls()) == {200}


def test_old_one_that_dies_leaves_the_socket_to_its_successor(tmp_path: Path) -> None:
    """SIGKILL of the old one while the new one loads: who connects meanwhile waits, and is answered."""
    store(tmp_path / "models", worker_models.Late, name="late")
    with serving(tmp_path / "models", tmp_path) as old, successor(old, tmp_path / "new") as new:
        _wait_until(lambda: has_logged(new, "taking_over"))
        old.process.kill()
        old.process.wait(10)
        assert new.get("/v2/health/ready").status_code == 200
        assert has_logged(new, "listening")


def test_successor_that_is_silent_when_it_should_serve_is_given_up(predecessor: Server) -> None:
    """It has said that it is ready and then hangs or dies: the old one accepts again, and says so."""
    for has_died in (True, False):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as conn:
            conn.settimeout(20)
            conn.connect(_address(predecessor.process.pid))
            _receive_socket(conn)
            conn.send(_encoder.encode(Ready()))
            assert _decoder.decode(conn.recv(4096)) == Released()
            with socket.create_connection(("127.0.0.1", predecessor.port), timeout=5):
                pass  # the kernel takes it though nobody accepts
            if not has_died:
                assert "it serves on" in _decoder.decode(conn.recv(4096)).reason
        assert predecessor.post("/predict/double", {"x": [1, 2]}).status_code == 200


def _receive_socket(conn: socket.socket) -> None:
    """Take the offer, which comes once the one before is given up, and close what it brings."""
    _, descriptors, _, _ = socket.recv_fds(conn, 4096, 1)
    assert len(descriptors) == 1
    os.close(descriptors[0])


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b'{"type":"Serving"}', b"[" * 3000], ids=lambda data: str(data[:9])
)
def test_nonsense_is_no_successor(predecessor: Server, data: bytes) -> None:
    """What says something else than what is due is dropped; the old one never stops accepting."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as conn:
        conn.settimeout(10)
        conn.connect(_address(predecessor.process.pid))
        _receive_socket(conn)
        if data:
            conn.send(data)
            assert conn.recv(4096) == b""
    assert predecessor.post("/predict/double", {"x": [1, 2]}).status_code == 200


def test_process_that_cannot_be_taken_over_is_one_sentence(predecessor: Server, tmp_path: Path) -> None:
    """No such process, or none of ours."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(10)
    with successor(predecessor, tmp_path / "gone", pid=gone.pid) as new:
        assert sentence(new) == f"Error: process {gone.pid} cannot be taken over: there is no such process"
    with successor(predecessor, tmp_path / "other", pid=os.getpid()) as new:
        assert "it is no server that hands over its socket" in sentence(new)


def test_process_of_another_user_is_refused(predecessor: Server) -> None:
    """The kernel says whose the other end is, and only the same user or root is handed the socket."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    code = (
        "import os, socket, sys; os.setuid(65534); conn = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
        "conn.connect(sys.argv[1].replace('@', chr(0))); message, fds, _, _ = socket.recv_fds(conn, 4096, 1); "
        "print(message.decode(), fds)"
    )
    address = _address(predecessor.process.pid).replace("\0", "@")
    done = subprocess.run(
        [sys.executable, "-c", code, address], capture_output=True, text=True, timeout=20, check=True
    )
    assert "it belongs to user 0, not to user 65534" in done.stdout
    assert done.stdout.endswith("[]\n")
