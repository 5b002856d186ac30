"""`maas.publish("model.onnx", …)`: an ONNX file as it is becomes a version."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engines import skip_without

import maas
from maas import Bounds
from maas.errors import BadArtifact, InvalidRequest, MaasError
from maas.models import publishing
from maas.models.repository import Repository, StoredVersion
from maas.runtimes.golden import GoldenSample, load_golden

onnx: Any = pytest.importorskip("onnx")
skip_without("onnxruntime")

Publish = Callable[..., StoredVersion]
Dims = Sequence[int | str | None] | None
ROWS = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is decided before a version is proven."""
    monkeypatch.setattr(publishing, "verify", lambda stored, **_: 0.0)


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    def publish(file: Path | str, example: Any = None, **options: Any) -> StoredVersion:
        root = tmp_path / "models"
        label = maas.publish(file, example, **{"name": "model", "repository": root} | options)
        return Repository(root).read(*label.split("/"))

    return publish


def value(name: str, dims: Dims, element: str = "FLOAT") -> Any:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DataType.Value(element), dims)


def write(
    file: Path,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *nodes: tuple[str, Sequence[str], Sequence[str]],
) -> Path:
    """A graph of nodes as (operator, inputs, outputs)."""
    made = [onnx.helper.make_node(*node) for node in nodes]
    graph = onnx.helper.make_graph(made, "graph", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    file.write_bytes(model.SerializeToString())
    return file


def doubling(file: Path, dims: Dims = ("batch", 3), element: str = "FLOAT", *, out: Dims = ()) -> Path:
    """y = x + x."""
    kinds = [value("x", dims, element)], [value("y", out if out != () else dims, element)]
    return write(file, *kinds, ("Add", ["x", "x"], ["y"]))


def golden(stored: StoredVersion) -> GoldenSample:
    (sample,) = load_golden(stored.directory, stored.manifest.signature)
    return sample


def test_a_file_is_published_as_it_is(publish: Publish, proven_quickly: None, tmp_path: Path) -> None:
    """A name is all that is needed: the file declares its inputs and outputs, and answers samples that are made up; the version
    is proven like any other."""
    file = doubling(tmp_path / "doubling.onnx", ["batch_size", 3])
    stored = publish(str(file))
    manifest = stored.manifest
    assert (manifest.inputs, manifest.outputs) == ({"x": "float32[batch, 3]"}, {"y": "float32[batch, 3]"})
    assert manifest.runtime.model_dump() == {"name": "onnxruntime"}
    assert sorted(manifest.files) == ["golden.safetensors", "model.onnx"]
    assert (stored.directory / "model.onnx").read_bytes() == file.read_bytes()
    assert "onnxruntime" in manifest.made_with
    sample = golden(stored)
    assert sample.inputs["x"].shape == (3, 3)
    np.testing.assert_array_equal(sample.outputs["y"], 2 * sample.inputs["x"])
    assert np.array_equal(golden(publish(file)).inputs["x"], sample.inputs["x"])


@pytest.mark.parametrize("example", [[ROWS], {"x": ROWS}], ids=["list", "mapping"])
def test_examples_may_be_given(publish: Publish, unproven: None, tmp_path: Path, example: Any) -> None:
    """By name or in the file's order; they are the golden sample then."""
    stored = publish(doubling(tmp_path / "m.onnx"), example, max_batch_size=7)
    np.testing.assert_array_equal(golden(stored).outputs["y"], 2 * ROWS)
    assert stored.manifest.batching.max_batch_size == 7


@pytest.mark.parametrize(
    ("dims", "declared"),
    [
        (["batch", 3], "float32[batch, 3]"),
        (["N", 3], "float32[batch, 3]"),
        ([None, 3], "float32[batch, 3]"),
        (["s77", "s27"], "float32[batch, s27]"),
        (["unk__5", 3], "float32[batch, 3]"),
        (["batch", "Seq-Len"], "float32[batch, seq_len]"),
        (["batch", "2*s"], "float32[batch, dim_2_s]"),
        (["time", 3], "float32[time, 3]"),
        ([1, 3], "float32[1, 3]"),
        ([], "float32[]"),
    ],
    ids=str,
)
def test_dimensions_are_those_of_the_file(
    publish: Publish, unproven: None, tmp_path: Path, dims: Dims, declared: str
) -> None:
    """A first dimension without a name, or named as batches are, or numbered, is the batch; other names are variable, numbers
    fixed."""
    stored = publish(doubling(tmp_path / "m.onnx", dims))
    assert stored.manifest.inputs == {"x": declared}
    assert golden(stored).inputs["x"].ndim == len(dims or ())


@pytest.mark.parametrize(
    ("element", "dtype", "made_up"),
    [
        ("DOUBLE", "float64", None),
        ("INT64", "int64", {0, 2}),
        ("UINT8", "uint8", {0, 2}),
        ("FLOAT16", "float16", None),
    ],
)
def test_types_are_those_of_the_file(
    publish: Publish, unproven: None, tmp_path: Path, element: str, dtype: str, made_up: set[int] | None
) -> None:
    """Whole numbers are made up of 0 and 1, which any vocabulary has."""
    stored = publish(doubling(tmp_path / "m.onnx", element=element))
    assert stored.manifest.inputs == {"x": f"{dtype}[batch, 3]"}
    answer = golden(stored).outputs["y"]
    assert answer.dtype == dtype
    assert made_up is None or set(answer.flat) == made_up


def test_what_is_declared_goes_before_the_file(publish: Publish, unproven: None, tmp_path: Path) -> None:
    """Names of dimensions, their bounds, and fewer outputs than the file has; lengths that are made up are within bounds."""
    file = write(
        tmp_path / "m.onnx",
        [value("x", ["a", "b"])],
        [value("y", ["a", "b"]), value("z", [None, None])],
        ("Add", ["x", "x"], ["y"]),
        ("Mul", ["x", "x"], ["z"]),
    )
    stored = publish(
        file,
        inputs={"x": "float32[batch, seq]"},
        outputs={"y": "float32[batch, seq]"},
        dimensions={"seq": Bounds(10, 20)},
    )
    assert stored.manifest.outputs == {"y": "float32[batch, seq]"}
    assert golden(stored).inputs["x"].shape == (3, 10)


def test_weights_beside_the_file_come_along(publish: Publish, unproven: None, tmp_path: Path) -> None:
    """As exporters write them where they are large: `NAME.onnx.data` and `NAME.onnx_data`; nothing else of the folder does."""
    weight = onnx.numpy_helper.from_array(np.arange(300, dtype=np.float32).reshape(3, 100), "w")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph(
        [node], "graph", [value("x", ["n", 3])], [value("y", ["n", 100])], initializer=[weight]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    file = tmp_path / "large.onnx"
    onnx.save_model(model, file, save_as_external_data=True, location="large.onnx.data", size_threshold=0)
    (tmp_path / "other.txt").write_text("not the model's")
    stored = publish(file, {"x": np.eye(3, dtype=np.float32)})
    assert sorted(stored.manifest.files) == ["golden.safetensors", "large.onnx.data", "model.onnx"]
    np.testing.assert_array_equal(golden(stored).outputs["y"].ravel(), np.arange(300))


def of_kind(file: Path, element: str) -> Path:
    """A graph that gives what it is given."""
    x, y = (value(name, ["batch"], element) for name in ("x", "y"))
    return write(file, [x], [y], ("Identity", ["x"], ["y"]))


@pytest.mark.parametrize(
    ("make", "example", "options", "error", "message"),
    [
        (lambda f: f, None, {}, InvalidRequest, r"m\.onnx' is no file"),
        (lambda f: f.with_suffix(".pt"), None, {}, InvalidRequest, r"m\.pt' is no model; .* ends in \.onnx"),
        (lambda f: (f.write_text("no graph"), f)[1], None, {}, BadArtifact, r"m\.onnx does not load: "),
        (lambda f: of_kind(f, "STRING"), None, {}, InvalidRequest, "input 'x' is text, which cannot be made up: give example_inputs"),
        (lambda f: of_kind(f, "BFLOAT16"), None, {}, InvalidRequest, r"input 'x' is tensor\(bfloat16\)"),
        (lambda f: doubling(f, ["batch", None]), None, {}, InvalidRequest, r"without a name or length at axis 1: .* inputs=\{'x': 'float32\[batch"),
        (doubling, [ROWS, ROWS], {}, InvalidRequest, "the model takes 1 inputs: x"),
        (doubling, {"z": ROWS}, {}, InvalidRequest, "unknown input 'z'; the model takes x"),
        (doubling, {"x": ROWS[:, :2]}, {}, InvalidRequest, "length 2 at axis 1; expected 3"),
        (doubling, "text", {}, InvalidRequest, "example_inputs is a str"),
        (doubling, [ROWS * np.nan], {}, InvalidRequest, "'x' holds NaN or infinity"),
        (doubling, None, {"form": "module"}, InvalidRequest, "an ONNX file is published as it is"),
        (doubling, None, {"arguments": {"n": 1}}, InvalidRequest, "an ONNX file is published as it is"),
        (doubling, None, {"inputs": {"x": "float64[batch, 3]"}}, BadArtifact, r"input 'x' as tensor\(float\); declared is float64"),
        (doubling, None, {"outputs": {"w": "float32[batch, 3]"}}, BadArtifact, "has no output 'w'; it has y"),
        (doubling, None, {"inputs": {"x": "float32[batch, 4]"}}, InvalidRequest, r"m\.onnx does not answer the example inputs: .*x"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    publish: Publish,
    unproven: None,
    tmp_path: Path,
    make: Callable[[Path], Path],
    example: Any,
    options: dict[str, Any],
    error: type[MaasError],
    message: str,
) -> None:
    """The file, the tensor and the axis, in a sentence, and nothing is left in the repository."""
    file = make(tmp_path / "m.onnx")
    with pytest.raises(error, match=message):
        publish(file, example, **options)
    assert not (tmp_path / "models").exists() or list((tmp_path / "models").iterdir()) == []


def test_an_output_that_is_no_tensor_may_be_left_out(
    publish: Publish, unproven: None, tmp_path: Path
) -> None:
    """What converters of classifiers add, a list of probabilities by class, is named with what to do."""
    label, floats = value("y", ["batch", 3]), onnx.TensorProto.FLOAT
    maps = onnx.helper.make_tensor_sequence_value_info("probabilities", floats, None)
    nodes = ("Add", ["x", "x"], ["y"]), ("SequenceConstruct", ["x"], ["probabilities"])
    file = write(tmp_path / "m.onnx", [value("x", ["batch", 3])], [label, maps], *nodes)
    with pytest.raises(
        InvalidRequest, match=r"output 'probabilities' is seq.*leave it out by declaring the others"
    ):
        publish(file)
    assert publish(file, outputs={"y": "float32[batch, 3]"}).manifest.outputs == {"y": "float32[batch, 3]"}


def test_a_missing_engine_is_said(publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the package."""
    monkeypatch.setitem(sys.modules, "maas.runtimes.onnxruntime", None)
    with pytest.raises(BadArtifact, match="runtime 'onnxruntime' needs the package"):
        publish(doubling(tmp_path / "m.onnx"))
