"""OpenVINO: `runtime: {name: openvino}` with `model.onnx`, or with `model.xml` and `model.bin`.

`precision: float32 | bfloat16` is what it computes in: left to itself, OpenVINO takes bfloat16 on processors that
have instructions for it, and answers change with the machine. Operators are OpenVINO's own; no extension is loaded.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from maas.dtypes import BFLOAT16, DTYPES
from maas.errors import BadArtifact, OutOfMemory
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.types import Array, Signature, Tensors

# Its converter of models is imported with it, sends usage data and starts a thread; it does without, where there is none.
sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

_FILES = ("model.xml", "model.onnx")
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
_ELEMENTS = {"bool": "boolean", "bfloat16": "bf16", **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)}}
_ELEMENTS |= {f"{sign}int{bits}": f"{sign or 'i'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


class OpenVino:
    def load(self, artifact: Artifact, placement: Placement) -> Runner:
        precision = _precision(artifact)
        if placement.device != "cpu":
            raise BadArtifact(
                f"device {placement.device!r} is not available to OpenVINO here; it computes on cpu"
            )
        path = next(
            (artifact.directory / name for name in _FILES if (artifact.directory / name).is_file()), None
        )
        if path is None:
            raise BadArtifact(f"none of {', '.join(_FILES)} is there")
        core = openvino.Core()
        try:
            model = core.read_model(path)
            inputs = _ports(artifact.signature, "input", model.inputs)
            outputs = _ports(artifact.signature, "output", model.outputs)
            compiled = core.compile_model(model, "CPU", _properties(precision, placement.threads))
        except BadArtifact:
            raise
        except Exception as error:  # whatever its reader raises over a damaged or unknown graph
            raise BadArtifact(
                f"{path.name} does not load: {type(error).__name__}", trace=str(error)
            ) from error
        return OpenVinoRunner(compiled, inputs, outputs, artifact.signature)


class OpenVinoRunner:
    """One request of a compiled model, asked by position: `inputs` and `outputs` map declared names to the model's.

    A bfloat16 crosses as its bits: OpenVINO takes them from any array of that size, and gives them as float16.
    """

    def __init__(
        self, compiled: Any, inputs: dict[str, int], outputs: dict[str, int], signature: Signature
    ) -> None:
        self._request = compiled.create_infer_request()
        self._inputs = inputs
        self._outputs = outputs
        self._narrow = {
            spec.name for spec in (*signature.inputs, *signature.outputs) if spec.dtype == BFLOAT16
        }

    def run(self, inputs: Tensors) -> Tensors:
        feed = {place: self._taken(name, inputs[name]) for name, place in self._inputs.items()}
        try:
            # Inputs are read where they lie; outputs are copied, for the request writes its own again.
            results = self._request.infer(feed, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            if "bad_alloc" in str(error) or "allocate" in str(error):
                raise OutOfMemory("the batch does not fit in memory") from error
            raise
        return {name: self._given(name, results[place]) for name, place in self._outputs.items()}

    def _taken(self, name: str, array: Array) -> Any:
        if name not in self._narrow:
            return array
        bits = np.ascontiguousarray(array).view(np.int16)
        return openvino.Tensor(bits, list(array.shape), openvino.Type.bf16)

    def _given(self, name: str, array: Array) -> Array:
        return array.view(DTYPES[BFLOAT16]) if name in self._narrow else array


def _precision(artifact: Artifact) -> str:
    if unknown := sorted(artifact.options.keys() - {"name", "precision"}):
        raise BadArtifact(f"runtime 'openvino' has no option {unknown[0]!r}")
    precision = artifact.options.get("precision", "float32")
    if not isinstance(precision, str) or precision not in _PRECISIONS:
        raise BadArtifact(f"precision {precision!r} is unknown; known are {', '.join(_PRECISIONS)}")
    return _PRECISIONS[precision]


def _properties(precision: str, threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # every process would take the same cores
    }


def _ports(signature: Signature, kind: str, ports: Any) -> dict[str, int]:
    """The place of each declared tensor among the model's. Raises `BadArtifact` where the model has it not, or otherwise."""
    specs = signature.inputs if kind == "input" else signature.outputs
    by_name = {name: place for place, port in enumerate(ports) for name in port.get_names()}
    found = {}
    for spec in specs:
        if spec.name not in by_name:
            raise BadArtifact(f"the model has no {kind} {spec.name!r}; it has {', '.join(sorted(by_name))}")
        port = ports[by_name[spec.name]]
        element = port.get_element_type().to_string()
        if _ELEMENTS.get(spec.dtype) != element:
            raise BadArtifact(f"the model has {kind} {spec.name!r} as {element}; declared is {spec.dtype}")
        rank = port.get_partial_shape().rank
        if rank.is_static and rank.get_length() != len(spec.dims):
            raise BadArtifact(
                f"the model has {kind} {spec.name!r} with {rank.get_length()} dimensions; declared are {len(spec.dims)}"
            )
        found[spec.name] = by_name[spec.name]
    if kind == "input" and len(found) != len(ports):
        raise BadArtifact(f"the model takes {len(ports)} inputs; the manifest declares {len(found)}")
    return found


RUNTIME = OpenVino()
