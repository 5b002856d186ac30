"""The real thing: `maas serve` in a process of its own, called over sockets, killed, drained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.assets import worker_models
from tests.versions import store

from maas.types import Bounds

FEATURES = {"x": "float32[batch, 16]"}
NO_TLS = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # for clients over HTTP: reading all certificates takes 60 ms


@dataclass
class Server:
    """A running `maas serve`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, body: object, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=30, verify=NO_TLS, **options)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=30, verify=NO_TLS)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def events(self) -> list[dict[str, Any]]:
        whole, _, _ = self.log.read_text().rpartition("\n")  # the last line may be half written yet
        return [json.loads(line) for line in whole.splitlines()]

    def process_of(self, model: str) -> int:
        """The pid that the server logged when the model's instance was ready."""

        def pids() -> list[int]:
            ready = [event for event in self.events() if event["event"] == "instance_ready"]
            return [event["pid"] for event in ready if event["model"].startswith(f"{model}/")]

        return int(_wait_until(pids)[-1])  # the log is written by a thread of its own

    def model_processes(self) -> list[int]:
        """The children of the fork servers, which are the children of the gateway."""
        return [pid for parent in children_of(self.process.pid) for pid in children_of(parent)]


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@contextmanager
def serving(
    repository: Path,
    folder: Path,
    *,
    under: Sequence[str] = (),
    python: Path | str = sys.executable,
    address: str = "127.0.0.1",
    **configuration: Any,
) -> Iterator[Server]:
    """`maas serve` on a free port, ready or failed; killed at the end if it is still there.

    `under` is a command that runs the server as its arguments say, in its own place; `python` is another environment's;
    `address` is where it is reached.
    """
    tree = {
        "repository": str(repository),
        "allow_code": ["tests.assets"],
        "server": {"port": 0},
        **configuration,
    }
    file = folder / "maas.yaml"
    file.write_text(json.dumps(tree))
    log = folder / "log.jsonl"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*under, str(python), "-m", "maas", "serve", "--config", str(file)],
            stderr=stream,
            stdin=subprocess.DEVNULL,
        )
    try:
        server = Server(process, "", log)
        server.url = f"http://{address}:{_wait_for_port(server)}"
        _wait_until(lambda: "starting" not in server.get("/v2/health/ready").text)
        yield server
    finally:
        process.kill()
        process.wait(10)


def _wait_for_port(server: Server) -> int:
    def port() -> int | None:
        assert server.process.poll() is None, server.log.read_text()
        return next((event["port"] for event in server.events() if event["event"] == "listening"), None)

    return _wait_until(port)


def _wait_until(condition: Any, seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one version of each model that these tests only read."""
    folder = tmp_path_factory.mktemp("server")
    repository = folder / "models"
    sample = {"x": np.ones((2, 16), np.float32)}
    store(repository, name="double")
    store(repository, worker_models.Moody, name="moody")
    store(repository, worker_models.Slow, name="slow")
    store(repository, worker_models.Mlp, name="mlp", inputs=FEATURES, sample=sample, max_batch_size=64)
    for version in ("9", "10"):
        store(repository, name="many", version=version)
    store(
        repository,
        worker_models.Positions,
        name="positions",
        inputs={"x": "float32[batch, time]", "mask": "float32[batch, time]"},
        outputs={"y": "float32[batch, time]", "mean": "float32[batch]"},
        sample={"x": np.ones((1, 3), np.float32), "mask": np.ones((1, 3), np.float32)},
        dimensions={"time": Bounds(max=64, pad={"x": 7, "mask": 0})},
    )
    with serving(repository, folder) as running:
        yield running


def test_answer_over_a_real_socket(server: Server) -> None:
    """A single sample goes in and comes out as one, with who answered it and where the time went."""
    response = server.post("/predict/double", {"x": [1, 2]}, headers={"X-Request-Id": "mine-7"})
    assert response.status_code == 200
    assert response.json() == {"y": [2.0, 4.0]}
    assert response.headers["x-model-version"] == "double/1"
    assert len(response.headers["x-model-digest"]) == 64
    assert response.headers["x-request-id"] == "mine-7"
    assert "compute;dur=" in response.headers["server-timing"]


def test_whatever_a_model_prints_the_log_stays_json(tmp_path: Path) -> None:
    """Line ends, escapes, a forged event, half a character, a megabyte, last words: text in events, with model and pid."""
    store(tmp_path / "models", worker_models.Noisy, name="noisy", sample={"x": np.zeros((1, 2), np.float32)})
    with serving(tmp_path / "models", tmp_path) as server:
        pid = server.process_of("noisy")
        for kind in (1, 2, 4):
            server.post("/predict/noisy", {"x": [kind, 0]})

        def printed() -> list[dict[str, Any]]:
            return [event for event in server.events() if event["event"] == "model_output"]

        _wait_until(lambda: len(printed()) >= 7)
        assert {event["model"] for event in printed()} == {"noisy/1"}
        texts = [event["text"] for event in printed() if event["pid"] == pid]
        assert texts[3] == '{"event": "forged"}'
        assert texts[5] == "m" * 255 + "…"
        assert texts[6] == "last words"
        assert not any(event["event"] == "forged" for event in server.events())


def test_versions_stand_side_by_side_and_the_highest_is_the_default(server: Server) -> None:
    """Dotted numbers are compared as numbers: 10 is higher than 9, and 9 is still there for who asks."""
    body = {"x": [1, 2]}
    assert server.post("/predict/many", body).headers["x-model-version"] == "many/10"
    assert server.post("/predict/many/versions/9", body).headers["x-model-version"] == "many/9"


def test_concurrent_callers_get_what_their_samples_get_alone(server: Server) -> None:
    """64 callers at once, each with its own samples: each gets what it got alone, and they were batched."""
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(64, 3, 16)).astype(np.float32)
    with httpx.Client(base_url=server.url, verify=NO_TLS) as client:
        alone = [
            [client.post("/predict/mlp", json={"x": sample.tolist()}).json()["y"] for sample in own]
            for own in samples
        ]
    batches = server.metric("maas_batch_rows_count", model="mlp")

    def call(caller: int) -> list[list[float]]:
        with httpx.Client(base_url=server.url, timeout=30, verify=NO_TLS) as client:
            bodies = [{"x": sample.tolist()} for sample in samples[caller]]
            return [client.post("/predict/mlp", json=body).json()["y"] for body in bodies]

    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(call, range(64)))
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert server.metric("maas_batch_rows_count", model="mlp") - batches < 64 * 3 / 2


def test_requests_of_all_lengths_share_batches_and_get_what_is_theirs(server: Server) -> None:
    """200 requests of 64 lengths at once, over a model whose batches cost: far fewer batches than lengths, answers of each
    request's own length, and the padding is counted. What was measured of the model is told."""

    async def call() -> list[tuple[int, dict[str, Any]]]:
        async with httpx.AsyncClient(base_url=server.url, timeout=30, verify=NO_TLS) as client:
            lengths = [1 + 37 * number % 64 for number in range(200)]
            bodies = [{"x": [float(n)] * n, "mask": [1] * n} for n in lengths]
            answers = await asyncio.gather(*(client.post("/predict/positions", json=body) for body in bodies))
        return list(zip(lengths, [answer.json() for answer in answers], strict=True))

    for length, answer in asyncio.run(call()):
        assert answer == {"y": [2.0 * length] * length, "mean": length}
    assert server.metric("maas_batch_rows_count", model="positions") < 100
    own, padding = (
        server.metric("maas_batch_elements_total", model="positions", kind=k) for k in ("own", "padding")
    )
    assert own == sum(1 + 37 * number % 64 for number in range(200))
    assert padding > 0
    version = server.get("/models/positions/versions/1").json()
    assert version["dimensions"] == {"time": {"min": 1, "max": 64, "pad": {"x": 7, "mask": 0}}}
    assert {point["elements"] for point in version["curve"]} == {3, 64, 16, 4, 1}
    assert all(point["seconds"] >= 0.004 for point in version["curve"])


def test_two_thousand_requests_in_flight_are_batched_and_none_is_lost(server: Server) -> None:
    """2,000 connections with one request each, over 5 ms of work a batch: all answered, mean batch over 8."""
    rows, batches = (server.metric(f"maas_batch_rows_{part}", model="mlp") for part in ("sum", "count"))
    answers = asyncio.run(_call_at_once(server.port, 2000))
    assert answers == 2000
    rows = server.metric("maas_batch_rows_sum", model="mlp") - rows
    batches = server.metric("maas_batch_rows_count", model="mlp") - batches
    assert rows == 2000
    assert rows / batches > 8


async def _call_at_once(port: int, count: int) -> int:
    """Open `count` connections, then send a request on each, then read the answers; how many had status 200."""
    body = json.dumps({"x": [0.5] * 16}).encode()
    head = f"POST /predict/mlp HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with asyncio.timeout(60):
        streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
        for _, writer in streams:
            writer.write(head + body)
        lines = await asyncio.gather(*(reader.readline() for reader, _ in streams))
        for _, writer in streams:
            writer.close()
    return sum(line.startswith(b"HTTP/1.1 200") for line in lines)


def test_request_that_kills_its_process_costs_nobody_else(server: Server) -> None:
    """It alone fails, after it has been run alone; the gateway never stops answering, the model is back, and the same input
    is refused for a while."""
    deadly = {"x": [-2.0, 0.0]}
    with ThreadPoolExecutor(9) as threads:
        calls = [threads.submit(server.post, "/predict/moody", {"x": [float(n), 0.0]}) for n in range(8)]
        guilty = threads.submit(server.post, "/predict/moody", deadly).result()
    assert (guilty.status_code, guilty.json()["code"]) == (500, "model_crashed")
    assert [call.result().json()["y"][0] for call in calls] == [2.0 * n for n in range(8)]
    assert server.get("/v2/health/live").json() == {"live": True}
    again = server.post("/predict/moody", deadly)
    assert (again.status_code, again.json()["code"]) == (422, "quarantined")
    assert server.post("/predict/moody", {"x": [1, 2]}).json() == {"y": [2.0, 4.0]}
    assert server.metric("maas_instance_deaths_total", model="moody") >= 2


def test_bad_row_costs_nobody_else(server: Server) -> None:
    """Of eight requests at once, one of which makes the model raise, seven are answered."""
    with ThreadPoolExecutor(8) as threads:
        values = [-1.0, *map(float, range(7))]
        calls = [threads.submit(server.post, "/predict/moody", {"x": [value, 0.0]}) for value in values]
        statuses = [call.result().status_code for call in calls]
    assert statuses == [500, *[200] * 7]


def test_model_process_that_is_killed_from_outside_costs_nobody(server: Server) -> None:
    """SIGKILL of a model process in the middle of a batch: its requests are run again, alone, and answered."""
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(server.post, "/predict/slow", {"x": [100.0, float(n)]}) for n in range(8)]
        _wait_until(lambda: server.metric("maas_running_requests", model="slow") >= 1)
        os.kill(server.process_of("slow"), signal.SIGKILL)
        answers = [call.result() for call in calls]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert [answer.json()["y"][1] for answer in answers] == [2.0 * n for n in range(8)]


def test_callers_deadline_is_kept_whatever_runs(server: Server) -> None:
    """A deadline of 50 ms behind a batch of a second: 504, or refused at the door, long before the batch ends."""
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(server.post, "/predict/slow", {"x": [1000.0, 0.0]})
        _wait_until(lambda: server.metric("maas_running_requests", model="slow") == 1)
        started = time.monotonic()
        late = server.post("/predict/slow", {"x": [1.0, 0.0]}, headers={"X-Request-Timeout": "0.05"})
        assert time.monotonic() - started < 0.5
        assert late.json()["code"] in ("deadline_exceeded", "deadline_unreachable")
        assert call.result().status_code == 200


def test_raising_model_is_logged_whole_and_answered_briefly(server: Server) -> None:
    """The caller gets an id and no path; the log has the traceback under that id."""
    response = server.post("/predict/moody", {"x": [-1.0, 0.0]})
    assert response.status_code == 500
    assert "secret" not in response.text
    request_id = response.headers["x-request-id"]
    (event,) = _wait_until(lambda: [e for e in server.events() if e.get("request_id") == request_id])
    assert "RuntimeError" in event["trace"]


def test_version_that_does_not_load_leaves_the_others_ready(tmp_path: Path) -> None:
    """A broken version is named in readiness with its reason; with `readiness: all` the server is then not ready."""
    repository = tmp_path / "models"
    store(repository, name="good")
    (store(repository, name="bad").directory / "golden.safetensors").write_bytes(b"garbage")
    with serving(repository, tmp_path) as server:
        response = server.get("/v2/health/ready")
        assert response.status_code == 200
        assert "was altered" in response.json()["failed"]["bad/1"]
        assert server.get("/v2/models/bad/ready").status_code == 503
        assert server.post("/predict/bad", {"x": [1, 2]}).json()["code"] == "model_not_ready"
    with serving(repository, tmp_path, server={"port": 0, "readiness": "all"}) as server:
        assert server.get("/v2/health/ready").status_code == 503


def test_sigterm_answers_what_was_accepted_and_exits_with_zero(tmp_path: Path) -> None:
    """Requests that wait or run at SIGTERM get their answers; new ones are refused; nothing of the tree is left."""
    repository = tmp_path / "models"
    store(repository, worker_models.Slow, name="slow", max_batch_size=1)
    with serving(repository, tmp_path) as server, ThreadPoolExecutor(6) as threads:
        processes = [*children_of(server.process.pid), *server.model_processes()]
        calls = [threads.submit(server.post, "/predict/slow", {"x": [400, 0]}) for _ in range(5)]
        _wait_until(lambda: server.metric("maas_queue_requests", model="slow") == 4)
        server.process.send_signal(signal.SIGTERM)
        _wait_until(lambda: server.get("/v2/health/ready").status_code == 503)
        assert server.get("/v2/health/live").status_code == 200
        assert server.post("/predict/slow", {"x": [1, 0]}).json()["code"] == "draining"
        assert [call.result().status_code for call in calls] == [200] * 5
        assert server.process.wait(10) == 0
        assert not any(is_alive(pid) for pid in processes)
        assert server.events()[-1]["event"] == "stopped"


def test_second_signal_does_not_wait_for_answers(tmp_path: Path) -> None:
    """Who is told twice stops now: the running request gets a 503 and the exit code is still 0."""
    repository = tmp_path / "models"
    store(repository, worker_models.Slow, name="slow")
    with serving(repository, tmp_path) as server, ThreadPoolExecutor(1) as threads:
        call = threads.submit(server.post, "/predict/slow", {"x": [20_000, 0]})
        _wait_until(lambda: server.metric("maas_running_requests", model="slow") == 1)
        server.process.send_signal(signal.SIGTERM)
        _wait_until(lambda: server.get("/v2/health/ready").status_code == 503)
        server.process.send_signal(signal.SIGTERM)
        assert call.result().status_code == 503
        assert server.process.wait(10) == 0


def test_request_that_outlasts_the_drain_may_have_run_and_is_not_sent_again(tmp_path: Path) -> None:
    """When the time for draining is over, who runs and who waits is told `draining`; only who waits, when to return."""
    repository = tmp_path / "models"
    store(repository, worker_models.Slow, name="slow", max_batch_size=1)
    options = {"server": {"port": 0, "drain_timeout": 0.5}}
    with serving(repository, tmp_path, **options) as server, ThreadPoolExecutor(2) as threads:
        runs = threads.submit(server.post, "/predict/slow", {"x": [20_000, 0]})
        _wait_until(lambda: server.metric("maas_running_requests", model="slow") == 1)
        waits = threads.submit(server.post, "/predict/slow", {"x": [20_000, 0]})
        _wait_until(lambda: server.metric("maas_queue_requests", model="slow") == 1)
        server.process.send_signal(signal.SIGTERM)
        told = [(call.result().status_code, call.result().json()["code"]) for call in (runs, waits)]
        assert told == [(503, "draining")] * 2
        assert ["retry-after" in call.result().headers for call in (runs, waits)] == [False, True]
        assert server.process.wait(5) == 0


def test_nothing_survives_a_killed_gateway(tmp_path: Path) -> None:
    """SIGKILL of the gateway: fork servers and model processes leave by themselves within a second."""
    repository = tmp_path / "models"
    store(repository)
    with serving(repository, tmp_path) as server:
        processes = [*children_of(server.process.pid), *server.model_processes()]
        assert len(processes) == 2
        server.process.kill()
        _wait_until(lambda: not any(is_alive(pid) for pid in processes), seconds=3)


def test_taken_port_is_one_sentence(server: Server, tmp_path: Path) -> None:
    """A port that somebody else has ends the start with its number, before any model is loaded."""
    command = [
        sys.executable,
        "-m",
        "maas",
        "serve",
        "--repository",
        str(tmp_path),
        "--port",
        str(server.port),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 1
    assert (
        result.stderr == f"Error: server: cannot listen on 127.0.0.1:{server.port}: Address already in use\n"
    )


def test_gateway_starts_small(tmp_path: Path) -> None:
    """The gateway's process holds no framework: under 90 MB when its models are ready."""
    repository = tmp_path / "models"
    store(repository)
    with serving(repository, tmp_path) as server:
        assert resident_of(server.process.pid) < 90_000
        assert "torch" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_memory_of_a_large_answer_is_given_back(tmp_path: Path) -> None:
    """Three seconds after an answer of 50 MB, gateway and model process are within 10 MB of what they were."""
    repository = tmp_path / "models"
    sample = {"n": np.array([3, 0])}
    tensors: dict[str, Any] = {"inputs": {"n": "int64[batch]"}, "outputs": {"text": "bytes[batch]"}}
    store(repository, worker_models.Repeat, name="repeat", sample=sample, **tensors)
    with serving(repository, tmp_path) as server:
        pids = (server.process.pid, server.process_of("repeat"))
        server.post("/predict/repeat", {"n": 5})
        before = [resident_of(pid) for pid in pids]
        for _ in range(2):
            assert len(server.post("/predict/repeat", {"n": 50_000_000}).content) > 50_000_000
        _wait_until(
            lambda: all(resident_of(pid) < was + 10_000 for pid, was in zip(pids, before, strict=True)), 3
        )
        assert server.post("/predict/repeat", {"n": 5}).json() == {"text": "xxxxx"}


def resident_of(pid: int) -> int:
    """KiB of memory that the process has in use."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_version_published_beside_a_running_server_takes_over_without_a_failed_request(
    tmp_path: Path,
) -> None:
    """Five versions come one after the other under 8 callers: nobody fails, each answer is one version's own, and the
    old ones are gone in the end."""
    repository = tmp_path / "models"
    store(repository)
    options = {"models": {"model": {"versions": "highest"}}, "watch_seconds": 0.1}
    with serving(repository, tmp_path, **options) as server, ThreadPoolExecutor(8) as threads:
        is_over = threading.Event()
        seen: list[tuple[int, str]] = []

        def call_on() -> None:
            with httpx.Client(base_url=server.url, timeout=30, verify=NO_TLS) as client:
                while not is_over.is_set():
                    answer = client.post("/predict/model", json={"x": [1.0, 2.0]})
                    seen.append((answer.status_code, answer.headers["x-model-version"]))

        calls = [threads.submit(call_on) for _ in range(8)]
        _wait_until(lambda: seen)
        for version in range(2, 7):
            staged = store(tmp_path / "staged", version=str(version)).directory
            staged.rename(repository / "model" / str(version))
            _wait_until(lambda v=version: server.get("/models/model").json()["version"] == str(v))
        is_over.set()
        for call in calls:
            call.result()
        assert {status for status, _ in seen} == {200}
        assert {version for _, version in seen} >= {"model/1", "model/6"}
        _wait_until(lambda: len(server.model_processes()) == 1)
        assert [m["version"] for m in server.get("/models").json()["models"]] == ["6"]


def test_broken_new_version_leaves_the_old_one_serving(tmp_path: Path) -> None:
    """Loaded by name while it serves: the answer says why it failed, and callers do not notice."""
    repository = tmp_path / "models"
    store(repository)
    with serving(repository, tmp_path) as server:
        (store(repository, version="2").directory / "golden.safetensors").write_bytes(b"torn")
        told = server.post("/admin/models/model/load", None)
        assert told.json()["state"] == "failed"
        assert "was altered" in told.json()["reason"]
        assert server.post("/predict/model", {"x": [1, 2]}).headers["x-model-version"] == "model/1"
        assert "was altered" in server.get("/v2/health/ready").json()["failed"]["model/2"]
        assert server.post("/admin/models/model/versions/1/unload", None).status_code == 200
        assert server.post("/predict/model", {"x": [1, 2]}).status_code == 503
        assert server.post("/admin/models/none/load", None).status_code == 404
