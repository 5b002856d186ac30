"""Clients that others wrote, unchanged, each in an environment and a process of its own, against a running server.

A test is a function of a file in `calls/`; `make clients` runs them all.
"""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from tests.clients.environments import ROOT, python_of
from tests.test_server import Server

pytestmark = pytest.mark.clients

CALLS = Path(__file__).parent / "calls"
ENVIRONMENTS = {
    "tritonclient_http": "tritonclient",
    "tritonclient_http_aio": "tritonclient",
    "kserve_rest": "kserve",
    "open_inference_openapi": "open-inference-openapi",
    "mlserver_types": "mlserver",
    "tritonclient_grpc": "tritonclient",
    "tritonclient_grpc_aio": "tritonclient",
    "kserve_grpc": "kserve",
    "open_inference_grpc": "open-inference-grpc",
    "together": "together",
    "own_stub": "together",
}


def calls() -> list[ParameterSet]:
    found = [(file, function) for file in ENVIRONMENTS for function in functions(file)]
    return [pytest.param(*names, id="-".join(names)) for names in found]


def functions(file: str) -> list[str]:
    """The calls of a file, read without importing it: its client is not installed here."""
    nodes = ast.parse((CALLS / f"{file}.py").read_text()).body
    defined = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [name for name in defined if not name.startswith("_")]


@pytest.mark.parametrize(("file", "function"), calls())
def test_client(file: str, function: str, server: Server, grpc_port: int) -> None:
    """The client's own call gives what its user expects."""
    addresses = [f"127.0.0.1:{port}" for port in (server.port, grpc_port)]
    call(ENVIRONMENTS[file], file, function, *addresses)


def call(environment: str, file: str, function: str, *addresses: str) -> None:
    """Make the call in a process of the environment; it has the server's source as well, for those that hold both."""
    command = [str(python_of(environment)), "-m", "tests.clients.call", file, function, *addresses]
    source = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, cwd=ROOT, env=source, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr[-4000:]


def test_every_file_of_calls_is_run() -> None:
    """No file of calls is forgotten."""
    assert {path.stem for path in CALLS.glob("*.py")} == set(ENVIRONMENTS)
