"""`mlserver.types` and its codecs: requests built by them are read, and answers are read by them."""

from __future__ import annotations

import httpx
import numpy as np
from mlserver.codecs import NumpyCodec, StringCodec
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
