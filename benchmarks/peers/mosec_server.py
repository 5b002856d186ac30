"""`python -m benchmarks.peers.mosec_server MODEL PORT`, in mosec's environment."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from benchmarks.modules import Mlp, build
from mosec import Server, Worker

Request = dict[str, list[float]]


class Echo(Worker):  # type: ignore[misc]
    def forward(self, data: list[Request]) -> list[dict[str, Any]]:
        return [{"y": each["x"]} for each in data]


class Perceptron(Worker):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(1)
        self.model = build(Mlp)

    def forward(self, data: list[Request]) -> list[dict[str, Any]]:
        rows = torch.from_numpy(np.array([each["x"] for each in data], np.float32))
        with torch.inference_mode():
            answers = self.model(rows)
        return [{"y": answer} for answer in answers.tolist()]


def main(model: str, port: str) -> None:
    sys.argv = [sys.argv[0], "--address", "127.0.0.1", "--port", port]  # which mosec reads itself
    server = Server()
    server.append_worker({"echo": Echo, "mlp": Perceptron}[model], num=1, max_batch_size=32)
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
