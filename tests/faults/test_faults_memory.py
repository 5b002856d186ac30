"""Memory that runs short: a batch that does not fit is run in pieces, and what the kernel kills is never the gateway."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.assets import fault_models, torch_models
from tests.test_server import Server, _wait_until, is_alive, serving
from tests.versions import store

import maas

CGROUP = Path("/sys/fs/cgroup/memory")
PATIENT = {"confined": {"request_timeout": 60}}


def check_pieces(server: Server) -> None:
    """Sixteen rows where four fit: all answered, by the process that was there before."""
    pid = server.process_of("confined")
    for _ in range(2):
        answer = server.post("/predict/confined", {"x": [[float(n), 0.0] for n in range(16)]})
        assert answer.status_code == 200, answer.text
        assert answer.json()["y"] == [[2.0 * n, 0.0] for n in range(16)]
    assert server.post("/predict/confined", {"x": [1, 2]}).json() == {"y": [2.0, 4.0]}
    assert server.process_of("confined") == pid
    assert server.metric("maas_instance_deaths_total", model="confined") == 0


def test_batch_over_an_address_space_limit_is_run_in_pieces(tmp_path: Path) -> None:
    """NumPy's own `MemoryError` under RLIMIT_AS halves the request until it fits; nothing is restarted."""
    store(tmp_path / "models", fault_models.Confined, name="confined", max_batch_size=16)
    with serving(tmp_path / "models", tmp_path, models=PATIENT) as server:
        check_pieces(server)


def test_batch_that_torch_cannot_allocate_is_run_in_pieces(tmp_path: Path, proven_quickly: None) -> None:
    """PyTorch's allocator on the CPU raises a plain `RuntimeError`; it is out of memory all the same."""
    example = {"x": torch.ones(2, 2)}
    maas.publish(
        torch_models.Confined(),
        example,
        name="confined",
        repository=tmp_path / "models",
        form="module",
        max_batch_size=16,
        outputs={"y": "float32[batch, 2]"},
    )
    with serving(tmp_path / "models", tmp_path, models=PATIENT) as server:
        check_pieces(server)


@contextlib.contextmanager
def cgroup(megabytes: int) -> Iterator[Path]:
    """A memory cgroup of that size; skips where none may be made."""
    folder = CGROUP / f"maas-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(megabytes << 20))
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error.strerror}")
    try:
        yield folder
    finally:
        _wait_until(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()


def test_kernel_that_runs_out_of_memory_takes_the_model_process(tmp_path: Path) -> None:
    """In a cgroup of 300 MB a model takes 400: its process is killed, the gateway is the one it was, and the model comes back."""
    store(tmp_path / "models", fault_models.Glutton, name="glutton")
    store(tmp_path / "models", name="double")
    with cgroup(300) as folder:
        into = ["sh", "-c", f'echo $$ > {folder}/cgroup.procs; exec "$@"', "sh"]
        with serving(tmp_path / "models", tmp_path, under=into) as server:
            victim = server.process_of("glutton")
            assert server.post("/predict/glutton", {"x": [400, 0]}).json()["code"] == "model_crashed"
            assert not is_alive(victim)
            check_survivors(server)
        assert "oom_kill_disable 0" in (folder / "memory.oom_control").read_text()


def test_killed_model_process_leaves_the_gateway(tmp_path: Path) -> None:
    """The same where no cgroup can be made, with SIGKILL from outside: model processes offer themselves first."""
    store(tmp_path / "models", fault_models.Glutton, name="glutton")
    store(tmp_path / "models", name="double")
    with serving(tmp_path / "models", tmp_path) as server:
        gateway, model = (
            int(Path(f"/proc/{pid}/oom_score_adj").read_text())
            for pid in (server.process.pid, server.process_of("glutton"))
        )
        assert model > gateway
        os.kill(server.process_of("glutton"), signal.SIGKILL)
        check_survivors(server)


def check_survivors(server: Server) -> None:
    started = time.monotonic()
    assert server.post("/predict/glutton", {"x": [1, 0]}).json() == {"y": [2.0, 0.0]}
    assert time.monotonic() - started < 9
    assert server.post("/predict/double", {"x": [1, 2]}).json() == {"y": [2.0, 4.0]}
    assert server.process.poll() is None
    assert server.metric("maas_instance_deaths_total", model="double") == 0
