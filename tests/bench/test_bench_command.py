"""`maas bench` as people type it, against real HTTP servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.bench.servers import CERTIFICATE, Headers, answering, ok, reply
from tests.versions import store

from maas import cli

Run = Callable[..., tuple[int, str, str]]
NATIVE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 2]}],
    "dimensions": {},
}
OPEN_INFERENCE = {
    "name": "peer",
    "inputs": [
        {"name": "ids", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "x", "datatype": "FP32", "shape": [-1, 2]},
    ],
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `maas bench` in this process for a moment: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        quick = ["--seconds", "0.2", "--warm-up", "0.05"]
        monkeypatch.setattr("sys.argv", ["maas", "bench", *arguments, *quick])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


async def native(path: str, headers: Headers, body: bytes) -> bytes:
    """A server of ours, as far as it is asked here; it counts one batch for each request."""
    match path:
        case "/models/m":
            return ok(json.dumps(NATIVE).encode())
        case "/predict/m":
            return ok(b'{"y": 1}') if len(json.loads(body)["x"]) == 2 else reply("400 Bad Request", b"{}")
        case _:
            return reply("404 Not Found", b'{"error": "there is no such model", "code": "model_not_found"}')


def infer_binary(headers: Headers, body: bytes) -> dict[str, np.ndarray]:
    """The tensors of a request with binary data, as a server reads them."""
    length = int(headers["inference-header-content-length"])
    tensors, at = {}, length
    for each in json.loads(body[:length])["inputs"]:
        size = each["parameters"]["binary_data_size"]
        dtype = {"FP32": "<f4", "INT64": "<i8"}[each["datatype"]]
        tensors[each["name"]] = np.frombuffer(body[at : at + size], dtype).reshape(each["shape"])
        at += size
    assert at == len(body)
    return tensors


async def open_inference(path: str, headers: Headers, body: bytes) -> bytes:
    """A server of the Open Inference Protocol, with binary tensors, that checks what it is sent."""
    if path == "/v2/models/peer":
        return ok(json.dumps(OPEN_INFERENCE).encode())
    if path != "/v2/models/peer/infer":
        return reply("404 Not Found")
    if headers["content-type"] == "application/octet-stream":
        tensors = infer_binary(headers, body)
    else:
        tensors = {t["name"]: np.reshape(t["data"], t["shape"]) for t in json.loads(body)["inputs"]}
    right = (
        tensors["x"].shape == (3, 2) and 4 <= tensors["ids"].shape[1] <= 6 and tensors["ids"].shape[0] == 3
    )
    return ok() if right else reply("400 Bad Request")


def test_a_sweep_is_printed_and_kept(run: Run, tmp_path: Path) -> None:
    """A line for each point, and the same as JSON."""
    kept = tmp_path / "kept.json"
    with answering(native) as service:
        code, output, error = run("m", "--url", service.url, "--concurrency", "1,4", "--json", str(kept))
    assert code == 0, error
    rows = output.splitlines()
    assert [row.split()[0] for row in rows[1:3]] == ["1", "4"]
    points = json.loads(kept.read_text())["points"]
    assert [point["connections"] for point in points] == [1, 4]
    assert all(point["outcomes"].keys() == {"200"} for point in points)
    assert error.count("answers a second") == 2


def test_an_open_loop_has_a_point_for_each_rate(run: Run) -> None:
    """At the rates that were asked for."""
    with answering(native) as service:
        code, output, error = run("m", "--url", service.url, "--rate", "50,100")
    assert code == 0, error
    assert [row.split()[0] for row in output.splitlines()[1:3]] == ["50/s", "100/s"]


@pytest.mark.parametrize("protocol", ["oip", "binary"])
def test_any_open_inference_server_is_loaded(run: Run, tmp_path: Path, protocol: str) -> None:
    """By its own metadata, with rows and lengths as asked, in JSON or binary, which that server reads and checks."""
    kept = tmp_path / "kept.json"
    arguments = ["peer", "--protocol", protocol, "--rows", "3", "--length", "dim1=4:6", "--concurrency", "2"]
    with answering(open_inference) as service:
        code, _, error = run(*arguments, "--url", service.url, "--json", str(kept))
    assert code == 0, error
    (point,) = json.loads(kept.read_text())["points"]
    assert point["outcomes"].keys() == {"200"}
    assert point["rows_per_second"] == pytest.approx(3 * point["requests_per_second"])


def test_a_server_that_takes_no_binary_tensors_is_said_so(run: Run) -> None:
    """Before any load, with what to do instead."""

    async def json_only(path: str, headers: Headers, body: bytes) -> bytes:
        if headers.get("content-type") == "application/octet-stream":
            return reply("415 Unsupported Media Type", b"no")
        return await open_inference(path, headers, body)

    with answering(json_only) as service:
        code, output, error = run("peer", "--protocol", "binary", "--url", service.url)
        assert service.requests == 3
    assert (code, output) == (1, "")
    assert "answers a request with binary tensors with 415" in error
    assert "--protocol oip" in error


def test_any_path_of_any_server_is_loaded(run: Run, tmp_path: Path) -> None:
    """With a body from a file and headers of one's own."""
    (tmp_path / "body").write_bytes(b"\x00\x01")

    async def picky(path: str, headers: Headers, body: bytes) -> bytes:
        is_right = (path, headers.get("x-mine"), body) == ("/any", "1", b"\x00\x01")
        return ok() if is_right else reply("400 Bad Request")

    with answering(picky) as service:
        arguments = ["--path", "/any", "--body-file", str(tmp_path / "body"), "--header", "X-Mine: 1"]
        code, output, error = run(*arguments, "--url", service.url, "--concurrency", "2")
    assert code == 0, error
    assert output.splitlines()[1].split()[3] == "0"  # errors


def test_golden_samples_of_a_repository_are_asked(run: Run, tmp_path: Path) -> None:
    """Row by row, as they were published."""
    store(tmp_path, name="m", sample={"x": np.array([[7, 8], [9, 10]], np.float32)})
    asked = set()

    async def answer(path: str, headers: Headers, body: bytes) -> bytes:
        if path == "/predict/m":
            asked.add(tuple(json.loads(body)["x"]))
        return await native(path, headers, body)

    with answering(answer) as service:
        code, _, error = run("m", "--url", service.url, "--repository", str(tmp_path), "--concurrency", "2")
    assert code == 0, error
    assert asked == {(7, 8), (9, 10)}


def test_the_servers_own_example_is_asked_unless_told_otherwise(run: Run) -> None:
    """It stands in the OpenAPI document."""
    content = {"application/json": {"example": {"x": [[1, 2]]}}}
    document = {"paths": {"/predict/m": {"post": {"requestBody": {"content": content}}}}}
    asked = set()

    async def answer(path: str, headers: Headers, body: bytes) -> bytes:
        if path == "/openapi.json":
            return ok(json.dumps(document).encode())
        if path == "/predict/m":
            asked.add(body)
        return await native(path, headers, body)

    with answering(answer) as service:
        assert run("m", "--url", service.url, "--concurrency", "1")[0] == 0
        assert asked == {b'{"x":[1.0,2.0]}'}
        assert run("m", "--url", service.url, "--concurrency", "1", "--generated")[0] == 0
        assert len(asked) > 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nope",), "Error: there is no such model\n"),
        (("m", "--requests", "none.jsonl"), "none.jsonl cannot be read: No such file or directory"),
        (("m", "--rows", "9", "--repository", "none"), "Error: "),
        (("m", "--plot", "a.gif"), "drawn as .png or .svg only"),
        (("--path", "/any"), "/any answers with 404"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """Before any load, with exit code 1."""
    with answering(native) as service:
        code, output, error = run(*arguments, "--url", service.url)
    assert (code, output) == (1, "")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("m", "--path", "/x"),
        ("m", "--rate", "5", "--concurrency", "1"),
        ("m", "--rate", "fast"),
        ("m", "--concurrency", "0"),
        ("m", "--length", "seq"),
        ("m", "--header", "no colon"),
    ],
)
def test_what_was_mistyped_is_a_usage_error(run: Run, arguments: tuple[str, ...]) -> None:
    """The command's own, which no server is asked about."""
    code, _, error = run(*arguments)
    assert code == 2
    assert "Usage" in error


@pytest.mark.parametrize(
    "trust",
    [("--ca", str(CERTIFICATE), "--processes", "2"), ("--insecure", "--rate", "50")],
    ids=["ca", "insecure"],
)
def test_a_server_is_loaded_over_tls(run: Run, trust: tuple[str, ...]) -> None:
    """Questions and load alike, closed and open loop, also in processes of their own."""
    loop = () if "--rate" in trust else ("--concurrency", "2")
    with answering(native, is_secured=True) as service:
        code, output, error = run("m", "--url", service.url, *loop, *trust)
    assert code == 0, error
    assert service.requests > 5
    assert "no connection" not in output


@pytest.mark.parametrize(
    ("trust", "message"),
    [
        ((), "no connection to https://localhost:"),
        ((), "self-signed certificate; --ca FILE names whom to trust, --insecure trusts anybody"),
        (("--ca", "/nonexistent.pem"), "/nonexistent.pem holds no certificates: No such file"),
        (("--ca", __file__), "holds no certificates: "),
    ],
)
def test_a_server_that_nobody_vouches_for_is_not_asked(
    run: Run, trust: tuple[str, ...], message: str
) -> None:
    """The reason is a sentence, with what to do."""
    with answering(native, is_secured=True) as service:
        code, _, error = run("m", "--url", service.url, *trust)
    assert (code, service.requests) == (1, 0)
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://127.0.0.1:1", "is no URL to load"),
        ("https://127.0.0.1:1", "no connection"),
        ("http://127.0.0.1:1", "no connection"),
        ("http://[", "is no URL"),
    ],
)
def test_an_address_that_cannot_be_loaded_is_said(run: Run, url: str, message: str) -> None:
    """A scheme that is not spoken, a port where nobody is."""
    code, _, error = run("m", "--url", url)
    assert code == 1
    assert message in error
