"""The V1 protocol: rows and columns in, predictions of the same form out; and models as its clients and OpenAI's list them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.api.harness import Model, in_loop, serving

TWO = Model(
    "two",
    inputs={"a": "float32[batch]", "t": "bytes[batch]"},
    outputs={"b": "float32[batch]", "u": "bytes[batch]"},
    function=lambda tensors: {"b": tensors["a"] * 2, "u": tensors["t"]},
)


def texts(given: str, made: str) -> Model:
    """A model that gives back the bytes that it is given."""
    return Model(
        "texts",
        inputs={given: "bytes[batch]"},
        outputs={made: "bytes[batch]"},
        function=lambda tensors: {made: tensors[given]},
    )


NAN = Model("nan", function=lambda tensors: {"y": tensors["x"] * np.float32(np.nan)})


@pytest.mark.parametrize("version", ["", "/versions/1"])
@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"instances": [[1, 2], [3, 4]]}, "predictions"),
        (
            {"instances": [{"x": [1, 2]}, {"x": [3, 4]}], "signature_name": "serving_default"},
            "predictions",
        ),
        ({"inputs": [[1, 2], [3, 4]]}, "outputs"),
        ({"inputs": {"x": [[1, 2], [3, 4]]}, "signature_name": "another"}, "outputs"),
    ],
)
@in_loop
async def test_one_input_comes_as_rows_or_columns(body: dict[str, Any], key: str, version: str) -> None:
    """Named or not: of one output the predictions, or the outputs, are its rows."""
    async with serving() as service:
        answer = await service.post(f"/v1/models/double{version}:predict", body)
    assert (answer.status_code, answer.json()) == (200, {key: [[2.0, 4.0], [6.0, 8.0]]})


@in_loop
async def test_several_inputs_are_named() -> None:
    """Rows are answered with rows, columns with columns."""
    async with serving(TWO) as service:
        rows = await service.post(
            "/v1/models/two:predict", {"instances": [{"a": 1, "t": "x"}, {"t": "y", "a": 2}]}
        )
        columns = await service.post("/v1/models/two:predict", {"inputs": {"a": [1, 2], "t": ["x", "y"]}})
    assert rows.json() == {"predictions": [{"b": 2.0, "u": "x"}, {"b": 4.0, "u": "y"}]}
    assert columns.json() == {"outputs": {"b": [2.0, 4.0], "u": ["x", "y"]}}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [{"b64": "/wA="}, "é"]}, {"predictions": [{"b64": "/wA="}, "é"]}),
        ({"instances": ["é", {"b64": "w6k"}, {"b64": " w6\nk= "}]}, {"predictions": ["é", "é", "é"]}),
        ({"instances": [{"t": {"b64": ""}}, {"t": "b64"}]}, {"predictions": ["", "b64"]}),
        ({"inputs": [{"b64": "gA=="}]}, {"outputs": [{"b64": "gA=="}]}),
        ({"inputs": {"t": [{"b64": "gA=="}]}}, {"outputs": [{"b64": "gA=="}]}),
    ],
)
@in_loop
async def test_bytes_come_and_go_as_base64(body: dict[str, Any], answer: dict[str, Any]) -> None:
    """In rows and columns, named or not, beside texts; what is UTF-8 goes as a text."""
    async with serving(texts("t", "u")) as service:
        found = await service.post("/v1/models/texts:predict", body)
    assert (found.status_code, found.json()) == (200, answer)


@in_loop
async def test_names_say_what_is_bytes() -> None:
    """An output whose name ends with `_bytes` is base64 whatever it holds; an input that is called `b64` is called so."""
    async with serving(texts("b64", "u_bytes")) as service:
        found = await service.post("/v1/models/texts:predict", {"instances": [{"b64": "eA=="}]})
    assert found.json() == {"predictions": [{"b64": "ZUE9PQ=="}]}


@pytest.mark.parametrize(
    "value",
    [
        {"b64": "é"},
        {"b64": "a"},
        {"b64": "ab=c"},
        {"b64": "a-_b"},
        {"b64": 1},
        {"b64": None},
        {"b64": {}},
        {"b64": "eA==", "x": 1},
        {"b65": "eA=="},
        {},
        [{"b64": "eA=="}],
        1,
    ],
    ids=str,
)
@in_loop
async def test_what_is_no_base64_is_refused(value: object) -> None:
    """With what there is instead, and as no name of an input."""
    async with serving(texts("t", "u")) as service:
        columns = await service.post("/v1/models/texts:predict", {"inputs": {"t": [value]}})
        rows = await service.post("/v1/models/texts:predict", {"instances": ["x", value]})
        number = await service.post("/v1/models/texts:predict", {"inputs": {"t": ["x"], "n": [value]}})
    assert (columns.status_code, rows.status_code, number.status_code) == (400, 400, 400)
    assert {type(answer.json()["error"]) for answer in (columns, rows, number)} == {str}


@in_loop
async def test_base64_is_for_bytes_alone() -> None:
    """A number is not written so."""
    async with serving() as service:
        answer = await service.post("/v1/models/double:predict", {"inputs": {"x": [[{"b64": "eA=="}, 1]]}})
    assert answer.status_code == 400
    assert "expected float32" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instances": [{"a": 1, "t": "x"}], "inputs": {}},
        {"instances": []},
        {"instances": 1},
        {"instances": [1, 2]},
        {"instances": [{"a": 1, "t": "x"}, 1]},
        {"instances": [{"a": 1, "t": "x"}, {"a": 1}]},
        {"inputs": [1, 2]},
        {"inputs": {"a": [1]}},
        {"inputs": {"a": [1], "t": ["x", "y"]}},
        [1],
    ],
    ids=str,
)
@in_loop
async def test_what_is_neither_rows_nor_columns_is_refused(body: object) -> None:
    """With an error that is a text."""
    async with serving(TWO) as service:
        answer = await service.post("/v1/models/two:predict", body)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error"}
    assert isinstance(answer.json()["error"], str)


@in_loop
async def test_other_errors_are_texts_too() -> None:
    """An unknown model, an answer that is not finite, a method that is not known."""
    async with serving(NAN) as service:
        unknown = await service.post("/v1/models/nobody:predict", {"instances": [1]})
        broken = await service.post("/v1/models/nan:predict", {"instances": [[1, 2]]})
        method = await service.get("/v1/models/nan:predict")
    assert (unknown.status_code, broken.status_code, method.status_code) == (404, 500, 405)
    assert {type(answer.json()["error"]) for answer in (unknown, broken, method)} == {str}


@in_loop
async def test_models_are_listed_for_openai_and_v1_alike() -> None:
    """One answer has the members of both, each model once."""
    async with serving(Model(), Model(version="2"), TWO) as service:
        alive = await service.get("/")
        listed = (await service.get("/v1/models")).json()
        one = await service.get("/v1/models/double")
    assert alive.json() == {"status": "alive"}
    assert listed["object"] == "list"
    assert listed["models"] == ["double", "two"]
    assert listed["data"][0] == {"id": "double", "object": "model", "created": 1767225600, "owned_by": "maas"}
    assert one.status_code == 200
    assert one.json() == {**listed["data"][0], "name": "double", "ready": True}


@in_loop
async def test_model_that_is_not_ready_is_a_503_and_an_unknown_one_a_404() -> None:
    """As OpenAI's error object."""
    async with serving(Model(state="failed", reason="golden sample 0 is off")) as service:
        failed = await service.get("/v1/models/double")
        unknown = await service.get("/v1/models/nobody")
        listed = await service.get("/v1/models")
    assert (failed.status_code, unknown.status_code, listed.status_code) == (503, 404, 200)
    assert "golden sample 0 is off" in failed.json()["error"]["message"]
    assert failed.json()["error"]["type"] == "server_error"
    assert unknown.json()["error"]["type"] == "invalid_request_error"
    assert unknown.json()["error"]["code"] == "model_not_found"


@in_loop
async def test_unloaded_model_is_known_and_not_ready() -> None:
    """Of its state one is told 503, for it may come back; it is in no list, and a request finds no such model."""
    async with serving(Model(), TWO, allow_control=True) as service:
        await service.post("/v2/repository/models/double/unload", b"")
        state = await service.get("/v1/models/double")
        listed = await service.get("/v1/models")
        asked = await service.post("/v1/models/double:predict", {"instances": [[1, 2]]})
    assert (state.status_code, asked.status_code) == (503, 404)
    assert "it is unloaded" in state.json()["error"]["message"]
    assert listed.json()["models"] == ["two"]
