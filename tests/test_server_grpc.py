"""The gRPC port of a real server: opened, drained and handed over with the HTTP side."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.api.grpc_harness import tensor
from tests.assets import worker_models
from tests.test_server import _wait_until, serving
from tests.test_take_over import successor
from tests.versions import store

from maas.api.grpc import messages
from maas.api.grpc.messages import ModelInferRequest, ModelInferResponse
from maas.api.grpc.service import NAME

_CALLERS = 4


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def infer(channel: grpc.Channel, model: str, *numbers: float) -> np.ndarray:
    x = np.array([numbers], np.float32)
    request = ModelInferRequest(
        model_name=model, inputs=[tensor("x", "FP32", list(x.shape))], raw_input_contents=[x.tobytes()]
    )
    stub = channel.unary_unary(
        f"/{NAME}/ModelInfer",
        request_serializer=ModelInferRequest.SerializeToString,
        response_deserializer=ModelInferResponse.FromString,
    )
    answer = stub(request, timeout=30, wait_for_ready=True)
    return np.frombuffer(answer.raw_output_contents[0], np.float32)


def test_sigterm_answers_the_calls_that_were_accepted(tmp_path: Path) -> None:
    """Calls that wait or run at SIGTERM get their answers; new ones are refused; the server exits with 0 and the port is
    closed. A model that was unloaded before is loaded again when it is told to."""
    store(tmp_path / "models", worker_models.Slow, name="slow", max_batch_size=1)
    port = free_port()
    with (
        serving(tmp_path / "models", tmp_path, server={"port": 0, "grpc_port": port}) as server,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        ThreadPoolExecutor(4) as threads,
    ):
        control(channel, "RepositoryModelUnload", "slow")
        assert server.get("/v2/models/slow/ready").status_code == 503
        control(channel, "RepositoryModelLoad", "slow")
        calls = [threads.submit(infer, channel, "slow", 400, 0) for _ in range(3)]
        _wait_until(lambda: server.metric("maas_queue_requests", model="slow") == 2)
        server.process.send_signal(signal.SIGTERM)
        _wait_until(lambda: server.get("/v2/health/ready").status_code == 503)
        with pytest.raises(grpc.RpcError, match="shutting down") as caught:
            infer(channel, "slow", 1, 0)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert [call.result().shape for call in calls] == [(2,)] * 3
        assert server.process.wait(20) == 0
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", port)) != 0


def control(channel: grpc.Channel, method: str, model: str) -> None:
    request = getattr(messages, f"{method}Request")(model_name=model)
    stub = channel.unary_unary(f"/{NAME}/{method}", request_serializer=type(request).SerializeToString)
    stub(request, timeout=30, wait_for_ready=True)


def test_calls_go_on_while_a_successor_takes_the_port(tmp_path: Path) -> None:
    """Under callers of one channel the server is succeeded, and the successor has the port. What reaches the old one while it
    says that it goes may be cancelled, which hardly ever happens to who waits for answers; all others are answered."""
    store(tmp_path / "models", name="double")
    port = free_port()
    with (
        serving(tmp_path / "models", tmp_path, server={"port": 0, "grpc_port": port}) as old,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        called(channel) as calls,
        successor(old, tmp_path / "new") as new,
    ):
        assert old.process.wait(30) == 0
        _wait_until(lambda: new.metric("maas_requests_total", outcome="ok") > 20)
        seen = calls()
        assert set(seen) <= {"OK", "CANCELLED"}
        assert seen["OK"] > 50
        assert seen["CANCELLED"] <= 1
        new.process.send_signal(signal.SIGTERM)
        assert new.process.wait(30) == 0


@contextmanager
def called(channel: grpc.Channel) -> Iterator[Callable[[], Counter[str]]]:
    """Callers without a pause; what is given stops them and counts how their calls ended."""
    ended: Counter[str] = Counter()
    is_over = threading.Event()

    def call() -> None:
        while not is_over.is_set():
            try:
                assert infer(channel, "double", 1, 2).tolist() == [2, 4]
                ended["OK"] += 1
            except grpc.RpcError as error:
                ended[error.code().name] += 1

    def stop() -> Counter[str]:
        is_over.set()
        for thread in threads:
            thread.join(30)
        return ended

    threads = [threading.Thread(target=call) for _ in range(_CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield stop
    finally:
        stop()


def test_taken_grpc_port_is_one_sentence(tmp_path: Path) -> None:
    """A port that somebody has is not shared with them."""
    (tmp_path / "models").mkdir()
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "maas", "serve", "--port", "0", "--grpc-port", str(port)]
        ended = subprocess.run(
            [*command, "--repository", str(tmp_path / "models")], capture_output=True, text=True, timeout=30
        )
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
