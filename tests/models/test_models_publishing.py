"""Publishing: a version is there whole and proven, or not at all, and for good."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.conftest import CODE, describe, fill, tree

from maas.errors import BadArtifact, Forbidden, InvalidRequest, MaasError, ModelFailed
from maas.models import publishing
from maas.models.manifest import MANIFEST, Batching, Description, RuntimeOptions
from maas.models.publishing import copy_files, publish, record_golden
from maas.models.repository import Repository, StoredVersion
from maas.runtimes.golden import GOLDEN, load_golden
from maas.types import Bounds

Seal = Callable[..., StoredVersion]


def test_a_version_is_published_and_proven(repository: Repository) -> None:
    """Without any shortcut: the files are hashed, the model answers its golden sample in a process, and is there."""
    stored = publish(repository, "model", describe(), fill, allow_code=CODE)
    assert stored.label == "model/1"
    assert stored.directory == repository.root / "model" / "1"
    assert sorted(stored.manifest.files) == [GOLDEN, "notes.txt"]
    assert stored.manifest.files["notes.txt"] == hashlib.sha256(b"notes").hexdigest()
    assert os.listdir(repository.root) == ["model"]


def test_versions_are_numbered_on(seal: Seal) -> None:
    """The next version is one more than the highest whole number that any begins with."""
    assert seal("model").manifest.version == "1"
    assert seal("model").manifest.version == "2"
    assert seal("model", "7.5").manifest.version == "7.5"
    assert seal("model", "beta").manifest.version == "beta"
    assert seal("model").manifest.version == "8"
    assert seal("other").manifest.version == "1"


def test_a_version_can_be_read_by_the_server_s_user(seal: Seal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are 0755 and files 0644 whatever the publisher's own files and mask are."""
    before = os.umask(0o077)
    try:
        stored = seal("model")
    finally:
        os.umask(before)
    assert mode(stored.directory) == 0o755
    assert {mode(path) for path in stored.directory.iterdir()} == {0o644}
    assert mode(stored.directory.parent) == 0o755


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- what fails leaves nothing


def refuse(draft: Path) -> None:
    raise BadArtifact("no files today")


def wrong(draft: Path) -> None:
    fill(draft)
    (draft / "weights.json").write_text("[[1, 2], [3, 4], [5, 7]]")


@pytest.mark.parametrize(
    ("changes", "make", "code", "error", "message"),
    [
        ({}, refuse, CODE, BadArtifact, "no files today"),
        ({}, fill, (), Forbidden, "add 'tests.assets.plain_models' to allow_code"),
        ({}, wrong, CODE, BadArtifact, "sample 0 gives output 'y' off its golden value by"),
        ({}, lambda draft: None, CODE, BadArtifact, GOLDEN),
        (
            {"outputs": {"z": "float32[batch]"}},
            fill,
            CODE,
            BadArtifact,
            "does not hold samples of this model",
        ),
        ({"runtime": {"name": "nothing"}}, fill, CODE, BadArtifact, "runtime 'nothing' is unknown"),
        (
            {
                "runtime": {
                    "name": "python",
                    "class": "tests.assets.plain_models:Affine",
                    "arguments": {"no": 1},
                }
            },
            fill,
            CODE,
            ModelFailed,
            "the model raised TypeError",
        ),
        (
            {
                "inputs": {"x": "float32[batch, n]"},
                "dimensions": {"n": Bounds(max=3)},
                "batching": Batching(max_batch_cost=2),
            },
            fill,
            CODE,
            BadArtifact,
            "max_batch_cost is 2; one row of the greatest declared lengths costs 3",
        ),
    ],
    ids=["files", "code", "answer", "golden", "outputs", "runtime", "arguments", "cost"],
)
def test_a_version_that_cannot_be_proven_leaves_the_repository_as_it_was(
    repository: Repository,
    changes: dict[str, Any],
    make: Callable[[Path], None],
    code: tuple[str, ...],
    error: type[MaasError],
    message: str,
) -> None:
    """Whatever is wrong with a version, no draft and no folder of it is left behind."""
    repository.root.mkdir()
    (repository.root / "README").write_text("mine")
    before = tree(repository.root)
    with pytest.raises(error, match=message):
        publish(repository, "model", describe(**changes), make, allow_code=code)
    assert tree(repository.root) == before


@pytest.mark.parametrize("step", ["_hash_files", "_seal", "_reveal", "_sync_folder"])
@pytest.mark.parametrize("there", [False, True], ids=["first version", "second version"])
def test_an_error_at_any_step_leaves_the_repository_as_it_was(
    seal: Seal, repository: Repository, monkeypatch: pytest.MonkeyPatch, step: str, there: bool
) -> None:
    """A full disk, or an interruption, at any step before the version is visible undoes all steps before."""
    repository.root.mkdir()
    if there:
        seal("model")
    before = tree(repository.root)
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:

            def fail(*_: object, error: BaseException = error) -> None:
                raise error

            patch.setattr(publishing, step, fail)
            with pytest.raises(type(error)):
                seal("model")
        assert tree(repository.root) == before


def test_a_reader_sees_a_version_only_when_it_is_whole(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the files are written and proven there is no such version; then all of it is there."""
    seen = []
    monkeypatch.setattr(
        publishing,
        "verify",
        lambda stored, **_: seen.append((repository.models(), repository.versions("model"))),
    )

    def slowly(draft: Path) -> None:
        fill(draft)
        seen.append((repository.models(), repository.versions("model")))

    publish(repository, "model", describe(), slowly)
    assert seen == [([], []), ([], [])]
    assert repository.versions("model") == ["1"]


# -- what is there stays


def test_a_version_is_never_overwritten(seal: Seal, repository: Repository) -> None:
    """A version that exists is refused by name before anything is done, and stays as it was."""
    seal("model", "1")
    before = tree(repository.root)
    with pytest.raises(InvalidRequest, match="model/1 exists; a published version is never overwritten"):
        seal("model", "1")
    assert tree(repository.root) == before


def race(repository: Repository, monkeypatch: pytest.MonkeyPatch, version: str | None) -> list[Any]:
    """What two publishers get who are both about to reveal their version."""
    barrier = threading.Barrier(2, timeout=20)
    monkeypatch.setattr(publishing, "verify", lambda stored, **_: barrier.wait())

    def one(_: int) -> Any:
        try:
            return publish(repository, "model", describe(), fill, version=version).manifest.version
        except MaasError as error:
            return error

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(one, range(2)))


def test_two_publishers_at_once_make_two_versions(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes second by a hair gets the next number; each manifest names its own version."""
    assert sorted(race(repository, monkeypatch, None)) == ["1", "2"]
    assert [repository.read("model", version).label for version in ("1", "2")] == ["model/1", "model/2"]
    assert os.listdir(repository.root) == ["model"]


def test_two_publishers_of_one_version_make_one(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both ask for the same version the second is refused, not renamed."""
    outcomes = race(repository, monkeypatch, "5")
    assert sorted(map(type, outcomes), key=str) == sorted([str, InvalidRequest], key=str)
    assert repository.versions("model") == ["5"]


@pytest.mark.parametrize("junk", ["folder", "file"])
def test_what_lies_in_the_way_is_neither_overwritten_nor_a_version(
    seal: Seal, repository: Repository, junk: str
) -> None:
    """A foreign file or folder under a version's name is kept: the next number goes past it, its own is refused."""
    place = repository.root / "model" / "1"
    (place if junk == "folder" else place.parent).mkdir(parents=True)
    (place / "mine" if junk == "folder" else place).write_text("mine")
    before = tree(repository.root)
    with pytest.raises(InvalidRequest, match="model/1 exists"):
        seal("model", "1")
    assert tree(repository.root) == before
    assert seal("model").manifest.version == "2"


# -- names


def test_names_that_differ_only_in_case_are_refused(seal: Seal, repository: Repository) -> None:
    """Two models whose names a careless file system would mix up cannot both be there."""
    seal("ResNet")
    with pytest.raises(InvalidRequest, match="model 'resnet' differs from 'ResNet' only in case"):
        seal("resnet")
    assert seal("ResNet").manifest.version == "2"
    assert os.listdir(repository.root) == ["ResNet"]


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", ".hidden", "a" * 65, "naïve"])
def test_a_bad_name_makes_nothing(seal: Seal, repository: Repository, name: str) -> None:
    """A name that is none is refused before the repository is touched, as is a version that is none."""
    with pytest.raises(InvalidRequest, match="is no model name"):
        seal(name)
    with pytest.raises(InvalidRequest, match="is no version"):
        seal("model", name)
    assert not repository.root.exists()


# -- where files come from


def test_plain_files_are_copied_without_the_description(tmp_path: Path) -> None:
    """A folder's files are copied but for its model.yaml, which becomes the manifest."""
    source, draft = tmp_path / "source", tmp_path / "draft"
    source.mkdir()
    draft.mkdir()
    for name in (MANIFEST, "a", "b"):
        (source / name).write_text(name)
    copy_files(source)(draft)
    assert tree(draft) == {"a": b"a", "b": b"b"}


@pytest.mark.parametrize("kind", ["link", "broken link", "link to a folder", "folder", "pipe"])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Links may point anywhere, now or later; a version holds plain files and nothing else."""
    source, draft = tmp_path / "source", tmp_path / "draft"
    source.mkdir()
    draft.mkdir()
    odd = source / "odd"
    if kind == "folder":
        odd.mkdir()
    elif kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to({"link": "/etc/passwd", "broken link": "/nowhere"}.get(kind, "/etc"))
    with pytest.raises(BadArtifact, match="'odd' is no plain file"):
        copy_files(source)(draft)
    assert tree(draft) == {}


def test_the_model_itself_gives_the_golden_answer(tmp_path: Path) -> None:
    """From an example as in a JSON body, single or batched, comes a golden sample that the model has answered."""
    description = describe()
    record_golden(description, {"x": [1, 1, 1]}, CODE)(tmp_path)
    (sample,) = load_golden(tmp_path, description.signature)
    assert sample.inputs["x"].tolist() == [[1, 1, 1]]
    np.testing.assert_array_equal(sample.outputs["y"], [[9, 12]])


def test_an_example_may_leave_out_what_a_request_may(tmp_path: Path) -> None:
    """The golden sample has the default, so that the model is proven with it."""
    runtime = RuntimeOptions.model_validate({"name": "python", "class": "tests.assets.worker_models:Product"})
    inputs = {"x": "float32[batch, 2]", "by": "float32[batch, 2] = 3"}
    description = Description(runtime=runtime, inputs=inputs, outputs={"y": "float32[batch, 2]"})
    record_golden(description, {"x": [1, 2]}, CODE)(tmp_path)
    (sample,) = load_golden(tmp_path, description.signature)
    assert sample.inputs["by"].tolist() == [[3, 3]]
    assert sample.outputs["y"].tolist() == [[3, 6]]


@pytest.mark.parametrize(
    ("example", "code", "error", "message"),
    [
        ({"x": [1, 2]}, CODE, InvalidRequest, "input 'x' has length 2 at axis 1; expected 3"),
        ({"z": [1, 2, 3]}, CODE, InvalidRequest, "unknown input 'z'"),
        ({"x": [1, 1, 1]}, (), Forbidden, "allow_code"),
    ],
)
def test_an_example_that_is_no_input_is_refused(
    tmp_path: Path, example: dict[str, Any], code: tuple[str, ...], error: type[MaasError], message: str
) -> None:
    """An example is held against the declaration, and the model's code against the permission."""
    with pytest.raises(error, match=message):
        record_golden(describe(), example, code)(tmp_path)
    assert tree(tmp_path) == {}
