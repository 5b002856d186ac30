"""Load tests as people run them: none has a failure, and what it counts is what the server's statistics count."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.clients.environments import ROOT, python_of
from tests.clients.perf_analyzer import perf_analyzer
from tests.test_server import Server

pytestmark = pytest.mark.clients

PAIR = {"a": [1.0, 2.0, 3.0, 4.0], "b": [0.5, 0.5, 0.5, 0.5]}
CONNECTIONS = 4


@dataclass(frozen=True)
class Counted:
    """A model's requests, and its rows, since the server started."""

    good: int
    failed: int
    rows: int

    def __sub__(self, earlier: Counted) -> Counted:
        return Counted(self.good - earlier.good, self.failed - earlier.failed, self.rows - earlier.rows)


def counted(server: Server, model: str) -> Counted:
    (entry,) = server.get(f"/v2/models/{model}/stats").json()["model_stats"]
    outcomes = entry["inference_stats"]
    return Counted(
        int(outcomes["success"]["count"]), int(outcomes["fail"]["count"]), int(entry["inference_count"])
    )


def run(command: Sequence[str]) -> str:
    """What it prints; a command that ends in an error fails the test."""
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, f"{ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    return ended.stdout


def agree(answered: int, grown: Counted) -> None:
    """The generator leaves while each connection may have a request under way, which it does not count."""
    assert answered > 50, answered
    assert answered <= grown.good + grown.failed <= answered + CONNECTIONS, (answered, grown)
    assert grown.failed <= CONNECTIONS, grown


@pytest.mark.parametrize("model", ["add_sub", "upper", "reverse"])
def test_locust_loads_a_model_without_a_failure(model: str, server: Server) -> None:
    """Both dialects are asked, and every answer is good: numbers, texts, variable lengths."""
    locust = str(python_of("locust").parent / "locust")
    before = counted(server, model)
    options = ["--model", model, "--headless", "-u", "3", "-r", "3", "-t", "4s", "--json"]
    output = run([locust, "-f", "benchmarks/locustfile.py", "--host", server.url, *options])
    asked = {entry["name"]: entry for entry in json.loads(output)}
    inference = [asked[path] for path in (f"/predict/{model}", f"/v2/models/{model}/infer")]
    assert all(entry["num_requests"] > 0 for entry in inference)
    assert all(entry["num_failures"] == 0 for entry in asked.values())
    agree(sum(entry["num_requests"] for entry in inference), counted(server, model) - before)


def test_wrk_loads_a_model_without_a_failure(server: Server) -> None:
    """The ready script's count of answers is the server's."""
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    before = counted(server, "add_sub")
    options = ["-t1", f"-c{CONNECTIONS}", "-d2s", "-s", "benchmarks/wrk.lua"]
    output = run(["wrk", *options, f"{server.url}/predict/add_sub", "--", json.dumps(PAIR)])
    summary = json.loads(output.splitlines()[-1])
    requests = summary.pop("requests")
    assert set(summary.values()) == {0}, summary
    agree(requests, counted(server, "add_sub") - before)


def test_wrk_script_tells_failures(server: Server) -> None:
    """Refused requests are counted as such: a load without a failure is no accident."""
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    options = ["-t1", "-c1", "-d1s", "-s", "benchmarks/wrk.lua"]
    output = run(["wrk", *options, f"{server.url}/predict/add_sub", "--", json.dumps({"a": [1.0]})])
    summary = json.loads(output.splitlines()[-1])
    assert summary["status"] == summary["requests"] > 0, summary


@pytest.mark.parametrize("protocol", ["native", "oip", "binary"])
def test_maas_bench_loads_a_model_without_a_failure(protocol: str, server: Server, tmp_path: Path) -> None:
    """Each protocol that it speaks; its counts over warm-up and measurement are the server's."""
    before = counted(server, "add_sub")
    result = tmp_path / "bench.json"
    options = ["--concurrency", str(CONNECTIONS), "--seconds", "1", "--warm-up", "0", "--json", str(result)]
    command = [sys.executable, "-m", "maas", "bench", "add_sub", "--url", server.url]
    run([*command, "--protocol", protocol, *options])
    (point,) = json.loads(result.read_text())["points"]
    assert point["outcomes"].keys() == {"200"}, point
    agree(point["requests"], counted(server, "add_sub") - before)


@pytest.mark.parametrize(
    "options",
    [
        ["-i", "http"],
        ["-i", "http", "--input-tensor-format", "json", "--output-tensor-format", "json"],
        ["-i", "http", "-b", "8"],
        ["-i", "grpc"],
        ["-i", "grpc", "--grpc-compression-algorithm", "gzip"],
        ["-i", "grpc", "--async", "--streaming"],
    ],
    ids=" ".join,
)
def test_perf_analyzer_measures_a_model(
    options: list[str], server: Server, grpc_port: int, tmp_path: Path
) -> None:
    """It reads metadata, configuration and statistics, none of its requests fails, and its report is of the server's own counts."""
    address = f"127.0.0.1:{grpc_port if 'grpc' in options else server.port}"
    rows = 8 if "-b" in options else 1
    before = counted(server, "add_sub")
    grown, report = measure(
        "add_sub", address, [*options, "--shape", "a:4", "--shape", "b:4"], server, tmp_path, before
    )
    assert grown == Counted(_REQUESTS, 0, _REQUESTS * rows)
    assert float(report["Inferences/Second"]) > 0
    assert float(report["Server Compute Infer"]) >= 0


_REQUESTS = 100


def test_perf_analyzer_sends_texts_of_a_file(server: Server, grpc_port: int, tmp_path: Path) -> None:
    """BYTES of `--input-data`, over both."""
    data = tmp_path / "texts.json"
    steps = [{"text": {"content": words, "shape": [2]}} for words in (["one", "zwei"], ["three", ""])]
    data.write_text(json.dumps({"data": steps}))
    for protocol, port in (("http", server.port), ("grpc", grpc_port)):
        before = counted(server, "upper")
        options = ["-i", protocol, "--input-data", str(data)]
        grown, _ = measure("upper", f"127.0.0.1:{port}", options, server, tmp_path, before)
        assert grown == Counted(_REQUESTS, 0, _REQUESTS)


def measure(
    model: str, address: str, options: list[str], server: Server, folder: Path, before: Counted
) -> tuple[Counted, dict[str, str]]:
    """What the server has counted more, and the row of the report for the one concurrency."""
    report = folder / "report.csv"
    bounded = ["--request-count", str(_REQUESTS), "--concurrency-range", str(CONNECTIONS)]
    run(
        [*perf_analyzer(), "-m", model, "-u", address, *bounded, *options, "--verbose-csv", "-f", str(report)]
    )
    (row,) = csv.DictReader(report.read_text().splitlines())
    assert row["Concurrency"] == str(CONNECTIONS)
    return counted(server, model) - before, row
