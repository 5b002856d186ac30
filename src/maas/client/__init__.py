"""Call a `maas` server from Python: `Client` blocks, `AsyncClient` is awaited, both ask and answer alike.

    with Client("http://127.0.0.1:8000") as client:
        answer = client.predict("digits-cnn", {"image": image})
        answer.outputs["probabilities"]

Every failure is an error of `maas.errors`, the same class that the server raised, with the server's sentence in
`message` and the id to look for in its log in `request_id`. A request is sent again when it was certainly not executed: no
connection came about, or the server refused it (`QueueFull`, `ModelNotReady`, `Draining`); where it may have been
(`ConnectionLost`, `WorkerDied`) only if the server says that the model is idempotent. With each attempt the server is told
how long its answer is waited for.

What is sent and how a reply is read (`calls`, `replies`, `wire`), and what is tried again and when (`attempts`),
know no I/O; `sync_client` and `async_client` only carry it out, over what they share of httpx (`transport`).
"""

from __future__ import annotations

from maas.client.async_client import AsyncClient
from maas.client.calls import Prediction
from maas.client.sync_client import Client

__all__ = ["AsyncClient", "Client", "Prediction"]
