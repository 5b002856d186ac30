"""ONNX files through both engines: what they declare is checked, and nothing outside their folder is read or run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.assets import torch_models
from tests.engines import skip_without

from maas import runtimes
from maas.dtypes import DTYPES
from maas.errors import BadArtifact, ModelFailed
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.runtimes.torch.export import write_exported, write_module
from maas.runtimes.torch.onnx import MODEL, write_onnx
from maas.types import Bounds, Signature

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

ENGINES = ("onnxruntime", "openvino")
SIGNATURE = Signature.parse({"x": "float32[batch, 3]"}, {"y": "float32[batch, 3]"}, {})


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    skip_without(request.param)
    return str(request.param)


def load(engine: str, directory: Path, signature: Signature = SIGNATURE, **options: object) -> Runner:
    artifact = Artifact(directory, signature, options, ("tests.assets",))
    return runtimes.runtime(engine).load(artifact, Placement())


def write_graph(directory: Path, node: Any, *initializers: Any, element: str = "FLOAT") -> None:
    """A model of one node from `x` to `y`, both [batch, 3]."""
    kind = onnx.TensorProto.DataType.Value(element)
    x, y = (onnx.helper.make_tensor_value_info(name, kind, ["batch", 3]) for name in ("x", "y"))
    graph = onnx.helper.make_graph([node], "graph", [x], [y], initializer=initializers)
    domains = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("custom", 1)]
    model = onnx.helper.make_model(graph, opset_imports=domains, ir_version=9)
    (directory / MODEL).write_bytes(model.SerializeToString())


def kept_outside(location: str) -> Any:
    """A weight whose numbers lie in the file `location`."""
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[3])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return weight


# -- what they answer


@pytest.mark.parametrize("length", [1, 2, 6, 33, 64])
def test_lengths_and_rows_stay_free(
    engine: str, length: int, attention: tuple[torch.nn.Module, Path, Signature]
) -> None:
    """A converted model keeps its variable dimensions, and answers as the module that it was made from."""
    module, directory, signature = attention
    ids = np.random.default_rng(length).integers(0, 20, (3, length))
    with torch.inference_mode():
        expected = module(torch.from_numpy(ids)).numpy()
    found = load(engine, directory, signature).run({"ids": ids})["classes"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path, Signature]:
    torch.manual_seed(0)
    module = torch_models.Attention()
    signature = Signature.parse(
        {"ids": "int64[batch, seq]"}, {"classes": "float32[batch, 3]"}, {"seq": Bounds(1, 64)}
    )
    source, target = tmp_path_factory.mktemp("attention"), tmp_path_factory.mktemp("converted")
    sample = {"ids": np.arange(6).reshape(1, 6)}
    options = write_exported(source, module, signature, [sample])
    write_onnx(target, Artifact(source, signature, options), sample)
    return module.eval(), target, signature


def test_a_module_by_its_path_is_converted(engine: str, tmp_path: Path) -> None:
    """A model published by import path and weights becomes ONNX as well, with its order of inputs."""
    signature = Signature.parse(
        {"a": "float32[batch]", "b": "float32[batch]"},
        {"difference": "float32[batch]", "sum": "float32[batch]"},
        {},
    )
    sample = {"a": np.ones(2, np.float32), "b": np.full(2, 3, np.float32)}
    options = write_module(tmp_path, torch_models.Difference(), signature, [sample], {})
    write_onnx(tmp_path, Artifact(tmp_path, signature, options, ("tests.assets",)), sample)
    outputs = load(engine, tmp_path, signature).run(sample)
    assert {name: array.tolist() for name, array in outputs.items()} == {
        "difference": [-2, -2],
        "sum": [4, 4],
    }


def test_onnx_runtime_takes_and_gives_text(tmp_path: Path) -> None:
    """Elements that are bytes cross as UTF-8; what is none is the request's fault and fails it."""
    skip_without("onnxruntime")
    write_graph(tmp_path, onnx.helper.make_node("Identity", ["x"], ["y"]), element="STRING")
    signature = Signature.parse({"x": "bytes[batch, 3]"}, {"y": "bytes[batch, 3]"}, {})
    runner = load("onnxruntime", tmp_path, signature)
    words = np.array([["a", "ü", ""]], object)
    taken = np.frompyfunc(str.encode, 1, 1)(words)
    assert runner.run({"x": taken})["y"].tolist() == taken.tolist()
    with pytest.raises(ModelFailed, match="UTF-8"):
        runner.run({"x": np.array([[b"\xff", b"", b""]], object)})


# -- what is refused


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"z": "float32[batch, 3]"}, {"y": "float32[batch, 3]"}, "'[xz]'"),
        ({"x": "float64[batch, 3]"}, {"y": "float32[batch, 3]"}, "'x' as .*declared is float64"),
        ({"x": "float32[batch]"}, {"y": "float32[batch, 3]"}, "'x' with 2 dimensions; declared are 1"),
        ({"x": "float32[batch, 3]"}, {"z": "float32[batch, 3]"}, "has no output 'z'"),
        ({"x": "float32[batch, 3]"}, {"y": "int64[batch, 3]"}, "'y' as .*declared is int64"),
    ],
)
def test_a_graph_that_is_not_as_declared_is_refused(
    engine: str, tmp_path: Path, inputs: dict[str, str], outputs: dict[str, str], message: str
) -> None:
    """Names, types and numbers of dimensions are held against the manifest when the model is loaded."""
    write_graph(tmp_path, onnx.helper.make_node("Neg", ["x"], ["y"]))
    with pytest.raises(BadArtifact, match=message):
        load(engine, tmp_path, Signature.parse(inputs, outputs, {}))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: None,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x08\x07\x12 no model"),
        lambda path: write_graph(path.parent, onnx.helper.make_node("Op", ["x"], ["y"], domain="custom")),
        lambda path: write_graph(
            path.parent, onnx.helper.make_node("Add", ["x", "w"], ["y"]), kept_outside("../secret")
        ),
        lambda path: write_graph(
            path.parent,
            onnx.helper.make_node("Add", ["x", "w"], ["y"]),
            kept_outside(str(path.parent.parent / "secret")),
        ),
    ],
    ids=["missing", "empty", "damaged", "foreign operator", "weights above", "weights by absolute path"],
)
def test_what_is_no_whole_model_is_refused(
    engine: str, tmp_path: Path, write: Callable[[Path], object]
) -> None:
    """A file that is missing, damaged, needs foreign code, or reads outside its folder does not load."""
    folder = tmp_path / "version"
    folder.mkdir()
    np.ones(3, np.float32).tofile(tmp_path / "secret")
    write(folder / MODEL)
    with pytest.raises(BadArtifact, match=r"model\.onnx"):
        load(engine, folder)


def test_weights_beside_the_graph_are_read(engine: str, tmp_path: Path) -> None:
    """Tensors may lie in a file of their own in the version's folder, as exporters write them."""
    np.array([1, 2, 3], np.float32).tofile(tmp_path / "weights.bin")
    write_graph(tmp_path, onnx.helper.make_node("Add", ["x", "w"], ["y"]), kept_outside("weights.bin"))
    assert load(engine, tmp_path).run({"x": np.ones((1, 3), np.float32)})["y"].tolist() == [[2, 3, 4]]


@pytest.mark.parametrize("device", ["cuda:7", "tpu"])
def test_a_device_that_the_engine_has_not_is_refused(engine: str, tmp_path: Path, device: str) -> None:
    """It is named before anything is loaded."""
    with pytest.raises(BadArtifact, match=f"device '{device}'"):
        runtimes.runtime(engine).load(Artifact(tmp_path, SIGNATURE), Placement(device))


@pytest.mark.parametrize(("runtime", "options"), [("openvino", {}), ("torch", {"format": "exported"})])
def test_bfloat16_answers_in_float32_and_less_exactly(
    tmp_path: Path, runtime: str, options: dict[str, str]
) -> None:
    """Reduced precision is asked for in the manifest; outputs keep their declared type."""
    skip_without(runtime)
    signature = Signature.parse({"x": "float32[batch, 3]"}, {"y": "float32[batch, 2]"}, {})
    sample = {"x": np.linspace(0.1, 1, 6, dtype=np.float32).reshape(2, 3)}
    torch.manual_seed(0)
    written = write_exported(tmp_path, torch_models.Shifted(), signature, [sample])
    write_onnx(tmp_path, Artifact(tmp_path, signature, written), sample)
    exact, reduced = (
        load(runtime, tmp_path, signature, **options, precision=precision).run(sample)["y"]
        for precision in ("float32", "bfloat16")
    )
    assert reduced.dtype == np.float32
    assert 0 < np.abs(reduced - exact).max() < 0.03


@pytest.mark.parametrize("strides", [1, -1])
def test_bfloat16_tensors_go_through_openvino(tmp_path: Path, strides: int) -> None:
    """Their bits are handed over and back, in any layout, at the precision that is asked for."""
    skip_without("openvino")
    signature = Signature.parse({"x": "bfloat16[batch, 3]"}, {"y": "bfloat16[batch, 3]"}, {})
    write_graph(tmp_path, onnx.helper.make_node("Add", ["x", "x"], ["y"]), element="BFLOAT16")
    x = np.array([[0.1, -2.5, 3e38], [4, 5, 6]], DTYPES["bfloat16"])[::strides]
    y = load("openvino", tmp_path, signature).run({"x": x})["y"]
    assert y.dtype == x.dtype
    assert y[np.isfinite(y)].tolist() == [2 * each for each in x.ravel().tolist() if each < 1e38]
    assert np.isinf(y).sum() == 1


def test_bfloat16_tensors_are_not_for_onnx_runtime(tmp_path: Path) -> None:
    """Its Python package exchanges none; the refusal names the tensor before the graph is opened."""
    skip_without("onnxruntime")
    signature = Signature.parse({"x": "float32[batch, 3]"}, {"y": "bfloat16[batch, 3]"}, {})
    write_graph(tmp_path, onnx.helper.make_node("Cast", ["x"], ["y"], to=onnx.TensorProto.BFLOAT16))
    with pytest.raises(BadArtifact, match="ONNX Runtime takes and gives no bfloat16 from Python, and 'y'"):
        load("onnxruntime", tmp_path, signature)


def test_onnx_runtime_computes_with_the_threads_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The placement's number of threads is the session's."""
    skip_without("onnxruntime")
    from maas.runtimes.onnxruntime import onnxruntime as engine

    write_graph(tmp_path, onnx.helper.make_node("Neg", ["x"], ["y"]))
    seen = []
    make = engine.InferenceSession
    monkeypatch.setattr(
        engine,
        "InferenceSession",
        lambda path, options, **more: seen.append(options) or make(path, options, **more),
    )
    runtimes.runtime("onnxruntime").load(Artifact(tmp_path, SIGNATURE), Placement(threads=2))
    assert [options.intra_op_num_threads for options in seen] == [2]
