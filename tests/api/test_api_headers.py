"""Headers that stand on every answer: the request's id, the version that answered, the timings, the type."""

from __future__ import annotations

import re

import pytest
from tests.api.harness import Model, Service, in_loop, serving

INFER = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
ROUTES = {
    "predict": ("POST", "/predict/double", {"x": [1, 2]}),
    "predict refused": ("POST", "/predict/double", {"x": [1]}),
    "predict unknown": ("POST", "/predict/nobody", {}),
    "predict failed": ("POST", "/predict/ill", {"x": [1, 2]}),
    "infer": ("POST", "/v2/models/double/infer", INFER),
    "infer refused": ("POST", "/v2/models/double/infer", {}),
    "wrong method": ("GET", "/predict/double", None),
    "no route": ("GET", "/nothing", None),
    "no route under v2": ("GET", "/v2/nothing", None),
    "live": ("GET", "/v2/health/live", None),
    "models": ("GET", "/models", None),
    "model unknown": ("GET", "/models/nobody", None),
    "metrics": ("GET", "/metrics", None),
    "openapi": ("GET", "/openapi.json", None),
    "docs": ("GET", "/docs", None),
    "asset": ("GET", "/docs/assets/swagger-ui.css", None),
    "no asset": ("GET", "/docs/assets/nothing.js", None),
    "bug": ("GET", "/v2/models/broken", None),
}
every_route = pytest.mark.parametrize("route", ROUTES)


async def ask(service: Service, route: str, **headers: str | bytes):
    method, path, body = ROUTES[route]
    if route == "bug":
        service.gateway.registry.resolve = lambda *_: 1 / 0
    if body is not None:
        return await service.post(path, body, headers=headers)
    return await service.client.request(method, path, headers=headers)


def models() -> tuple[Model, ...]:
    return Model(), Model(name="ill", fail_with=KeyError("a bug"))


@every_route
@in_loop
async def test_plain_request_id_is_echoed(route: str) -> None:
    """An id of at most 128 plain characters comes back as it was, exactly once, whatever the answer is."""
    given = "0af7-651916cd:43dd/8448?eb=211c{80319c}~!" + "a" * 80
    async with serving(*models()) as service:
        answer = await ask(service, route, **{"X-Request-Id": given})
    assert answer.headers.get_list("x-request-id") == [given]


@every_route
@in_loop
async def test_request_without_id_is_given_one(route: str) -> None:
    """An id is made where none came, another one for each request."""
    async with serving(*models()) as service:
        first, second = [await ask(service, route) for _ in range(2)]
    for answer in (first, second):
        assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"a b",
        b"a\tb",
        b"a\r\nSet-Cookie: b",
        b"\x1b[31mred",
        b"\x00",
        b"gr\xfcn",
        b"a" * 129,
        b"a" * 10_240,
    ],
    ids=repr,
)
@pytest.mark.parametrize("route", ["predict", "predict refused", "infer", "no route", "live", "bug"])
@in_loop
async def test_odd_request_id_is_replaced(route: str, given: bytes) -> None:
    """An id with blanks, controls or other letters, or a long one, is replaced by one of ours."""
    async with serving(*models()) as service:
        answer = await ask(service, route, **{"X-Request-Id": given})
    assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "route", ["predict refused", "predict unknown", "predict failed", "no route", "model unknown"]
)
@in_loop
async def test_error_body_has_the_id_of_its_header(route: str) -> None:
    """`request_id` in a native error is what the header says."""
    async with serving(*models()) as service:
        answer = await ask(service, route)
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("route", ["predict", "predict refused", "infer", "infer refused"])
@in_loop
async def test_version_and_digest_stand_on_every_inference_answer(route: str) -> None:
    """Answers and errors of a version say which one it was: NAME/VERSION, and the SHA-256 of its manifest."""
    async with serving(*models()) as service:
        answer = await ask(service, route)
        digest = service.live().digest
    assert answer.headers["x-model-version"] == "double/1"
    assert answer.headers["x-model-digest"] == digest
    assert re.fullmatch(r"[0-9a-f]{64}", digest)


@in_loop
async def test_unknown_model_has_no_version_header() -> None:
    """Where no version was found none is named."""
    async with serving() as service:
        answer = await ask(service, "predict unknown")
    assert "x-model-version" not in answer.headers
    assert "x-model-digest" not in answer.headers


def timings(header: str) -> dict[str, float]:
    """As the W3C's Server Timing has it: comma-separated metrics, each a token with a duration in milliseconds."""
    entries = [
        re.fullmatch(r"\s*([!#$%&'*+.^_`|~\w-]+);dur=(\d+(?:\.\d+)?)\s*", entry)
        for entry in header.split(",")
    ]
    assert all(entries), header
    return {entry[1]: float(entry[2]) for entry in entries if entry}


@pytest.mark.parametrize("route", ["predict", "infer"])
@in_loop
async def test_answer_carries_its_timings(route: str) -> None:
    """`Server-Timing` has queue, compute and total in milliseconds, and the total holds the two."""
    async with serving(Model(seconds=0.003)) as service:
        answer = await ask(service, route)
    found = timings(answer.headers["server-timing"])
    assert list(found) == ["queue", "compute", "total"]
    assert found["compute"] == pytest.approx(3.0)
    assert found["total"] >= found["queue"] + found["compute"] - 0.01


@pytest.mark.parametrize("route", ["predict refused", "predict unknown", "predict failed", "infer refused"])
@in_loop
async def test_error_carries_its_total_time(route: str) -> None:
    """An error says how long it took in all."""
    async with serving(*models()) as service:
        answer = await ask(service, route)
    assert list(timings(answer.headers["server-timing"])) == ["total"]


@every_route
@in_loop
async def test_type_and_length_are_right(route: str) -> None:
    """JSON is `application/json`, pages and metrics are what they are, and Content-Length is the body's."""
    other = {"metrics": "text/plain", "docs": "text/html", "asset": "text/css"}
    async with serving(*models()) as service:
        answer = await ask(service, route)
    assert answer.headers["content-type"].startswith(other.get(route, "application/json"))
    assert int(answer.headers["content-length"]) == len(answer.content)
