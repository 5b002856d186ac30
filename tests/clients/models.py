"""The models that real clients call: plain classes, and the repository of them that is served."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from tests.versions import store

from maas.dtypes import DTYPES
from maas.types import Bounds, Tensors

CODE = "tests.clients"  # what the server must allow to be imported
SAMPLES: dict[str, list[list[object]]] = {
    "bool": [[True, False, True]],
    "bytes": [[b"one", b"", "zwölf".encode()]],
}


class _Model:
    def __init__(self, directory: Path, device: str) -> None:
        pass


class Identity(_Model):
    """y = x, of any datatype."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"y": inputs["x"]}


class AddSub(_Model):
    """Two inputs, two outputs."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"sum": inputs["a"] + inputs["b"], "difference": inputs["a"] - inputs["b"]}


class Upper(_Model):
    """Upper case of each text, and how many bytes it has."""

    def run(self, inputs: Tensors) -> Tensors:
        text = inputs["text"]
        upper, length = np.empty(text.shape, dtype=object), np.empty(text.shape, np.int32)
        for index, element in np.ndenumerate(text):
            upper[index], length[index] = element.upper(), len(element)
        return {"upper": upper, "length": length}


class Reverse(_Model):
    """A sequence of any length, from its end."""

    def run(self, inputs: Tensors) -> Tensors:
        return {"reversed": inputs["ids"][:, ::-1]}


class Slow(_Model):
    """y = x, after as many milliseconds as the largest x says."""

    def run(self, inputs: Tensors) -> Tensors:
        time.sleep(float(inputs["x"].max()) / 1e3)
        return {"y": inputs["x"]}


class Failing(_Model):
    """y = x, unless a row is negative."""

    def run(self, inputs: Tensors) -> Tensors:
        if (inputs["x"] < 0).any():
            raise ValueError("a row is negative")
        return {"y": inputs["x"]}


def publish(repository: Path) -> None:
    """`identity_DTYPE` for each type, `add_sub`, `upper`, `shout`, `reverse`, `slow`, `failing`, `spare`, `versioned` 1 and 2."""
    for dtype in DTYPES:
        publish_identity(repository, dtype)
    publish_pair(repository, "add_sub")
    text = {"text": np.array([[b"a", b"b"]], dtype=object)}
    upper = {"upper": "bytes[batch, 2]", "length": "int32[batch, 2]"}
    store(repository, Upper, name="upper", inputs={"text": "bytes[batch, 2]"}, outputs=upper, sample=text)
    shout = {"upper": "bytes[batch, 1]", "length": "int32[batch, 1]"}
    word = {"text": np.array([[b"a"]], dtype=object)}
    store(repository, Upper, name="shout", inputs={"text": "bytes[batch, 1]"}, outputs=shout, sample=word)
    store(
        repository,
        Reverse,
        name="reverse",
        inputs={"ids": "int64[batch, time]"},
        outputs={"reversed": "int64[batch, time]"},
        sample={"ids": np.array([[1, 2, 3]])},
        dimensions={"time": Bounds(max=1 << 20)},
    )
    one, ones = {"x": "float32[batch, 1]"}, {"x": np.ones((1, 1), np.float32)}
    _store(repository, Slow, "slow", one, ones, max_batch_size=1)
    _store(repository, Failing, "failing", one, ones)
    _store(repository, Identity, "spare", one, ones)
    for version in ("1", "2"):
        _store(repository, Identity, "versioned", one, ones, version=version)


def publish_pair(repository: Path, name: str) -> None:
    """Two inputs, two outputs."""
    store(
        repository,
        AddSub,
        name=name,
        inputs=dict.fromkeys("ab", "float32[batch, 4]"),
        outputs={"sum": "float32[batch, 4]", "difference": "float32[batch, 4]"},
        sample={"a": np.ones((1, 4), np.float32), "b": np.ones((1, 4), np.float32)},
    )


def publish_identity(repository: Path, dtype: str) -> None:
    """`identity_DTYPE` alone."""
    sample = np.array(SAMPLES.get(dtype, [[1, 2, 3]]), DTYPES[dtype])
    _store(repository, Identity, f"identity_{dtype}", {"x": f"{dtype}[batch, 3]"}, {"x": sample})


def _store(
    repository: Path,
    cls: type,
    name: str,
    inputs: dict[str, str],
    sample: Tensors,
    version: str = "1",
    max_batch_size: int = 8,
) -> None:
    store(
        repository,
        cls,
        name=name,
        version=version,
        inputs=inputs,
        sample=sample,
        max_batch_size=max_batch_size,
        allow_non_finite=True,
    )
