"""`maas.publish`: a model in memory becomes a version that anybody can verify."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.assets import plain_models, torch_models
from torch import nn

import maas
from maas import Bounds, MaasError, Tolerance
from maas.errors import BadArtifact, InvalidRequest
from maas.models import publishing
from maas.models.repository import Repository, StoredVersion
from maas.models.verification import verify
from maas.runtimes.golden import load_golden
from maas.types import Tensors

ROWS = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is decided before a version is proven: no process is started."""
    monkeypatch.setattr(publishing, "verify", lambda stored, **_: 0.0)


Publish = Callable[..., StoredVersion]


@pytest.fixture
def publish(tmp_path: Path) -> Publish:
    """Publishes into an empty repository and reads what is there then."""

    def publish(model: Any, example: Any, **options: Any) -> StoredVersion:
        label = maas.publish(model, example, **{"name": "model", "repository": tmp_path / "models"} | options)
        return Repository(tmp_path / "models").read(*label.split("/"))

    return publish


def golden(stored: StoredVersion) -> tuple[Tensors, Tensors]:
    (sample,) = load_golden(stored.directory, stored.manifest.signature)
    return sample.inputs, sample.outputs


# -- the three forms, proven


def test_a_module_is_exported_and_needs_none_of_its_code(publish: Publish) -> None:
    """The default form carries its graph: a class of this very file is verified without any permission."""

    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x).relu()

    module = Local()
    stored = publish(module, [ROWS])
    assert stored.manifest.runtime.options == {"format": "exported"}
    assert stored.manifest.inputs == {"x": "float32[batch, 3]"}
    assert stored.manifest.outputs == {"output": "float32[batch, 2]"}
    assert sorted(stored.manifest.files) == ["golden.safetensors", "model.pt2"]
    assert verify(stored) > 0
    inputs, outputs = golden(stored)
    np.testing.assert_array_equal(inputs["x"], ROWS)
    np.testing.assert_array_equal(outputs["output"], module(torch.from_numpy(ROWS)).detach().numpy())


def test_a_module_by_its_path_is_built_again_from_its_arguments(publish: Publish) -> None:
    """The module form keeps import path, constructor arguments and weights; its length stays free."""
    stored = publish(
        torch_models.Recurrent(hidden=7),
        {"window": np.ones((2, 9), np.float32)},
        form="module",
        arguments={"hidden": 7},
        inputs={"window": "float32[batch, years]"},
        dimensions={"years": Bounds(2, 50)},
    )
    assert stored.manifest.runtime.options == {
        "format": "module",
        "module": "tests.assets.torch_models:Recurrent",
        "arguments": {"hidden": 7},
    }
    assert stored.manifest.dimensions == {"years": Bounds(2, 50)}
    assert stored.manifest.outputs == {"output": "float32[batch]"}
    with pytest.raises(MaasError, match="allow_code"):
        verify(stored)


def test_a_class_is_published_with_its_files(publish: Publish, tmp_path: Path) -> None:
    """A Python class finds its files again where it is served, and its arguments."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "weights.json").write_text("[[1, 0], [0, 1], [0, 0]]")
    stored = publish(plain_models.Affine, {"x": ROWS}, files=files, arguments={"gain": 3.0})
    assert stored.manifest.runtime.options == {
        "class": "tests.assets.plain_models:Affine",
        "arguments": {"gain": 3.0},
    }
    assert stored.manifest.outputs == {"y": "float32[batch, 2]", "total": "float32[batch]"}
    assert sorted(stored.manifest.files) == ["golden.safetensors", "weights.json"]
    np.testing.assert_array_equal(golden(stored)[1]["y"], ROWS[:, :2] * np.float32(3))


def test_a_class_may_take_and_give_bytes(publish: Publish) -> None:
    """Text goes through the golden sample and the model process as bytes."""
    texts = np.array([b"ab", "ü".encode()], dtype=object)
    stored = publish(plain_models.Shout, {"text": texts})
    assert stored.manifest.inputs == {"text": "bytes[batch]"}
    assert golden(stored)[1]["loud"].tolist() == [b"AB", "ü".encode()]


def test_publishing_works_within_a_running_loop(publish: Publish) -> None:
    """A notebook's cell runs inside an event loop: publishing from there works like anywhere."""

    async def cell() -> StoredVersion:
        return publish(plain_models.Affine, {"x": ROWS})

    assert asyncio.run(cell()).label == "model/1"


def test_a_model_whose_rows_depend_on_each_other_is_refused(publish: Publish, tmp_path: Path) -> None:
    """Batching must not change answers: such a model cannot be published as batched, and nothing is left of it."""
    with pytest.raises(BadArtifact, match="row 0 of sample 0, run alone, gives output 'output' off"):
        publish(torch_models.BatchMean(), [ROWS])
    assert list((tmp_path / "models").iterdir()) == []
    stored = publish(
        torch_models.BatchMean(), [ROWS], inputs={"x": "float32[2, 3]"}, outputs={"y": "float32[2, 3]"}
    )
    assert not stored.manifest.signature.is_batched


# -- declarations


def test_variable_dimensions_are_declared_by_name(publish: Publish, unproven: None) -> None:
    """A named dimension stays free in the export, within its bounds."""
    stored = publish(
        torch_models.Attention(),
        [np.arange(6).reshape(1, 6)],
        inputs={"ids": "int64[batch, seq]"},
        outputs={"classes": "float32[batch, 3]"},
        dimensions={"seq": Bounds(1, 32)},
    )
    assert str(stored.manifest.signature.inputs[0]) == "ids: int64[batch, seq]"
    assert golden(stored)[1].keys() == {"classes"}


def test_a_mapping_names_the_outputs(publish: Publish, unproven: None) -> None:
    """A module that returns a mapping has its outputs named by it, a tuple by their order."""
    stored = publish(torch_models.Difference(), {"a": ROWS, "b": ROWS})
    assert stored.manifest.outputs == {"difference": "float32[batch, 3]", "sum": "float32[batch, 3]"}
    stored = publish(torch_models.Affine(), [ROWS])
    assert stored.manifest.outputs == {"output_0": "float32[batch, 2]", "output_1": "float32[batch]"}


def test_inputs_are_bound_by_name_whatever_their_order(publish: Publish, unproven: None) -> None:
    """Examples and declarations that carry the parameters' names reach those parameters."""
    for declared in (None, {"b": "float32[batch, 3]", "a": "float32[batch, 3]"}):
        stored = publish(torch_models.Difference(), {"b": ROWS * 10, "a": ROWS}, inputs=declared)
        assert list(stored.manifest.inputs) == ["a", "b"]
        np.testing.assert_array_equal(golden(stored)[1]["difference"], ROWS - ROWS * 10)


def test_inputs_may_have_names_of_their_own(publish: Publish, unproven: None) -> None:
    """Names that are no parameters go by their order."""
    stored = publish(torch_models.Difference(), {"minuend": ROWS, "subtrahend": ROWS * 10})
    assert list(stored.manifest.inputs) == ["minuend", "subtrahend"]
    np.testing.assert_array_equal(golden(stored)[1]["difference"], ROWS - ROWS * 10)


def test_examples_may_be_tensors(publish: Publish, unproven: None) -> None:
    """A tensor is as good as an array, and a scalar has no batch."""
    stored = publish(
        torch_models.Difference(),
        (torch.from_numpy(ROWS), torch.tensor(2.0)),
        outputs={"sum": "float32[batch, 3]", "difference": "float32[batch, 3]"},
    )
    assert stored.manifest.inputs == {"a": "float32[batch, 3]", "b": "float32[]"}


def test_what_an_author_says_is_kept(publish: Publish, unproven: None) -> None:
    """Batching, tolerances, licence, description and card are the manifest's."""
    stored = publish(
        plain_models.Affine,
        {"x": ROWS},
        version="2.1",
        max_batch_size=7,
        max_queue_delay=0.25,
        tolerances={"float32": Tolerance(relative=0.5, absolute=0.25)},
        allow_non_finite=True,
        description="an affine map",
        license="MIT",
        card={"metrics": {"r2": 0.5}},
    )
    manifest = stored.manifest
    assert stored.label == "model/2.1"
    assert (manifest.batching.max_batch_size, manifest.batching.max_queue_delay) == (7, 0.25)
    assert manifest.tolerances["float32"] == Tolerance(relative=0.5, absolute=0.25)
    assert manifest.tolerances["float64"] == Tolerance(relative=1e-9, absolute=1e-12)
    assert (manifest.allow_non_finite, manifest.description, manifest.license) == (
        True,
        "an affine map",
        "MIT",
    )
    assert manifest.card == {"metrics": {"r2": 0.5}}


# -- what is refused


AFFINE = torch_models.Affine


@pytest.mark.parametrize(
    ("model", "example", "options", "error", "message"),
    [
        (AFFINE, [ROWS, ROWS], {}, InvalidRequest, "forward takes 1 inputs: x"),
        (AFFINE, "text", {}, InvalidRequest, "forward takes 1 inputs: x"),
        (AFFINE, [ROWS], {"form": "onnx"}, InvalidRequest, "form 'onnx' is unknown"),
        (AFFINE, [ROWS], {"arguments": {"features": 3}}, InvalidRequest, "an exported program takes no arguments"),
        (AFFINE, [ROWS], {"name": "no name"}, InvalidRequest, "is no model name"),
        (AFFINE, [ROWS], {"version": "a/b"}, InvalidRequest, "is no version"),
        (AFFINE, [ROWS], {"inputs": {"x": "float32[batch"}}, InvalidRequest, "tensor 'x' is declared as"),
        (AFFINE, [ROWS], {"inputs": {"z": "float32[batch, 3]"}}, InvalidRequest, "unknown input 'x'"),
        (AFFINE, [ROWS], {"inputs": {"x": "float32[batch, 4]"}}, InvalidRequest, "length 3 at axis 1; expected 4"),
        (AFFINE, [ROWS], {"inputs": {"x": "float64[batch, 3]"}}, InvalidRequest, "'x' is float32; expected float64"),
        (AFFINE, [ROWS], {"dimensions": {"n": Bounds(1, 2)}}, InvalidRequest, r"bounds for \['n'\]"),
        (AFFINE, {"x": np.array(["a"])}, {"outputs": {"y": "float32[batch]"}}, InvalidRequest, "tensor 'x' is <U1"),
        (AFFINE, [ROWS], {"outputs": {"y": "float32[batch, 2]"}}, MaasError, "it declares 1 output tensors: y"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_a_sentence(
    publish: Publish,
    unproven: None,
    tmp_path: Path,
    model: Callable[[], nn.Module],
    example: Any,
    options: dict[str, Any],
    error: type[MaasError],
    message: str,
) -> None:
    """Wrong examples, declarations, forms and names are refused in words, and nothing is left of them."""
    with pytest.raises(error, match=message):
        publish(model(), example, **options)
    assert not (tmp_path / "models").exists() or list((tmp_path / "models").iterdir()) == []


def test_a_class_s_inputs_need_names(publish: Publish, unproven: None) -> None:
    """A class has no `forward` that would name them."""
    with pytest.raises(InvalidRequest, match="give example_inputs as a mapping"):
        publish(plain_models.Affine, [ROWS])


def test_code_that_cannot_be_imported_elsewhere_is_refused(publish: Publish, unproven: None) -> None:
    """A class of a function is no model that a server could find; the message says what to do."""

    class Local(plain_models.Affine):
        pass

    class LocalModule(torch_models.Affine):
        pass

    for model, options in ((Local, {}), (LocalModule(), {"form": "module"})):
        with pytest.raises(BadArtifact, match="put it into a module of its own"):
            publish(model, {"x": ROWS}, **options)


def test_what_is_no_plain_file_is_not_published(publish: Publish, unproven: None, tmp_path: Path) -> None:
    """A link among a class's files is refused."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadArtifact, match="'link' is no plain file"):
        publish(plain_models.Affine, {"x": ROWS}, files=tmp_path / "files")
