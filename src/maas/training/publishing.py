"""The last step of every recipe: what was trained becomes a version, by import path and safetensors weights.

A loaded `torch.export` program costs more per call than the module itself on models this small
(`docs/decisions/module-path-for-recipes.md`), and it fixes an LSTM's sequence length; so recipes publish the module.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from maas.models.manifest import Batching, Description, RuntimeOptions
from maas.models.publishing import copy_files, publish
from maas.models.repository import Repository, StoredVersion
from maas.runtimes.torch.export import write_module
from maas.training.recipe import Trained
from maas.types import Signature

_LICENSE = "Apache-2.0"
_MAX_BATCH_SIZE = 64


def publish_trained(trained: Trained, name: str, repository: Repository) -> StoredVersion:
    """Publish as the next version of model `name`. Raises what `maas.models.publishing.publish` does."""
    signature = Signature.parse(trained.inputs, trained.outputs, trained.bounds)
    samples = [{key: tensor.numpy() for key, tensor in sample.items()} for sample in trained.golden]
    with TemporaryDirectory() as folder:
        options = write_module(Path(folder), trained.module, signature, samples, trained.arguments)
        description = Description(
            runtime=RuntimeOptions(**options),
            inputs=dict(trained.inputs),
            outputs=dict(trained.outputs),
            dimensions=dict(trained.bounds),
            batching=Batching(max_batch_size=_MAX_BATCH_SIZE, max_queue_delay=0.0),
            description=str(trained.card.get("summary", "")),
            license=_LICENSE,
            card=dict(trained.card),
        )
        return publish(repository, name, description, copy_files(Path(folder)))
