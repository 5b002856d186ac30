"""The native dialect: what a good request gets."""

from __future__ import annotations

import asyncio
import json
import math

import numpy as np
import pytest
from tests.api.harness import Model, in_loop, serving


@in_loop
async def test_single_sample_is_answered_without_batch_dimension() -> None:
    """A value one rank below the declared one is a single sample, and the answer mirrors it."""
    async with serving() as service:
        answer = await service.predict({"x": [1, 2.5]})
    assert (answer.status_code, answer.json()) == (200, {"y": [2.0, 5.0]})


@in_loop
async def test_batch_is_answered_with_batch_dimension() -> None:
    """A value of the declared rank is a batch, even of one row, and the answer has as many rows in their order."""
    async with serving() as service:
        three = await service.predict({"x": [[1, 2], [3, 4], [5, 6]]})
        one = await service.predict({"x": [[1, 2]]})
    assert three.json() == {"y": [[2.0, 4.0], [6.0, 8.0], [10.0, 12.0]]}
    assert one.json() == {"y": [[2.0, 4.0]]}


@in_loop
async def test_scalar_sample_is_answered_with_scalar() -> None:
    """Where only `batch` is declared, a single sample is a bare number, and so is its answer."""
    model = Model(inputs={"x": "float32[batch]"}, outputs={"y": "float32[batch]"})
    async with serving(model) as service:
        assert (await service.predict({"x": 1.5})).json() == {"y": 3.0}
        assert (await service.predict({"x": [1.5, 2.5]})).json() == {"y": [3.0, 5.0]}


@in_loop
async def test_named_version_answers_for_itself() -> None:
    """`/versions/{version}` asks that version; without it the highest by number answers."""
    nine = Model(version="9", function=lambda tensors: {"y": tensors["x"] * 9})
    ten = Model(version="10", function=lambda tensors: {"y": tensors["x"] * 10})
    async with serving(nine, ten) as service:
        default = await service.predict({"x": [1, 1]})
        pinned = await service.post("/predict/double/versions/9", {"x": [1, 1]})
    assert (default.json(), default.headers["x-model-version"]) == ({"y": [10.0, 10.0]}, "double/10")
    assert (pinned.json(), pinned.headers["x-model-version"]) == ({"y": [9.0, 9.0]}, "double/9")


TWO = Model(
    inputs={"a": "float32[batch, n]", "b": "int64[batch]"},
    outputs={"sum": "float32[batch]", "n": "int64[]"},
    function=lambda tensors: {
        "sum": (tensors["a"].sum(axis=1) + tensors["b"]).astype(np.float32),
        "n": np.array(tensors["a"].shape[1]),
    },
)


@in_loop
async def test_several_inputs_are_single_together_or_batched_together() -> None:
    """All inputs with `batch` are read alike, and an output without `batch` keeps its shape in both forms."""
    async with serving(TWO) as service:
        single = await service.predict({"a": [1, 2, 3], "b": 10})
        batch = await service.predict({"b": [10, 20], "a": [[1, 2], [3, 4]]})
    assert single.json() == {"sum": 16.0, "n": 3}
    assert batch.json() == {"sum": [13.0, 27.0], "n": 2}


@in_loop
async def test_batch_on_another_axis_is_inserted_and_removed_there() -> None:
    """Where `batch` is declared as the second axis it is added there to a single sample and taken from the answer."""
    model = Model(inputs={"x": "float32[2, batch]"}, outputs={"y": "float32[3, batch]"})
    model.function = lambda tensors: {"y": np.concatenate([tensors["x"], tensors["x"][:1] * 10])}
    async with serving(model) as service:
        single = await service.predict({"x": [1, 2]})
        batch = await service.predict({"x": [[1, 2, 3], [4, 5, 6]]})
    assert single.json() == {"y": [1.0, 2.0, 10.0]}
    assert batch.json() == {"y": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [10.0, 20.0, 30.0]]}


@in_loop
async def test_input_without_batch_takes_declared_rank_beside_either_form() -> None:
    """An input that does not carry `batch` is given whole, whether the others are single or batched."""
    model = Model(inputs={"x": "float32[batch, 2]", "scale": "float32[2]"})
    model.function = lambda tensors: {"y": tensors["x"] * tensors["scale"]}
    async with serving(model) as service:
        single = await service.predict({"x": [1, 2], "scale": [10, 100]})
        batch = await service.predict({"x": [[1, 2], [3, 4]], "scale": [10, 100]})
        short = await service.predict({"x": [1, 2], "scale": 10})
    assert single.json() == {"y": [10.0, 200.0]}
    assert batch.json() == {"y": [[10.0, 200.0], [30.0, 400.0]]}
    assert short.status_code == 400


@in_loop
async def test_model_without_batch_takes_declared_rank_only() -> None:
    """A model that declares no `batch` answers one request at a time, in the shape it declares."""
    model = Model(inputs={"x": "float32[2]"}, outputs={"y": "float32[2]"})
    async with serving(model) as service:
        answers = await asyncio.gather(*(service.predict({"x": [i, 1]}) for i in range(5)))
        refused = await service.predict({"x": [[1, 2]]})
        ran = [len(batch) for batch in service.instances["double/1"].batches]
    assert [answer.json()["y"] for answer in answers] == [[2.0 * i, 2.0] for i in range(5)]
    assert ran == [1] * 5
    assert refused.status_code == 400
    assert "'x' has 2 dimensions [1, 2]; expected 1: float32[2]" in refused.json()["error"]


@in_loop
async def test_scalar_of_model_without_batch_is_a_bare_value() -> None:
    """`int64[]` is a bare integer in the body and in the answer."""
    model = Model(inputs={"sr": "int64[]"}, outputs={"half": "int64[]"})
    model.function = lambda tensors: {"half": np.asarray(tensors["sr"] // 2)}
    async with serving(model) as service:
        assert (await service.predict({"sr": 48000})).json() == {"half": 24000}


@in_loop
async def test_bytes_are_strings_in_utf8() -> None:
    """Elements of a bytes tensor are JSON strings, carried as UTF-8 both ways."""

    def upper(tensors):
        return {"y": np.array([text.decode().upper().encode() for text in tensors["x"]], object)}

    model = Model(inputs={"x": "bytes[batch]"}, outputs={"y": "bytes[batch]"}, function=upper)
    async with serving(model) as service:
        single = await service.predict({"x": "grüße: 🙂"})
        batch = await service.predict({"x": ["", "a\u0000b", "\\u00e9"]})
    assert single.json() == {"y": "GRÜSSE: 🙂"}
    assert batch.json() == {"y": ["", "A\u0000B", "\\U00E9"]}


EXTREMES = {
    "int8": [-128, 127],
    "uint8": [0, 255],
    "int16": [-32768, 32767],
    "uint16": [0, 65535],
    "int32": [-(2**31), 2**31 - 1],
    "uint32": [0, 2**32 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "uint64": [0, 2**64 - 1],
    "bool": [False, True],
    "float16": [-65504, 65504],
    "bfloat16": [-3.3895314e38, 0.100097656],
    "float32": [-1.5e38, 0.1],
    "float64": [-1.7976931348623157e308, 5e-324],
}


@pytest.mark.parametrize("dtype", EXTREMES)
@in_loop
async def test_extremes_of_every_type_go_through_unchanged(dtype: str) -> None:
    """The least and the greatest value of each type come back as they went in."""
    model = Model(inputs={"x": f"{dtype}[batch]"}, outputs={"y": f"{dtype}[batch]"})
    model.function = lambda tensors: {"y": tensors["x"]}
    async with serving(model) as service:
        answer = await service.predict({"x": EXTREMES[dtype]})
    assert answer.status_code == 200
    assert answer.json() == {"y": EXTREMES[dtype]}


@in_loop
async def test_concurrent_callers_each_get_their_own_rows() -> None:
    """Requests that come together share batches no larger than allowed, and no caller sees another's rows."""
    async with serving() as service:
        bodies = [[[10 * i, 10 * i + row] for row in range(i % 3 + 1)] for i in range(64)]
        answers = await asyncio.gather(*(service.predict({"x": body}) for body in bodies))
        batches = service.instances["double/1"].batches
    for body, answer in zip(bodies, answers, strict=True):
        assert answer.json()["y"] == [[2.0 * a, 2.0 * b] for a, b in body]
    rows = [sum(len(request["x"]) for request in batch) for batch in batches]
    assert max(rows) <= 4
    assert sum(rows) == sum(map(len, bodies))
    assert len(batches) < len(bodies)


NON_FINITE = Model(manifest={"allow_non_finite": True})


@in_loop
async def test_non_finite_numbers_pass_where_the_manifest_allows_them() -> None:
    """With `allow_non_finite` the bare literals NaN, Infinity and -Infinity are read and written."""
    async with serving(NON_FINITE) as service:
        answer = await service.predict(b'{"x": [[NaN, Infinity], [-Infinity, 1.5]]}')
    assert answer.status_code == 200
    assert answer.text == '{"y":[[NaN,Infinity],[-Infinity,3.0]]}'


@in_loop
async def test_non_finite_output_is_an_error_of_the_model() -> None:
    """Without `allow_non_finite` an answer that would hold NaN or infinity is a 500 `non_finite_output`."""
    model = Model(function=lambda tensors: {"y": tensors["x"] / np.float32(0)})
    with np.errstate(divide="ignore", invalid="ignore"):
        async with serving(model) as service:
            answer = await service.predict({"x": [1, 2]})
    assert answer.status_code == 500
    assert answer.json()["code"] == "non_finite_output"
    assert "'y'" in answer.json()["error"]


@in_loop
async def test_non_finite_output_fails_only_whose_it_is() -> None:
    """In one batch only the request whose own rows are not finite fails."""
    model = Model(
        function=lambda tensors: {"y": np.where(tensors["x"] > 1e30, np.float32("inf"), tensors["x"])}
    )
    model.seconds = 0.001  # the first holds the instance, so that the two behind it share a batch
    async with serving(model) as service:
        bodies = [[0, 0], [1, 2], [1e38, 2]]
        answers = await asyncio.gather(*(service.predict({"x": body}) for body in bodies))
        batches = service.instances["double/1"].batches
    assert [answer.status_code for answer in answers] == [200, 200, 500]
    assert answers[1].json() == {"y": [1.0, 2.0]}
    assert [len(batch) for batch in batches][-1] >= 2


@in_loop
async def test_float32_is_written_as_short_as_it_is() -> None:
    """A float32 is written with the digits that tell it apart, not with those of a float64."""
    model = Model(function=lambda tensors: {"y": tensors["x"]})
    async with serving(model) as service:
        answer = await service.predict({"x": [0.1, 1 / 3]})
    assert answer.text == '{"y":[0.1,0.33333334]}'
    assert math.isclose(json.loads(answer.text)["y"][1], 1 / 3, rel_tol=1e-7)


@in_loop
async def test_catalogue_lists_every_version_with_its_state() -> None:
    """`GET /models` lists ready, failed and unreadable versions; `GET /models/{model}` describes one whole."""
    models = (
        Model(manifest={"description": "twice", "card": {"r2": 0.5, "classes": {0: 7}}}),
        Model(name="ill", state="failed", reason="its golden samples disagree"),
        Model(name="torn", broken="model.yaml: inputs: Field required"),
    )
    async with serving(*models) as service:
        listed = (await service.get("/models")).json()["models"]
        one = (await service.get("/models/double")).json()
        same = (await service.get("/models/double/versions/1")).json()
        torn = await service.get("/models/torn")
    assert [(m["name"], m["state"], m["reason"]) for m in listed] == [
        ("double", "ready", ""),
        ("ill", "failed", "its golden samples disagree"),
        ("torn", "failed", "model.yaml: inputs: Field required"),
    ]
    assert one == same
    assert one["default"] is True
    assert one["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 2]}]
    assert one["batching"] == {"max_batch_size": 4, "max_batch_cost": None, "max_queue_delay": 0.0}
    assert (one["description"], one["card"]["r2"]) == ("twice", 0.5)
    assert one["card"]["classes"] == {"0": 7}
    assert torn.status_code == 503
    assert "cannot be served: model.yaml" in torn.json()["error"]
