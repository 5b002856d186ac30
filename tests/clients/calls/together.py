"""The server's own gRPC messages and those of a client in one process, in an environment that holds both clients.

The clients' two sets of messages exclude each other (both are `inference` in the one descriptor pool); ours disturb neither.
"""

from __future__ import annotations

import numpy as np
from tests.clients.call import Addresses

import maas.api.grpc.server
import maas.server  # noqa: F401

_X = np.ones((1, 3), np.float32)


def tritonclient_shares_a_process(addresses: Addresses) -> None:
    """It still has its own messages, and is answered."""
    import tritonclient.grpc as client

    tensor = client.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(_X)
    with client.InferenceServerClient(addresses.grpc) as server:
        np.testing.assert_array_equal(server.infer("identity_float32", [tensor]).as_numpy("y"), _X)


async def kserve_shares_a_process(addresses: Addresses) -> None:
    """It still has its own messages, and is answered."""
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    tensor = InferInput("x", [1, 3], "FP32", data=_X.ravel().tolist())
    async with InferenceGRPCClient(addresses.grpc) as server:
        response = await server.infer(InferRequest("identity_float32", [tensor]))
        np.testing.assert_array_equal(response.outputs[0].as_numpy(), _X)
