"""`open-inference-openapi`: generated from the protocol's own document."""

from __future__ import annotations

import asyncio

from open_inference.openapi.client import AsyncOpenInferenceClient, InferenceRequest, OpenInferenceClient
from open_inference.openapi.core.api_error import ApiError
from open_inference.openapi.errors import BadRequestError, NotFoundError
from tests.clients.call import Addresses

_PAIR = [
    {"name": "a", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]},
    {
        "name": "b",
        "shape": [1, 4],
        "datatype": "FP32",
        "data": [[0.5, 0.5, 0.5, 0.5]],
    },  # nested, as it allows
]


def _values(data: object) -> list:
    return list(getattr(data, "__root__", data))


def _expect(kind: type, call: object, *arguments: object, **options: object) -> Exception:
    try:
        call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"{call} was not refused with {kind}")


def checks_health(addresses: Addresses) -> None:
    """Server, model, version; one that is not there is its own error."""
    server = OpenInferenceClient(base_url=addresses.url)
    server.check_server_liveness()
    server.check_server_readiness()
    server.check_model_readiness("add_sub")
    server.check_model_version_readiness("versioned", "1")
    _expect(NotFoundError, server.check_model_readiness, "nothing")
    _expect(NotFoundError, server.check_model_version_readiness, "versioned", "7")


def reads_metadata(addresses: Addresses) -> None:
    """Its types accept what the server says."""
    server = OpenInferenceClient(base_url=addresses.url)
    assert server.read_server_metadata().name == "maas"
    model = server.read_model_metadata("reverse")
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in model.inputs] == [
        ("ids", "INT64", [-1, -1])
    ]
    assert server.read_model_version_metadata("versioned", "1").name == "versioned"
    error = _expect(ApiError, server.read_model_metadata, "nothing")
    assert error.status_code == 404


def infers(addresses: Addresses) -> None:
    """Flat and nested data, chosen outputs, an id, and a version."""
    server = OpenInferenceClient(base_url=addresses.url)
    request = InferenceRequest(id="mine", inputs=_PAIR, outputs=[{"name": "difference"}, {"name": "sum"}])
    for response in (
        server.model_infer("add_sub", request=request),
        server.model_version_infer("add_sub", "1", request=request),
    ):
        assert (response.model_name, response.model_version, response.id) == ("add_sub", "1", "mine")
        assert [output.name for output in response.outputs] == ["difference", "sum"]
        assert _values(response.outputs[1].data) == [1.5, 2.5, 3.5, 4.5]


def infers_whole_numbers(addresses: Addresses) -> None:
    """It writes 7 as 7.0; that is the integer 7."""
    tensor = {"name": "x", "shape": [1, 3], "datatype": "INT32", "data": [7, 8, 9]}
    server = OpenInferenceClient(base_url=addresses.url)
    response = server.model_infer("identity_int32", request=InferenceRequest(inputs=[tensor]))
    assert _values(response.outputs[0].data) == [7, 8, 9]


def infers_texts(addresses: Addresses) -> None:
    """BYTES as texts."""
    tensor = {"name": "text", "shape": [1, 2], "datatype": "BYTES", "data": ["one", "two"]}
    server = OpenInferenceClient(base_url=addresses.url)
    response = server.model_infer("upper", request=InferenceRequest(inputs=[tensor]))
    assert _values(response.outputs[0].data) == ["ONE", "TWO"]


def reads_errors(addresses: Addresses) -> None:
    """A bad request is its own error, with the server's sentence."""
    server = OpenInferenceClient(base_url=addresses.url)
    error = _expect(
        BadRequestError, server.model_infer, "add_sub", request=InferenceRequest(inputs=_PAIR[:1])
    )
    assert "b" in str(error.body)


async def infers_asynchronously(addresses: Addresses) -> None:
    """Twenty at once over its asynchronous client."""
    server = AsyncOpenInferenceClient(base_url=addresses.url)
    tensors = [
        {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [float(number)] * 3}
        for number in range(20)
    ]
    calls = [
        server.model_infer("identity_float64", request=InferenceRequest(inputs=[tensor]))
        for tensor in tensors
    ]
    for response, tensor in zip(await asyncio.gather(*calls), tensors, strict=True):
        assert _values(response.outputs[0].data) == tensor["data"]
