"""The repository: names are checked before any file is touched, and a reader sees whole versions or none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.names import BAD_NAMES, touched

from maas.errors import BadArtifact, InvalidRequest, ModelNotFound
from maas.models.manifest import MANIFEST
from maas.models.repository import Repository, StoredVersion

Seal = Callable[..., StoredVersion]


def test_the_watch_sees_file_access(tmp_path: Path) -> None:
    """The hook that the tests below rely on notices opening and listing."""
    (tmp_path / "file").write_text("")
    with touched() as paths:
        (tmp_path / "file").read_text()
        list(tmp_path.iterdir())
    assert paths == [str(tmp_path / "file"), str(tmp_path)]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:20])
def test_a_bad_name_touches_no_file(repository: Repository, name: str) -> None:
    """A name that does not match the pattern is refused before any file is opened or listed."""
    with touched() as paths:
        for call in (repository.versions, repository.read):
            with pytest.raises(InvalidRequest, match="is no model name"):
                call(name)
    assert paths == []


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=70) | st.sampled_from(BAD_NAMES),
    version=st.text(max_size=40) | st.sampled_from(BAD_NAMES),
)
def test_no_name_leads_out_of_the_repository(repository: Repository, name: str, version: str) -> None:
    """Whatever name and version are asked for, only the repository is read."""
    root = str(repository.root)
    with touched() as paths, pytest.raises((InvalidRequest, ModelNotFound)):
        repository.read(name, version)
    assert all(os.path.realpath(path).startswith(root + os.sep) for path in paths)


@pytest.mark.parametrize("version", BAD_NAMES, ids=lambda name: ascii(name)[:20])
def test_a_bad_version_is_not_found(seal: Seal, repository: Repository, version: str) -> None:
    """A version is one of those that are there; a path to one is none."""
    seal("model", "1")
    with touched() as paths, pytest.raises(ModelNotFound):
        repository.read("model", version)
    assert paths == [str(repository.root / "model")]


def test_what_is_no_version_is_not_listed(seal: Seal, repository: Repository) -> None:
    """Drafts, folders without a manifest, files and odd names are neither models nor versions."""
    seal("model", "1")
    for folder in (".publishing-x", "empty", "model/2", "model/.hidden", "model/no version", "no name/1"):
        (repository.root / folder).mkdir(parents=True)
    (repository.root / "no name/1" / MANIFEST).write_text("")
    (repository.root / "model/no version" / MANIFEST).write_text("")
    (repository.root / "file").write_text("")
    (repository.root / "model/3").write_text("")
    assert repository.models() == ["model"]
    assert repository.versions("model") == ["1"]


def test_a_repository_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """No folder, or a file in its place, is a repository without models."""
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "missing", tmp_path / "file"):
        assert Repository(root).models() == []
        assert Repository(root).versions("model") == []
        with pytest.raises(ModelNotFound):
            Repository(root).read("model")


@pytest.mark.parametrize(
    ("versions", "highest"),
    [
        (["9", "10"], "10"),
        (["1.9", "1.10"], "1.10"),
        (["1.9", "2"], "2"),
        (["1", "1.0.1"], "1.0.1"),
        (["3", "beta", "10-rc1"], "3"),
        (["2", "00010"], "00010"),
    ],
)
def test_the_highest_version_is_the_default(
    seal: Seal, repository: Repository, versions: list[str], highest: str
) -> None:
    """Dotted numbers compare as numbers; other names are never chosen."""
    for version in versions:
        seal("model", version)
    assert repository.read("model").manifest.version == highest
    assert repository.versions("model") == sorted(versions)


def test_names_are_never_chosen_by_default(seal: Seal, repository: Repository) -> None:
    """A model whose versions are all names has no default; each is found by name."""
    seal("model", "beta")
    assert repository.read("model", "beta").label == "model/beta"
    with pytest.raises(
        ModelNotFound, match=r"no version that would be the default of model 'model'; it has \['beta'\]"
    ):
        repository.read("model")


def test_names_are_case_sensitive(seal: Seal, repository: Repository) -> None:
    """Another case is another model."""
    seal("Model", "1")
    with pytest.raises(ModelNotFound):
        repository.read("model", "1")


def test_the_manifest_of_another_version_is_refused(seal: Seal, repository: Repository) -> None:
    """A folder that was copied or renamed is not the version it says it is."""
    seal("model", "1").directory.rename(repository.root / "model" / "2")
    with pytest.raises(BadArtifact, match="model/2 holds the manifest of model/1"):
        repository.read("model", "2")


@pytest.mark.parametrize("damage", [b"", b"a: [", b"\xff\xfe", b"name: model"])
def test_a_broken_manifest_is_a_bad_artifact(seal: Seal, repository: Repository, damage: bytes) -> None:
    """A manifest that cannot be read is refused when its version is, not when the model is listed."""
    (seal("model", "1").directory / MANIFEST).write_bytes(damage)
    assert repository.versions("model") == ["1"]
    with pytest.raises(BadArtifact):
        repository.read("model", "1")


def test_the_digest_covers_the_manifest(seal: Seal, repository: Repository) -> None:
    """The digest is the manifest's, which holds the hashes of all files: another manifest is another digest."""
    import hashlib

    one, two = seal("model", "1"), seal("model", "2")
    assert one.digest == hashlib.sha256((one.directory / MANIFEST).read_bytes()).hexdigest()
    assert one.digest != two.digest
    assert repository.read("model", "1").digest == one.digest
