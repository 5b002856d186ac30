"""What every runtime promises, held against each form a model can have."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from tests.engines import skip_without

from maas import runtimes
from maas.errors import BadArtifact
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.runtimes.golden import load_golden
from maas.runtimes.self_test import self_test
from maas.tensors.check import check_outputs
from maas.types import DEFAULT_TOLERANCES

torch_forms = pytest.mark.parametrize("artifact", ["exported", "module"], indirect=True)


def load(artifact: Artifact, placement: Placement | None = None) -> Runner:
    return runtimes.runtime(artifact.options["name"]).load(artifact, placement or Placement())


def test_a_loaded_model_answers_its_golden_samples(artifact: Artifact) -> None:
    """What was written is what is loaded: the self-test passes."""
    samples = load_golden(artifact.directory, artifact.signature)
    self_test(load(artifact), artifact.signature, samples, DEFAULT_TOLERANCES)


@pytest.mark.parametrize("rows", [1, 2, 5, 32])
def test_an_answer_has_the_declared_outputs_for_every_number_of_rows(artifact: Artifact, rows: int) -> None:
    """Outputs have the declared names, types and shapes, with as many rows as were given."""
    outputs = load(artifact).run({"x": np.ones((rows, 3), np.float32)})
    assert list(outputs) == ["y", "total"]
    check_outputs(artifact.signature, outputs, rows)


def test_a_row_s_answer_does_not_depend_on_its_place(artifact: Artifact) -> None:
    """A row gets the same answer alone and among others, within the tolerance of its type."""
    runner = load(artifact)
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    together = runner.run({"x": rows})["y"]
    alone = np.concatenate([runner.run({"x": row[None]})["y"] for row in rows])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_running_leaves_the_inputs_as_they_are(artifact: Artifact) -> None:
    """The inputs are views of memory that others own: a model reads them."""
    x = np.ones((2, 3), np.float32)
    load(artifact).run({"x": x})
    assert (x == 1).all()


def test_two_loads_answer_alike(artifact: Artifact) -> None:
    """Two instances of one version give bit-identical answers."""
    x = {"x": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)}
    one, other = load(artifact).run(x), load(artifact).run(x)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@torch_forms
def test_a_torch_model_computes_with_the_threads_it_is_given(artifact: Artifact) -> None:
    """The placement's number of threads is the engine's."""
    load(artifact, Placement(threads=2))
    assert torch.get_num_threads() == 2


@torch_forms
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "meta", "tpu", ""])
def test_a_device_that_is_not_there_is_refused(artifact: Artifact, device: str) -> None:
    """A device of another kind, or one this machine has not, is refused by name before anything is loaded."""
    if device.startswith("cuda") and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BadArtifact, match=f"device '{device}'"):
        load(artifact, Placement(device))


@torch_forms
def test_missing_files_are_refused(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty folder is no model in a form that has files."""
    with pytest.raises(BadArtifact, match=r"model\.(pt2|safetensors)"):
        load(dataclasses.replace(artifact, directory=tmp_path_factory.mktemp("empty")))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torch", {}, "needs `format`, one of exported, module; it is None"),
        ("torch", {"format": "onnx"}, "it is 'onnx'"),
        ("torch", {"format": ["exported"]}, "needs `format`"),
        ("torch", {"format": "module"}, "needs `module: package.module:Class`"),
        ("onnxruntime", {"threads": 2}, "has no option 'threads'"),
        ("openvino", {"threads": 2}, "has no option 'threads'"),
        ("openvino", {"precision": "int4"}, "precision 'int4' is unknown; known are float32, bfloat16"),
        ("torch", {"format": "module", "module": 3}, "needs `module: package.module:Class`"),
        ("python", {}, "needs `class: package.module:Class`"),
        ("python", {"class": 3}, "needs `class: package.module:Class`"),
        ("python", {"class": "tests.assets.plain_models:Unfinished"}, r"has no method `run\(inputs\)`"),
        ("python", {"class": "tests.assets.plain_models:Nobody"}, "has no class 'Nobody'"),
        ("python", {"class": "tests.assets.plain_models:json"}, "has no class 'json'"),
        ("python", {"class": "tests.assets.nowhere:Model"}, "'tests.assets.nowhere' cannot be imported"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    artifact: Artifact, name: str, options: dict[str, object], message: str
) -> None:
    """A manifest whose options are missing, or of the wrong kind, is refused in words."""
    if name != "python":
        skip_without(name)
    with pytest.raises(BadArtifact, match=message):
        runtimes.runtime(name).load(dataclasses.replace(artifact, options=options), Placement())


def test_an_unknown_runtime_is_refused() -> None:
    """The name of no engine is refused with those that there are."""
    with pytest.raises(
        BadArtifact, match="runtime 'onnx' is unknown; known are onnxruntime, openvino, python, torch"
    ):
        runtimes.runtime("onnx")


def test_every_runtime_has_its_preloads() -> None:
    """Each engine says what a fork server imports ahead, be it nothing."""
    assert runtimes.PRELOADS.keys() == {"onnxruntime", "openvino", "python", "torch"}
    for name in runtimes.PRELOADS:
        assert name == "python" or find_spec(name) is None or hasattr(runtimes.runtime(name), "load")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_engine_starts_no_thread_before_a_fork(name: str) -> None:
    """What a fork server imports has no thread of its own, such as one that would send usage data."""
    skip_without(name)
    code = f"import os, {', '.join(runtimes.PRELOADS[name])}; print(len(os.listdir('/proc/self/task')))"
    assert output_of(code) == "1\n"


def test_what_opens_an_exported_program_is_imported_ahead(forms: Mapping[str, Artifact]) -> None:
    """PyTorch starts no thread when it is imported either; and what a model process itself imports of it to load a program is
    little, so that it is there soon and shares what it has."""
    program = str(forms["exported"].directory / "model.pt2")
    code = (
        f"import os, sys, torch, {', '.join(runtimes.PRELOADS['torch'])}; before = set(sys.modules); "
        f"print(len(os.listdir('/proc/self/task'))); torch.export.load({program!r}); "
        "print(sum(name.startswith('torch') for name in set(sys.modules) - before))"
    )
    threads, imported = map(int, output_of(code).split())
    assert threads == 1
    assert imported < 100  # of 900


def output_of(code: str) -> str:
    """What the code prints in a process of its own, as a fork server for one thread is started."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(
        command, env=os.environ | threads, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout
