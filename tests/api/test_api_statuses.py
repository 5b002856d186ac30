"""Which status an inference request gets when it cannot be answered, and what stands in the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.api.harness import Model, in_loop, recorded_logs, serving

from maas.errors import ModelFailed, WorkerDied
from maas.models.live import VersionState

SAMPLE = {"x": [1, 2]}
DIALECTS = {
    "/predict/double": SAMPLE,
    "/v2/models/double/infer": {
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]
    },
}
both_dialects = pytest.mark.parametrize("path", DIALECTS)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/predict/nobody", "there is no model 'nobody'"),
        ("/predict/double/versions/7", "model 'double' has no version '7'; it has 1"),
        ("/predict/Double", "there is no model 'Double'"),
        ("/predict/../nowhere", "Not Found"),
        ("/predict/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "Not Found"),
        ("/predict/%2e%2e", "there is no model '..'"),
        ("/predict/double%00", "there is no model 'double\\x00'"),
        ("/predict/CON", "there is no model 'CON'"),
        ("/predict//double", "Not Found"),
        ("/predict/d%D0%BEuble", "there is no model 'dоuble'"),
        ("/predict/" + "a" * 10_000, "aaa…'"),
        ("/predict/double/versions/" + "1" * 10_000, "111…'"),
    ],
    ids=lambda value: value[:40],
)
@in_loop
async def test_unknown_names_are_not_found(path: str, words: str) -> None:
    """A name that is not served, whatever it tries to be, is a short 404 in JSON."""
    async with serving() as service:
        answer = await service.post(path, SAMPLE)
    assert answer.status_code == 404
    assert answer.json()["code"] in {"model_not_found", "not_found"}
    assert words in answer.json()["error"]
    assert len(answer.content) < 600


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@in_loop
async def test_other_methods_are_405_and_say_which_is_allowed(method: str) -> None:
    """A prediction is a POST; another method is a 405 in JSON with `Allow`."""
    async with serving() as service:
        answer = await service.client.request(method, "/predict/double")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["code"] == "method_not_allowed"


@in_loop
async def test_no_path_redirects() -> None:
    """A path with a slash too many is not found: an answer is never built from a Host header."""
    async with serving() as service:
        for path in "/predict/double/", "/v2/health/live/", "/models/":
            for answer in (
                await service.post(path, SAMPLE, headers={"Host": "elsewhere.example"}),
                await service.get(path, headers={"Host": "["}),
            ):
                assert answer.status_code in {404, 405}
                assert "error" in answer.json()


# ── bodies ───────────────────────────────────────────────────────────────────────────────────────────────────────


@both_dialects
@in_loop
async def test_body_over_the_limit_is_refused_by_its_declared_length(path: str) -> None:
    """A Content-Length over the model's limit is a 413 before the body is read."""
    reads = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal reads
        reads += 1
        yield b"x"

    async with serving() as service:
        limit = service.live().body_limit
        answer = await service.post(path, body(), headers={"Content-Length": str(limit + 1)})
    assert answer.status_code == 413
    assert f"has {limit + 1} bytes; the limit is {limit}" in answer.json()["error"]
    assert reads == 0


@both_dialects
@in_loop
async def test_body_over_the_limit_is_refused_while_it_streams(path: str) -> None:
    """Without a Content-Length the body is a 413 as soon as the limit is passed; what follows is not read."""
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 << 20:
            sent += 1 << 14
            yield b" " * (1 << 14)

    async with serving() as service:
        limit = service.live().body_limit
        answer = await service.post(path, body())
    assert answer.status_code == 413
    assert f"more than {limit} bytes" in answer.json()["error"]
    assert limit < sent <= limit + (1 << 15)


@in_loop
async def test_limit_follows_what_the_model_declares() -> None:
    """32 bytes for each element of a full batch and 64 KiB around; the server's cap where the declaration sets none."""
    models = (
        Model(),
        Model(name="images", inputs={"x": "uint8[batch, 100, 100]"}, max_batch_size=8),
        Model(name="text", inputs={"x": "bytes[batch]"}),
        Model(name="open", inputs={"x": "float32[batch, n]"}),
        Model(name="huge", inputs={"x": "float32[batch, 10000000]"}),
    )
    async with serving(*models, configuration={"limits": {"body_bytes": 5_000_000}}) as service:
        limits = {model.name: service.live(model.name).body_limit for model in models}
    assert limits == {
        "double": 32 * 8 + 65536,
        "images": 32 * 80_000 + 65536,
        "text": 5_000_000,
        "open": 5_000_000,
        "huge": 5_000_000,
    }


@in_loop
async def test_body_of_exactly_the_limit_is_read() -> None:
    """The limit itself is allowed, in one piece or in many."""
    async with serving() as service:
        limit = service.live().body_limit
        body = b'{"x": [1, 2]}'.ljust(limit)

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, limit, 1000):
                yield body[start : start + 1000]

        assert (await service.predict(body)).status_code == 200
        assert (await service.predict(pieces())).status_code == 200
        assert (await service.predict(body + b" ")).status_code == 413


@both_dialects
@pytest.mark.parametrize(
    "header",
    [
        {"Content-Type": "text/html"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "\u00ff" * 1000},
        {"Content-Encoding": "br"},
        {"Content-Encoding": "gzip, br"},
        {"Content-Encoding": "no-such-thing"},
    ],
    ids=lambda header: str(header)[:40],
)
@in_loop
async def test_other_media_are_unsupported(path: str, header: dict[str, str]) -> None:
    """A body that says it is another type, or compressed, is a 415 that says what came."""
    headers = {name: value.encode("latin-1") for name, value in header.items()}
    async with serving() as service:
        answer = await service.post(path, DIALECTS[path], headers=headers)
    assert answer.status_code == 415
    assert "is not read here" in answer.json()["error"]
    assert len(answer.content) < 400


@both_dialects
@pytest.mark.parametrize(
    "media",
    [
        None,
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/vnd.custom+json",
        "text/plain",
        "application/x-www-form-urlencoded",
    ],
)
@in_loop
async def test_what_may_be_json_is_read_as_json(path: str, media: str | None) -> None:
    """No type, JSON's types, plain text and curl's default are all read as JSON."""
    async with serving() as service:
        answer = await service.post(path, DIALECTS[path], headers={"Content-Type": media} if media else {})
    assert answer.status_code == 200


# ── not now ──────────────────────────────────────────────────────────────────────────────────────────────────────


@both_dialects
@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("loading", "it is loading", "'double/1' is not ready: it is loading"),
        ("failed", "sample 0 is off", "'double/1' is not ready: sample 0 is off"),
        ("draining", "it is draining", "'double/1' is not ready: it is draining"),
    ],
)
@in_loop
async def test_version_that_is_not_ready_is_unavailable(
    path: str, state: str, reason: str, words: str
) -> None:
    """A version that loads, has failed or drains answers 503 with the reason, and when to come back."""
    async with serving(Model(state=state, reason=reason)) as service:
        answer = await service.post(path, DIALECTS[path])
    assert answer.status_code == 503
    assert words in answer.json()["error"]
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("1", "1000")
    assert answer.headers["x-model-version"] == "double/1"


@both_dialects
@in_loop
async def test_draining_server_is_unavailable(path: str) -> None:
    """While the server drains, what comes is a 503 with when to come back, and what was accepted is answered."""
    async with serving(Model(seconds=0.01)) as service:
        accepted = asyncio.ensure_future(service.post(path, DIALECTS[path]))
        await service.until_running(1)
        service.gateway.is_draining = True
        refused = await service.post(path, DIALECTS[path])
        assert (await accepted).status_code == 200
    assert refused.status_code == 503
    assert "the server is shutting down" in refused.json()["error"]
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("1", "1000")


@both_dialects
@in_loop
async def test_full_queue_refuses_at_once(path: str) -> None:
    """A request that finds the queue full is a 503 with when to come back, in seconds and in milliseconds."""
    async with serving(
        Model(seconds=3600), configuration={"models": {"double": {"queue_size": 2}}}
    ) as service:
        hanging = [asyncio.ensure_future(service.post(path, DIALECTS[path]))]
        await service.until_running(1)
        hanging += [asyncio.ensure_future(service.post(path, DIALECTS[path])) for _ in range(2)]
        await service.until_waiting(2)
        refused = await service.post(path, DIALECTS[path])
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    assert refused.status_code == 503
    assert "2 requests waiting; its queue holds 2" in refused.json()["error"]
    assert int(refused.headers["retry-after"]) >= 1
    assert int(refused.headers["retry-after-ms"]) >= 1


@both_dialects
@in_loop
async def test_deadline_is_answered_at_the_deadline(path: str) -> None:
    """A request whose model does not answer in time is a 504, though the batch still runs."""
    async with serving(
        Model(seconds=3600), configuration={"models": {"double": {"request_timeout": 0.01}}}
    ) as service:
        answer = await asyncio.wait_for(service.post(path, DIALECTS[path]), 5)
    assert answer.status_code == 504
    assert "deadline" in answer.json()["error"]
    assert "retry-after" not in answer.headers


@both_dialects
@in_loop
async def test_died_process_is_unavailable_without_a_promise(path: str) -> None:
    """A process that died over a request that may not be repeated is a 503; whether it was executed is not known, so no
    time is named."""
    async with serving(Model(fail_with=WorkerDied("dead"), manifest={"idempotent": False})) as service:
        answer = await service.post(path, DIALECTS[path])
    assert answer.status_code == 503
    assert "retry-after" not in answer.headers


# ── failures ─────────────────────────────────────────────────────────────────────────────────────────────────────

TRACE = 'Traceback (most recent call last):\n  File "/srv/secret/model.py", line 7, in forward\nKeyError: 1'


@both_dialects
@in_loop
async def test_failed_model_shows_neither_trace_nor_path(path: str) -> None:
    """A model's failure is a 500 with its message alone; the log has the trace, under the request's id."""
    failure = ModelFailed("the model raised KeyError", trace=TRACE)
    with recorded_logs() as lines:
        async with serving(Model(fail_with=failure)) as service:
            answer = await service.post(path, DIALECTS[path])
    assert answer.status_code == 500
    assert answer.json()["error"] == "the model raised KeyError"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    (line,) = lines
    assert (line["event"], line["code"], line["trace"]) == ("request_failed", "model_error", TRACE)
    assert (line["model"], line["request_id"]) == ("double/1", answer.headers["x-request-id"])


@both_dialects
@in_loop
async def test_bug_is_opaque_and_logged_whole(path: str) -> None:
    """An error outside our tree shows nothing of itself; the log has all of it, under the request's id."""
    with recorded_logs() as lines:
        async with serving(Model(fail_with=ZeroDivisionError("/srv/secret is nothing"))) as service:
            answer = await service.post(path, DIALECTS[path], headers={"X-Request-Id": "r-1"})
    assert answer.status_code == 500
    assert answer.json()["error"] == "internal error; the server's log has it under this request's id"
    assert "secret" not in answer.text
    (line,) = lines
    assert (line["event"], line["level"], line["request_id"]) == ("request_met_a_bug", "error", "r-1")
    assert "ZeroDivisionError: /srv/secret is nothing" in line["exception"]


@in_loop
async def test_failure_does_not_outlive_its_batch() -> None:
    """After a failed batch the next request is answered."""
    async with serving(Model(fail_with=ModelFailed("once"))) as service:
        failed = await service.predict(SAMPLE)
        service.instances["double/1"].fail_with = None
        answered = await service.predict(SAMPLE)
    assert (failed.status_code, answered.status_code) == (500, 200)


@in_loop
async def test_state_decides_at_once() -> None:
    """A version that becomes ready answers the next request; one that leaves refuses it."""
    async with serving(Model(state="loading")) as service:
        codes = []
        for state in VersionState.LOADING, VersionState.READY, VersionState.DRAINING:
            service.live().state = state
            codes.append((await service.predict(SAMPLE)).status_code)
    assert codes == [503, 200, 503]
