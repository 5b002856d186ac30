"""The application under servers that are not ours, and what it says to one that is."""

from __future__ import annotations

import httpx
import orjson
from starlette.types import Message, Scope
from tests.api.harness import Service, in_loop, serving

from maas.api.endpoint import REPLY, is_inference
from maas.api.reply import Reply

BODY = b'{"x": [1, 2]}'
SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": "/predict/double",
    "headers": [(b"content-type", b"application/json"), (b"x-request-id", b"its-own")],
}


async def call(service: Service, **scope: object) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await service.app({**SCOPE, **scope}, receive, send)
    return sent


@in_loop
async def test_answer_is_two_messages_to_a_server_without_our_extension() -> None:
    """The head with length and id, and the body."""
    async with serving() as service:
        start, body = await call(service, extensions={"http.response.push": {}})
    assert (start["type"], start["status"], body["type"]) == (
        "http.response.start",
        200,
        "http.response.body",
    )
    headers = dict(start["headers"])
    assert len(headers) == len(start["headers"])
    assert (headers[b"x-request-id"], headers[b"content-length"]) == (b"its-own", b"%d" % len(body["body"]))
    assert orjson.loads(body["body"]) == {"y": [2, 4]}


@in_loop
async def test_answer_is_one_message_to_a_server_with_our_extension() -> None:
    """The reply and the request's id, whether it was answered or refused."""
    async with serving() as service:
        for path, status in ("/predict/double", 200), ("/predict/nobody", 404):
            (message,) = await call(service, path=path, extensions={REPLY: {}})
            assert set(message) == {"type", "reply", "request_id"}
            assert (message["type"], message["request_id"]) == (REPLY, b"its-own")
            assert isinstance(message["reply"], Reply)
            assert message["reply"].status == status


@in_loop
async def test_application_that_is_mounted_answers_below_its_path() -> None:
    """Under a path that another application gives it, inference and the rest are where they are without."""
    async with serving() as service:
        transport = httpx.ASGITransport(service.app, root_path="/under/it")
        async with httpx.AsyncClient(transport=transport, base_url="http://maas/under/it") as client:
            answer = await client.post("/predict/double", content=BODY)
            assert (answer.status_code, answer.json()) == (200, {"y": [2, 4]})
            assert (await client.post("/v2/models/double/infer", content=b"{}")).status_code == 400
            assert (await client.get("/v2/health/live")).status_code == 200
            assert (await client.get("/predict/double")).status_code == 405


def test_only_a_post_to_a_path_of_inference_is_for_the_endpoint() -> None:
    """Everything else goes by the router, as do the messages of a server's lifespan."""
    assert is_inference(dict(SCOPE))
    assert is_inference(SCOPE | {"path": "/v2/models/double/versions/1/infer"})
    for other in (
        {"method": "GET"},
        {"path": "/predict"},
        {"path": "/predict/double/"},
        {"path": "/v2/models/double"},
        {"type": "websocket"},
    ):
        assert not is_inference(SCOPE | other)
    assert not is_inference({"type": "lifespan"})
