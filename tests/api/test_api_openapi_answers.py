"""The document against real answers: every operation, every body of an error, with no member that is not described."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from tests.api.documented import JSON, Documented
from tests.api.harness import DRIVER, Model, Service, in_loop, serving
from tests.api.test_api_native import TWO
from tests.api.test_api_openapi import EVERYTHING, SIMPLE

from maas.errors import ModelFailed, Quarantined
from maas.models.live import Example, VersionState
from maas.types import CurvePoint

PAIR = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
RAW = {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}
REQUESTS: dict[str, tuple[str, Any]] = {
    "/predict/double": ("PredictError", {"x": [1, 2]}),
    "/v2/models/double/infer": ("InferError", {"inputs": [PAIR]}),
    "/v1/models/double:predict": ("V1Error", {"instances": [[1, 2]]}),
}
inference = pytest.mark.parametrize("path", REQUESTS)


TWO_INPUTS = replace(TWO, name="two", example=Example({"a": [1.0, 2.0], "b": 3}, {"sum": 6.0, "n": 2}))
LENIENT = Model(
    name="lenient",
    inputs={"x": "float32[batch, 2]", "scale": "float32[batch] = 2.0"},
    function=lambda tensors: {"y": tensors["x"] * tensors["scale"][:, None]},
    example=Example({"x": [1.0, 2.0]}, {"y": [2.0, 4.0]}),
)
PADDED = Model(
    name="padded",
    inputs={"x": "int64[batch, n]"},
    outputs={"y": "int64[batch, n]"},
    manifest={
        "dimensions": {"n": {"min": 1, "max": 5, "pad": 0}},
        "card": {"task": {"metric": [1, 0.5]}},
        "license": "MIT",
    },
    example=Example({"x": [1, 2, 3]}, {"y": [2, 4, 6]}),
)


@pytest.fixture
def on_the_wire() -> Iterator[None]:
    """Requests go through a connection, where some are refused before the application knows of them."""
    token = DRIVER.set("lane")
    yield
    DRIVER.reset(token)


@asynccontextmanager
async def everything() -> AsyncIterator[Service]:
    """Versions of all kinds and states."""
    models = (
        EVERYTHING,
        SIMPLE,
        replace(SIMPLE, version="2"),
        TWO_INPUTS,
        PADDED,
        LENIENT,
        Model(name="ill", state="failed", reason="it raised"),
        Model(name="young"),
        Model(name="torn", broken="its manifest is torn"),
    )
    policies = {"models": {"two": {"versions": "highest"}, "padded": {"versions": ["1"]}}}
    async with serving(*models, configuration=policies, allow_control=True) as service:
        assert service.gateway.registry.has_started
        service.live("young").state, service.live("young").reason = VersionState.LOADING, "it is loading"
        for live in service.gateway.registry.versions():
            live.settled.set()
            live.curve = (CurvePoint(1, 1, 0.001),)
        yield service


def path_of(operation: str) -> str:
    return operation.partition(" ")[2].format(model="double", version="1")


def body_of(operation: str) -> Any:
    if operation.endswith("/infer"):
        return {"id": "one", "inputs": [PAIR], "outputs": [{"name": "y"}], "parameters": {"priority": 1}}
    if operation.endswith(":predict"):
        return {"instances": [[1, 2]]}
    return {} if operation.startswith("POST") else None


async def call(service: Service, documented: Documented, operation: str) -> httpx.Response:
    """With the document's own example, where it has one."""
    method = operation.partition(" ")[0]
    content = documented.operations[operation].get("requestBody", {}).get("content", {}).get(JSON, {})
    body = content.get("example", body_of(operation))
    if body is not None and content:
        documented.request_validator(operation).validate(body)
    sent = b"" if body is None else json.dumps(body).encode()
    return await service.client.request(method, path_of(operation), content=sent)


@in_loop
async def test_every_operation_answers_what_the_document_says() -> None:
    """Every operation of the document, called as it says, is a 200 with a described type, body and headers, and nothing
    besides."""
    async with everything() as service:
        documented = await Documented.of(service)
        # What takes a version away comes last, and a version before its model.
        order = sorted(documented.operations, key=lambda each: ("unload" in each, "{version}" not in each))
        for operation in order:
            if "{model}/unload" in operation:
                service.gateway.registry.load("double")
                service.live().settled.set()
            answer = await call(service, documented, operation)
            assert answer.status_code == 200, (operation, answer.text)
            documented.check(operation, answer)


@in_loop
async def test_every_model_is_described_as_the_document_says() -> None:
    """Whatever a version is, and whatever state it is in: its descriptions are those of the document."""
    async with everything() as service:
        documented = await Documented.of(service)
        await service.predict({"x": [[1, 2], [3, 4]]})
        paths = [path for path in documented.operations if path.startswith("GET") and "{model}" in path]
        for live in service.gateway.registry.versions():
            for operation in paths:
                _, _, template = operation.partition(" ")
                answer = await service.get(template.format(model=live.name, version=live.version))
                is_ready = live.state == "ready"
                assert (answer.status_code == 200) == (
                    is_ready or (not template.endswith("/ready") and "/v1/" not in template)
                )
                documented.check(operation, answer)
        (done,) = (await service.get("/v2/models/double/versions/2/stats")).json()["model_stats"]
        assert done["batch_stats"], "no batch was described"


@in_loop
async def test_every_example_is_answered() -> None:
    """What the document gives as an example for a model, in every dialect, is valid, and its answer is a 200 that is."""
    async with everything() as service:
        documented = await Documented.of(service)
        count = 0
        for operation, described in documented.operations.items():
            media = described.get("requestBody", {}).get("content", {}).get(JSON, {})
            for model, example in media.get("examples", {}).items():
                documented.request_validator(operation).validate(example["value"])
                path = operation.partition(" ")[2].format(model=model)
                answer = await service.post(path, example["value"])
                assert answer.status_code == 200, answer.text
                documented.check(operation, answer)
                count += 1
    assert count == 2 * len((EVERYTHING, SIMPLE, TWO_INPUTS, PADDED, LENIENT))


@in_loop
async def test_readiness_answers_what_the_document_says() -> None:
    """Before, while and after the server is ready."""
    async with everything() as service:
        documented = await Documented.of(service)
        for is_leaving, status in ((False, 200), (True, 503)):
            service.gateway.is_leaving = is_leaving
            for operation in ("GET /v2/health/ready", "GET /v2/models/{model}/ready"):
                answer = await service.get(path_of(operation))
                if answer.status_code == 200 or is_leaving:
                    assert answer.status_code == status
                documented.check(operation, answer)


@in_loop
async def test_raw_tensors_are_what_the_document_says() -> None:
    """Raw both ways: the JSON in front is described too, and the header that says how long it is."""
    request = json.dumps({"inputs": [RAW], "parameters": {"binary_data_output": True}}).encode()
    raw = np.array([1, 2], np.float32).tobytes()
    operation = "POST /v2/models/{model}/infer"
    async with serving() as service:
        documented = await Documented.of(service)
        header = {"Inference-Header-Content-Length": str(len(request))}
        answer = await service.infer(request + raw, headers=header)
        documented.check(operation, answer)
    documented.request_validator(operation).validate(json.loads(request))
    assert answer.headers["content-type"] == "application/octet-stream"
    size = int(answer.headers["inference-header-content-length"])
    documented.answer_validator(operation).validate(json.loads(answer.content[:size]))
    named = {each["name"] for each in documented.operations[operation]["parameters"]}
    assert "Inference-Header-Content-Length" in named


@inference
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@in_loop
async def test_compression_is_what_the_document_says(path: str, coding: str) -> None:
    """Each coding of the document is read, and one that is asked for is given; of another the answer says which are read."""
    compress = {"gzip": gzip.compress, "deflate": zlib.compress}[coding]
    body = compress(json.dumps(REQUESTS[path][1]).encode())
    async with serving() as service:
        documented = await Documented.of(service)
        operation = operation_of(documented, path)
        headers = {"Content-Encoding": coding, "Accept-Encoding": coding}
        answer = await service.post(path, body, headers=headers)
        refused = await service.post(path, body, headers={"Content-Encoding": "br"})
        documented.check(operation, answer)
        documented.check(operation, refused)
    assert coding in documented.document["components"]["schemas"]["ContentEncoding"]["enum"]
    assert (answer.status_code, answer.headers["content-encoding"]) == (200, coding)
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "gzip, deflate")


@pytest.mark.parametrize("member", ["instances", "inputs"])
@in_loop
async def test_both_forms_of_v1_are_what_the_document_says(member: str) -> None:
    """Rows and columns, and bytes as base64: the request is valid, and so is its answer."""
    words = {"text": "bytes[batch]"}
    model = Model(inputs=words, outputs=words, function=dict)
    operation = "POST /v1/models/{model}:predict"
    body = {member: ["one", {"b64": "/w=="}]}
    async with serving(model) as service:
        documented = await Documented.of(service)
        answer = await service.post(path_of(operation), body)
        assert answer.status_code == 200
        documented.request_validator(operation).validate(body)
        documented.check(operation, answer)


def operation_of(documented: Documented, path: str) -> str:
    """The operation of the document that POST to the path is."""
    for operation in documented.operations:
        pattern = re.sub(r"{\w+}", "[^/:]+", operation)
        if re.fullmatch(pattern, f"POST {path}"):
            return operation
    raise AssertionError(f"the document has no {path}")


ILL: dict[int, dict[str, Any]] = {
    422: {"fail_with": Quarantined("it has ended a process")},
    500: {"fail_with": ModelFailed("it raised")},
    503: {"state": "loading", "reason": "it is loading"},
    504: {"seconds": 3600},
}


@inference
@pytest.mark.parametrize("status", [400, 404, 413, 415, *ILL])
@in_loop
async def test_error_of_inference_is_what_the_document_says(path: str, status: int) -> None:
    """In each dialect: the body of its own, and the headers, `Retry-After` among them."""
    schema, body = REQUESTS[path]
    timeout = 0.01 if status == 504 else 30
    configuration = {"models": {"double": {"request_timeout": timeout}}, "limits": {"body_bytes": 1024}}
    async with serving(Model(**ILL.get(status, {})), SIMPLE_TOO, configuration=configuration) as service:
        documented = await Documented.of(service)
        # A path of the document, though the model is not ready, or not there.
        operation = operation_of(documented, path.replace("/predict/double", "/predict/too"))
        sent: Any = {400: {}, 413: b"{" * 2048}.get(status, body)
        headers = {"Content-Type": "image/png"} if status == 415 else {}
        answer = await asyncio.wait_for(
            service.post(path.replace("double", "nobody") if status == 404 else path, sent, headers=headers),
            20,
        )
        assert answer.status_code == status
        documented.check(operation, answer)
    reference = documented.response(operation, status)["content"][JSON]["schema"]["$ref"]
    assert reference.rpartition("/")[2] == schema
    if status == 503:
        assert "retry-after" in answer.headers


SIMPLE_TOO = replace(SIMPLE, name="too")


@pytest.mark.parametrize(
    ("operation", "schema"),
    [
        ("GET /models/{model}", "PredictError"),
        ("GET /v1/models/{model}", "OpenAIError"),
        ("GET /v2/models/{model}", "InferError"),
        ("POST /v2/models/{model}/infer", "InferError"),
        ("POST /v1/models/{model}:predict", "V1Error"),
        ("POST /predict/double", "PredictError"),
    ],
)
@pytest.mark.parametrize("status", [400, 413, 414, 431])
@pytest.mark.usefixtures("on_the_wire")
@in_loop
async def test_refusal_before_any_reading_is_what_the_document_says(
    operation: str, schema: str, status: int
) -> None:
    """Of a target or a head that is too long, or a body that is, before it is known what the request is for."""
    method, path = operation.partition(" ")[0], path_of(operation)
    query = "?" + "a" * 10_000 if status == 414 else ""
    headers = {
        400: {"Transfer-Encoding": "gzip"},
        413: {"Content-Length": str(1 << 40)},
        431: {"X-Long": "a" * 70_000},
    }.get(status, {})
    async with serving() as service:
        documented = await Documented.of(service)
        answer = await service.client.request(method, path + query, headers=headers)
        assert answer.status_code == status
        documented.check(operation, answer)
    reference = documented.response(operation, status)["content"][JSON]["schema"]["$ref"]
    assert reference.rpartition("/")[2] == schema


@in_loop
async def test_refused_control_is_what_the_document_says() -> None:
    """Where others can reach the server: 403 in the dialect of the path."""
    async with serving() as service:
        documented = await Documented.of(service)
        for operation in documented.operations:
            if "/admin/" in operation or "/repository/models" in operation:
                answer = await service.post(path_of(operation), b"")
                assert answer.status_code == 403
                documented.check(operation, answer)
