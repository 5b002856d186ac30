"""Verifying: a version on disk is what was published, or the file that is not is named."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.models.conftest import CODE, describe, fill

from maas import cli
from maas.errors import BadArtifact, MaasError
from maas.models.manifest import MANIFEST, to_yaml
from maas.models.publishing import publish
from maas.models.repository import Repository, StoredVersion
from maas.models.verification import load_frame, verify
from maas.runtimes.contract import Placement
from maas.runtimes.golden import GOLDEN
from maas.workers.child import Model, check_hashes
from maas.workers.frames import Loaded


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one version; tests copy what they change."""
    root = tmp_path_factory.mktemp("published")
    publish(Repository(root), "model", describe(), fill, allow_code=CODE)
    return root


@pytest.fixture
def stored(published: Path, tmp_path: Path) -> StoredVersion:
    shutil.copytree(published, tmp_path / "copy")
    return Repository(tmp_path / "copy").read("model")


def load_here(stored: StoredVersion) -> Loaded:
    """What a model process does to load, without the process."""
    frame = load_frame(stored, Placement(), max_batch_size=4, allow_code=CODE)
    return Model.load(frame)[1]


def test_a_version_as_published_is_verified(stored: StoredVersion) -> None:
    """Hashes and golden samples agree in a process of its own, also called from within a running loop."""

    async def from_a_notebook() -> float:
        return verify(stored, allow_code=CODE)

    assert asyncio.run(from_a_notebook()) > 0


def alter(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", [GOLDEN, "notes.txt"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (alter, "was altered: its SHA-256 is [0-9a-f]{64}, the manifest says [0-9a-f]{64}"),
        (lambda file: file.write_bytes(b""), "was altered"),
        (lambda file: file.write_bytes(file.read_bytes() + b"\n"), "was altered"),
        (Path.unlink, "cannot be read: No such file or directory"),
        (lambda file: (file.unlink(), file.mkdir()), "is no plain file that the manifest lists"),
    ],
    ids=["flipped", "emptied", "appended", "missing", "folder"],
)
def test_an_altered_or_missing_file_is_named(
    stored: StoredVersion, name: str, damage: Callable[[Path], object], message: str
) -> None:
    """Each file is hashed before anything of the version is opened, needed or not."""
    damage(stored.directory / name)
    with pytest.raises(BadArtifact, match=f"^(file )?'{name}' {message}") as caught:
        load_here(stored)
    assert str(stored.directory) not in caught.value.message


def test_nothing_is_loaded_before_its_hash_is_checked(
    stored: StoredVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An altered file keeps the model's code from being imported at all."""
    import sys

    canary = "tests.assets.canary"
    monkeypatch.setenv("CANARY", str(tmp_path / "marker"))
    monkeypatch.delitem(sys.modules, canary, raising=False)
    changed = stored.manifest.model_copy(
        update={"runtime": describe(runtime={"name": "python", "class": f"{canary}:Canary"}).runtime}
    )
    alter(stored.directory / "notes.txt")
    with pytest.raises(BadArtifact, match=r"notes\.txt"):
        load_here(StoredVersion(stored.directory, changed, ""))
    assert not (tmp_path / "marker").exists()


def test_hashes_are_of_whole_files(tmp_path: Path) -> None:
    """Every file is hashed to its end; a hash of another length never agrees."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / GOLDEN).write_bytes(b"")
    check_hashes(tmp_path, {GOLDEN: empty})
    with pytest.raises(BadArtifact, match="altered"):
        check_hashes(tmp_path, {GOLDEN: empty[:-1]})


def test_nothing_lies_beside_what_the_manifest_lists(tmp_path: Path) -> None:
    """A file that no hash covers, a link, a pipe, or a manifest without golden samples: not this version."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / GOLDEN).write_bytes(b"")
    (tmp_path / "extra").write_bytes(b"")
    with pytest.raises(BadArtifact, match="'extra' is no plain file that the manifest lists"):
        check_hashes(tmp_path, {GOLDEN: empty})
    (tmp_path / "extra").unlink()
    (tmp_path / "extra").symlink_to(tmp_path / GOLDEN)
    with pytest.raises(BadArtifact, match="'extra' is no plain file"):
        check_hashes(tmp_path, {GOLDEN: empty, "extra": empty})
    (tmp_path / "extra").unlink()
    (tmp_path / GOLDEN).unlink()
    with pytest.raises(BadArtifact, match=r"does not list golden\.safetensors"):
        check_hashes(tmp_path, {})


def test_a_loaded_version_brings_an_example(stored: StoredVersion) -> None:
    """The first row of the golden sample is what people are shown to try."""
    loaded = load_here(stored)
    assert loaded.example_inputs == {"x": [1, 2, 3]}
    assert json.loads(json.dumps(loaded.example_outputs)) == {"y": [22, 28], "total": 50}


# -- the command


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """`maas verify …` as a person runs it; the exit code."""
    monkeypatch.setattr("sys.argv", ["maas", "verify", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_says_what_agrees(
    stored: StoredVersion, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`maas verify NAME` proves the highest version and tells its digest and the tolerance it agrees within."""
    root = stored.directory.parent.parent
    code = run(monkeypatch, "model", "--repository", str(root), "--allow-code", "tests.assets")
    output = capsys.readouterr().out
    assert code == 0
    assert "model/1 is as published: 2 files, loaded in" in output
    assert f"digest {stored.digest}" in output
    assert "golden samples agree within float32: 0.0001 relative, 1e-05 absolute" in output


def test_the_command_refuses_an_altered_version(
    stored: StoredVersion, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An altered file ends the command with 1 and the file's name, in one sentence."""
    alter(stored.directory / "notes.txt")
    root = stored.directory.parent.parent
    code = run(monkeypatch, "model/1", "--repository", str(root), "--allow-code", "tests.assets")
    captured = capsys.readouterr()
    assert code == 1
    assert captured.out == ""
    assert captured.err.startswith("Error: file 'notes.txt' was altered: ")
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("model/2", "the repository has no version '2' of model 'model'"),
        ("other", "of model 'other'; it has []"),
        ("../model", "'..' is no model name"),
        ("model/../model/1", "the repository has no version '../model/1'"),
        ("", "'' is no model name"),
    ],
)
def test_the_command_names_what_is_not_there(
    stored: StoredVersion,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: str,
    message: str,
) -> None:
    """An unknown or impossible model or version is told in one sentence."""
    assert run(monkeypatch, model, "--repository", str(stored.directory.parent.parent)) == 1
    captured = capsys.readouterr()
    assert message in captured.err


def test_a_version_sealed_anew_is_verified_by_its_new_hashes(stored: StoredVersion) -> None:
    """The manifest's hashes are what counts: with a hash of the altered file the version loads, under another digest."""
    import hashlib

    alter(stored.directory / "notes.txt")
    files = dict(stored.manifest.files)
    files["notes.txt"] = hashlib.sha256((stored.directory / "notes.txt").read_bytes()).hexdigest()
    (stored.directory / MANIFEST).write_text(to_yaml(stored.manifest.model_copy(update={"files": files})))
    again = Repository(stored.directory.parent.parent).read("model", "1")
    assert again.digest != stored.digest
    load_here(again)


def test_an_error_of_the_tree_comes_through_the_process(stored: StoredVersion) -> None:
    """What a model process refuses is raised here as the same error."""
    with pytest.raises(MaasError, match="to allow_code if you trust it") as caught:
        verify(stored)
    assert caught.value.code == "forbidden"
