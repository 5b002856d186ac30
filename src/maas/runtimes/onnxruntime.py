"""ONNX Runtime: `runtime: {name: onnxruntime}` with `model.onnx`.

Nothing of the file's author is run: no library of custom operators is ever registered, so an operator that is not
ONNX Runtime's own is refused, and tensors kept outside the file are read from the version's folder only, which ONNX
Runtime holds paths to. The released packages send usage data unless the process forbids it before the import.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from maas.errors import BadArtifact, ModelFailed, OutOfMemory
from maas.runtimes.contract import Artifact, Placement, Runner
from maas.types import Array, Signature, Tensors, TensorSpec

os.putenv("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime  # which reads that when it is loaded

MODEL = "model.onnx"

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_PRODUCTS = ["MatMul", "Gemm"]  # convolutions are slower so: their int8 kernel wants scales known ahead
_QUIET = 3  # errors, which it also raises; its warnings are for who exported the model
_ELEMENTS = {"float32": "float", "float64": "double", "bytes": "string"}  # where the names differ from ours


class OnnxRuntime:
    def load(self, artifact: Artifact, placement: Placement) -> Runner:
        if unknown := sorted(artifact.options.keys() - {"name"}):
            raise BadArtifact(f"runtime 'onnxruntime' has no option {unknown[0]!r}")
        check_dtypes(artifact.signature)
        session = open_session(artifact.directory / MODEL, placement)
        _check(artifact.signature, session)
        return OnnxRunner(session, artifact.signature)


def open_session(path: Path, placement: Placement) -> Any:
    """The graph of a file, ready to run. Raises `BadArtifact` where it does not load."""
    providers = _providers(placement.device)
    if not path.is_file():
        raise BadArtifact(f"{path.name} is missing")
    try:
        return onnxruntime.InferenceSession(
            os.fspath(path), _session_options(placement.threads), providers=providers
        )
    except Exception as error:  # whatever its reader raises over a damaged or unknown graph
        raise BadArtifact(f"{path.name} does not load: {type(error).__name__}", trace=str(error)) from error


class OnnxRunner:
    """Asks a session by the declared names. Text crosses as `str`, which is what ONNX Runtime takes."""

    def __init__(self, session: Any, signature: Signature) -> None:
        self._session = session
        self._inputs = signature.inputs
        self._outputs = [spec.name for spec in signature.outputs]
        self._texts = {spec.name for spec in (*signature.inputs, *signature.outputs) if spec.dtype == "bytes"}

    def run(self, inputs: Tensors) -> Tensors:
        feed = {spec.name: self._taken(spec.name, inputs[spec.name]) for spec in self._inputs}
        try:
            results = self._session.run(self._outputs, feed)
        except Exception as error:  # its own classes are not to be imported by name
            if "allocate memory" in str(error) or "bad_alloc" in str(error):
                raise OutOfMemory("the batch does not fit in the device's memory") from error
            raise
        return {name: self._given(name, array) for name, array in zip(self._outputs, results, strict=True)}

    def _taken(self, name: str, array: Array) -> Array:
        return _each(array, _decode) if name in self._texts else array

    def _given(self, name: str, array: Array) -> Array:
        return _each(array, str.encode) if name in self._texts else array


def quantize(graph: Path, target: Path) -> None:
    """Write `graph` to the folder `target` with the weights of its matrix products as int8, and what they meet made int8
    as it comes. Raises `BadArtifact` where the graph has none or cannot be rewritten.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    try:
        model = onnx.load(graph)
        products = [node for node in model.graph.node if node.op_type in _PRODUCTS]
        if not products:
            raise BadArtifact("it has no matrix product, which alone is computed in int8")
        add_pre_process_metadata(model)  # else it advises, on standard error, to optimise the graph first
        quantize_dynamic(model, target / MODEL, op_types_to_quantize=_PRODUCTS, weight_type=QuantType.QInt8)
    except BadArtifact:
        raise
    except Exception as error:  # whatever its rewriting meets
        raise BadArtifact(f"it is not to be had in int8: {type(error).__name__}", trace=str(error)) from error


def _session_options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    # Threads that spin while there is nothing to do take cores from the gateway and from other models.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(device: str) -> list[Any]:
    kind, _, number = device.partition(":")
    provider = _PROVIDERS.get(kind)
    if provider is None or provider not in onnxruntime.get_available_providers():
        raise BadArtifact(f"device {device!r} is not available to ONNX Runtime here")
    return [(provider, {"device_id": number or "0"})] if kind == "cuda" else [provider]


def check_dtypes(signature: Signature) -> None:
    """Raise `BadArtifact` for bfloat16, which it computes with but does not exchange with NumPy."""
    for spec in (*signature.inputs, *signature.outputs):
        if spec.dtype == "bfloat16":
            raise BadArtifact(
                f"ONNX Runtime takes and gives no bfloat16 from Python, and {spec.name!r} is declared so"
            )


def _check(signature: Signature, session: Any) -> None:
    """Raise `BadArtifact` unless the graph takes and gives what is declared, by name, type and number of dimensions."""
    for kind, specs, nodes in (
        ("input", signature.inputs, session.get_inputs()),
        ("output", signature.outputs, session.get_outputs()),
    ):
        found = {node.name: node for node in nodes}
        declared = {spec.name for spec in specs}
        if unfed := [name for name in found if name not in declared and kind == "input"]:
            raise BadArtifact(f"{MODEL} takes an input {unfed[0]!r} that the manifest does not declare")
        for spec in specs:
            if spec.name not in found:
                raise BadArtifact(f"{MODEL} has no {kind} {spec.name!r}; it has {', '.join(found)}")
            _check_node(kind, spec, found[spec.name])


def _check_node(kind: str, spec: TensorSpec, node: Any) -> None:
    expected = f"tensor({_ELEMENTS.get(spec.dtype, spec.dtype)})"
    if node.type != expected:
        raise BadArtifact(f"{MODEL} has {kind} {spec.name!r} as {node.type}; declared is {spec.dtype}")
    if node.shape is not None and len(node.shape) != len(spec.dims):
        raise BadArtifact(
            f"{MODEL} has {kind} {spec.name!r} with {len(node.shape)} dimensions; declared are {len(spec.dims)}"
        )


def _each(array: Array, convert: Any) -> Array:
    converted = np.empty(array.shape, object)
    for index, element in np.ndenumerate(array):
        converted[index] = convert(element)
    return converted


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise ModelFailed("ONNX Runtime takes text in UTF-8 only") from error


RUNTIME = OnnxRuntime()
