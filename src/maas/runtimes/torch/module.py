"""A module by import path, constructor arguments and safetensors weights.

    runtime: {name: torch, format: module, module: package.module:Class, arguments: {…}}

Our recipes' modules load this way; a module outside `maas` is code and needs `allow_code`.
"""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from maas.errors import BadArtifact
from maas.runtimes.code import import_class
from maas.runtimes.contract import Artifact

WEIGHTS = "model.safetensors"
TRUSTED = ("maas.training",)


def load_module(artifact: Artifact, device: torch.device) -> torch.nn.Module:
    """The module in evaluation mode on `device`, its tensors mapped from the weight file without a copy on CPU.

    Raises `BadArtifact` where names or shapes of the weights are not the module's, or where it needs a tensor that
    is not among them.
    """
    path = artifact.options.get("module")
    if not isinstance(path, str):
        raise BadArtifact("format 'module' needs `module: package.module:Class`")
    cls = import_class(path, artifact.allow_code, trusted=TRUSTED)
    if not issubclass(cls, torch.nn.Module):
        raise BadArtifact(f"{path!r} is no torch.nn.Module")
    with torch.device("meta"):
        module = cls(**artifact.options.get("arguments", {}))
    try:
        weights = load_file(artifact.directory / WEIGHTS, device=str(device))
        module.load_state_dict(weights, assign=True)
    except FileNotFoundError as error:
        raise BadArtifact(f"{WEIGHTS} is missing") from error
    except OSError as error:
        raise BadArtifact(
            f"{WEIGHTS} cannot be read: {error.strerror or type(error).__name__}", trace=str(error)
        ) from error
    except (SafetensorError, RuntimeError) as error:  # in the words of names and shapes
        raise BadArtifact(f"the weights in {WEIGHTS} are not those of {path!r}: {error}") from error
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:  # a buffer that is not persistent is in no state_dict, so no file can bring it
            raise BadArtifact(
                f"{name!r} of {path!r} is not among the weights; register it as a persistent buffer"
            )
    return module.eval()
