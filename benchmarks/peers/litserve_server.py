"""`python -m benchmarks.peers.litserve_server MODEL WORKERS BATCH PORT`, in LitServe's environment.

LitServe takes annotations of its requests and answers for FastAPI's, so these have none.
"""

import sys

import litserve
import numpy as np
import torch
from benchmarks.modules import PADDING, Encoder, Mlp, build

_BATCH_TIMEOUT = (
    0.005  # seconds that the first request of a batch waits for company; without it there is none
)


class Echo(litserve.LitAPI):  # type: ignore[misc]
    def setup(self, device):  # type: ignore[no-untyped-def]
        pass

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return request["x"]

    def batch(self, inputs):  # type: ignore[no-untyped-def]
        return inputs

    def predict(self, x):  # type: ignore[no-untyped-def]
        return x

    def unbatch(self, output):  # type: ignore[no-untyped-def]
        return output

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"y": output}


class Perceptron(Echo):
    def setup(self, device):  # type: ignore[no-untyped-def]
        del device
        torch.set_num_threads(1)
        self.model = build(Mlp)

    def predict(self, x):  # type: ignore[no-untyped-def]
        with torch.inference_mode():
            return self.model(torch.from_numpy(np.array(x, np.float32))).tolist()


class Tokens(Echo):
    """A batch is as long as its longest, as most people do it."""

    def setup(self, device):  # type: ignore[no-untyped-def]
        del device
        torch.set_num_threads(1)
        self.model = build(Encoder)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return torch.tensor(request["ids"])

    def predict(self, x):  # type: ignore[no-untyped-def]
        """One request, or a list of them where there are batches."""
        rows = x if isinstance(x, list) else [x]
        with torch.inference_mode():
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PADDING)
            answers = self.model(ids).tolist()
        return answers if isinstance(x, list) else answers[0]

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"output": output}


def main(model: str, workers: str, batch: str, port: str) -> None:
    wait = _BATCH_TIMEOUT if int(batch) > 1 else 0.0
    kind = {"echo": Echo, "mlp": Perceptron, "encoder": Tokens}[model]
    api = kind(max_batch_size=int(batch), batch_timeout=wait)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers))
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
