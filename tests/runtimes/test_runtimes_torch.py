"""PyTorch models through both forms: what is published answers as the module did, and what cannot be is refused."""

from __future__ import annotations

import dataclasses
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.assets import torch_models
from torch import nn

from maas.dtypes import DTYPES
from maas.errors import BadArtifact, ModelFailed
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.runtimes.torch import RUNTIME
from maas.runtimes.torch.arrays import to_array, to_tensor
from maas.runtimes.torch.export import answer, write_exported, write_module
from maas.runtimes.torch.module import WEIGHTS
from maas.runtimes.torch.runner import TorchRunner
from maas.types import Bounds, Signature, Tensors

CODE = ("tests.assets",)


def load(directory: Path, signature: Signature, options: Mapping[str, Any]) -> Runner:
    return RUNTIME.load(Artifact(directory, signature, options, CODE), Placement())


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Runner]:
    """Attention over token ids with dynamic batch and length: the module, and its export loaded again."""
    torch.manual_seed(0)
    module = torch_models.Attention()
    signature = Signature.parse(
        {"ids": "int64[batch, seq]"}, {"classes": "float32[batch, 3]"}, {"seq": Bounds(1, 64)}
    )
    directory = tmp_path_factory.mktemp("attention")
    options = write_exported(directory, module, signature, [{"ids": np.arange(6).reshape(1, 6) % 20}])
    return module.eval(), load(directory, signature, options)


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("length", [1, 2, 6, 33, 64])
def test_exported_attention_agrees_at_any_batch_and_length(
    attention: tuple[nn.Module, Runner], rows: int, length: int
) -> None:
    """Batch and length stay free in the export, though its sample had one row of six; its answers are the module's."""
    module, runner = attention
    ids = np.random.default_rng(rows * length).integers(0, 20, (rows, length))
    with torch.inference_mode():
        expected = module(torch.from_numpy(ids)).numpy()
    np.testing.assert_allclose(runner.run({"ids": ids})["classes"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 11, 40])
def test_a_recurrent_module_goes_by_its_path_at_any_length(tmp_path: Path, length: int) -> None:
    """An LSTM by import path and weights answers windows of every length as the module did."""
    module = torch_models.Recurrent(hidden=7)
    signature = Signature.parse({"window": "float32[batch, seq]"}, {"next": "float32[batch]"}, {})
    sample = {"window": np.ones((2, 5), np.float32)}
    options = write_module(tmp_path, module, signature, [sample], {"hidden": 7})
    windows = np.random.default_rng(0).normal(size=(3, length)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(windows)).numpy()
    np.testing.assert_array_equal(
        load(tmp_path, signature, options).run({"window": windows})["next"], expected
    )


class Fixing(nn.Module):
    """Fixes the length it is traced with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 4, 2).sum(dim=(1, 2))


def test_a_dimension_that_an_export_fixes_is_refused_with_advice(tmp_path: Path) -> None:
    """Where tracing fixes a dimension that was declared as variable, the message says so and what to do instead."""
    signature = Signature.parse({"x": "float32[batch, seq]"}, {"y": "float32[batch]"}, {})
    with pytest.raises(
        BadArtifact, match=r"(?s)does not export with the dimensions batch, seq: .*form='module'"
    ):
        write_exported(tmp_path, Fixing(), signature, [{"x": np.ones((2, 8), np.float32)}])


def test_an_input_without_batch_is_exported_as_it_is(tmp_path: Path) -> None:
    """A model without any dynamic dimension exports, and takes just the declared shape."""
    signature = Signature.parse({"x": "float32[2, 3]"}, {"y": "float32[2, 2]"}, {})
    sample = {"x": np.ones((2, 3), np.float32)}
    options = write_exported(tmp_path, torch_models.Shifted(), signature, [sample])
    assert load(tmp_path, signature, options).run(sample)["y"].shape == (2, 2)


# -- weights


@pytest.fixture
def module_form(forms: Mapping[str, Artifact], tmp_path: Path) -> Artifact:
    """The module form, in a folder that the test may change."""
    shutil.copytree(forms["module"].directory, tmp_path / "copy")
    return dataclasses.replace(forms["module"], directory=tmp_path / "copy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer.weight": None}, 'Missing key.*"layer.weight"'),
        ({"scale": None}, 'Missing key.*"scale"'),
        ({"other": torch.ones(1)}, 'Unexpected key.*"other"'),
        ({"layer.weight": torch.ones(2, 4)}, "size mismatch for layer.weight"),
        ({"layer.bias": torch.ones(())}, "size mismatch for layer.bias"),
    ],
)
def test_weights_of_another_model_are_refused(
    module_form: Artifact, change: dict[str, torch.Tensor | None], message: str
) -> None:
    """Missing, surplus and misshapen tensors are named."""
    file = module_form.directory / WEIGHTS
    weights = {**load_file(file), **change}
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, file)
    with pytest.raises(BadArtifact, match=f"(?s)the weights in {WEIGHTS} are not those of .*{message}"):
        RUNTIME.load(module_form, Placement())


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_a_pickle_in_the_place_of_weights_is_refused(module_form: Artifact, marker: Path) -> None:
    """The weights are read as safetensors whatever they are: a pickle under that name is not run."""
    file = module_form.directory / WEIGHTS
    for write in (
        lambda: torch.save({"layer.weight": Payload(marker)}, file),
        lambda: file.write_bytes(pickle.dumps(Payload(marker))),
    ):
        write()
        with pytest.raises(BadArtifact, match="the weights in"):
            RUNTIME.load(module_form, Placement())
    assert not marker.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: (2**63).to_bytes(8, "little") + data[8:],
        lambda data: (len(data) * 2).to_bytes(8, "little") + data[8:],
        lambda data: data.replace(b'"F32"', b'"F99"', 1),
        lambda data: data.replace(b"[0,8]", b"[4,8]", 1),
    ],
    ids=["empty", "cut head", "cut", "appended", "head of 2^63", "head past the end", "no type", "hole"],
)
def test_damaged_weights_are_refused(module_form: Artifact, damage: Any) -> None:
    """A weight file that is not whole and well-formed is refused as such."""
    file = module_form.directory / WEIGHTS
    before = file.read_bytes()
    file.write_bytes(damage(before))
    assert file.read_bytes() != before
    with pytest.raises(BadArtifact, match="the weights in"):
        RUNTIME.load(module_form, Placement())


def test_a_tensor_that_no_file_can_bring_is_named(tmp_path: Path) -> None:
    """A buffer that is not persistent is in no weight file: the load says so instead of failing when it runs."""
    signature = Signature.parse({"x": "float32[batch, 3]"}, {"y": "float32[batch, 2]"}, {})
    sample = {"x": np.ones((2, 3), np.float32)}
    options = write_module(tmp_path, torch_models.Forgetful(), signature, [sample], {})
    with pytest.raises(BadArtifact, match=r"'steps' of .* register it as a persistent buffer"):
        load(tmp_path, signature, options)


def test_weights_that_are_shared_are_published(tmp_path: Path) -> None:
    """A module whose layers share a tensor is written and answers as it did."""
    module = torch_models.Tied()
    signature = Signature.parse({"ids": "int64[batch]"}, {"scores": "float32[batch, 5]"}, {})
    sample = {"ids": np.array([0, 3])}
    options = write_module(tmp_path, module, signature, [sample], {})
    expected = answer(module, sample)["output"]
    np.testing.assert_array_equal(load(tmp_path, signature, options).run(sample)["scores"], expected)


def brain(dtype: str) -> tuple[Signature, Tensors]:
    signature = Signature.parse(
        {"x": "bfloat16[batch, 1, 4]", "mask": "bfloat16[batch, 1]"}, {"y": f"{dtype}[batch, 2]"}, {}
    )
    x = np.linspace(-2, 2, 12).reshape(3, 1, 4)
    return signature, {"x": x.astype(DTYPES["bfloat16"]), "mask": np.ones((3, 1), DTYPES["bfloat16"])}


def test_bfloat16_is_shared_with_the_module_and_back() -> None:
    """Neither way is a copy made, whatever the layout; a tensor without elements or dimensions has no other rules."""
    array = np.arange(12).astype(DTYPES["bfloat16"]).reshape(3, 4)
    for each in (array, array.T, array[::2], array[:0], np.array(1.5, DTYPES["bfloat16"])):
        tensor = to_tensor(each)
        assert tensor.dtype == torch.bfloat16
        assert tensor.tolist() == each.tolist()
        back = to_array("x", tensor)
        assert (back.dtype, back.tolist()) == (each.dtype, each.tolist())
        assert not each.size or np.shares_memory(back, array if each.ndim else each)


@pytest.mark.parametrize(
    ("declared", "precision"), [("bfloat16", "float32"), ("bfloat16", "bfloat16"), ("float32", "bfloat16")]
)
def test_bfloat16_outputs_are_as_declared_at_any_precision(
    tmp_path: Path, declared: str, precision: str
) -> None:
    """Computing in reduced precision widens what is declared as float32, and leaves bfloat16 as it is."""
    signature, sample = brain(declared)
    options = write_module(tmp_path, torch_models.Brain(), signature, [sample], {})
    found = load(tmp_path, signature, {**options, "precision": precision}).run(sample)["y"]
    assert found.dtype == DTYPES[declared]


# -- what a module returns


def runner(result: Any, *outputs: str) -> Runner:
    return TorchRunner(lambda *_: result, (), outputs, torch.device("cpu"))


ONE, TWO = torch.ones(1), torch.full((1,), 2.0)


@pytest.mark.parametrize(
    "result", [(ONE, TWO), [ONE, TWO], {"b": TWO, "a": ONE}, {"c": ONE, "a": ONE, "b": TWO}], ids=repr
)
def test_outputs_go_by_name_in_a_mapping_and_else_by_order(result: Any) -> None:
    """A mapping is read by the declared names, a tuple or list in the declared order."""
    outputs = runner(result, "a", "b").run({})
    assert {name: array.tolist() for name, array in outputs.items()} == {"a": [1.0], "b": [2.0]}


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (ONE, "the module returned Tensor; it declares 2 output tensors: a, b"),
        ((ONE,), "returned 1 values"),
        ((ONE, TWO, ONE), "returned 3 values"),
        ((ONE, 2.0), "returned 2 values"),
        ({"a": ONE}, "returned a mapping of a;"),
        ({"a": ONE, "b": None}, "returned a mapping of a, b"),
        (None, "returned NoneType"),
    ],
    ids=repr,
)
def test_a_result_that_is_not_as_declared_is_the_model_s_failure(result: Any, message: str) -> None:
    """Too few, too many and other things than tensors are told apart from what was declared."""
    with pytest.raises(ModelFailed, match=message):
        runner(result, "a", "b").run({})


def test_a_model_runs_without_gradients_and_in_evaluation_mode(forms: Mapping[str, Artifact]) -> None:
    """No form keeps a graph for training, and dropout is off: two runs agree."""
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).train()
    x: Tensors = {"x": np.ones((1, 3), np.float32)}
    assert np.array_equal(answer(module, x)["output"], answer(module, x)["output"])


@pytest.mark.parametrize(("form", "file"), [("exported", "model.pt2"), ("module", "model.safetensors")])
def test_a_missing_file_is_told_by_its_name_alone(
    forms: Mapping[str, Artifact], tmp_path: Path, form: str, file: str
) -> None:
    """Callers see why a version does not load, so the message holds no path."""
    artifact = dataclasses.replace(forms[form], directory=tmp_path)
    with pytest.raises(BadArtifact, match=f"^{re.escape(file)} is missing$"):
        RUNTIME.load(artifact, Placement())


@pytest.mark.parametrize(("form", "file"), [("exported", "model.pt2"), ("module", "model.safetensors")])
def test_an_unreadable_file_is_told_without_its_path(
    forms: Mapping[str, Artifact], tmp_path: Path, form: str, file: str
) -> None:
    """What the system or torch says of a file is for the log."""
    (tmp_path / file).mkdir()
    with pytest.raises(BadArtifact, match=f"^{re.escape(file)} ") as refused:
        RUNTIME.load(dataclasses.replace(forms[form], directory=tmp_path), Placement())
    assert "/" not in refused.value.message


def test_an_output_that_no_array_can_hold_is_named() -> None:
    """NumPy has no float8: the model's failure names the output and its type."""
    runner = TorchRunner(lambda x: x.to(torch.float8_e5m2), ("x",), ("y",), torch.device("cpu"))
    with pytest.raises(ModelFailed, match=r"output 'y' is torch\.float8_e5m2"):
        runner.run({"x": np.ones(2, np.float32)})
