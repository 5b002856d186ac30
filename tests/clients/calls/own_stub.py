"""The messages that the server itself is made of, as a client: whatever protobuf and gRPC an environment has."""

from __future__ import annotations

import grpc
import numpy as np
from tests.clients.call import Addresses

from maas.api.grpc import messages
from maas.api.grpc.service import NAME

_X = np.array([[1, 2, 3]], np.float32)


def is_answered(addresses: Addresses) -> None:
    """Health, inference and a stream of it."""
    tensor = messages.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=_X.shape)
    asked = messages.ModelInferRequest(
        model_name="identity_float32", inputs=[tensor], raw_input_contents=[_X.tobytes()]
    )
    with grpc.insecure_channel(addresses.grpc) as channel:
        live = channel.unary_unary(
            f"/{NAME}/ServerLive",
            request_serializer=messages.ServerLiveRequest.SerializeToString,
            response_deserializer=messages.ServerLiveResponse.FromString,
        )
        infer = channel.unary_unary(
            f"/{NAME}/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        stream = channel.stream_stream(
            f"/{NAME}/ModelStreamInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelStreamInferResponse.FromString,
        )
        assert live(messages.ServerLiveRequest(), timeout=10).live
        answers = [infer(asked, timeout=10)]
        answers += [answer.infer_response for answer in stream(iter([asked, asked]), timeout=10)]
    assert [answer.raw_output_contents[0] for answer in answers] == [_X.tobytes()] * 3
