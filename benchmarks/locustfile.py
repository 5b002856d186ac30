"""A load test with locust, for those who have it already; `maas bench` needs nothing besides and says more.

    locust -f benchmarks/locustfile.py --host http://localhost:8000 --model longley --headless -u 50 -r 10 -t 30s

Each user sends the server's own example of the model in the native dialect, and made-up zeros of the declared shapes by the
Open Inference Protocol, three to one; nobody pauses unless `--pause` says so. An answer that is no 200 is a failure.
"""

from __future__ import annotations

from math import prod
from typing import Any

from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser

_ZEROS: dict[str, Any] = {"BOOL": False, "BYTES": ""}


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument("--model", default="longley", help="name of the model to ask")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between a user's requests")


class Caller(FastHttpUser):
    """Asks on as soon as it has its answer, over one connection that is kept."""

    def on_start(self) -> None:
        model = self.environment.parsed_options.model
        self._predict, self._infer = f"/predict/{model}", f"/v2/models/{model}/infer"
        self._example = self._ask_for_example()
        inputs = self.client.get(f"/v2/models/{model}", name="(metadata)").json()["inputs"]
        self._tensors = {"inputs": [_zeros(tensor) for tensor in inputs]}

    def wait_time(self) -> float:
        return self.environment.parsed_options.pause

    @task(3)
    def predict(self) -> None:
        self.client.post(self._predict, json=self._example)

    @task(1)
    def infer(self) -> None:
        self.client.post(self._infer, json=self._tensors)

    def _ask_for_example(self) -> Any:
        """The example that stands in the server's own document."""
        operation = self.client.get("/openapi.json", name="(document)").json()["paths"][self._predict]["post"]
        return operation["requestBody"]["content"]["application/json"]["example"]


def _zeros(tensor: dict[str, Any]) -> dict[str, Any]:
    """One row; other dimensions that vary have length 1."""
    shape = [max(length, 1) for length in tensor["shape"]]
    zero = _ZEROS.get(tensor["datatype"], 0)
    return {**tensor, "shape": shape, "data": [zero] * prod(shape)}
