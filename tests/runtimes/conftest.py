"""The same model in all forms, and the number of torch's threads as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.assets import plain_models, torch_models
from tests.engines import skip_without

from maas.runtimes.contract import Artifact
from maas.runtimes.golden import GOLDEN
from maas.runtimes.python import write_class
from maas.runtimes.torch.export import write_exported, write_module
from maas.runtimes.torch.onnx import write_onnx
from maas.types import Signature

FORMS = ("exported", "module", "python", "onnxruntime", "openvino")
SIGNATURE = Signature.parse(
    {"x": "float32[batch, 3]"}, {"y": "float32[batch, 2]", "total": "float32[batch]"}, {}
)
CODE = ("tests.assets",)


@pytest.fixture(scope="session")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Artifact]:
    """A version's files in each form; tests copy what they change."""
    sample = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)}
    written = {}
    for form in FORMS:
        directory = tmp_path_factory.mktemp(form)
        torch.manual_seed(0)
        if form == "exported":
            options = write_exported(directory, torch_models.Affine(), SIGNATURE, [sample])
        elif form == "module":
            options = write_module(
                directory, torch_models.Affine(features=3), SIGNATURE, [sample], {"features": 3}
            )
        elif form == "python":
            options = write_class(directory, plain_models.Affine, SIGNATURE, [sample], {"gain": 0.5})
        else:
            options = write_converted(directory, written["exported"], form)
        written[form] = Artifact(directory, SIGNATURE, options, CODE)
    return written


def write_converted(directory: Path, exported: Artifact, runtime: str) -> dict[str, str]:
    """The exported model as ONNX, for an engine that may not be installed here."""
    if find_spec("onnxscript") is not None:
        sample = {"x": np.ones((2, 3), np.float32)}
        write_onnx(directory, exported, sample)
        shutil.copy(exported.directory / GOLDEN, directory)
    return {"name": runtime}


@pytest.fixture(params=FORMS)
def artifact(request: pytest.FixtureRequest, forms: Mapping[str, Artifact]) -> Artifact:
    if request.param in ("onnxruntime", "openvino"):
        skip_without("onnxscript")
        skip_without(request.param)
    return forms[request.param]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that exists only if code has run that must not."""
    return tmp_path / "marker"


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Loading sets the number of torch's threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
