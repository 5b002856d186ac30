"""Runs a PyTorch callable on batches of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from maas.errors import BadArtifact, ModelFailed, OutOfMemory
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.runtimes.torch.arrays import to_array, to_tensor
from maas.runtimes.torch.exported import load_exported
from maas.runtimes.torch.module import load_module
from maas.types import Array, Tensors

_LOADERS: Mapping[str, Callable[[Artifact, torch.device], Callable[..., Any]]] = {
    "exported": load_exported,
    "module": load_module,
}


class TorchRuntime:
    def load(self, artifact: Artifact, placement: Placement) -> Runner:
        torch.set_num_threads(placement.threads)
        form = artifact.options.get("format")
        loader = _LOADERS.get(str(form))
        if loader is None:
            raise BadArtifact(f"runtime 'torch' needs `format`, one of {', '.join(_LOADERS)}; it is {form!r}")
        device = _device(placement.device)
        signature = artifact.signature
        inputs = tuple(spec.name for spec in signature.inputs)
        outputs = tuple(spec.name for spec in signature.outputs)
        if not _is_reduced(artifact.options.get("precision", "float32")):
            return TorchRunner(loader(artifact, device), inputs, outputs, device)
        widened = frozenset(spec.name for spec in signature.outputs if spec.dtype == "float32")
        return TorchRunner(_reduced(loader(artifact, device), device), inputs, outputs, device, widened)


class TorchRunner:
    """Calls `forward` with the declared inputs by position and names what it returns in the declared order.

    On CUDA the inputs go through pinned memory on the current stream; on CPU they are views, copied nowhere. Outputs that are
    `widened` are given as float32 where they come as bfloat16.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        device: torch.device,
        widened: frozenset[str] = frozenset(),
    ) -> None:
        self._forward = forward
        self._inputs = inputs
        self._outputs = outputs
        self._device = device
        self._widened = widened

    def run(self, inputs: Tensors) -> Tensors:
        try:
            with torch.inference_mode():
                result = self._forward(*[self._to_device(inputs[name]) for name in self._inputs])
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise OutOfMemory("the batch does not fit in the device's memory") from error
            raise
        tensors = zip(self._outputs, self._in_order(result), strict=True)
        return {name: to_array(name, self._as_declared(name, tensor)) for name, tensor in tensors}

    def _to_device(self, array: Array) -> torch.Tensor:
        tensor = to_tensor(array)
        return (
            tensor if self._device.type == "cpu" else tensor.pin_memory().to(self._device, non_blocking=True)
        )

    def _as_declared(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        is_narrow = name in self._widened and tensor.dtype == torch.bfloat16
        return tensor.float() if is_narrow else tensor

    def _in_order(self, result: Any) -> list[torch.Tensor]:
        if isinstance(result, Mapping):
            values = [result.get(name) for name in self._outputs]
        else:
            values = list(result) if isinstance(result, (tuple, list)) else [result]
        tensors = [value for value in values if isinstance(value, torch.Tensor)]
        if not len(tensors) == len(values) == len(self._outputs):
            raise ModelFailed(
                f"the module returned {_describe(result)}; it declares {len(self._outputs)} output tensors: "
                f"{', '.join(self._outputs)}"
            )
        return tensors


def _is_reduced(precision: object) -> bool:
    if precision not in ("float32", "bfloat16"):
        raise BadArtifact(f"precision {precision!r} is unknown; known are float32, bfloat16")
    return precision == "bfloat16"


def _reduced(forward: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """`forward`, computing in bfloat16 what PyTorch holds to be safe."""

    def reduced(*inputs: torch.Tensor) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return forward(*inputs)

    return reduced


def _describe(result: Any) -> str:
    if isinstance(result, Mapping):
        return f"a mapping of {', '.join(map(str, result))}"
    return f"{len(result)} values" if isinstance(result, (tuple, list)) else type(result).__name__


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BadArtifact(f"device {name!r} is not available: {str(error).splitlines()[0]}") from error
    if device.type not in ("cpu", "cuda"):
        raise BadArtifact(f"device {name!r} is not supported; known are cpu and cuda")
    return device


RUNTIME = TorchRuntime()
