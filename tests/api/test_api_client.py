"""`maas.client` against the application: what goes raw is answered as what goes as JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from tests.api.harness import Model, Service, in_loop, serving

from maas.client import AsyncClient, Prediction, raw
from maas.dtypes import DTYPES, float_info, is_float
from maas.errors import InvalidRequest, MaasError, ModelFailed, QueueFull
from maas.types import Tensors

NUMBERS = [
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "bfloat16", "float32", "float64"),
]


class Recorded(httpx.AsyncBaseTransport):
    """The service's own transport, with the paths that went by it."""

    def __init__(self, service: Service) -> None:
        self._inner = httpx.ASGITransport(service.app, raise_app_exceptions=False)
        self.paths: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        return await self._inner.handle_async_request(request)


@asynccontextmanager
async def calling(service: Service) -> AsyncIterator[tuple[AsyncClient, list[str]]]:
    transport = Recorded(service)
    async with AsyncClient("http://maas", transport=transport, retries=0) as client:
        yield client, transport.paths


@pytest.fixture(autouse=True)
def _everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "PAYS_FROM", 0)


def echo(tensors: Tensors) -> Tensors:
    return {"y": tensors["x"]}


def mirror(dtype: str, **options: Any) -> Model:
    declared = f"{dtype}[batch, 3]"
    return Model(inputs={"x": declared}, outputs={"y": declared}, function=echo, **options)


async def both_ways(service: Service, inputs: dict[str, Any]) -> tuple[Prediction, Prediction, list[str]]:
    """The answer to arrays, the answer to the same as lists, which go as JSON, and the paths."""
    async with calling(service) as (client, paths):
        by_raw = await client.predict("double", inputs)
        lists = {name: np.asarray(value).tolist() for name, value in inputs.items()}
        return by_raw, await client.predict("double", lists), paths


@pytest.mark.parametrize("dtype", NUMBERS)
@in_loop
async def test_every_dtype_comes_back_as_by_json(dtype: str) -> None:
    """Raw both ways, to the greatest and the least of the type; the answer has the dtype and the values of JSON's."""
    kind = DTYPES[dtype]
    info = float_info(kind) if is_float(kind) else None if dtype == "bool" else np.iinfo(dtype)
    rows = [[1, 0, 1]] if info is None else [[info.max, info.min, 1]]
    async with serving(mirror(dtype)) as service:
        by_raw, by_json, paths = await both_ways(service, {"x": np.array(rows, kind)})
    assert paths == ["/models/double", "/v2/models/double/infer", "/predict/double"]
    assert by_raw.outputs["y"].dtype == by_json.outputs["y"].dtype
    assert np.array_equal(by_raw.outputs["y"].astype(kind), by_json.outputs["y"].astype(kind))
    assert by_raw.model_version == by_json.model_version == "double/1"
    assert by_raw.digest == by_json.digest
    assert {"queue", "compute", "total"} <= by_raw.timings.keys()


@in_loop
async def test_single_sample_is_answered_as_one() -> None:
    """The batch dimension that the protocol wants is put in, and taken out of the answer, on whichever axis it stands."""
    model = Model(
        inputs={"x": "float32[2, batch]", "rate": "int64[]"},
        outputs={"y": "float32[2, batch]"},
        function=echo,
    )
    async with serving(model) as service:
        by_raw, by_json, paths = await both_ways(service, {"x": np.array([1.5, -2.5], np.float32), "rate": 7})
    assert paths[1] == "/v2/models/double/infer"
    assert by_raw.outputs["y"].tolist() == by_json.outputs["y"].tolist() == [1.5, -2.5]


@pytest.mark.parametrize(
    ("dtype", "x"),
    [
        ("float32", np.array([[np.nan, 1.0, 2.0]])),
        ("float32", np.array([[1e300, 1.0, 2.0]])),
        ("bfloat16", np.array([[3.4e38, 1.0, 2.0]])),
        ("int32", np.array([[1 << 40, 1, 2]])),
        ("int32", np.array([[1.5, 1.0, 2.0]])),
        ("int32", np.array([[True, False, True]])),
        ("bool", np.array([[0, 1, 1]])),
        ("float32", np.ones((1, 4), np.float32)),
        ("float32", np.ones((1, 1, 3), np.float32)),
        ("float32", np.ones((9, 3), np.float32)),
    ],
)
@in_loop
async def test_what_is_wrong_is_refused_in_the_same_words(dtype: str, x: np.ndarray) -> None:
    """Nothing is cast that JSON would refuse, and the sentence is the one that JSON gets."""
    async with serving(mirror(dtype)) as service, calling(service) as (client, _):
        told = []
        for value in (x, x.tolist()):
            with pytest.raises(InvalidRequest) as caught:
                await client.predict("double", {"x": value})
            told.append((type(caught.value), caught.value.code, caught.value.message))
    assert told[0] == told[1]


@in_loop
async def test_non_finite_numbers_pass_where_the_model_allows_them() -> None:
    """In by JSON, as bare literals; out of a raw answer, too."""
    model = Model(
        function=lambda tensors: {"y": np.full_like(tensors["x"], np.inf)},
        manifest={"allow_non_finite": True},
    )
    async with serving(model) as service, calling(service) as (client, paths):
        for value in (np.nan, 1.0):
            answer = await client.predict("double", {"x": np.array([[value, 1.0]])})
            assert answer.outputs["y"].tolist() == [[np.inf, np.inf]]
    assert paths == ["/models/double", "/predict/double", "/v2/models/double/infer"]


@in_loop
async def test_non_finite_output_is_the_failure_that_it_is_by_json() -> None:
    """The protocol gives NaN to everybody; a model that does not allow it has failed all the same."""
    model = Model(function=lambda tensors: {"y": np.full_like(tensors["x"], np.nan)})
    async with serving(model) as service, calling(service) as (client, _):
        for value in (np.ones((1, 2)), [[1.0, 1.0]]):
            with pytest.raises(ModelFailed) as caught:
                await client.predict("double", {"x": value}, request_id="the-call")
            assert caught.value.code == "non_finite_output"
            assert caught.value.request_id == "the-call"


@pytest.mark.parametrize(
    "problem",
    [ModelFailed("it raised", code="model_error"), QueueFull("full", retry_after=2.0)],
    ids=["ModelFailed", "QueueFull"],
)
@in_loop
async def test_errors_are_those_of_json(problem: MaasError) -> None:
    """The protocol's error is a sentence; the class and the code come by the header."""
    async with serving() as service, calling(service) as (client, _):
        service.live().batcher.submit = _raising(problem)  # type: ignore[method-assign]
        for value in (np.ones((1, 2)), [[1.0, 1.0]]):
            with pytest.raises(type(problem)) as caught:
                await client.predict("double", {"x": value})
            assert (caught.value.code, caught.value.message) == (problem.code, problem.message)


def _raising(problem: MaasError) -> Any:
    def submit(*_: object) -> None:
        raise problem

    return submit


@in_loop
async def test_text_goes_as_json() -> None:
    """A model with text is asked by JSON after its description was read once."""
    model = Model(
        inputs={"x": "float32[batch, 2]", "words": "bytes[batch]"},
        outputs={"y": "bytes[batch]"},
        function=lambda tensors: {"y": tensors["words"]},
    )
    async with serving(model) as service, calling(service) as (client, paths):
        for _ in range(2):
            answer = await client.predict("double", {"x": np.ones((1, 2)), "words": ["hello"]})
            assert answer.outputs["y"].tolist() == ["hello"]
    assert paths == ["/models/double", "/predict/double", "/predict/double"]


@in_loop
async def test_signature_that_has_changed_is_read_again() -> None:
    """A request that does not fit what was known goes as JSON, and the next one by what is true then."""
    async with serving(mirror("float32")) as service, calling(service) as (client, paths):
        x = np.ones((1, 3), np.float32)
        await client.predict("double", {"x": x})
        (key,) = client._signatures
        client._signatures[key] = raw.RawSignature(
            tuple(type(spec)(spec.name, "float64", spec.dims) for spec in client._signatures[key].inputs),
            client._signatures[key].outputs,
            False,
        )
        for _ in range(2):
            assert (await client.predict("double", {"x": x})).outputs["y"].tolist() == [[1, 1, 1]]
    assert paths[2:] == [
        "/v2/models/double/infer",
        "/predict/double",
        "/models/double",
        "/v2/models/double/infer",
    ]
