"""`maas optimize` in whole: real candidates in real model processes, and an interruption that leaves nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engines import skip_without
from tests.proving import LoadOnce
from torch import nn

import maas
from maas.errors import ModelFailed
from maas.models.machine import this_machine
from maas.models.manifest import Description, RuntimeOptions
from maas.models.publishing import publish
from maas.models.repository import Repository, StoredVersion
from maas.optimizing.candidates import placements
from maas.optimizing.judging import Limits, Measurement
from maas.optimizing.measuring import measure
from maas.optimizing.optimizer import Wish, optimize
from maas.runtimes.contract import Artifact
from maas.runtimes.golden import GOLDEN, load_golden
from maas.runtimes.torch.onnx import write_onnx
from maas.workers.instance import Instance

pytest.importorskip("onnxscript")
if find_spec("onnxruntime") is None:
    pytest.skip("onnxruntime is not installed", allow_module_level=True)

_SECONDS = 0.01
_PATIENCE = 60.0


@pytest.fixture(scope="module")
def proving_once(_load_once: LoadOnce) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maas.models.verification._load_once", _load_once)
        yield


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, proving_once: None) -> Repository:
    """Three layers, published as an exported program (`mlp`), and the same as ONNX (`graph`)."""
    repository = Repository(tmp_path_factory.mktemp("models"))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    rows = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    maas.publish(model, [rows], name="mlp", repository=repository.root, max_batch_size=8)
    parent = repository.read("mlp")
    description = Description(**{key: getattr(parent.manifest, key) for key in Description.model_fields})
    publish(
        repository,
        "graph",
        description.model_copy(update={"runtime": RuntimeOptions(name="onnxruntime")}),
        lambda folder: write_graph(parent, folder),
    )
    return repository


def write_graph(parent: StoredVersion, folder: Path) -> None:
    options, signature = parent.manifest.runtime.options, parent.manifest.signature
    (sample,) = load_golden(parent.directory, signature)
    write_onnx(folder, Artifact(parent.directory, signature, options), sample.inputs)
    shutil.copy(parent.directory / GOLDEN, folder)


def test_the_best_right_form_becomes_a_version_and_a_lossy_one_is_refused(repository: Repository) -> None:
    """The winner names its parent and answers its golden samples; int8 is measured, and refused over what it loses."""
    before = {path: path.stat().st_mtime_ns for path in repository.root.rglob("*")}
    parent = repository.read("mlp", "1")
    wish = Wish("memory", allow=("int8",), limits=Limits(reduced=1e-6), seconds=_SECONDS)
    outcome = optimize(repository, parent, wish)
    (lossy,) = {result.refusal for result in outcome.results if result.label == "onnxruntime int8"}
    assert re.fullmatch(r"answers are off by 0\.\d+; allowed is 1e-06", lossy)
    right = [result for result in outcome.results if result.label == "onnxruntime float32"]
    assert not any(result.refusal for result in right)
    assert all(result.error is not None and result.error < 1e-5 for result in right)
    assert outcome.winner is not None
    assert outcome.winner.label == "onnxruntime float32"  # PyTorch alone takes more memory than all of it
    made = repository.read("mlp")
    assert outcome.published == made.label == "mlp/2"
    assert made.manifest.parent == "mlp/1"
    profile = made.manifest.profile
    assert profile is not None
    assert profile.machine == this_machine()
    assert (profile.instances, profile.threads) == (outcome.winner.instances, outcome.winner.threads)
    assert made.manifest.batching == parent.manifest.batching
    samples = [load_golden(version.directory, version.manifest.signature) for version in (parent, made)]
    assert np.array_equal(samples[0][0].outputs["output"], samples[1][0].outputs["output"])
    assert all(path.stat().st_mtime_ns == when for path, when in before.items() if path.is_file())


def test_a_dry_run_publishes_nothing(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """It measures all and the repository is as it was. How many times as good the best is is what it was in turns with the
    parent, whatever it seemed to be alone."""

    async def misled(instances: list[Instance], *arguments: Any) -> Measurement:
        found = await measure(instances, *arguments)
        return replace(found, samples_per_second=found.samples_per_second * 1e6 ** len(instances))

    monkeypatch.setattr("maas.optimizing.optimizer.measure", misled)
    outcome = optimize(
        repository, repository.read("graph"), Wish("throughput", seconds=_SECONDS), dry_run=True
    )
    assert outcome.results[0].label == "onnxruntime float32"
    assert {(result.instances, result.threads) for result in outcome.results} == set(
        placements(os.cpu_count() or 1)
    )
    assert 0.001 < outcome.gain < 1000
    assert not outcome.published
    assert repository.versions("graph") == ["1"]
    assert sorted(entry.name for entry in repository.root.iterdir()) == ["graph", "mlp"]


class ConstantTask:
    """A task whose metric is good for the parent, which is asked first, and worse for every other."""

    def __init__(self) -> None:
        self.inputs = [{"input": np.zeros((1, 16), np.float32)}]
        self._asked = 0

    def metrics(self, outputs: object) -> dict[str, float]:
        self._asked += 1
        return {"accuracy": 0.9 if self._asked <= 2 else 0.8}


def test_a_form_that_loses_the_task_s_metric_is_refused(repository: Repository) -> None:
    """Right answers to golden samples are not enough where the card's own task says otherwise."""
    skip_without("openvino")
    wish = Wish("memory", seconds=_SECONDS)
    outcome = optimize(repository, repository.read("graph"), wish, task=ConstantTask(), dry_run=True)
    assert {result.label: result.refusal for result in outcome.results} == {
        "onnxruntime float32": "",
        "openvino float32": "the task's metric loses 10 points; allowed are 0.5",
    }
    assert outcome.winner is None


def test_an_engine_that_is_not_installed_is_said(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are measured all the same."""
    monkeypatch.setattr("maas.optimizing.making.find_spec", lambda name: None if name == "openvino" else 1)
    outcome = optimize(repository, repository.read("graph"), Wish("memory", seconds=_SECONDS), dry_run=True)
    (absent,) = [result for result in outcome.results if result.label == "openvino float32"]
    assert absent.measurement is None
    assert absent.refusal == "openvino is not installed: pip install 'maas[optimize]'"
    assert [result.label for result in outcome.results if result.measurement] == ["onnxruntime float32"]


def test_a_parent_that_does_not_answer_its_own_samples_is_refused(repository: Repository) -> None:
    """Nothing can be held against a reference that is wrong itself."""
    wish = Wish("memory", limits=Limits(exact=-1.0), seconds=_SECONDS)
    with pytest.raises(ModelFailed, match="the model as it is, cannot be measured: answers are off by"):
        optimize(repository, repository.read("graph"), wish)


# -- the command


def processes_of(folder: Path) -> list[int]:
    """Processes that were started with `folder` as their place for temporary files."""
    marker = f"TMPDIR={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if marker in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGKILL)


def start(repository: Repository, scratch: Path, model: str, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "maas",
        "optimize",
        model,
        "--repository",
        str(repository.root),
        *options,
    ]
    return subprocess.Popen(
        command,
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: object) -> None:
    ends = time.monotonic() + _PATIENCE
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < ends
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("model", "processes", "told"),
    [("mlp/1", 1, signal.SIGINT), ("graph", 2, signal.SIGINT), ("graph", 2, signal.SIGTERM)],
    ids=["making", "measuring", "terminated"],
)
def test_an_interruption_leaves_nothing(
    repository: Repository, scratch: Path, model: str, processes: int, told: signal.Signals
) -> None:
    """Ctrl-C or SIGTERM, whether files are being made or processes measured: no version, no draft, no folder, no process."""
    versions = repository.versions("mlp")
    process = start(repository, scratch, model, "--seconds", "30")
    wait_for(lambda: list(scratch.glob("maas-optimize-*")) and len(processes_of(scratch)) >= processes)
    time.sleep(0.3)
    process.send_signal(told)
    process.communicate(timeout=_PATIENCE)
    assert process.returncode != 0
    wait_for(lambda: not processes_of(scratch))
    assert list(scratch.glob("maas-*")) == []
    assert repository.versions("mlp") == versions
    assert sorted(entry.name for entry in repository.root.iterdir()) == ["graph", "mlp"]


def test_the_command_prints_what_programs_can_read(repository: Repository, scratch: Path) -> None:
    """`--json` has every result with its numbers; the sentence goes to standard error."""
    process = start(
        repository, scratch, "graph", "--json", "--dry-run", "--target", "memory", "--seconds", str(_SECONDS)
    )
    output, error = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, error
    tree = json.loads(output)
    assert tree["published"] is None
    assert tree["results"][0]["label"] == "onnxruntime float32"
    assert tree["results"][0]["measurement"]["samples_per_second"] > 0
    assert error.endswith("; nothing was published\n")
