"""MLServer, with one inference worker and adaptive batching."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.torture.adapters.contract import Service, Setup
from benchmarks.torture.adapters.environment import ROOT, environment_of, version_of
from benchmarks.torture.adapters.litserve import free_port
from benchmarks.torture.adapters.processes import running, wait_for_answer
from benchmarks.torture.ledger import Ledger
from benchmarks.torture.wire import post

_BATCH_TIME = 0.01  # seconds that the first request of a batch waits for company
_INPUT = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [%g, %b]}]}'


def ask(milliseconds: float, number: object) -> bytes:
    return post("/v2/models/habit/infer", _INPUT % (milliseconds, str(number).encode()))


class MlServer:
    name = "mlserver"

    def versions(self) -> str:
        return version_of(self.name)

    def lacks(self) -> dict[str, str]:
        return {"deadline": "has no deadlines"}

    @contextmanager
    def serve(self, folder: Path, setup: Setup) -> Iterator[Service]:
        port = free_port()
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        settings = {
            "host": "127.0.0.1",
            "debug": False,
            "parallel_workers": 1,
            "metrics_dir": str(folder),
            **ports,
        }
        batching = {"max_batch_size": setup.max_batch_size, "max_batch_time": _BATCH_TIME}
        implementation = "benchmarks.torture.peers.mlserver_model.Habit"
        (folder / "habit").mkdir()
        (folder / "settings.json").write_text(json.dumps(settings))
        model = {
            "name": "habit",
            "implementation": implementation,
            **(batching if setup.max_batch_size > 1 else {}),
        }
        (folder / "habit/model-settings.json").write_text(json.dumps(model))
        command = [str(environment_of(self.name) / "mlserver"), "start", str(folder)]
        with running(command, folder, {"PYTHONPATH": str(ROOT)}) as process:
            wait_for_answer(process, port, ask(0, 0), 90)
            yield Service(port, process, Ledger(folder / "ledger"), ask)
