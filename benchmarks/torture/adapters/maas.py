"""`maas serve`, as a user starts it, and what its own interfaces say of it."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from benchmarks.torture.adapters.contract import Service, Setup
from benchmarks.torture.adapters.processes import running
from benchmarks.torture.ledger import Ledger
from benchmarks.torture.models import Habit
from benchmarks.torture.processes import tree, wait_until
from benchmarks.torture.versions import CODE, Model, store
from benchmarks.torture.wire import Answer, call, get, post
from prometheus_client.parser import text_string_to_metric_families

import maas

HABIT = "habit"


@dataclass(frozen=True, slots=True)
class Server:
    """A running `maas serve`."""

    process: Popen[bytes]
    folder: Path
    port: int

    def get(self, path: str) -> Answer:
        return call(self.port, get(path))

    def post(self, path: str, body: object, **headers: object) -> Answer:
        return call(self.port, post(path, body, **headers))

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(self.get("/metrics").body.decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def events(self, name: str, model: str = "") -> list[dict[str, Any]]:
        """The events of this name that were logged about `model`, in their order."""
        logged = _events(self.folder)
        return [e for e in logged if e["event"] == name and e.get("model", "").startswith(model)]

    def worker(self, model: str) -> int:
        """The process that holds the model now."""
        return int(self.events("instance_ready", f"{model}/")[-1]["pid"])

    def workers(self) -> list[int]:
        """Every process of the server but the gateway."""
        return tree(self.process.pid)[1:]


def _events(folder: Path) -> list[dict[str, Any]]:
    whole, _, _ = (folder / "log").read_text().rpartition("\n")  # the last line may be half written yet
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


@contextmanager
def serving(folder: Path, stored: Mapping[str, Model], /, **tree: Any) -> Iterator[Server]:
    """`maas serve` of these models, all of them loaded or failed; `tree` is configuration."""
    repository = folder / "models"
    for name, model in stored.items():
        store(repository, name, model)
    with started(folder, **tree) as server:
        yield server


@contextmanager
def started(folder: Path, /, **tree: Any) -> Iterator[Server]:
    """`maas serve` of what is in `folder/models`."""
    options = {"repository": str(folder / "models"), "allow_code": [CODE], **tree}
    options["server"] = {"port": 0, **tree.get("server", {})}
    (folder / "maas.json").write_text(json.dumps(options))
    command = [sys.executable, "-m", "maas", "serve", "--config", str(folder / "maas.json")]
    with running(command, folder, {}) as process:

        def is_listening() -> bool:
            if process.poll() is not None:
                raise RuntimeError((folder / "log").read_text()[-2000:])
            return any(event["event"] == "listening" for event in _events(folder))

        wait_until(is_listening, 30, "maas listens")
        (event,) = (event for event in _events(folder) if event["event"] == "listening")
        server = Server(process, folder, event["port"])
        wait_until(lambda: b"starting" not in server.get("/v2/health/ready").body, 60, "maas is ready")
        yield server


def ask(milliseconds: float, number: object, **headers: object) -> bytes:
    """The request for the sleeping model in the native dialect."""
    return post(f"/predict/{HABIT}", b'{"x": [%g, %b]}' % (milliseconds, str(number).encode()), **headers)


class Maas:
    name = "maas"

    def versions(self) -> str:
        return f"maas {maas.__version__}, Python {platform.python_version()}"

    def lacks(self) -> dict[str, str]:
        return {}

    @contextmanager
    def serve(self, folder: Path, setup: Setup) -> Iterator[Service]:
        options = {
            "max_batch_size": setup.max_batch_size,
            "request_timeout": setup.deadline,
            "refuse_unreachable": setup.refuses_unreachable,
        }
        with serving(folder, {HABIT: Model(Habit)}, models={HABIT: options}) as server:
            yield Service(server.port, server.process, server.ledger, ask)
