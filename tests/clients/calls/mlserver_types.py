"""`mlserver`: requests built by its types and codecs are read, and answers are read by them; its gRPC messages, and `mlserver infer`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import httpx
import numpy as np
import pandas as pd
from mlserver.codecs import (
    Base64Codec,
    NumpyCodec,
    NumpyRequestCodec,
    PandasCodec,
    StringCodec,
    StringRequestCodec,
)
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.types import (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    RepositoryIndexResponse,
    RequestOutput,
)
from tests.clients.arrays import ARRAYS
from tests.clients.call import Addresses


def _infer(addresses: Addresses, model: str, request: InferenceRequest) -> InferenceResponse:
    response = httpx.post(
        f"{addresses.url}/v2/models/{model}/infer",
        content=request.model_dump_json(exclude_none=True),
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 200, response.text
    return InferenceResponse.model_validate_json(response.content)


def infers_every_number(addresses: Addresses) -> None:
    """Arrays by its NumPy codec, which names a content type in the parameters."""
    for name, array in ARRAYS.items():
        if name == "bytes":
            continue
        request = InferenceRequest(id=name, inputs=[NumpyCodec.encode_input("x", array)])
        response = _infer(addresses, f"identity_{name}", request)
        assert response.id == name
        np.testing.assert_array_equal(NumpyCodec.decode_output(response.outputs[0]), array, name)


def infers_texts(addresses: Addresses) -> None:
    """Texts by its string codec, one in a row: it writes shape [n, 1]."""
    request = InferenceRequest(inputs=[StringCodec.encode_input("text", ["one", "zwölf"], use_bytes=False)])
    response = _infer(addresses, "shout", request)
    assert StringCodec.decode_output(response.outputs[0]) == ["ONE", "ZWöLF"]


def infers_by_request_codecs(addresses: Addresses) -> None:
    """Codecs of whole requests: an array, texts, and a data frame, a column each."""
    array = np.array([[1, 2, 3]])
    request = NumpyRequestCodec.encode_request(array)
    request.inputs[0].name = "x"
    response = _infer(addresses, "identity_int64", request)
    np.testing.assert_array_equal(NumpyRequestCodec.decode_response(response), array)
    request = StringRequestCodec.encode_request(["one", "two"], use_bytes=False)
    request.inputs[0].name = "text"
    request.outputs = [RequestOutput(name="upper")]
    response = _infer(addresses, "shout", request)
    assert StringRequestCodec.decode_response(response) == ["ONE", "TWO"]
    frame = pd.DataFrame({"x": np.array([1, 2], np.float32)})
    response = _infer(addresses, "failing", PandasCodec.encode_request(frame))
    assert PandasCodec.decode_response(response)["y"].tolist() == [1, 2]


def infers_base64_as_text(addresses: Addresses) -> None:
    """What its Base64 codec writes is text to the protocol, and comes to the model as it is written."""
    request = InferenceRequest(inputs=[Base64Codec.encode_input("text", [b"\x00\xff"], use_bytes=False)])
    response = _infer(addresses, "shout", request)
    assert response.outputs[1].data.root == [4]  # "AP8=", not its two bytes


def infers_over_grpc(addresses: Addresses) -> None:
    """The same types by its converters and its own messages, typed both ways."""
    with grpc.insecure_channel(addresses.grpc) as channel:
        server = GRPCInferenceServiceStub(channel)
        for name, array in ARRAYS.items():
            if name in ("bytes", "float16"):
                continue
            request = InferenceRequest(id=name, inputs=[NumpyCodec.encode_input("x", array)])
            message = ModelInferRequestConverter.from_types(request, model_name=f"identity_{name}")
            response = ModelInferResponseConverter.to_types(server.ModelInfer(message, timeout=10))
            assert response.id == name
            np.testing.assert_array_equal(NumpyCodec.decode_output(response.outputs[0]), array, name)


def infers_a_file_by_its_command(addresses: Addresses) -> None:
    """`mlserver infer`: a request in each line, an answer in each line."""
    requests = [
        InferenceRequest(inputs=[NumpyCodec.encode_input("x", np.full((1, 3), n))]) for n in range(20)
    ]
    with TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "asked", Path(folder) / "answered"
        asked.write_text("\n".join(request.model_dump_json(exclude_none=True) for request in requests))
        command = [str(Path(sys.executable).parent / "mlserver"), "infer", "-u", addresses.http]
        options = ["-m", "identity_int64", "-i", str(asked), "-o", str(answered), "-w", "4"]
        ended = subprocess.run([*command, *options], capture_output=True, text=True, timeout=50)
        assert ended.returncode == 0, ended.stderr
        answers = [json.loads(line) for line in answered.read_text().splitlines()]
    assert sorted(answer["outputs"][0]["data"] for answer in answers) == [[n] * 3 for n in range(20)]


def chooses_outputs(addresses: Addresses) -> None:
    """In the order asked."""
    pair = [NumpyCodec.encode_input(name, np.ones((2, 4), np.float32)) for name in ("a", "b")]
    request = InferenceRequest(
        inputs=pair, outputs=[RequestOutput(name="difference"), RequestOutput(name="sum")]
    )
    response = _infer(addresses, "add_sub", request)
    assert [output.name for output in response.outputs] == ["difference", "sum"]
    np.testing.assert_array_equal(
        NumpyCodec.decode_output(response.outputs[1]), np.full((2, 4), 2, np.float32)
    )


def reads_metadata_and_errors(addresses: Addresses) -> None:
    """Its types accept what the server says."""
    server = MetadataServerResponse.model_validate_json(httpx.get(f"{addresses.url}/v2").content)
    assert server.name == "maas"
    model = MetadataModelResponse.model_validate_json(httpx.get(f"{addresses.url}/v2/models/upper").content)
    assert [(tensor.name, tensor.datatype) for tensor in model.inputs] == [("text", "BYTES")]
    refused = httpx.post(f"{addresses.url}/v2/models/upper/infer", json={"inputs": []})
    assert refused.status_code == 400
    assert InferenceErrorResponse.model_validate_json(refused.content).error


def reads_the_repository_index(addresses: Addresses) -> None:
    """Names, versions, states and reasons."""
    response = httpx.post(f"{addresses.url}/v2/repository/index", json={})
    assert response.status_code == 200, response.text
    index = RepositoryIndexResponse.model_validate_json(response.content)
    assert {"add_sub", "upper"} <= {entry.name for entry in index.root}
