"""Sealing files into a version: whole or not at all, and proven before anybody can see it.

The files are gathered in a folder of the repository whose name begins with a dot, hashed and synced; the version is
loaded in a model process and held against its golden samples; then one rename makes it visible. A version that
exists is never overwritten.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from maas import runtimes
from maas.errors import BadArtifact, InvalidRequest
from maas.models.manifest import Description, Manifest, check_cost, to_yaml
from maas.models.repository import Repository, StoredVersion, read_version
from maas.models.verification import verify
from maas.runtimes.contract import MANIFEST, Artifact, Placement
from maas.runtimes.golden import GoldenSample, save_golden
from maas.tensors.check import check_inputs
from maas.tensors.defaults import complete
from maas.tensors.samples import decode_inputs
from maas.types import check_model_name, check_version_name, version_order


def publish(
    repository: Repository,
    name: str,
    description: Description,
    fill: Callable[[Path], None],
    *,
    version: str | None = None,
    allow_code: Sequence[str] = (),
) -> StoredVersion:
    """Make a version of model `name` from `description` and the files that `fill` puts into the folder it is given.

    `version` is the next integer unless told. `allow_code` names modules outside `maas` that proving the version may
    import. Raises `InvalidRequest` for a bad name or a version that exists, `BadArtifact`, `Forbidden`,
    `ModelFailed` or `WorkerDied` where the version cannot be proven; the repository is then as before.
    """
    _check_names(repository, name, version)
    check_cost(description.signature, description.batching.max_batch_cost)
    repository.root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".publishing-", dir=repository.root))
    try:
        fill(folder)
        files = _hash_files(folder)
        sealed = _seal(folder, description, files, name, version or _next_version(repository, name))
        verify(sealed, allow_code=allow_code)
        while not _reveal(folder, repository.root / name / sealed.manifest.version):
            if version is not None:
                raise InvalidRequest(f"{name}/{version} exists; a published version is never overwritten")
            # Somebody else has published meanwhile.
            _check_names(repository, name, version)
            sealed = _seal(folder, description, files, name, _next_version(repository, name))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            (repository.root / name).rmdir()  # empty only where a first version was not to be
    return repository.read(name, sealed.manifest.version)


def draft(folder: Path, description: Description, name: str, version: str) -> StoredVersion:
    """The files of `folder` as a version that a model process can load; it is in no repository, so nobody else sees it."""
    plain = Description(**{key: getattr(description, key) for key in Description.model_fields})
    return _seal(folder, plain, _hash_files(folder), name, version)


def copy_files(source: Path) -> Callable[[Path], None]:
    """A `fill` for `publish`: the plain files of a directory, but for its own description."""

    def fill(draft: Path) -> None:
        for entry in sorted(source.iterdir()):
            if entry.is_symlink() or not entry.is_file():
                raise BadArtifact(f"{entry.name!r} is no plain file; a version holds nothing else")
            if entry.name != MANIFEST:
                shutil.copyfile(entry, draft / entry.name)

    return fill


def record_golden(
    description: Description, values: Mapping[str, object], allow_code: Sequence[str] = ()
) -> Callable[[Path], None]:
    """A `fill` for `publish` that asks the model itself for the golden answer to `values`, inputs as in a JSON body.

    The model is loaded in this process, by who publishes it.
    """

    def fill(draft: Path) -> None:
        signature = description.signature
        given, _ = decode_inputs(signature, values, allow_non_finite=description.allow_non_finite)
        inputs = complete(signature, given)
        check_inputs(signature, inputs)
        artifact = Artifact(draft, signature, description.runtime.options, tuple(allow_code))
        runner = runtimes.runtime(description.runtime.name).load(artifact, Placement())
        save_golden(draft, [GoldenSample(inputs, runner.run(inputs))])

    return fill


def _check_names(repository: Repository, name: str, version: str | None) -> None:
    check_model_name(name)
    for other in repository.models():
        if other != name and other.lower() == name.lower():
            raise InvalidRequest(f"model {name!r} differs from {other!r} only in case")
    if version is not None and check_version_name(version) in repository.versions(name):
        raise InvalidRequest(f"{name}/{version} exists; a published version is never overwritten")


def _next_version(repository: Repository, name: str) -> str:
    """One more than the highest whole number that the names in the model's folder begin with, version or not."""
    folder = repository.root / name
    orders = [version_order(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []
    return str(1 + max((order[0] for order in orders if order), default=0))


def _hash_files(draft: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(draft.iterdir()):
        path.chmod(0o644)
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    return hashes


def _seal(
    draft: Path, description: Description, files: dict[str, str], name: str, version: str
) -> StoredVersion:
    """Write the manifest into `draft`."""
    manifest = Manifest(
        **description.model_dump(), name=name, version=version, created=datetime.now(UTC), files=files
    )
    with (draft / MANIFEST).open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)  # whatever the publisher's mask: the server is another user
        file.write(to_yaml(manifest))
        file.flush()
        os.fsync(file.fileno())
    return read_version(draft, name, version)


def _reveal(draft: Path, target: Path) -> bool:
    """Move `draft` to `target` in one step; False where a version is there already."""
    with suppress(FileExistsError):
        target.parent.mkdir()
        target.parent.chmod(0o755)
    draft.chmod(0o755)
    _sync_folder(draft)
    try:
        draft.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    _sync_folder(target.parent)
    _sync_folder(target.parent.parent)
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
