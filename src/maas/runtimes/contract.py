"""What an engine must do: load an artifact, and run batches on what it loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from maas.types import Signature, Tensors

MANIFEST = "model.yaml"
"""The one file of a version that is not in the list of its files."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A version's files and how its manifest says they are to be opened.

    `options` are the manifest's own for the runtime (`format`, `module`, `class`, `arguments`, …).
    `allow_code` are the module prefixes, besides our own recipes, from which the operator lets code be imported.
    """

    directory: Path
    signature: Signature
    options: Mapping[str, Any] = field(default_factory=dict)
    allow_code: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a runner computes: a device (`cpu`, `cuda:0`, …) and how many threads it may use there."""

    device: str = "cpu"
    threads: int = 1


class Runner(Protocol):
    """A loaded model."""

    def run(self, inputs: Tensors) -> Tensors:
        """Outputs for one batch.

        `inputs` hold every declared input, stacked along `batch`; they are views of shared memory that is reused
        after the call. The answer holds every declared output with as many rows.
        """


class Runtime(Protocol):
    """An engine. Loading and running happen in a model process, in one thread."""

    def load(self, artifact: Artifact, placement: Placement) -> Runner:
        """A runner at `placement`.

        Raises `BadArtifact` where the files are not what they should be, `Forbidden` where loading them would
        run code that `allow_code` does not name.
        """
