"""Code runs only where the operator has named it, and is refused before it is imported."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from maas import runtimes
from maas.errors import BadArtifact, Forbidden
from maas.runtimes.code import import_class, path_of
from maas.runtimes.contract import Artifact, Placement

CANARY = "tests.assets.canary"


@pytest.fixture
def canary(marker: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The marker that importing the canary would leave."""
    monkeypatch.setenv("CANARY", str(marker))
    monkeypatch.delitem(sys.modules, CANARY, raising=False)
    return marker


@pytest.mark.parametrize("name", ["python", "torch"])
@pytest.mark.parametrize(
    "allowed", [(), ("tests.assets.plain_models",), ("tests.assets.can",), ("",), ("*",)]
)
def test_code_that_is_not_allowed_is_refused_before_it_is_imported(
    name: str, allowed: tuple[str, ...], forms: Mapping[str, Artifact], canary: Path
) -> None:
    """A class outside `allow_code` is refused by name and its module is not touched, in every form that is code."""
    options = {"format": "module", "module": f"{CANARY}:Canary", "class": f"{CANARY}:Canary"}
    artifact = dataclasses.replace(forms["module"], options=options, allow_code=allowed)
    with pytest.raises(Forbidden, match=f"add '{CANARY}' to allow_code if you trust it"):
        runtimes.runtime(name).load(artifact, Placement())
    assert not canary.exists()
    assert CANARY not in sys.modules


@pytest.mark.parametrize("allowed", ["tests", "tests.assets", CANARY])
def test_allowed_code_is_imported(allowed: str, canary: Path) -> None:
    """A prefix allows its module and what is below it; the canary does sing."""
    assert import_class(f"{CANARY}:Canary", [allowed]).__name__ == "Canary"
    assert canary.exists()


@pytest.mark.parametrize(
    "path",
    [
        "maas.errors:MaasError",
        "maas.models.publishing:Path",
        "maas.training_of_mine:Model",
        "maas:Client",
        "os:PathLike",
        "builtins:type",
        "subprocess:Popen",
        "torch.nn:Linear",
    ],
)
def test_of_maas_itself_only_recipes_are_trusted(path: str, forms: Mapping[str, Artifact]) -> None:
    """Without any permission a module path may lead into `maas.training` and nowhere else."""
    options = {"format": "module", "module": path, "arguments": {"args": ["true"]}}
    artifact = dataclasses.replace(forms["module"], options=options, allow_code=())
    with pytest.raises(Forbidden, match="which the configuration does not allow"):
        runtimes.runtime("torch").load(artifact, Placement())


@pytest.mark.parametrize("path", ["maas.training.recipe:Recipe", "maas.training.publishing:Path"])
def test_a_trusted_module_gives_modules_only(path: str, forms: Mapping[str, Artifact]) -> None:
    """A class that is no `torch.nn.Module` is refused, whatever else a recipe's file holds."""
    artifact = dataclasses.replace(
        forms["module"], options={"format": "module", "module": path}, allow_code=()
    )
    with pytest.raises(BadArtifact, match=r"is no torch\.nn\.Module"):
        runtimes.runtime("torch").load(artifact, Placement())


def test_a_python_class_of_maas_needs_permission_too(forms: Mapping[str, Artifact]) -> None:
    """The `python` runtime trusts no module by itself, `maas.training` included."""
    artifact = dataclasses.replace(
        forms["python"], options={"class": "maas.training.recipe:Recipe"}, allow_code=()
    )
    with pytest.raises(Forbidden):
        runtimes.runtime("python").load(artifact, Placement())


@pytest.mark.parametrize(
    "path", ["", ":", "Class", "tests.assets:", ":Class", "tests.assets:a.b", "tests:a:b"]
)
def test_what_names_no_class_is_refused(path: str) -> None:
    """A path must be `package.module:Class`."""
    with pytest.raises(BadArtifact, match="names no class"):
        import_class(path, ["tests"])


def test_a_class_that_no_other_process_can_import_is_refused() -> None:
    """A class of `__main__`, of a function or of another class cannot be named, and the message says what to do."""

    class Local:
        pass

    interactive = type("Model", (), {"__module__": "__main__"})
    for cls in (Local, interactive):
        with pytest.raises(BadArtifact, match="put it into a module of its own"):
            path_of(cls)
    assert path_of(Artifact) == "maas.runtimes.contract:Artifact"


def test_a_failed_import_names_the_module_and_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's own text of an ImportError holds a path of the machine: it goes to the log, not to the caller."""
    (tmp_path / "wants_much.py").write_text("from json import no_such_thing\n")
    (tmp_path / "wants_more.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        BadArtifact, match=r"module 'wants_much' cannot be imported: .* over 'json'$"
    ) as refused:
        import_class("wants_much:Model", ["wants_much"])
    assert "/" not in refused.value.message
    assert "no_such_thing" in refused.value.trace
    with pytest.raises(BadArtifact, match=r"there is no module 'no_such_package'$"):
        import_class("wants_more:Model", ["wants_more"])
