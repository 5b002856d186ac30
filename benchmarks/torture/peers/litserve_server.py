"""`python -m benchmarks.torture.peers.litserve_server PORT MAX_BATCH_SIZE TIMEOUT BATCH_TIMEOUT` in LitServe's environment.

LitServe takes annotations of its requests and answers for FastAPI's, so these two have none.
"""

import sys
from typing import Any

import litserve
from benchmarks.torture.peers.habit import run

Row = list[float]


class Habit(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["x"]

    def batch(self, inputs: list[Row]) -> list[Row]:
        return inputs

    def predict(self, x: Any) -> Any:
        """A list of rows where it batches, a row where it does not."""
        return run(x) if self.max_batch_size > 1 else run([x])[0]

    def unbatch(self, output: list[Row]) -> list[Row]:
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"y": output}


def main(port: str, max_batch_size: str, timeout: str, batch_timeout: str) -> None:
    api = Habit(max_batch_size=int(max_batch_size), batch_timeout=float(batch_timeout))
    server = litserve.LitServer(api, accelerator="cpu", timeout=float(timeout), restart_workers=True)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
