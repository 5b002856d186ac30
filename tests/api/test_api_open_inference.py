"""The Open Inference Protocol over REST: https://github.com/kserve/open-inference-protocol."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from tests.api.harness import Model, in_loop, recorded_logs, serving
from tests.api.test_api_native import EXTREMES, TWO

import maas
from maas.models.live import VersionState
from maas.types import CurvePoint


def tensor(data: object, shape: object, datatype: str = "FP32", name: str = "x") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def request(*tensors: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"inputs": list(tensors), **members}


# ── health and metadata ──────────────────────────────────────────────────────────────────────────────────────────


@in_loop
async def test_live_server_says_so_in_json() -> None:
    """The process is live even while nothing is ready."""
    async with serving(Model(state="loading", reason="it is loading")) as service:
        answer = await service.get("/v2/health/live")
    assert (answer.status_code, answer.json()) == (200, {"live": True})


@in_loop
async def test_ready_server_names_failed_models() -> None:
    """With one model ready the server is ready, and failed and unreadable versions are named with their reasons."""
    models = (
        Model(),
        Model(name="ill", state="failed", reason="too slow"),
        Model(name="torn", broken="no yaml"),
    )
    async with serving(*models) as service:
        answer = await service.get("/v2/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "failed": {"ill/1": "too slow", "torn/1": "no yaml"}}


@in_loop
async def test_strict_readiness_needs_every_model() -> None:
    """With `readiness: all` one failed model makes the server not ready."""
    async with serving(Model(), Model(name="ill", state="failed"), readiness_needs_all=True) as service:
        assert (await service.get("/v2/health/ready")).status_code == 503
    async with serving(Model(), readiness_needs_all=True) as service:
        assert (await service.get("/v2/health/ready")).status_code == 200


@in_loop
async def test_server_without_ready_model_is_not_ready() -> None:
    """While starting, where nothing is ready, and while draining, readiness is 503 with the reason."""
    async with serving(Model(), Model(name="slow", state="loading")) as service:
        starting = await service.get("/v2/health/ready")
    async with serving(Model(state="failed", reason="bad hash")) as service:
        failed = await service.get("/v2/health/ready")
    async with serving() as service:
        service.gateway.is_draining = True
        draining = await service.get("/v2/health/ready")
    assert [answer.status_code for answer in (starting, failed, draining)] == [503] * 3
    assert starting.json() == {"ready": False, "error": "the server is starting"}
    assert failed.json() == {"ready": False, "error": "no model is ready", "failed": {"double/1": "bad hash"}}
    assert draining.json() == {"ready": False, "error": "the server is shutting down"}


@in_loop
async def test_server_that_leaves_answers_but_is_not_ready() -> None:
    """Before it drains it takes requests, and says that none should be sent, in the words of a server that drains."""
    async with serving() as service:
        service.gateway.is_leaving = True
        of_server = await service.get("/v2/health/ready")
        of_model = await service.get("/v2/models/double/ready")
        answer = await service.post("/predict/double", {"x": [1, 2]})
    assert (of_server.status_code, of_model.status_code, answer.status_code) == (503, 503, 200)
    assert of_server.json() == {"ready": False, "error": "the server is shutting down"}
    assert of_model.json()["error"] == "double/1 is not ready: the server is shutting down"


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
@in_loop
async def test_server_metadata_stands_with_and_without_slash(path: str) -> None:
    """Server metadata has name, version and extensions at both spellings of its address."""
    async with serving() as service:
        answer = await service.get(path)
    assert answer.status_code == 200
    assert answer.json() == {
        "name": "maas",
        "version": maas.__version__,
        "extensions": [
            "binary_tensor_data",
            "parameters",
            "schedule_policy",
            "model_configuration",
            "model_repository",
            "model_repository(unload_dependents)",
            "statistics",
        ],
    }


@pytest.mark.parametrize("path", ["/v2/models/m", "/v2/models/m/versions/2"])
@in_loop
async def test_model_metadata_has_what_the_protocol_requires(path: str) -> None:
    """Names, platform and tensors are as the schema has them; a dimension that varies is -1, properties are text."""
    model = Model(
        name="m",
        version="2",
        inputs={"image": "uint8[batch, 8, 8]", "sr": "int64[]"},
        outputs={"text": "bytes[batch, n]"},
        manifest={"card": {"classes": {0: "a", 1: "b"}}, "license": "MIT"},
    )
    async with serving(Model(name="m", version="1"), model) as service:
        service.live("m", "2").curve = [CurvePoint(1, 1, 0.002), CurvePoint(4, 1, 0.005)]
        answer = await service.get(path)
        other = await service.get("/v2/models/m/versions/1")
    metadata = answer.json()
    assert metadata["name"] == "m"
    assert metadata["versions"] == ["1", "2"]
    assert isinstance(metadata["platform"], str)
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8]},
        {"name": "sr", "datatype": "INT64", "shape": []},
    ]
    assert metadata["outputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1, -1]}]
    assert {type(value) for value in metadata["properties"].values()} == {str}
    assert json.loads(metadata["properties"]["card"]) == {"classes": {"0": "a", "1": "b"}}
    assert json.loads(metadata["properties"]["curve"]) == [
        {"rows": 1, "elements": 1, "seconds": 0.002},
        {"rows": 4, "elements": 1, "seconds": 0.005},
    ]
    assert other.json()["properties"]["version"] == "1"
    assert other.json()["properties"]["curve"] == "[]"  # as while it loads


@pytest.mark.parametrize("version", ["", "/versions/1"])
@in_loop
async def test_model_readiness_follows_its_state(version: str) -> None:
    """A model's own `ready` is 200 when it is, else 503 with the reason; also while the server drains."""
    path = f"/v2/models/double{version}/ready"
    async with serving() as service:
        ready = await service.get(path)
        service.live().state, service.live().reason = VersionState.FAILED, "golden sample 0 is off"
        failed = await service.get(path)
        service.live().state = VersionState.READY
        service.gateway.is_draining = True
        draining = await service.get(path)
    assert (ready.status_code, ready.json()) == (200, {"name": "double", "version": "1", "ready": True})
    assert failed.status_code == 503
    assert failed.json()["error"] == "double/1 is not ready: golden sample 0 is off"
    assert draining.status_code == 503
    assert "shutting down" in draining.json()["error"]


# ── inference ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]], ids=["flat", "nested"])
@pytest.mark.parametrize("version", ["", "/versions/1"])
@in_loop
async def test_infer_takes_flat_and_nested_data(data: object, version: str) -> None:
    """Data may be flat in row-major order or nested as its shape; the answer's data is flat, its required members there."""
    async with serving() as service:
        answer = await service.post(
            f"/v2/models/double{version}/infer", request(tensor(data, [2, 2]), id="42")
        )
    assert answer.status_code == 200
    assert answer.json() == {
        "model_name": "double",
        "model_version": "1",
        "id": "42",
        "outputs": [{"name": "y", "shape": [2, 2], "datatype": "FP32", "data": [2.0, 4.0, 6.0, 8.0]}],
    }


@in_loop
async def test_request_without_id_gets_none() -> None:
    """`id` is echoed only where it was given, and must be a string."""
    async with serving() as service:
        without = await service.infer(request(tensor([1, 2], [1, 2])))
        wrong = await service.infer(request(tensor([1, 2], [1, 2]), id=42))
    assert "id" not in without.json()
    assert (wrong.status_code, wrong.json()) == (400, {"error": "`id` must be a string"})


@pytest.mark.parametrize("dtype", EXTREMES)
@in_loop
async def test_every_datatype_carries_its_extremes(dtype: str) -> None:
    """Each of the protocol's datatypes carries the least and the greatest value of its type unchanged."""
    model = Model(inputs={"x": f"{dtype}[batch]"}, outputs={"y": f"{dtype}[batch]"})
    model.function = lambda tensors: {"y": tensors["x"]}
    async with serving(model) as service:
        datatype = (await service.get("/v2/models/double")).json()["inputs"][0]["datatype"]
        answer = await service.infer(request(tensor(EXTREMES[dtype], [2], datatype)))
    assert datatype == dtype.upper().replace("BFLOAT", "BF").replace("FLOAT", "FP")
    assert answer.json()["outputs"] == [tensor(EXTREMES[dtype], [2], datatype, name="y")]


@in_loop
async def test_bytes_are_strings() -> None:
    """BYTES elements are JSON strings in UTF-8."""
    model = Model(inputs={"x": "bytes[batch]"}, outputs={"y": "bytes[batch]"})
    model.function = lambda tensors: {"y": tensors["x"][::-1]}
    async with serving(model) as service:
        answer = await service.infer(request(tensor(["a: b", "grün"], [2], "BYTES")))
    assert answer.json()["outputs"] == [tensor(["grün", "a: b"], [2], "BYTES", name="y")]


@in_loop
async def test_bytes_that_are_no_text_are_to_be_asked_for_raw() -> None:
    """JSON cannot carry bytes that are no UTF-8: a 400 that says how they can be had; natively a 500."""
    model = Model(inputs={"x": "bytes[batch]"}, outputs={"y": "bytes[batch]"})
    model.function = lambda tensors: {"y": np.array([b"\xff\xfe"], object)}
    async with serving(model) as service:
        answer = await service.infer(request(tensor(["a"], [1], "BYTES")))
        native = await service.predict({"x": "a"})
    assert answer.status_code == 400
    assert "'y' holds bytes that are no valid UTF-8" in answer.json()["error"]
    assert "ask for binary_data" in answer.json()["error"]
    assert (native.status_code, native.json()["code"]) == (500, "model_error")


@in_loop
async def test_outputs_come_as_they_are_asked_for() -> None:
    """Only the outputs asked for come, in that order, each once; none or an empty list means all."""
    inputs = tensor([1, 2], [1, 2], name="a"), tensor([3], [1], "INT64", name="b")

    async def names(service, **members):
        answer = await service.infer(request(*inputs, **members))
        return [output["name"] for output in answer.json()["outputs"]]

    async with serving(TWO) as service:
        assert await names(service) == ["sum", "n"]
        assert await names(service, outputs=[]) == ["sum", "n"]
        assert await names(service, outputs=[{"name": "n"}]) == ["n"]
        assert await names(service, outputs=[{"name": "n"}, {"name": "sum"}, {"name": "n"}]) == ["n", "sum"]
        unknown = await service.infer(request(*inputs, outputs=[{"name": "z"}]))
    assert (unknown.status_code, unknown.json()) == (
        400,
        {"error": "unknown output 'z'; the model gives sum, n"},
    )


@in_loop
async def test_scalar_has_an_empty_shape() -> None:
    """A tensor without dimensions has shape [] and one element."""
    model = Model(inputs={"x": "int64[]"}, outputs={"y": "int64[]"})
    model.function = lambda tensors: {"y": np.asarray(tensors["x"] + 1)}
    async with serving(model) as service:
        answer = await service.infer(request(tensor([41], [], "INT64")))
    assert answer.json()["outputs"] == [tensor([42], [], "INT64", name="y")]


@in_loop
async def test_non_finite_numbers_are_bare_literals_both_ways() -> None:
    """NaN, Infinity and -Infinity come and go as bare literals, whatever the manifest says."""
    body = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [NaN, -Infinity]}]}'
    async with serving() as service:
        answer = await service.infer(body)
    assert answer.status_code == 200
    assert '"data":[NaN,-Infinity]' in answer.text


SHAPE = "`shape`, a list of lengths of at least 0"
BAD = {
    "no inputs": ({}, "`inputs` must be a list"),
    "inputs no list": ({"inputs": {"x": [1, 2]}}, "`inputs` must be a list"),
    "input no object": ({"inputs": [1]}, "inputs[0] must be an object with a `name`"),
    "input without name": ({"inputs": [{"shape": [1]}]}, "inputs[0] must be an object with a `name`"),
    "no input": ({"inputs": []}, "input 'x' is missing; the model takes x"),
    "unknown input": (request(tensor([1], [1], name="z")), "unknown input 'z'; the model takes x"),
    "input twice": (request(tensor([1, 2], [1, 2]), tensor([1, 2], [1, 2])), "input 'x' is given twice"),
    "wrong datatype": (request(tensor([1, 2], [1, 2], "FP64")), "'x' has datatype 'FP64'; expected FP32"),
    "no datatype": (request({"name": "x", "shape": [1, 2], "data": [1, 2]}), "datatype 'None'; expected FP32"),
    "datatype in lower case": (request(tensor([1, 2], [1, 2], "fp32")), "datatype 'fp32'; expected FP32"),
    "no shape": (request({"name": "x", "datatype": "FP32", "data": [1, 2]}), SHAPE),
    "negative length": (request(tensor([1, 2], [-1, 2])), SHAPE),
    "fraction as length": (request(tensor([1, 2], [1.0, 2])), SHAPE),
    "boolean as length": (request(tensor([1, 2], [True, 2])), SHAPE),
    "no data": (request({"name": "x", "datatype": "FP32", "shape": [1, 2]}), "needs `data`"),
    "data no list": (request(tensor("1, 2", [1, 2])), "'x' is string '1, 2'; expected float32"),
    "too few elements": (request(tensor([1, 2, 3], [2, 2])), "is 4 elements, but its data has 3"),
    "nested otherwise": (request(tensor([[1, 2, 3, 4]], [2, 2])), "has 4 in shape [1, 4]"),
    "ragged": (request(tensor([[1, 2], [3]], [2, 2])), "'x' is ragged"),
    "string as element": (request(tensor(["1", 2], [1, 2])), "'x' at [0] is string '1'; expected float32"),
    "other dimension": (request(tensor([1, 2, 3], [1, 3])), "length 3 at axis 1; expected 2: float32[batch, 2]"),
    "other rank": (request(tensor([1, 2], [2])), "shape [2] of 1 dimensions; expected 2: float32[batch, 2]"),
    "empty batch": (request(tensor([], [0, 2])), "'x' is empty; expected float32[batch, 2]"),
    "too many rows": (request(tensor([0] * 10, [5, 2])), "has 5 rows; model 'double/1' accepts 4"),
    "output without name": (request(tensor([1, 2], [1, 2]), outputs=[{}]), "outputs[0] must be an object"),
    "outputs no list": (request(tensor([1, 2], [1, 2]), outputs="y"), "`outputs` must be a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@in_loop
async def test_bad_request_is_an_error_object_that_names_the_tensor(case: str) -> None:
    """What the protocol or the model does not take is a 400 whose body is `{"error": …}` and nothing else."""
    body, words = BAD[case]
    async with serving() as service:
        answer = await service.infer(body)
        ran = service.instances["double/1"].batches
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert words in answer.json()["error"]
    assert not ran


ABSURD = [
    [1099511627776],
    [1099511627776, 2],
    [2**63 - 1, 2**63 - 1],
    [2**63, 2],
    [2**60] * 300,
    [0, 2**62, 2**62],
    [0, 2**62],
    [1] * 100,
    [2**64 - 1] * 20_000,
]


@pytest.mark.parametrize("shape", ABSURD, ids=lambda shape: str(shape)[:30])
@pytest.mark.parametrize("data", [[1, 2], []], ids=["two", "none"])
@in_loop
async def test_absurd_shape_is_refused_without_allocating(shape: list[int], data: list[int]) -> None:
    """A declared shape of a terabyte, a product of thousands of digits or a hundred dimensions is a 400, at no cost."""
    body = json.dumps(request(tensor(data, shape))).encode()
    async with serving(configuration={"limits": {"body_bytes": 1 << 20}}) as service:
        service.live().body_limit = 1 << 20
        await service.infer(request(tensor([1, 2], [1, 2])))
        tracemalloc.start()
        try:
            answer = await service.infer(body)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.status_code == 400
    assert "'x'" in answer.json()["error"]
    assert len(answer.content) < 500
    assert peak < 8 << 20


@in_loop
async def test_absurd_variable_shape_is_refused_without_allocating() -> None:
    """The same holds where the model itself sets no limit to its dimensions."""
    model = Model(inputs={"x": "float32[batch, n, m]"}, outputs={"y": "float32[batch, n, m]"})
    async with serving(model) as service:
        for shape in [1, 2**40, 1], [0, 2**62, 2**62], [2**62, 0, 2**62], [2**62, 2**62, 2**62]:
            answer = await service.infer(request(tensor([], shape)))
            assert answer.status_code == 400, shape


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", "/v2/models/double/versions/7", 404),
        ("GET", "/v2/models/double/versions/7/ready", 404),
        ("GET", "/v2/models/nobody/ready", 404),
        ("POST", "/v2/models/nobody/infer", 404),
        ("POST", "/v2/models/double/versions/7/infer", 404),
        ("POST", "/v2/models/double/infer/", 404),
        ("GET", "/v2/models/double/infer", 405),
        ("POST", "/v2/health/live", 405),
        ("POST", "/v2", 405),
        ("DELETE", "/v2/models/double", 405),
        ("PUT", "/v2/models/double/infer", 405),
    ],
)
@in_loop
async def test_unknown_paths_and_methods_are_error_objects(method: str, path: str, status: int) -> None:
    """Also what the router refuses under /v2 is `{"error": …}`, never FastAPI's `{"detail": …}`."""
    async with serving() as service:
        answer = await service.client.request(method, path, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert ("allow" in answer.headers) == (status == 405)


@in_loop
async def test_bug_behind_metadata_is_opaque_and_logged_whole() -> None:
    """An error outside our tree on a plain route is an opaque 500 with the request's id, which the log has with its trace."""
    with recorded_logs() as lines:
        async with serving() as service:
            service.gateway.registry.versions = lambda: [][1]
            answer = await service.get("/v2/health/ready", headers={"X-Request-Id": "r1"})
            del service.gateway.registry.versions
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "r1"
    assert list(answer.json()) == ["error"]
    assert "IndexError" not in answer.text
    (line,) = (line for line in lines if line["event"] == "request_met_a_bug")
    assert line["request_id"] == "r1"
    assert "IndexError" in line["exception"]
