"""`maas openapi`: the document of a repository without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.cli.test_cli import Run, assert_one_sentence, run
from tests.test_server import Server, serving
from tests.versions import store

__all__ = ["run"]  # the fixture


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of one model and one of another."""
    repository = tmp_path_factory.mktemp("openapi-command") / "models"
    for name, version in (("model", "1"), ("model", "2"), ("other", "1")):
        store(repository, name=name, version=version)
    return repository


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serving(models, models.parent) as running:
        yield running


def test_document_is_the_one_that_a_server_has(run: Run, models: Path, server: Server) -> None:
    """With examples, and with the highest version as the default: the same text, to the order of its members."""
    code, output, error = run("openapi", "--repository", str(models))
    assert (code, error) == (0, "")
    assert json.dumps(json.loads(output)) == json.dumps(server.get("/openapi.json").json())
    media = json.loads(output)["paths"]["/predict/model"]["post"]["requestBody"]["content"]
    assert media["application/json"]["example"] == {"x": [1, 1]}


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        ("model", ["/predict/model", "/predict/model/versions/1", "/predict/model/versions/2"]),
        ("other", ["/predict/other", "/predict/other/versions/1"]),
        ("model/2", ["/predict/model", "/predict/model/versions/2"]),
    ],
)
def test_document_of_one_model_has_its_operations_alone(
    run: Run, models: Path, wanted: str, paths: list[str]
) -> None:
    """Of the typed operations; what any model answers is there as always. It is valid."""
    code, output, _ = run("openapi", "--model", wanted, "--repository", str(models))
    document = json.loads(output)
    OpenAPIV31SpecValidator(document).validate()
    assert code == 0
    assert sorted(path for path in document["paths"] if path.startswith("/predict/")) == paths
    assert "/v2/models/{model}/infer" in document["paths"]


def test_names_of_one_model_are_those_that_it_has_among_all(run: Run, tmp_path: Path) -> None:
    """Also where another model's name is the same to a generator."""
    for name in ("a-b", "a_b", "other"):
        store(tmp_path, name=name)
    whole, one = (
        json.loads(run("openapi", "--repository", str(tmp_path), *options)[1])
        for options in ((), ("--model", "a_b"))
    )
    path = "/predict/a_b/versions/1"
    assert "/predict/a-b" not in one["paths"]
    assert one["paths"][path] == whole["paths"][path]
    ids = [operation["operationId"] for methods in whole["paths"].values() for operation in methods.values()]
    assert len({name.replace("-", "_") for name in ids}) == len(ids)


@pytest.mark.parametrize("wanted", ["none", "model/7", "no name"])
def test_model_that_is_not_there_is_one_sentence(run: Run, models: Path, wanted: str) -> None:
    """With exit code 1, and nothing on standard output."""
    code, output, error = run("openapi", "--model", wanted, "--repository", str(models))
    assert (code, output) == (1, "")
    assert_one_sentence(error)


def test_version_that_was_altered_is_left_out_and_named(run: Run, tmp_path: Path) -> None:
    """The others are described; asked for by name it is an error."""
    store(tmp_path)
    (store(tmp_path, name="torn").directory / "golden.safetensors").write_bytes(b"torn")
    code, output, error = run("openapi", "--repository", str(tmp_path))
    assert code == 0
    assert "/predict/model" in json.loads(output)["paths"]
    assert "/predict/torn" not in json.loads(output)["paths"]
    assert "torn/1" in error
    assert "was altered" in error
    code, output, error = run("openapi", "--model", "torn", "--repository", str(tmp_path))
    assert (code, output) == (1, "")
    assert_one_sentence(error)
    assert "was altered" in error


def test_no_engine_is_loaded(models: Path) -> None:
    """The command reads manifests and golden samples; neither an engine nor a model's own code is imported."""
    code = (
        f"import sys\nsys.argv = ['maas', 'openapi', '--repository', {str(models)!r}]\n"
        "from maas.cli import app\napp(standalone_mode=False)\n"
        "loaded = {'torch', 'onnxruntime', 'openvino', 'tests.assets.worker_models'} & sys.modules.keys()\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
