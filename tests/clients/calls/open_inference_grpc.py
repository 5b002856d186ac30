"""`open-inference-grpc`: messages generated from the protocol's own file, typed contents."""

from __future__ import annotations

import struct

import grpc
from open_inference.grpc.protocol import (
    ModelInferRequest,
    ModelMetadataRequest,
    ModelReadyRequest,
    ServerLiveRequest,
    ServerMetadataRequest,
    ServerReadyRequest,
)
from open_inference.grpc.service import GRPCInferenceServiceStub
from tests.clients.call import Addresses


def _tensor(name: str, values: list[float]) -> dict:
    return {"name": name, "datatype": "FP32", "shape": [1, 4], "contents": {"fp32_contents": values}}


def is_live_ready_and_described(addresses: Addresses) -> None:
    """The five calls beside inference."""
    with grpc.insecure_channel(addresses.grpc) as channel:
        server = GRPCInferenceServiceStub(channel)
        assert server.ServerLive(ServerLiveRequest(), timeout=10).live
        assert server.ServerReady(ServerReadyRequest(), timeout=10).ready
        assert server.ModelReady(ModelReadyRequest(name="versioned", version="1"), timeout=10).ready
        assert server.ServerMetadata(ServerMetadataRequest(), timeout=10).name == "maas"
        model = server.ModelMetadata(ModelMetadataRequest(name="add_sub"), timeout=10)
        assert [(tensor.name, list(tensor.shape)) for tensor in model.inputs] == [
            ("a", [-1, 4]),
            ("b", [-1, 4]),
        ]


def infers(addresses: Addresses) -> None:
    """Chosen outputs in the order asked, in typed or raw contents."""
    request = ModelInferRequest(
        model_name="add_sub",
        id="mine",
        inputs=[_tensor("a", [1, 2, 3, 4]), _tensor("b", [0.5] * 4)],
        outputs=[{"name": "difference"}, {"name": "sum"}],
    )
    with grpc.insecure_channel(addresses.grpc) as channel:
        response = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert response.id == "mine"
    assert [tensor.name for tensor in response.outputs] == ["difference", "sum"]
    raw = [list(struct.unpack("<4f", contents)) for contents in response.raw_output_contents]
    values = raw or [list(tensor.contents.fp32_contents) for tensor in response.outputs]
    assert values == [[0.5, 1.5, 2.5, 3.5], [1.5, 2.5, 3.5, 4.5]]


def reads_errors(addresses: Addresses) -> None:
    """A model that is not there."""
    request = ModelInferRequest(model_name="nothing", inputs=[_tensor("a", [1, 2, 3, 4])])
    with grpc.insecure_channel(addresses.grpc) as channel:
        call = GRPCInferenceServiceStub(channel).ModelInfer.future(request, timeout=10)
        assert call.exception().code() == grpc.StatusCode.NOT_FOUND
        assert "nothing" in call.exception().details()
