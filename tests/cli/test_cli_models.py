"""`maas models` against a running server: what people and programs see, and what ends with 1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.assets import worker_models
from tests.cli.test_cli import Run, assert_one_sentence, run
from tests.test_server import Server, serving
from tests.versions import store

__all__ = ["run"]  # the fixture


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two versions of two models are served, one of which comes and goes; a third is broken."""
    folder = tmp_path_factory.mktemp("models-command")
    for version in ("1", "2"):
        store(folder / "models", version=version)
        store(folder / "models", name="passing", version=version)
    (store(folder / "models", name="torn").directory / "golden.safetensors").write_bytes(b"torn")
    pair = np.ones((2, 2), np.float32)
    optional = {"x": "float32[batch, 2]", "by": "float32[batch, 2] = 3"}
    store(
        folder / "models",
        worker_models.Product,
        name="product",
        inputs=optional,
        sample={"x": pair, "by": pair * 5},
    )
    with serving(folder / "models", folder) as running:
        yield running


def test_versions_are_listed_for_people(run: Run, server: Server) -> None:
    """A table with the state of each version, which is the default, and why one is not ready."""
    code, output, error = run("models", "list", "--url", server.url)
    lines = [line for line in output.splitlines() if line.split()[0] not in ("passing", "product", "new")]
    assert (code, error) == (0, "")
    assert lines[0].split() == ["NAME", "VERSION", "STATE", "DEFAULT", "REASON"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["model", "1", "ready"],
        ["model", "2", "ready"],
        ["torn", "1", "failed"],
    ]
    assert lines[1].split()[3:] == []
    assert lines[2].split()[3:] == ["yes"]
    assert "was altered" in lines[3]
    assert len({line.index("ready") for line in lines[1:3]} | {lines[0].index("STATE")}) == 1


def test_versions_are_listed_for_programs(run: Run, server: Server) -> None:
    """The same as JSON, as the server says it."""
    code, output, _ = run("models", "list", "--json", "--url", server.url)
    assert code == 0
    assert json.loads(output) == server.get("/models").json()["models"]


def test_versions_are_unloaded_and_loaded(run: Run, server: Server) -> None:
    """One by its version, all by the model's name; loading returns when it is ready."""
    url = ("--url", server.url)
    assert run("models", "unload", "passing/1", *url) == (0, "passing/1 is draining\n", "")
    assert server.post("/predict/passing/versions/1", {"x": [1, 2]}).status_code == 404
    assert run("models", "load", "passing/1", *url) == (0, "passing/1 is ready\n", "")
    assert run("models", "unload", "passing", *url)[1].splitlines() == [
        "passing/2 is draining",
        "passing/1 is draining",
    ]
    assert server.post("/predict/passing", {"x": [1, 2]}).status_code == 404
    for version in ("1", "2"):
        assert run("models", "load", f"passing/{version}", *url)[0] == 0
    assert server.post("/predict/passing", {"x": [1, 2]}).headers["x-model-version"] == "passing/2"


def test_new_version_is_found_by_refresh(run: Run, server: Server) -> None:
    """What was published meanwhile is loaded, and named."""
    repository = Path(json.loads((server.log.parent / "maas.yaml").read_text())["repository"])
    store(repository, name="new")
    code, output, _ = run("models", "refresh", "--url", server.url)
    assert code == 0
    assert "new/1 is loading" in output.splitlines()
    assert run("models", "load", "new", "--url", server.url) == (0, "new/1 is ready\n", "")
    assert run("models", "unload", "new", "--url", server.url)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("load", "torn"), "torn/1 is failed: "),
        (("load", "nobody"), "model 'nobody'"),
        (("load", "model/9"), "model 'model'"),
        (("load", "no name"), "'no name' is no model name"),
        (("unload", "nobody"), "there is no model 'nobody'"),
        (("list", "--url", "http://127.0.0.1:9"), "no connection to http://127.0.0.1:9"),
        (("refresh", "--url", "nowhere"), "'nowhere' is no URL of a server"),
    ],
    ids=str,
)
def test_what_does_not_work_is_one_sentence(
    run: Run, server: Server, arguments: tuple[str, ...], message: str
) -> None:
    """Exit code 1 and the reason, the server's own where it has one."""
    where = () if "--url" in arguments else ("--url", server.url)
    code, output, error = run("models", *arguments, *where)
    assert (code, output) == (1, "")
    assert_one_sentence(error)
    assert message in error


def test_input_with_a_default_may_be_left_out(run: Run, server: Server) -> None:
    """The real model is given the default, or what the caller says; without the other input there is nothing to run."""
    predict = ("predict", "product", "--url", server.url, "--json")
    assert run(*predict, '{"x": [[1, 2], [3, 4]]}') == (0, '{"y":[[3.0,6.0],[9.0,12.0]]}\n', "")
    assert run(*predict, '{"x": [1, 2], "by": [1, 0]}') == (0, '{"y":[1.0,0.0]}\n', "")
    code, _, error = run(*predict, '{"by": [1, 0]}')
    assert code == 1
    assert "input 'x' is missing; the model takes x, by (or else 3.0)" in error
