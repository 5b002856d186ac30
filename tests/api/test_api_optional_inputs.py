"""An input with a default may be left out, whatever protocol a request comes by."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from tests.api.grpc_harness import floats, serving_grpc, tensor
from tests.api.harness import Model, Service, in_loop, serving
from tests.api.test_api_client import calling

from maas.api import codec
from maas.api.grpc.messages import ModelConfigRequest, ModelInferRequest, ModelMetadataRequest
from maas.client import raw
from maas.errors import InvalidRequest
from maas.types import Tensors

X = [[1, 2], [3, 4]]
RAW_X = np.array(X, np.float32)


def scaled(inputs: Tensors) -> Tensors:
    """y = x · by + bias: with what is left out, x · 2 + 1."""
    return {"y": inputs["x"] * inputs["by"] + inputs["bias"]}


def model(**options: Any) -> Model:
    inputs = {
        "x": "float32[batch, n]",
        "by": "float32[batch, n] = 2",
        "bias": "float32[] = 1",
        "note": 'bytes[batch] = "none"',
    }
    return Model(inputs=inputs, outputs={"y": "float32[batch, n]"}, function=scaled, **options)


def json_tensor(name: str, data: Any, datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(np.shape(data)), "data": data}


def binary(*names: str) -> tuple[bytes, dict[str, str]]:
    tensors = [
        {
            "name": name,
            "datatype": "FP32",
            "shape": [2, 2],
            "parameters": {"binary_data_size": RAW_X.nbytes},
        }
        for name in names
    ]
    head = json.dumps({"inputs": tensors}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return head + RAW_X.tobytes() * len(names), headers


async def y_of(answer: Any) -> list[Any]:
    assert answer.status_code == 200, answer.text
    found: list[Any] = np.reshape(answer.json()["outputs"][0]["data"], (-1, 2)).tolist()
    return found


@in_loop
async def test_native_requests() -> None:
    """A batch, a single sample, and one of the two that may be missing."""
    async with serving(model()) as service:
        assert (await service.predict({"x": X})).json() == {"y": [[3, 5], [7, 9]]}
        assert (await service.predict({"x": X[0]})).json() == {"y": [3, 5]}
        assert (await service.predict({"x": X[0], "by": [0, 1]})).json() == {"y": [1, 3]}
        assert (await service.predict({"x": X, "bias": 0, "note": ["a", "b"]})).json() == {
            "y": [[2, 4], [6, 8]]
        }
        mixed = await service.predict({"x": X, "by": [0, 1]})
        assert mixed.status_code == 400
        assert "all inputs must be single samples or all batches" in mixed.json()["error"]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            {},
            "input 'x' is missing; the model takes x, by (or else 2.0), bias (or else 1.0), note (or else 'none')",
        ),
        ({"by": X}, "input 'x' is missing"),
        ({"x": X, "of": 1}, "unknown input 'of'"),
        ({"by": X, "bias": 1, "note": ["", ""], "of": 1}, "unknown input 'of'"),
        ({"x": X, "by": [[1, 2]]}, "batch = 1"),
    ],
)
@in_loop
async def test_what_is_wrong_is_still_said(body: dict[str, Any], problem: str) -> None:
    """A missing input without a default, an unknown one, and lengths that do not agree."""
    async with serving(model()) as service:
        natively = await service.predict(body)
        tensors = [
            json_tensor(name, data, "BYTES" if name == "note" else "FP32") for name, data in body.items()
        ]
        by_oip = await service.infer({"inputs": tensors})
    for answer in (natively, by_oip):
        assert answer.status_code == 400
        assert problem in answer.json()["error"]


@in_loop
async def test_open_inference_requests() -> None:
    """In JSON, raw behind it, and as one raw tensor, which is the input that may not be missing."""
    async with serving(model()) as service:
        assert await y_of(await service.infer({"inputs": [json_tensor("x", X)]})) == [[3, 5], [7, 9]]
        both = {"inputs": [json_tensor("x", X), json_tensor("bias", [0])]}
        both["inputs"][1]["shape"] = []
        assert await y_of(await service.infer(both)) == [[2, 4], [6, 8]]
        for names, expected in ((("x",), [[3, 5], [7, 9]]), (("by", "x"), [[2, 5], [10, 17]])):
            body, headers = binary(*names)
            answer = await service.post("/v2/models/double/infer", body, headers=headers)
            assert await y_of(answer) == expected
        lone = Model(
            inputs={"x": "float32[batch, 2]", "by": "float32[batch, 2] = 2"},
            outputs={"y": "float32[batch, 2]"},
            function=lambda inputs: {"y": inputs["x"] * inputs["by"]},
        )
    async with serving(lone) as service:
        headers = {"Inference-Header-Content-Length": "0"}
        answer = await service.post("/v2/models/double/infer", RAW_X.tobytes(), headers=headers)
        size = int(answer.headers["inference-header-content-length"])
        assert np.frombuffer(answer.content[size:], np.float32).tolist() == [2, 4, 6, 8]


@in_loop
async def test_v1_requests() -> None:
    """Rows that have the same inputs, with or without names, and columns."""
    async with serving(model()) as service:

        async def predictions(body: dict[str, Any]) -> Any:
            answer = await service.post("/v1/models/double:predict", body)
            found = answer.json()
            return found.get("predictions", found.get("outputs", found))

        expected = [[3, 5], [7, 9]]
        assert await predictions({"instances": X}) == expected
        assert await predictions({"inputs": X}) == expected
        assert await predictions({"inputs": {"x": X}}) == expected
        assert await predictions({"instances": [{"x": row} for row in X]}) == expected
        by = [{"x": X[0], "by": [0, 1]}, {"x": X[1], "by": [1, 0]}]
        assert await predictions({"instances": by}) == [[1, 3], [4, 1]]
        odd = await predictions({"instances": [{"x": X[0]}, by[1]]})
        assert "instances[1] has other inputs than instances[0]" in odd["error"]
        without = await predictions({"instances": [{"x": X[0]}, {"by": [1, 0]}]})
        assert "instances[1]: input 'x' is missing" in without["error"]


@in_loop
async def test_grpc_requests() -> None:
    """Typed and raw contents; metadata and configuration say what may be missing."""
    async with serving_grpc(model()) as service:
        whole = tensor("x", "FP32", [2, 2], fp32_contents=[1, 2, 3, 4])
        typed = ModelInferRequest(model_name="double", inputs=[whole])
        assert floats(await service.infer(typed)) == [[3, 5], [7, 9]]
        named = [tensor("by", "FP32", [2, 2]), tensor("x", "FP32", [2, 2])]
        by_raw = ModelInferRequest(
            model_name="double", inputs=named, raw_input_contents=[RAW_X.tobytes()] * 2
        )
        assert floats(await service.infer(by_raw)) == [[2, 5], [10, 17]]
        config = (await service.call("ModelConfig", ModelConfigRequest(name="double"))).config
        assert [each.optional for each in config.input] == [False, True, True, True]
        metadata = await service.call("ModelMetadata", ModelMetadataRequest(name="double"))
        assert json.loads(metadata.properties["defaults"]) == {"by": 2, "bias": 1, "note": "none"}


@pytest.mark.parametrize("pays_from", [0, 1 << 30])
@in_loop
async def test_client_requests(monkeypatch: pytest.MonkeyPatch, pays_from: int) -> None:
    """`maas.client`, in JSON and raw, where the model has no text; what may not be missing is the server's to say."""
    monkeypatch.setattr(raw, "PAYS_FROM", pays_from)
    numbers = Model(
        inputs={"x": "float32[batch, n]", "by": "float32[batch, n] = 2", "bias": "float32[] = 1"},
        outputs={"y": "float32[batch, n]"},
        function=scaled,
    )
    async with serving(numbers) as service, calling(service) as (client, paths):
        assert (await client.predict("double", {"x": RAW_X})).outputs["y"].tolist() == [[3, 5], [7, 9]]
        single = await client.predict("double", {"x": RAW_X[0], "by": RAW_X[1]})
        assert single.outputs["y"].tolist() == [4, 9]
        with pytest.raises(InvalidRequest, match="input 'x' is missing"):
            await client.predict("double", {"by": RAW_X})
    assert ("/v2/models/double/infer" in paths) == (pays_from == 0)


@in_loop
async def test_large_bodies_are_read_elsewhere_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that parses sends what the body has; the default takes no room on the way."""
    monkeypatch.setattr(codec, "LARGE", -1)
    async with serving(model()) as service:
        assert (await service.predict({"x": X, "bias": 0})).json() == {"y": [[2, 4], [6, 8]]}
        assert await y_of(await service.infer({"inputs": [json_tensor("x", X)]})) == [[3, 5], [7, 9]]


@in_loop
async def test_requests_with_and_without_share_a_batch() -> None:
    """To the model they are alike."""
    held = {"models": {"double": {"max_queue_delay": 0.05, "refuse_unreachable": False}}}
    async with serving(model(), configuration=held) as service:
        answers = await asyncio.gather(
            service.predict({"x": [1, 2]}), service.predict({"x": [3, 4], "by": [5, 6], "bias": 1})
        )
        assert [answer.json()["y"] for answer in answers] == [[3, 5], [16, 25]]
        assert len(service.instances["double/1"].batches) == 1


@in_loop
async def test_rows_are_judged_before_defaults_are_made() -> None:
    """A request of more rows than a batch may have is refused for that, whatever it leaves out."""
    async with serving(model(max_batch_size=2)) as service:
        answer = await service.predict({"x": [[1]] * 3})
    assert answer.status_code == 400
    assert "3 rows" in answer.json()["error"]


@in_loop
async def test_whoever_asks_is_told_what_may_be_left_out() -> None:
    """Catalogue, metadata, configuration and document."""
    async with serving(model()) as service:
        catalogue = (await service.get("/models/double")).json()["inputs"]
        metadata = (await service.get("/v2/models/double")).json()
        config = (await service.get("/v2/models/double/config")).json()["input"]
        document = (await service.get("/openapi.json")).json()
    assert [each.get("default") for each in catalogue] == [None, 2, 1, "none"]
    assert "default" not in catalogue[0]
    assert json.loads(metadata["properties"]["defaults"]) == {"by": 2, "bias": 1, "note": "none"}
    assert [each["optional"] for each in config] == [False, True, True, True]
    schema = document["components"]["schemas"]["double.1.Request"]
    assert schema["required"] == ["x"]
    assert list(schema["properties"]) == ["x", "by", "bias", "note"]
    assert schema["properties"]["bias"]["default"] == 1
    assert "= 2" in schema["properties"]["by"]["description"]


async def refused(service: Service, body: dict[str, Any]) -> str:
    answer = await service.predict(body)
    assert answer.status_code == 400
    return str(answer.json()["error"])


@in_loop
async def test_at_least_one_input_is_given() -> None:
    """Of a model whose inputs all have defaults."""
    free = Model(
        inputs={"a": "int64[2] = 1", "b": "int64[2] = 2"},
        outputs={"y": "int64[2]"},
        function=lambda inputs: {"y": inputs["a"] + inputs["b"]},
        max_batch_size=1,
    )
    async with serving(free) as service:
        assert "there is no input" in await refused(service, {})
        assert (await service.predict({"a": [5, 6]})).json() == {"y": [7, 8]}
        assert (await service.infer({"inputs": []})).status_code == 400
