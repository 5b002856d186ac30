"""Hostile bodies, media and texts over real sockets, in every dialect: refused with a code, logged in whole lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.api.test_api_hostile_json import HOSTILE
from tests.assets import worker_models
from tests.edge.sockets import Raw, get, post
from tests.test_server import Server, _wait_until, serving
from tests.versions import store

DIALECTS: dict[str, tuple[str, Any]] = {
    "native": ("/predict/{}", lambda value: {"x": [[value, 0.0]]}),
    "open inference": (
        "/v2/models/{}/infer",
        lambda value: {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [value, 0.0]}]},
    ),
}
BOMB = b'{"x": [' + b"[]," * 2_800_000 + b"[]]}"  # over 8 MB
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Models that declare no maximum, so that a body may have what the server allows; every answer is logged."""
    folder = tmp_path_factory.mktemp("hostile")
    wide = {"inputs": {"x": "float32[batch, n]"}}
    store(folder / "models", name="double", **wide)
    store(folder / "models", worker_models.Moody, name="moody")
    with serving(folder / "models", folder, logging={"access": True}) as running:
        yield running


@every_dialect
@pytest.mark.parametrize("case", [*HOSTILE, "eight megabytes of empty lists"])
def test_hostile_body_is_refused_and_the_server_answers_on(
    hostile_server: Server, dialect: str, case: str
) -> None:
    """400 or 413 with an error, on a connection that a plain request follows, and the next one is answered."""
    path = DIALECTS[dialect][0].format("double")
    with Raw(hostile_server.port) as client:
        reply = client.send(post(path, HOSTILE.get(case, BOMB))).read()
        assert reply is not None
        assert reply.status in (400, 413)
        assert reply.json["error"]
        assert len(reply.body) < 6000
        after = client.send(get("/v2/health/live")).read()
        assert after is not None
        assert after.status == 200


@every_dialect
def test_compressed_bomb_is_opened_no_further_than_a_body_may_be(
    hostile_server: Server, dialect: str
) -> None:
    """What would inflate to a quarter of a gigabyte is refused at the limit of a body, what cannot be inflated as a body or as an
    encoding, and the server's memory does not know of it."""
    path = DIALECTS[dialect][0].format("double")
    bomb = gzip.compress(bytes(1 << 28), 9)
    statuses = {"gzip": 413, "x-gzip": 413, "deflate": 400, "gzip, gzip": 413, "br": 415, "zstd": 415}
    before = _peak(hostile_server)
    for encoding, status in statuses.items():
        with Raw(hostile_server.port) as client:
            reply = client.send(post(path, bomb, f"Content-Encoding: {encoding}")).read()
        assert reply is not None
        assert reply.status == status
    assert _peak(hostile_server) < before + 1.5 * (64 << 10)  # KiB: of the limit of a body


FORGED = {
    "new lines": 'a\r\n{"event": "forged"}\n',
    "terminal": "\x1b[31mred\x1b]0;title\x07\x9b2J",
    "other line ends": "a\x0b\x0c\x85\u2028\u2029b",
    "half a megabyte": "x" * (1 << 19),
}


@every_dialect
@pytest.mark.parametrize("case", FORGED)
def test_what_callers_send_stays_within_its_line_of_the_log(
    hostile_server: Server, dialect: str, case: str
) -> None:
    """As a name, an id, a member or a text it may stand in an error and in the log: lines are JSON, printable and short."""
    path, body = DIALECTS[dialect]
    text = FORGED[case]
    forged = {**body(1.0), text: 1}
    name = quote(text, safe="")[:4000]
    with Raw(hostile_server.port) as client:
        asked = [
            (post(path.format("double"), json.dumps(body(text)).encode()), 400),
            (post(path.format("double"), json.dumps({text: 1}).encode()), 400),
            (post(path.format(name)), 404),
            (
                post(path.format("moody"), json.dumps(body(-1.0)).encode(), f"X-Request-Id: {text[:40]!r}"),
                500,
            ),
            (post(path.format("double"), json.dumps(forged).encode()), 200 if "v2" in path else 400),
        ]
        for data, status in asked:
            reply = client.send(data).read()
            assert reply is not None
            assert reply.status == status
            assert len(reply.body) < 6000
            assert reply.body.decode().isprintable()
    last = reply.headers["x-request-id"]
    _wait_until(lambda: last in hostile_server.log.read_text())
    for line in hostile_server.log.read_text().splitlines():
        assert line.isascii()
        assert line.isprintable()
        assert all(len(str(value)) <= 256 for key, value in json.loads(line).items() if key != "trace")
        assert json.loads(line)["event"] != "forged"


def _peak(server: Server) -> int:
    """The gateway's greatest resident memory yet, in KiB."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
