"""SIGHUP: the configuration is read again and taken whole, or not at all, while callers are answered."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.assets import worker_models
from tests.test_server import NO_TLS, Server, _wait_until, serving
from tests.versions import store

from maas.config import Configuration, changed_keys

Tree = dict[str, Any]


@pytest.mark.parametrize(
    ("old", "new", "changed", "needs_restart"),
    [
        ({}, {}, [], []),
        ({}, {"limits": {"requests": 5}}, ["limits.requests"], []),
        ({"server": {"port": 1}}, {"server": {"port": 2}}, ["server.port"], ["server.port"]),
        (
            {},
            {"repository": "r", "access": "open", "allow_code": ["m"], "server": {"host": "0.0.0.0"}},
            ["repository", "access", "allow_code", "server.host"],
            ["repository", "access", "allow_code", "server.host"],
        ),
        (
            {},
            {
                "watch_seconds": 1,
                "logging": {"level": "error"},
                "server": {"drain_delay": 1, "readiness": "all", "compression": False},
            },
            [
                "watch_seconds",
                "server.readiness",
                "server.drain_delay",
                "server.compression",
                "logging.level",
            ],
            [],
        ),
        (
            {"models": {"a": {"queue_size": 1}, "b": {"default": "1"}}},
            {"models": {"a": {"queue_size": 2}, "c": {"versions": ["1", "2"]}}},
            ["models.a.queue_size", "models.b.default", "models.c.versions"],
            [],
        ),
        ({"models": {"a": {}}}, {}, [], []),
    ],
    ids=lambda value: str(value)[:40],
)
def test_changed_keys_are_named(old: Tree, new: Tree, changed: list[str], needs_restart: list[str]) -> None:
    """By their paths, models against the defaults where they are not listed, and which of them need a restart."""
    found = changed_keys(Configuration.model_validate(old), Configuration.model_validate(new))
    assert list(found) == changed
    assert [key for key, needs in found.items() if needs] == needs_restart


class Reloadable:
    """A server and the configuration that it will find at the next SIGHUP."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._file = folder / "maas.yaml"
        self.tree: Tree = json.loads(self._file.read_text())

    def reload(self, text: str | None = None, **changes: Any) -> Tree:
        """Write the file, send SIGHUP, and return the event that tells what became of it."""
        before = len(self._outcomes())
        self._file.write_text(json.dumps({**self.tree, **changes}) if text is None else text)
        self.server.process.send_signal(signal.SIGHUP)
        _wait_until(lambda: len(self._outcomes()) > before)
        return self._outcomes()[-1]

    def _outcomes(self) -> list[Tree]:
        return [event for event in self.server.events() if event["event"] in ("reloaded", "reload_rejected")]


@contextmanager
def called(server: Server, model: str, callers: int = 8) -> Iterator[Callable[[], Counter[int]]]:
    """Callers that ask on over kept connections, and leave the machine to others too; afterwards, how often they got which
    status."""
    is_over = threading.Event()

    def call_on() -> Counter[int]:
        with httpx.Client(base_url=server.url, timeout=30, verify=NO_TLS) as client:
            seen: Counter[int] = Counter()
            while not is_over.wait(0.005) or not seen:
                seen[client.post(f"/predict/{model}", json={"x": [1.0, 2.0]}).status_code] += 1
            return seen

    with ThreadPoolExecutor(callers) as threads:
        calls = [threads.submit(call_on) for _ in range(callers)]
        try:
            yield lambda: sum((call.result() for call in calls), Counter())
        finally:
            is_over.set()


def instances_of(server: Server, model: str) -> list[int]:
    return [
        event["pid"]
        for event in server.events()
        if (event["event"], event.get("model")) == ("instance_ready", model)
    ]


def test_options_change_under_load_without_a_failed_request(tmp_path: Path) -> None:
    """A model is made anew beside the old one and swapped, limits and levels change, and no caller notices."""
    store(tmp_path / "models")
    store(tmp_path / "models", name="other")
    with serving(tmp_path / "models", tmp_path) as server:
        reloadable = Reloadable(server, tmp_path)
        with called(server, "model") as calls:
            for size in (2, 3, 4):
                told = reloadable.reload(
                    models={"model": {"max_batch_size": size}}, limits={"body_bytes": 2000 + size}
                )
                assert told["changed"] == ["limits.body_bytes", "models.model.max_batch_size"]
                _wait_until(lambda n=size: len(instances_of(server, "model/1")) == n)
                _wait_until(
                    lambda n=size: server.get("/models/model").json()["batching"]["max_batch_size"] == n
                )
        seen = calls()
        assert set(seen) == {200}
        assert seen[200] > 50
        assert len(instances_of(server, "other/1")) == 1
        _wait_until(lambda: len(server.model_processes()) == 2)
        long = {"x": [[1.0] * 2] * 300}
        assert server.post("/predict/model", long).status_code == 413
        assert server.post("/predict/other", long).status_code == 413
        assert reloadable.reload(limits={"requests": 1})["changed"]
        assert server.post("/predict/other", {"x": [1, 2]}).status_code == 200
        asking: Tree = {"headers": {"Accept-Encoding": "gzip"}}
        assert "content-encoding" in server.post("/predict/other", {"x": [1, 2]}, **asking).headers
        told = reloadable.reload(server={"port": 0, "compression": False})
        assert "server.compression" in told["changed"]
        assert "content-encoding" not in server.post("/predict/other", {"x": [1, 2]}, **asking).headers


def test_bad_configuration_is_rejected_whole(tmp_path: Path) -> None:
    """The one log event says file, line and key; what would have been right in it is not taken either."""
    store(tmp_path / "models")
    file = tmp_path / "maas.yaml"
    with serving(tmp_path / "models", tmp_path) as server:
        reloadable = Reloadable(server, tmp_path)
        with called(server, "model") as calls:
            for text, problems in {
                "limits:\n  body_bytes: 1024\n  bodybytes: 1": [
                    f"{file}: line 3: limits.bodybytes: unknown key"
                ],
                "limits: {body_bytes: 1024}\na: [": [f"{file} is no YAML: line 2: "],
                "limits:\n  body_bytes: 1024\nserver:\n  port: x": [f"{file}: line 4: server.port: "],
            }.items():
                told = reloadable.reload(text)
                assert told["event"] == "reload_rejected"
                assert told["level"] == "error"
                assert [
                    found[: len(wanted)] for found, wanted in zip(told["problems"], problems, strict=True)
                ] == problems
            told = reloadable.reload(server={"port": 1}, allow_code=[], limits={"body_bytes": 1024})
            assert told["problems"] == [
                "allow_code has changed, which needs a restart",
                "server.port has changed, which needs a restart",
            ]
            file.unlink()
            server.process.send_signal(signal.SIGHUP)
            _wait_until(
                lambda: f"{file} cannot be read: No such file or directory" in str(server.events()[-1])
            )
        assert set(calls()) == {200}
        assert server.post("/predict/model", {"x": [[1.0] * 2] * 300}).status_code == 400
        assert reloadable.reload()["changed"] == []


def test_version_whose_new_options_do_not_take_keeps_serving(tmp_path: Path) -> None:
    """It fails beside the old one, which says so where it is listed, and the server stays ready."""
    store(tmp_path / "models", worker_models.Slow, name="slow")
    with serving(tmp_path / "models", tmp_path) as server:
        reloadable = Reloadable(server, tmp_path)
        reloadable.reload(models={"slow": {"load_timeout": 0.001}}, server={"port": 0, "readiness": "all"})
        (shown,) = _wait_until(lambda: [m for m in server.get("/models").json()["models"] if m["reason"]])
        assert shown["state"] == "ready"
        assert shown["reason"].startswith("it keeps its former options; with the new ones: ")
        assert server.get("/v2/health/ready").status_code == 200
        assert server.post("/predict/slow", {"x": [1.0, 0.0]}).status_code == 200
        reloadable.reload()
        assert server.get("/models/slow").json()["reason"] == ""


def test_level_of_the_log_and_the_watch_change(tmp_path: Path) -> None:
    """Answers are logged from one reload to the next; versions are found without being asked for."""
    store(tmp_path / "models")
    with serving(tmp_path / "models", tmp_path) as server:
        reloadable = Reloadable(server, tmp_path)

        def logged_after_answer() -> list[str]:
            """What is logged of an answer, up to a failure that follows it, which always is."""
            start = len(server.events())
            server.post("/predict/model", {"x": [1, 2]})
            server.post("/predict/nobody", {"x": [1, 2]})
            _wait_until(lambda: any(e["event"] == "request_failed" for e in server.events()[start:]))
            return [event["event"] for event in server.events()[start:]]

        assert "request_answered" not in logged_after_answer()
        reloadable.reload(logging={"access": True}, watch_seconds=0.1)
        assert "request_answered" in logged_after_answer()
        store(tmp_path / "models", version="2")
        _wait_until(lambda: server.get("/models/model").json()["version"] == "2")
        reloadable.tree["logging"] = {"level": "warning", "access": True}
        store(tmp_path / "models", name="new")
        (tmp_path / "maas.yaml").write_text(json.dumps(reloadable.tree))
        server.process.send_signal(signal.SIGHUP)
        _wait_until(lambda: server.get("/models/new").status_code == 200)
        assert "request_answered" not in logged_after_answer()
