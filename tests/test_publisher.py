"""`maas.publish`: a model in memory becomes a version that anybody can verify."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import re
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

pytestmark = pytest.mark.usefixtures("proven_quickly")

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


@pytest.mark.parametrize("texts", [["ab", "ü"], np.array(["ab", "ü"]), np.array([b"ab", "ü"], dtype=object)])
def test_text_among_the_examples_becomes_bytes(publish: Publish, unproven: None, texts: Any) -> None:
    """`str` elements, and NumPy's own strings, are what a model declares as bytes."""
    stored = publish(plain_models.Shout, {"text": texts})
    assert stored.manifest.inputs == {"text": "bytes[batch]"}
    assert golden(stored)[0]["text"].tolist() == [b"ab", "ü".encode()]
    stored = publish(plain_models.Shout, {"text": np.array([b"ab"])})
    assert golden(stored)[1]["loud"].tolist() == [b"AB"]


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


def test_padding_that_changes_answers_is_refused(publish: Publish, tmp_path: Path) -> None:
    """What a dimension is padded with is proven in the model's process: a mean that minds its mask is published, one that
    counts the padding is not."""
    options: dict[str, Any] = {
        "example": {"x": ROWS, "mask": np.ones((2, 3), np.int64)},
        "inputs": {"x": "float32[batch, seq]", "mask": "int64[batch, seq]"},
        "outputs": {"mean": "float32[batch]"},
        "dimensions": {"seq": Bounds(min=2, max=16, pad={"x": 5, "mask": 0})},
    }
    with pytest.raises(
        BadArtifact, match="padded from seq = 3 to seq = 6, gives output 'mean' off its golden"
    ):
        publish(torch_models.Mean(minds_mask=False), **options)
    assert list((tmp_path / "models").iterdir()) == []
    assert publish(torch_models.Mean(), **options).manifest.signature.pads == {"x": 5.0, "mask": 0}


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


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (torch_models.Difference, {"b": ROWS, "aa": ROWS}, "forward has no parameter 'aa'; it takes a, b"),
        (torch_models.Difference, {"minuend": ROWS, "b": ROWS}, "forward has no parameter 'minuend'"),
        (torch_models.Difference, {"u": ROWS, "v": ROWS}, "forward has no parameter 'u'; it takes a, b"),
        (torch_models.Difference, {"a": ROWS}, "forward's parameter 'b' is missing"),
        (torch_models.Difference, [ROWS], "forward's parameter 'b' is missing"),
        (torch_models.Optional, {"a": ROWS, "c": ROWS}, "forward's parameter 'b' is missing"),
    ],
)
def test_names_that_are_not_those_of_forward_are_refused(
    publish: Publish, unproven: None, model: Callable[[], nn.Module], example: Any, message: str
) -> None:
    """Who names an input means something by it: a name that reaches no parameter, or a gap, is told by name."""
    with pytest.raises(InvalidRequest, match=message):
        publish(model(), example)


def test_trailing_parameters_may_keep_their_defaults(publish: Publish, unproven: None) -> None:
    """What has a default need not be an input."""
    for example in ({"b": ROWS, "a": ROWS * 10}, [ROWS * 10, ROWS]):
        stored = publish(torch_models.Optional(), example)
        assert list(stored.manifest.inputs) == ["a", "b"]
        np.testing.assert_array_equal(golden(stored)[1]["output"], ROWS * 10 - ROWS)


def test_a_forward_without_names_takes_any_in_their_order(publish: Publish, unproven: None) -> None:
    """What goes to `*args` may be called anything, and comes in the order of the mapping."""
    stored = publish(torch_models.Variadic(), {"minuend": ROWS, "subtrahend": ROWS * 10})
    assert list(stored.manifest.inputs) == ["minuend", "subtrahend"]
    np.testing.assert_array_equal(golden(stored)[1]["output"], ROWS - ROWS * 10)
    with pytest.raises(InvalidRequest, match="forward does not name all its inputs"):
        publish(torch_models.Variadic(), [ROWS, ROWS])


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


# -- what is left as it was


def modes(module: nn.Module) -> list[bool]:
    return [each.training for each in module.modules()]


@pytest.mark.parametrize("form", ["exported", "module"])
@pytest.mark.parametrize("example", [[ROWS], [ROWS[:, :2]]], ids=["published", "failed"])
def test_the_caller_s_module_is_left_as_it_was(
    publish: Publish, unproven: None, form: str, example: Any
) -> None:
    """Publishing from within a training loop leaves every submodule in its mode, also where it fails."""
    module = torch_models.Affine()
    module.train()
    module.layer.eval()
    before = modes(module)
    assert before == [True, False]
    with contextlib.suppress(MaasError, RuntimeError):
        publish(module, example, form=form)
    assert modes(module) == before
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_an_example_with_a_gradient_is_taken_by_its_value(publish: Publish, unproven: None) -> None:
    """A tensor out of a training loop is as good as an array."""
    tensor = torch.from_numpy(ROWS).requires_grad_()
    stored = publish(torch_models.Affine(), [tensor * 2])
    np.testing.assert_array_equal(golden(stored)[0]["x"], ROWS * 2)
    assert tensor.requires_grad


def test_the_manifest_says_what_the_version_was_made_with(publish: Publish, unproven: None) -> None:
    """The versions of Python, of `maas`, and of torch for what torch has made."""
    ours = {"python": platform.python_version(), "maas": maas.__version__}
    stored = publish(torch_models.Affine(), [ROWS])
    assert stored.manifest.made_with == ours | {"torch": torch.__version__}
    assert publish(plain_models.Affine, {"x": ROWS}).manifest.made_with == ours


def test_numbers_of_numpy_may_stand_on_the_card(publish: Publish, unproven: None) -> None:
    """A metric is often a NumPy float, which is a float."""
    stored = publish(torch_models.Affine(), [ROWS], card={"r2": np.float64(0.5), "folds": (1, 2)})
    assert stored.manifest.card == {"r2": 0.5, "folds": [1, 2]}


def test_a_home_is_a_place_for_a_repository(
    publish: Publish, unproven: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`~` in `repository` is the home, as on a command line, not a folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    publish(torch_models.Affine(), [ROWS], repository="~/models")
    assert (tmp_path / "models" / "model" / "1").is_dir()


# -- what is refused


def test_an_answer_that_is_not_finite_needs_permission(publish: Publish) -> None:
    """A model whose own answer holds NaN would fail all its callers: it is refused, naming the output."""
    with pytest.raises(BadArtifact, match="the golden sample's output 'output' holds NaN"):
        publish(torch_models.Root(), [ROWS])
    assert np.isnan(golden_of_anything(publish(torch_models.Root(), [ROWS], allow_non_finite=True))).any()


def golden_of_anything(stored: StoredVersion) -> Any:
    (sample,) = load_golden(stored.directory, stored.manifest.signature, allow_non_finite=True)
    return sample.outputs["output"]


AFFINE = torch_models.Affine
CIRCLE: dict[str, Any] = {}
CIRCLE["self"] = CIRCLE


@pytest.mark.parametrize(
    ("model", "example", "options", "error", "message"),
    [
        (AFFINE, [ROWS, ROWS], {}, InvalidRequest, "forward takes 1 inputs: x"),
        (AFFINE, "text", {}, InvalidRequest, "example_inputs is a str; expected a mapping by name, or a list"),
        (AFFINE, ROWS, {}, InvalidRequest, "example_inputs is a ndarray"),
        (AFFINE, None, {}, InvalidRequest, "example_inputs is a NoneType"),
        (AFFINE, {}, {}, InvalidRequest, "forward's parameter 'x' is missing"),
        (AFFINE, [torch.ones(2, 3).to(torch.float8_e5m2)], {}, InvalidRequest, r"example input 'x' \(torch.float8_e5m2\)"),
        (AFFINE, [[[1.0], [1.0, 2.0]]], {}, InvalidRequest, r"example input 'x' \(list\) is no tensor"),
        (AFFINE, [ROWS * np.nan], {}, InvalidRequest, "example input 'x' holds NaN or infinity"),
        (AFFINE, [ROWS], {"max_batch_size": 0}, InvalidRequest, "max_batch_size: .*greater than or equal to 1"),
        (AFFINE, [ROWS], {"max_queue_delay": -1}, InvalidRequest, "max_queue_delay: "),
        (AFFINE, [ROWS], {"description": 5}, InvalidRequest, "description: "),
        (AFFINE, [ROWS], {"card": {"m": {"r2": ROWS}}}, InvalidRequest, r"card\.m\.r2 is a ndarray"),
        (AFFINE, [ROWS], {"card": {"m": [1, {2}]}}, InvalidRequest, r"card\.m\[1\] is a set"),
        (AFFINE, [ROWS], {"card": {1: 2}}, InvalidRequest, "card has the key 1"),
        (AFFINE, [ROWS], {"card": CIRCLE}, InvalidRequest, "nested too deeply"),
        (AFFINE, [ROWS], {"arguments": {"n": object()}}, InvalidRequest, r"arguments\.n is a object"),
        (torch_models.Half, [ROWS], {}, InvalidRequest, r"output 'output' is torch\.float8_e5m2"),
        (torch_models.Half, [ROWS], {"outputs": {"y": "float32[batch, 3]"}}, InvalidRequest, "output 'y' is"),
        (lambda: AFFINE, [ROWS], {}, InvalidRequest, r"Affine is a class of modules; give an instance, Affine\("),
        (lambda: len, [ROWS], {}, InvalidRequest, "the model is a builtin_function_or_method; expected a torch"),
        (lambda: (lambda x: x), [ROWS], {}, InvalidRequest, "the model is a function; expected a torch.nn.Module"),
        (lambda: plain_models.Unfinished, {"x": ROWS}, {}, InvalidRequest, "Unfinished has no method `run"),
        (lambda: plain_models.Affine, {}, {}, InvalidRequest, "example_inputs is empty"),
        (AFFINE, [ROWS], {"form": "onnx"}, InvalidRequest, "form 'onnx' is unknown"),
        (AFFINE, [ROWS], {"arguments": {"features": 3}}, InvalidRequest, "an exported program takes no arguments"),
        (AFFINE, [ROWS], {"name": "no name"}, InvalidRequest, "is no model name"),
        (AFFINE, [ROWS], {"version": "a/b"}, InvalidRequest, "is no version"),
        (AFFINE, [ROWS], {"inputs": {"x": "float32[batch"}}, InvalidRequest, "tensor 'x' is declared as"),
        (AFFINE, [ROWS], {"inputs": {"z": "float32[batch, 3]"}}, InvalidRequest, "unknown input 'x'"),
        (AFFINE, [ROWS], {"inputs": {"x": "float32[batch, 4]"}}, InvalidRequest, "length 3 at axis 1; expected 4"),
        (AFFINE, [ROWS], {"inputs": {"x": "float64[batch, 3]"}}, InvalidRequest, "'x' is float32; expected float64"),
        (AFFINE, [ROWS], {"dimensions": {"n": Bounds(1, 2)}}, InvalidRequest, r"bounds for \['n'\]"),
        (AFFINE, {"x": np.array(["a"])}, {"outputs": {"y": "float32[batch]"}}, InvalidRequest, "'x' holds text, which is no tensor"),
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


# -- inputs that may be left out


def test_a_default_is_sealed_with_the_declaration(publish: Publish) -> None:
    """Said beside what the examples declare; the version is proven like any other."""
    stored = publish(torch_models.Difference(), {"a": ROWS, "b": ROWS}, defaults={"b": 0.5})
    assert stored.manifest.inputs == {"a": "float32[batch, 3]", "b": "float32[batch, 3] = 0.5"}
    assert [spec.default for spec in stored.manifest.signature.inputs] == [None, 0.5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"defaults": {"c": 1}}, "defaults has 'c'; the inputs are a, b"),
        (
            {"defaults": {"a": 1, "b": 1}},
            "'a' has a default, but no input without one has a dimension 'batch'",
        ),
        ({"defaults": {"b": "one"}}, "input 'b' is float32, and cannot have the default 'one'"),
        (
            {"inputs": {"a": "float32[batch, 3]", "b": "float32[batch, n] = 1"}},
            "'b' has a default, but no input without one has a dimension 'n' to say how long it is",
        ),
        (
            {"inputs": {"a": "float32[batch, 3]", "b": "float32[batch, 3] = [1]"}},
            "'b' has the default [1]; expected one element",
        ),
    ],
)
def test_a_default_that_makes_no_sense_is_refused(
    publish: Publish, unproven: None, options: dict[str, Any], message: str
) -> None:
    """Before anything is written, and said which."""
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        publish(torch_models.Difference(), {"a": ROWS, "b": ROWS}, **options)
