"""What the fuzzed server serves: one small model for each kind of signature."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tests.assets.mirror import Mirror
from tests.versions import store

from maas.types import Bounds, Tensors, TensorSpec

SIGNATURES: Mapping[str, Mapping[str, str]] = {
    "series": {"values": "float64[batch, time]"},
    "words": {"text": "bytes[batch]"},
    "mixed": {
        "image": "uint8[batch, 2, 2]",
        "count": "int64[batch]",
        "is_new": "bool[batch]",
        "note": "bytes[batch, parts]",
    },
    "alone": {"offset": "int32[2]", "rate": "uint64[]"},
    "recurrent": {"state": "float16[2, batch]", "ids": "int64[batch, time]"},
}
BOUNDS = {"time": Bounds(1, 8), "parts": Bounds(2, 3)}


def publish_all(repository: Path) -> None:
    """One version of each signature; `double`, whose answer may overflow; `open`, which allows NaN; and two versions of
    `spare`, which may be unloaded."""
    for name, inputs in SIGNATURES.items():
        _publish_mirror(repository, name, inputs)
    _publish_mirror(repository, "open", {"x": "float32[batch, 2]"}, allow_non_finite=True)
    for name, version in (("double", "1"), ("spare", "1"), ("spare", "2")):
        store(repository, name=name, version=version)


def _publish_mirror(
    repository: Path, name: str, inputs: Mapping[str, str], *, allow_non_finite: bool = False
) -> None:
    dimensions = {
        dim: bounds for dim, bounds in BOUNDS.items() if any(dim in text for text in inputs.values())
    }
    store(
        repository,
        Mirror,
        name=name,
        inputs=inputs,
        outputs=inputs,
        sample=_sample(inputs),
        dimensions=dimensions,
        max_batch_size=4,
        allow_non_finite=allow_non_finite,
    )


def _sample(inputs: Mapping[str, str]) -> Tensors:
    """Ones, or the text "a", two in every dimension that has no length of its own."""
    sample = {}
    for name, declaration in inputs.items():
        spec = TensorSpec.parse(name, declaration)
        shape = [dim if isinstance(dim, int) else 2 for dim in spec.dims]
        sample[name] = np.full(shape, b"a" if spec.dtype == "bytes" else 1, spec.numpy_dtype)
    return sample
