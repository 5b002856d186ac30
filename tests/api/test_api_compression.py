"""Compressed requests: read as what they hold, and bounded by the same limit."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from tests.api.harness import in_loop, serving
from tests.api.test_api_raw_tensors import X, entry


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@in_loop
async def test_compressed_body_is_read(encoding: str, compress: object) -> None:
    """JSON, and JSON with raw tensors behind it, whose header counts uncompressed bytes."""
    assert callable(compress)
    text = json.dumps({"inputs": [entry("x", "FP32", X, X.tobytes())]}).encode()
    headers = {"Content-Encoding": encoding}
    async with serving() as service:
        native = await service.predict(compress(b'{"x": [1, 2]}'), headers=headers)
        raw = await service.infer(
            compress(text + X.tobytes()),
            headers={**headers, "Inference-Header-Content-Length": str(len(text))},
        )
    assert (native.status_code, native.json()) == (200, {"y": [2.0, 4.0]})
    assert raw.json()["outputs"][0]["data"] == [2, 4, 6, 8]


@in_loop
async def test_bomb_is_refused_at_the_limit() -> None:
    """What inflates to more than a body may have is a 413."""
    async with serving() as service:
        answer = await service.predict(gzip.compress(b" " * (64 << 20)), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "body", [b"{}", gzip.compress(b'{"x": [1, 2]}')[:-4], gzip.compress(b'{"x": [1, 2]}') + b"more"]
)
@in_loop
async def test_body_that_is_not_what_it_says_is_refused(body: bytes) -> None:
    """No gzip at all, cut short, or with something behind it."""
    async with serving() as service:
        answer = await service.predict(body, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, "no gzip" in answer.json()["error"]) == (400, True)
