"""The OpenAPI document: valid, typed for each version that is ready, with examples that work."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.api.documented import Documented
from tests.api.harness import Model, Service, in_loop, serving
from tests.api.test_api_native import TWO

from maas.models.live import Example, VersionState
from maas.types import Tensors

EVERYTHING = Model(
    name="every.thing",
    inputs={
        "image": "uint8[batch, 2, 3]",
        "words": "bytes[batch, n]",
        "flag": "bool[batch]",
        "state": "float32[2, batch]",
        "rate": "int64[]",
        "offset": "float64[2]",
    },
    outputs={"score": "float16[batch]", "label": "bytes[batch]", "count": "uint64[]"},
    function=lambda tensors: {
        "score": np.ones(len(tensors["flag"]), np.float16),
        "label": np.array([b"a"] * len(tensors["flag"]), object),
        "count": np.array(7, np.uint64),
    },
    manifest={"dimensions": {"n": {"min": 1, "max": 5}}, "description": "takes a bit of everything"},
    example=Example(
        {
            "image": [[0, 1, 2], [253, 254, 255]],
            "words": ["one", "two: 2"],
            "flag": True,
            "state": [0.5, -0.5],
            "rate": 48000,
            "offset": [1e300, 0],
        },
        {"score": 1.0, "label": "a", "count": 7},
    ),
)
SIMPLE = Model(example=Example({"x": [1.0, 2.0]}, {"y": [2.0, 4.0]}))


async def document(service: Service) -> dict[str, Any]:
    answer = await service.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each operation by method and path."""
    return Documented(document).operations


@in_loop
async def test_document_is_valid_openapi_3_1() -> None:
    """The whole document is what OpenAPI 3.1 says it must be, with all kinds of tensors in it."""
    async with serving(EVERYTHING, SIMPLE, replace(TWO, name="two")) as service:
        found = await document(service)
    assert found["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(found).validate()


@in_loop
async def test_every_ready_version_has_a_typed_operation() -> None:
    """One operation for each ready version, one more for the model's default; with its names, types and description."""
    async with serving(EVERYTHING, Model(version="1"), Model(version="2")) as service:
        found = await document(service)
    assert {path for path in operations(found) if "/predict/" in path} == {
        "POST /predict/every.thing",
        "POST /predict/every.thing/versions/1",
        "POST /predict/double",
        "POST /predict/double/versions/1",
        "POST /predict/double/versions/2",
    }
    operation = operations(found)["POST /predict/every.thing"]
    assert operation["summary"] == "takes a bit of everything"
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    request = found["components"]["schemas"][name]
    assert request["required"] == list(EVERYTHING.inputs)
    assert request["additionalProperties"] is False
    assert {key: tensor["description"] for key, tensor in request["properties"].items()} == EVERYTHING.inputs
    single, batch = request["properties"]["image"]["anyOf"]
    pixel = {"type": "integer", "minimum": 0, "maximum": 255}
    row = {"type": "array", "minItems": 3, "maxItems": 3, "items": pixel}
    assert single == {"type": "array", "minItems": 2, "maxItems": 2, "items": row}
    assert batch == {"type": "array", "minItems": 1, "maxItems": 4, "items": single}
    words = request["properties"]["words"]["anyOf"][0]
    assert words == {"type": "array", "minItems": 1, "maxItems": 5, "items": {"type": "string"}}
    assert request["properties"]["rate"]["type"] == "integer"
    assert request["properties"]["flag"]["anyOf"][0] == {"type": "boolean"}


@pytest.mark.parametrize("path", ["/predict/every.thing", "/predict/every.thing/versions/1"])
@in_loop
async def test_example_is_valid_and_is_answered_as_it_says(path: str) -> None:
    """The example satisfies the schema; sent as it stands it gives 200, and the answer satisfies its schema too."""
    async with serving(EVERYTHING) as service:
        found = await document(service)
        operation = operations(found)[f"POST {path}"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = await service.post(path, example)
    Documented(found).request_validator(f"POST {path}").validate(example)
    assert answer.status_code == 200
    Documented(found).answer_validator(f"POST {path}").validate(answer.json())
    assert answer.json() == operation["responses"]["200"]["content"]["application/json"]["example"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("image", [[0, 1, 2], [253, 254, 256]]),
        ("image", [[0, 1], [2, 3]]),
        ("image", [[0, 1, 2], [3, 4, "5"]]),
        ("words", []),
        ("words", ["a"] * 6),
        ("flag", 1),
        ("rate", 1.5),
        ("offset", [1, 2, 3]),
    ],
)
@in_loop
async def test_schema_refuses_what_the_server_refuses(member: str, value: object) -> None:
    """A body that differs from the example in one wrong value fails the schema and is a 400."""
    body = {**EVERYTHING.example.inputs, member: value}
    async with serving(EVERYTHING) as service:
        found = await document(service)
        answer = await service.predict(body, "every.thing")
    assert not Documented(found).request_validator("POST /predict/every.thing").is_valid(body)
    assert answer.status_code == 400


@in_loop
async def test_document_follows_the_versions() -> None:
    """Operations come when a version becomes ready and go when it drains or fails."""

    async def predictions(service: Service) -> set[str]:
        return {path for path in (await document(service))["paths"] if path.startswith("/predict/")}

    async with serving(Model(state="loading"), Model(name="other")) as service:
        other = {"/predict/other", "/predict/other/versions/1"}
        double = {"/predict/double", "/predict/double/versions/1"}
        assert await predictions(service) == other
        service.live("double").state = VersionState.READY
        assert await predictions(service) == other | double
        service.live("other").state = VersionState.DRAINING
        assert await predictions(service) == double
        service.live("double").state = VersionState.FAILED
        assert await predictions(service) == set()


# Names that run into each other once they are joined, or once a generator has dropped separators and case.
JOINED = [
    ("a", "1"),
    ("a", "1.2"),
    ("a.1", "2"),
    ("a", "1-2"),
    ("a-1", "2"),
    ("a.", "1"),
    ("a.1.2", "1"),
    ("version-a", "1"),
    ("v", "1"),
    ("infer", "x"),
]


@in_loop
async def test_operation_ids_and_schemas_are_unique() -> None:
    """No two operations share an id nor two versions a schema, and the document is valid."""
    async with serving(*(Model(name=name, version=version) for name, version in JOINED)) as service:
        found = await document(service)
    OpenAPIV31SpecValidator(found).validate()
    listed = operations(found)
    assert len({operation["operationId"] for operation in listed.values()}) == len(listed)
    schemas = [name for name in found["components"]["schemas"] if name.endswith(".Request")]
    assert len(schemas) == len(JOINED)
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in found["components"]["schemas"])


@in_loop
async def test_every_plain_route_is_documented() -> None:
    """Each route that a client may call is in the document, summarised and tagged, with no status that it never gives."""
    async with serving() as service:
        found = operations(await document(service))
    expected = {
        "GET /models",
        "GET /models/{model}",
        "GET /models/{model}/versions/{version}",
        "GET /",
        "GET /v1/models",
        "GET /v1/models/{model}",
        "POST /v1/models/{model}:predict",
        "POST /v1/models/{model}/versions/{version}:predict",
        "GET /v2",
        "GET /v2/health/live",
        "GET /v2/health/ready",
        "GET /v2/models/{model}",
        "GET /v2/models/{model}/versions/{version}",
        "GET /v2/models/{model}/ready",
        "GET /v2/models/{model}/versions/{version}/ready",
        "GET /v2/models/{model}/config",
        "GET /v2/models/{model}/versions/{version}/config",
        "GET /v2/models/stats",
        "GET /v2/models/{model}/stats",
        "GET /v2/models/{model}/versions/{version}/stats",
        "POST /v2/repository/index",
        "POST /v2/repository/models/{model}/load",
        "POST /v2/repository/models/{model}/unload",
        "POST /v2/models/{model}/infer",
        "POST /v2/models/{model}/versions/{version}/infer",
        "GET /metrics",
        "POST /admin/refresh",
        "POST /admin/models/{model}/load",
        "POST /admin/models/{model}/versions/{version}/load",
        "POST /admin/models/{model}/unload",
        "POST /admin/models/{model}/versions/{version}/unload",
    }
    assert {path for path in found if "/predict/" not in path} == expected
    for path, operation in found.items():
        assert operation["summary"], path
        assert operation["tags"], path
        is_inference = "/predict/" in path or path.endswith(("/infer", ":predict"))
        assert ("422" in operation["responses"]) == is_inference, path
        assert ("404" in operation["responses"]) == ("{model}" in path or "/predict/" in path), path
        given = {(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", [])}
        named = {("path", name) for name in re.findall(r"{(\w+)}", path)}
        terms = {"X-Request-Id"}
        if is_inference:
            terms |= {"X-Request-Timeout", "X-Request-Priority", "Content-Encoding", "Accept-Encoding"}
        if path.endswith("/infer"):
            terms.add("Inference-Header-Content-Length")
        assert given == named | {("header", name) for name in terms}, path
    for path in expected:
        if path.endswith("/ready"):
            assert "503" in found[path]["responses"], path


@pytest.mark.parametrize(
    ("dtype", "accepted", "refused"),
    [
        ("float16", [65504, -65519.99], [65520, -65520]),
        ("bfloat16", [3.3895313892515355e38, -3.3961774278184117e38], [3.396177427818412e38, -3.4e38]),
        ("float32", [3.4028234663852886e38, -3.4028235677973362e38], [3.4028235677973366e38, -1e39]),
        ("float64", [1.7976931348623157e308, -1.7976931348623157e308], []),
    ],
)
@in_loop
async def test_document_says_where_a_number_overflows(
    dtype: str, accepted: list[float], refused: list[float]
) -> None:
    """A number is valid by the schema exactly where the server takes it: up to what rounds to the type's greatest."""
    model = Model(inputs={"x": f"{dtype}[batch, 1]"}, outputs={"y": f"{dtype}[batch, 1]"}, function=_halve)
    async with serving(model) as service:
        found = await document(service)
        schema = Documented(found).request_validator("POST /predict/double")
        for number in (*accepted, *refused):
            answer = await service.predict({"x": [number]})
            assert answer.status_code == (200 if number in accepted else 400)
            assert schema.is_valid({"x": [number]}) == (number in accepted)


def _halve(tensors: Tensors) -> Tensors:
    return {"y": tensors["x"] / 2}


@in_loop
async def test_order_does_not_tell_which_version_came_first() -> None:
    """A model that is loaded later stands where it would have stood, so that the same models have the same document."""
    models = (Model(name="b"), Model(name="a", version="2"), Model(name="a", version="1"))
    texts = []
    async with serving(*models) as service:
        texts.append((await service.get("/openapi.json")).text)
        registry = service.gateway.registry
        for name, version in (("a", "1"), ("a", "2")):
            registry.unload(name, version)
        texts.append((await service.get("/openapi.json")).text)
        for name, version in (("a", "2"), ("a", "1")):
            registry.load(name, version).state = VersionState.READY
        texts.append((await service.get("/openapi.json")).text)
    assert "/predict/a" not in texts[1]
    assert texts[2] == texts[0]


@in_loop
async def test_document_is_made_once_for_a_state() -> None:
    """The document is not made again while nothing has changed."""
    async with serving() as service:
        assert service.app.openapi() is service.app.openapi()


@in_loop
async def test_example_with_non_finite_numbers_does_not_break_the_document() -> None:
    """JSON of the document has no literal for NaN: such an example is left out rather than the whole document."""
    example = Example({"x": [float("nan"), 1.0]}, {"y": [float("inf"), 2.0]})
    async with serving(Model(example=example, manifest={"allow_non_finite": True})) as service:
        found = await document(service)
    media = operations(found)["POST /predict/double"]["requestBody"]["content"]["application/json"]
    assert "example" not in media


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────


@in_loop
async def test_docs_page_needs_nothing_from_elsewhere() -> None:
    """The page refers to this server alone, and everything that it refers to is served."""
    async with serving(SIMPLE) as service:
        page = (await service.get("/docs")).text
        addresses = re.findall(r"""(?:href|src)=["']([^"']+)["']|url: '([^']+)'""", page)
        local = [first or second for first, second in addresses]
        answers = [await service.get(address) for address in local]
    assert "//" not in re.sub(r"<!--.*?-->", "", page)
    assert sorted(local) == [
        "/docs/assets/favicon.png",
        "/docs/assets/swagger-ui-bundle.js",
        "/docs/assets/swagger-ui.css",
        "/openapi.json",
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(answer.content for answer in answers)


@in_loop
async def test_style_of_the_page_loads_nothing_from_elsewhere() -> None:
    """The style sheet has no font or image of another host."""
    async with serving() as service:
        style = (await service.get("/docs/assets/swagger-ui.css")).text
    assert re.findall(r"@import|url\((?!\"data:|'data:|data:).{0,60}", style) == []
