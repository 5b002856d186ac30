"""The repository on disk: `REPOSITORY/NAME/VERSION/`, where a version is immutable once it is there.

A name is held against its pattern before any file is touched, so no request can leave the repository. What begins
with a dot, or has no manifest, is no version: a reader sees a whole version or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maas.errors import BadArtifact, InvalidRequest, ModelNotFound
from maas.models.manifest import Manifest, read_manifest
from maas.runtimes.contract import MANIFEST
from maas.types import check_model_name, check_version_name, clip, highest_version


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A version on disk. `digest` is the SHA-256 of its manifest, which holds those of its files."""

    directory: Path
    manifest: Manifest
    digest: str

    @property
    def label(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"


class Repository:
    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[str]:
        """Names of the models that have a version, or a folder that cannot be read, sorted."""
        return [name for name in _folders(self.root, check_model_name) if self._may_have_version(name)]

    def versions(self, name: str) -> list[str]:
        """Versions of model `name`, sorted as text; none if there is no such model.

        Raises `BadArtifact` where its folder cannot be read.
        """
        folder = self.root / check_model_name(name)
        return [
            version
            for version in _folders(folder, check_version_name)
            if _is_file(folder / version / MANIFEST)
        ]

    def _may_have_version(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except BadArtifact:
            return True

    def read(self, name: str, version: str | None = None) -> StoredVersion:
        """The version, or the highest one. Raises `ModelNotFound`, or `BadArtifact` where its manifest is wrong."""
        versions = self.versions(name)
        chosen = version if version is not None else highest_version(versions)
        if chosen is None or chosen not in versions:
            wanted = (
                f"version {clip(version)!r}" if version is not None else "version that would be the default"
            )
            raise ModelNotFound(f"the repository has no {wanted} of model {name!r}; it has {versions}")
        return read_version(self.root / name / chosen, name, chosen)


def read_version(directory: Path, name: str, version: str) -> StoredVersion:
    """Read the manifest in `directory`. Raises `BadArtifact` where it is wrong or another version's."""
    try:
        data = (directory / MANIFEST).read_bytes()
        manifest = read_manifest(data.decode())
    except (OSError, UnicodeDecodeError) as error:
        raise BadArtifact(
            f"the manifest of {name}/{version} cannot be read: {type(error).__name__}"
        ) from error
    if (manifest.name, manifest.version) != (name, version):
        raise BadArtifact(f"{name}/{version} holds the manifest of {manifest.name}/{manifest.version}")
    return StoredVersion(directory, manifest, hashlib.sha256(data).hexdigest())


def _folders(parent: Path, check: Callable[[str], str]) -> list[str]:
    try:
        names = sorted(entry.name for entry in parent.iterdir() if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadArtifact(
            f"folder {parent.name!r} of the repository cannot be read: {error.strerror}"
        ) from error
    return [name for name in names if _is_valid(name, check)]


def _is_file(path: Path) -> bool:
    """Whether it is there, readable or not: a version that cannot be read is told of, not passed over."""
    try:
        return path.is_file()
    except PermissionError:
        return True


def _is_valid(name: str, check: Callable[[str], str]) -> bool:
    try:
        check(name)
    except InvalidRequest:
        return False
    return True
