"""Compressed bodies, both ways: requests are read as what they hold, and answers leave as their callers want them."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.api.harness import Model, Service, in_loop, serving
from tests.api.test_api_raw_tensors import TEXTS, X, entry

from maas.api.compression import AT_ONCE, WORTH

BODY = b'{"x": [1, 2]}'
SAID = {"y": [2.0, 4.0]}
WIDE = Model("wide", inputs={"x": "float32[batch]"}, outputs={"y": "float32[batch]"}, max_batch_size=65536)
OFF = {"server": {"compression": False}}


def bare(data: bytes) -> bytes:
    """What some clients send as deflate: no header, no checksum."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def members(data: bytes) -> bytes:
    """A gzip file of three members, one of which is empty."""
    return gzip.compress(data[:5]) + gzip.compress(b"") + gzip.compress(data[5:])


WAYS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "members": ("gzip", members),
    "zlib": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare),
    "identity": ("identity", bytes),
    "stacked": ("deflate, gzip", lambda data: gzip.compress(zlib.compress(data))),
    "with identity": ("identity, gzip,", gzip.compress),
}
every_way = pytest.mark.parametrize("way", WAYS)


async def chunks(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────


@every_way
@in_loop
async def test_compressed_body_is_read(way: str) -> None:
    """JSON, JSON in chunks, and JSON with raw tensors behind it, whose header counts uncompressed bytes."""
    encoding, compress = WAYS[way]
    text = json.dumps({"inputs": [entry("x", "FP32", X, X.tobytes())]}).encode()
    headers = {"Content-Encoding": encoding}
    async with serving() as service:
        native = await service.predict(compress(BODY), headers=headers)
        chunked = await service.predict(chunks(compress(BODY), 7), headers=headers)
        raw = await service.infer(
            compress(text + X.tobytes()),
            headers={**headers, "Inference-Header-Content-Length": str(len(text))},
        )
    assert (native.status_code, native.json()) == (200, SAID)
    assert (chunked.status_code, chunked.json()) == (200, SAID)
    assert raw.json()["outputs"][0]["data"] == [2, 4, 6, 8]


@pytest.mark.parametrize(("missing", "status"), [(0, 200), (1, 503)])
@in_loop
async def test_what_a_body_becomes_is_counted_while_it_grows(missing: int, status: int) -> None:
    """With what it was, as long as both are there, against the bytes that may wait: it fits or is refused by one byte. Then nothing
    of it is counted."""
    body = json.dumps({"x": np.random.default_rng(0).random(60_000).tolist()}).encode()
    sent = gzip.compress(body)
    assert len(sent) > 256 << 10  # of which a body counts
    room = {"limits": {"waiting_bytes": len(body) + len(sent) - missing}}
    async with serving(WIDE, configuration=room) as service:
        answer = await service.predict(sent, "wide", headers={"Content-Encoding": "gzip"})
        held = service.backlog.nbytes
    assert (answer.status_code, held) == (status, 0)


@in_loop
async def test_bomb_that_is_more_than_the_server_may_hold_is_refused() -> None:
    """503, as what comes so large is, and nothing stays counted."""
    bomb = gzip.compress(bytes(8 << 20))
    async with serving(TEXTS, configuration={"limits": {"waiting_bytes": 4 << 20}}) as service:
        answer = await service.predict(bomb, "texts", headers={"Content-Encoding": "gzip"})
        held = service.backlog.nbytes
    assert (answer.status_code, answer.json()["code"], held) == (503, "queue_full", 0)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
@in_loop
async def test_bomb_is_refused_at_the_limit(encoding: str) -> None:
    """What inflates to more than a body may have is a 413, also on the way to something small."""
    async with serving(TEXTS) as service:
        bomb = gzip.compress(b" " * (72 << 20))
        answer = await service.predict(bomb, "texts", headers={"Content-Encoding": encoding})
    assert answer.status_code == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        gzip.compress(BODY)[:-4],
        gzip.compress(BODY) + b"more",
        gzip.compress(BODY) + gzip.compress(BODY)[:9],
        zlib.compress(BODY)[:-4],
        zlib.compress(BODY) + b"more",
        bare(BODY)[:-1],
        bare(BODY) + bare(BODY),
        gzip.compress(b"") * 5000,
    ],
    ids=range(10),
)
@in_loop
async def test_body_that_is_not_what_it_says_is_refused(body: bytes, encoding: str) -> None:
    """Of another kind or none, cut short, with something behind it, or of more members than anybody needs."""
    async with serving(TEXTS) as service:
        answer = await service.predict(body, "texts", headers={"Content-Encoding": encoding})
    assert (answer.status_code, f"no {encoding}" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "compress", "gzip;q=1", "gzip," * 5])
@in_loop
async def test_unknown_coding_is_answered_with_those_that_are_read(encoding: str) -> None:
    """415, with `Accept-Encoding` as RFC 9110 has it (15.5.16)."""
    async with serving() as service:
        answer = await service.infer(BODY, headers={"Content-Encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@in_loop
async def test_inflating_ends_with_the_requests_time() -> None:
    """504, though it would go on for longer, and nothing stays counted."""
    bomb = gzip.compress(bytes(60 << 20))
    async with serving(TEXTS) as service:
        headers = {"Content-Encoding": "gzip", "X-Request-Timeout": "0.01"}
        answer = await service.predict(bomb, "texts", headers=headers)
        held = service.backlog.nbytes
    assert (answer.status_code, held) == (504, 0)


@settings(max_examples=25, deadline=None)
@given(way=st.sampled_from(list(WAYS)), more=st.data())
def test_compressed_and_cut_a_body_answers_as_the_plain_one_or_is_refused(
    way: str, more: st.DataObject
) -> None:
    """Never a 500: 200 with the same tensors, or a 4xx with the dialect's error."""
    encoding, compress = WAYS[way]
    body = compress(more.draw(st.sampled_from([BODY, b'{"x": [1, 2, 3]}', b"[" * 50, b'{"x": [1e5, NaN]}'])))
    end = more.draw(st.integers(0, len(body)))

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with serving() as service:
            headers = {"Content-Encoding": encoding}
            plain = await service.predict(body[:end] if encoding == "identity" else body, headers=headers)
            return plain, await service.predict(chunks(body[:end], 5), headers=headers)

    whole, cut = asyncio.run(ask())
    assert whole.status_code in (200, 400)
    assert cut.status_code in (whole.status_code, 400)
    assert whole.status_code == 400 or whole.json() == SAID


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────

UNDONE = {"gzip": gzip.decompress, "deflate": zlib.decompress}
DIALECTS: dict[str, tuple[str, Any]] = {
    "native": ("/predict/double", {"x": [[1, 2]]}),
    "v2": (
        "/v2/models/double/infer",
        {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]},
    ),
    "v1": ("/v1/models/double:predict", {"instances": [[1, 2]]}),
}


async def exact(service: Service, path: str, body: object, accepted: str, **headers: str) -> httpx.Response:
    """The answer with its content as it came."""
    request = service.client.build_request(
        "POST", path, content=json.dumps(body).encode(), headers={**headers, "Accept-Encoding": accepted}
    )
    response = await service.client.send(request, stream=True)
    response.extensions["raw"] = b"".join([part async for part in response.aiter_raw()])
    await response.aclose()
    return response


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("coding", UNDONE)
@in_loop
async def test_answer_is_compressed_for_who_names_one_coding(coding: str, dialect: str) -> None:
    """Whatever its size: `Content-Length` counts compressed bytes, and the answer says that it depends on the header."""
    path, body = DIALECTS[dialect]
    async with serving() as service:
        plain = await exact(service, path, body, "identity")
        answer = await exact(service, path, body, coding)
    content = answer.extensions["raw"]
    assert answer.status_code == 200
    assert answer.headers["content-encoding"] == coding
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["content-type"] == "application/json"
    assert UNDONE[coding](content) == plain.extensions["raw"]
    assert "content-encoding" not in plain.headers


@pytest.mark.parametrize("rows", [1, 8000])
@in_loop
async def test_header_length_of_a_raw_answer_counts_uncompressed_bytes(rows: int) -> None:
    """Of a small answer and of one that is compressed on a thread."""
    body = {
        "inputs": [{"name": "x", "shape": [rows], "datatype": "FP32", "data": [1] * rows}],
        "parameters": {"binary_data_output": True},
    }
    async with serving(WIDE) as service:
        listed = await exact(service, "/v2/models/wide/infer", body, "gzip, deflate")
        answer = await exact(service, "/v2/models/wide/infer", body, "gzip")
    assert "content-encoding" not in listed.headers  # raw tensors are so only for who asks for nothing else
    assert answer.headers["content-encoding"] == "gzip"
    content = gzip.decompress(answer.extensions["raw"])
    size = int(answer.headers["inference-header-content-length"])
    assert json.loads(content[:size])["outputs"][0]["shape"] == [rows]
    assert content[size:] == np.full(rows, 2, np.float32).tobytes()
    assert content == listed.extensions["raw"]


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [("gzip, deflate, br, zstd", True), ("*", True), ("br, zstd", False), ("identity", False)],
)
@in_loop
async def test_large_answer_is_compressed_for_who_takes_it(accepted: str, is_compressed: bool) -> None:
    """Where a library lists what it can read, large JSON is compressed and small JSON is not."""
    small, large = {"x": [1, 2]}, {"x": [0.1 + index for index in range(20_000)]}
    async with serving(WIDE) as service:
        answers = [await exact(service, "/predict/wide", body, accepted) for body in (small, large)]
        plain = await exact(service, "/predict/wide", large, "identity")
    assert len(plain.extensions["raw"]) > WORTH
    assert ["content-encoding" in answer.headers for answer in answers] == [False, is_compressed]
    if is_compressed:
        assert gzip.decompress(answers[1].extensions["raw"]) == plain.extensions["raw"]


@in_loop
async def test_middling_answer_is_compressed_on_a_thread_for_who_asks() -> None:
    """One that is too large to be compressed where it is written, and not large enough for who lists."""
    body = {"x": [0.1 + index for index in range(4000)]}
    async with serving(WIDE) as service:
        answer = await exact(service, "/predict/wide", body, "deflate")
        listed = await exact(service, "/predict/wide", body, "gzip, deflate")
    assert AT_ONCE < len(listed.extensions["raw"]) < WORTH
    assert "content-encoding" not in listed.headers
    assert zlib.decompress(answer.extensions["raw"]) == listed.extensions["raw"]


@in_loop
async def test_errors_stay_plain() -> None:
    """Of the body, of the model, of the path."""
    async with serving(Model(), Model("ill", fail_with=KeyError("a bug"))) as service:
        wrong = await exact(service, "/predict/double", {"x": [1]}, "gzip")
        failed = await exact(service, "/predict/ill", {"x": [1, 2]}, "gzip")
        unknown = await exact(service, "/predict/nobody", {"x": [1]}, "gzip")
    assert [answer.status_code for answer in (wrong, failed, unknown)] == [400, 500, 404]
    assert all("content-encoding" not in answer.headers for answer in (wrong, failed, unknown))
    assert all(json.loads(answer.extensions["raw"])["error"] for answer in (wrong, failed, unknown))


@in_loop
async def test_callers_that_leave_do_not_stop_who_stays() -> None:
    """While their large answers are compressed; what is left ends by itself."""
    body = {"x": [0.1 + index for index in range(60_000)]}
    async with serving(WIDE) as service:
        asking = [asyncio.create_task(exact(service, "/predict/wide", body, "gzip")) for _ in range(6)]
        await asyncio.sleep(0.05)
        for task in asking[::2]:
            task.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
    stayed = [answer for answer in answers[1::2] if isinstance(answer, httpx.Response)]
    assert [answer.headers["content-encoding"] for answer in stayed] == ["gzip"] * 3
    assert len({gzip.decompress(answer.extensions["raw"]) for answer in stayed}) == 1


@in_loop
async def test_compression_can_be_turned_off_both_ways() -> None:
    """A compressed body is a 415 that names the coding and says that none is read; answers are plain; `identity` is fine."""
    async with serving(configuration=OFF) as service:
        refused = await service.infer(gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
        named = await service.predict(BODY, headers={"Content-Encoding": "identity"})
        answer = await exact(service, "/predict/double", {"x": [1, 2]}, "gzip")
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "identity")
    assert "'gzip'" in refused.json()["error"]
    assert named.json() == SAID
    assert "content-encoding" not in answer.headers
