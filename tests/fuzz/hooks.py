"""What `schemathesis` is told beside the document: which names are served, and which failures are none.

The process that runs it imports this module by `tests/fuzz/schemathesis.toml`.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from tests.fuzz.models import SIGNATURES

from maas.api.oip.datatypes import DATATYPES
from maas.errors import InvalidRequest
from maas.tensors.nested import decode
from maas.types import TensorSpec, check_model_name, check_version_name

_SERVED = {**dict.fromkeys([*SIGNATURES, "open", "double"], ("1",)), "spare": ("1", "2")}
_KEPT_ONE_IN = 8  # of names that are not served
_OF_OTHER_BODIES = ("content-encoding", "inference-header-content-length")
_PATIENCE = 30.0  # seconds: a shorter deadline than this is not met by right


@schemathesis.hook
def map_path_parameters(
    context: HookContext, path_parameters: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Most names that could be served become one that is."""
    if not path_parameters:
        return path_parameters
    name, version = path_parameters.get("model"), path_parameters.get("version")
    if not _may_be(check_model_name, name) or zlib.crc32(name.encode()) % _KEPT_ONE_IN == 0:
        return path_parameters
    chosen = _choose(sorted(_SERVED), name)
    if not _may_be(check_version_name, version):
        return {**path_parameters, "model": chosen}
    return {**path_parameters, "model": chosen, "version": _choose(_SERVED[chosen], version)}


@schemathesis.hook
def map_case(context: HookContext, case: Case) -> Case:
    """Valid tensors become, as many as there are, those that the model takes; every other inference has them all, and so has every
    prediction by columns."""
    model = (case.path_parameters or {}).get("model")
    is_positive = case.meta.generation.mode.is_positive
    if is_positive:
        _send_plainly(case)
    is_known = model in SIGNATURES and is_positive and isinstance(case.body, dict)
    if is_known and case.path.endswith("/infer"):
        tensors = case.body["inputs"]
        if len(tensors) % 2 == 0:
            tensors[:] = [{"data": []} for _ in SIGNATURES[model]]
        for (name, declaration), tensor in zip(SIGNATURES[model].items(), tensors, strict=False):
            tensor |= _fitting(TensorSpec.parse(name, declaration), tensor.get("data", []))
            tensor.pop("parameters", None)
    if is_known and case.path.endswith(":predict") and not isinstance(case.body.get("inputs", []), list):
        # Lists stay as they were drawn.
        case.body["inputs"] = {name: _column(text) for name, text in SIGNATURES[model].items()}
    return case


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """The models that the others need stay, and nobody is in such a hurry that a refusal is right."""
    if case.path.endswith("/unload") and case.path_parameters.get("model") in _SERVED:
        case.path_parameters["model"] = "spare"
    for name, value in (case.headers or {}).items():
        if name.lower() == "x-request-timeout" and _is_hasty(value, _PATIENCE):
            case.headers[name] = str(_PATIENCE)
    parameters = case.body.get("parameters") if isinstance(case.body, dict) else None
    if isinstance(parameters, dict) and _is_hasty(parameters.get("timeout"), _PATIENCE * 1e6):
        parameters["timeout"] = _PATIENCE * 1e6


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """A documented `non_finite_output` is none where a finite input makes twice itself overflow."""
    if response.status_code != 500 or case.path_parameters is None or not case.path.startswith("/predict/"):
        return True
    if response.json()["code"] != "non_finite_output":
        return True
    with np.errstate(over="ignore"):
        doubled = np.array(case.body["x"], np.float32) * 2
    return bool(np.isfinite(doubled).all())


def _send_plainly(case: Case) -> None:
    """A body that is drawn is not compressed, and has nothing behind its JSON: no head says so."""
    for name in [*(case.headers or {})]:
        if name.lower() in _OF_OTHER_BODIES:
            del case.headers[name]


def _column(declaration: str) -> Any:
    tensor = _fitting(TensorSpec.parse("x", declaration), [])
    return np.array(tensor["data"], object).reshape(tensor["shape"]).tolist()


def _fitting(spec: TensorSpec, data: list[Any]) -> dict[str, Any]:
    """A tensor of `spec` with what elements of `data` it can have, two long where its length is not fixed."""
    elements = [element for element in data if _is_element(element, spec)]
    shape = [dim if isinstance(dim, int) else 2 for dim in spec.dims]
    flat = (elements or ["a" if spec.dtype == "bytes" else spec.dtype == "bool" or 1]) * math.prod(shape)
    return {
        "name": spec.name,
        "datatype": DATATYPES[spec.dtype],
        "shape": shape,
        "data": flat[: math.prod(shape)],
    }


def _is_element(value: object, spec: TensorSpec) -> bool:
    try:
        return decode(value, spec).ndim == 0
    except InvalidRequest:
        return False


def _may_be(check: Any, name: object) -> bool:
    try:
        return isinstance(name, str) and bool(check(name))
    except ValueError:
        return False


def _choose(among: Any, text: str) -> str:
    return str(among[zlib.crc32(text.encode()[::-1]) % len(among)])


def _is_hasty(value: object, limit: float) -> bool:
    """Whether it is a timeout that the server takes, and shorter than `limit`."""
    try:
        return not isinstance(value, bool) and 0 < float(value) < limit  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
