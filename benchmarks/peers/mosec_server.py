"""`python -m benchmarks.peers.mosec_server MODEL WORKERS BATCH PORT`, in mosec's environment."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from benchmarks.modules import PADDING, Encoder, Mlp, build
from mosec import Server, Worker

_TIMEOUT = "30000"  # milliseconds

Request = dict[str, list[Any]]


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


class Tokens(Worker):  # type: ignore[misc]
    """A batch is as long as its longest, as most people do it."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(1)
        self.model = build(Encoder)

    def forward(self, data: Any) -> Any:
        """One request, or a list of them where there are batches."""
        rows = data if isinstance(data, list) else [data]
        ids = [torch.tensor(each["ids"]) for each in rows]
        with torch.inference_mode():
            output = self.model(torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PADDING))
        answers = [{"output": answer} for answer in output.tolist()]
        return answers if isinstance(data, list) else answers[0]


def main(model: str, workers: str, batch: str, port: str) -> None:
    # mosec reads these itself. By default it gives a request up after three seconds, in which a busy encoder answers few of 64.
    sys.argv = [sys.argv[0], "--address", "127.0.0.1", "--port", port, "--timeout", _TIMEOUT]
    server = Server()
    worker = {"echo": Echo, "mlp": Perceptron, "encoder": Tokens}[model]
    server.append_worker(worker, num=int(workers), max_batch_size=int(batch))
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
