"""The manifest of a model version, `model.yaml`: what it is, what it takes and gives, and which files make it up."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

import orjson
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from maas.dtypes import DTYPES
from maas.errors import BadArtifact, MaasError
from maas.models.machine import Machine
from maas.runtimes.contract import MANIFEST
from maas.types import (
    DEFAULT_TOLERANCES,
    Bounds,
    Signature,
    Tolerance,
    check_model_name,
    check_version_name,
)

_MAX_BYTES = 1 << 20  # of a manifest; the files that it lists hold what is large

_M = TypeVar("_M", bound="Description")


def _check_number_type(dtype: str) -> str:
    if dtype not in DTYPES or dtype in ("bool", "bytes"):
        raise ValueError(f"{dtype!r} is no type of numbers, so nothing can be near another")
    return dtype


def _check_file_name(name: str) -> str:
    if "/" in name or "\0" in name or name in ("", ".", "..", MANIFEST):
        raise ValueError(f"{name!r} is no plain file beside the manifest")
    return name


class RuntimeOptions(BaseModel):
    """The engine, by name, with options that are the engine's own (`format`, `module`, `class`, `arguments`, …)."""

    model_config = ConfigDict(extra="allow", frozen=True, ser_json_inf_nan="constants")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class Batching(BaseModel):
    """How requests of this version may be batched; the configuration can only be stricter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_batch_size: int = Field(32, ge=1, le=65536, description="rows in one batch")
    max_batch_cost: int | None = Field(
        None,
        ge=1,
        le=1 << 40,
        description="rows × lengths of the variable dimensions, padding included, in one batch",
    )
    max_queue_delay: float = Field(
        0.0, ge=0, le=60, description="seconds the oldest request may wait for company"
    )


class Profile(BaseModel):
    """What was measured of the version on one machine, and the instances and threads with which it ran best there.

    `latency` is of one row alone. How large batches are is not for it to say: that is measured at every load. What it holds
    besides is left aside: it advises, and no answer depends on it.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    machine: Machine
    target: Literal["throughput", "latency", "memory"]
    instances: int = Field(ge=1, le=256)
    threads: int = Field(ge=1, le=1024)
    samples_per_second: float = Field(gt=0)
    latency: float = Field(gt=0, description="seconds")
    memory: int = Field(ge=0, description="bytes of all instances together")

    @model_validator(mode="after")
    def _check(self) -> Profile:
        if self.instances * self.threads > self.machine.cores:
            raise ValueError(
                f"{self.instances} × {self.threads} threads are more than {self.machine.cores} cores"
            )
        return self


class Description(BaseModel):
    """What an author says of a model; publishing adds the rest of the manifest.

    `parent` is the version that this one was made from by `maas optimize`, which also wrote its `profile`. `idempotent`: a request whose process died may be run again. `allow_non_finite`: NaN and infinities may go in and out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    runtime: RuntimeOptions
    inputs: dict[str, str]
    outputs: dict[str, str]
    dimensions: dict[str, Bounds] = {}
    batching: Batching = Batching()
    tolerances: dict[Annotated[str, AfterValidator(_check_number_type)], Tolerance] = dict(DEFAULT_TOLERANCES)
    allow_non_finite: bool = False
    idempotent: bool = True
    description: str = ""
    license: str | None = None
    card: dict[str, Any] = {}
    made_with: dict[str, str] = {}
    parent: str | None = None
    profile: Profile | None = None

    @cached_property
    def signature(self) -> Signature:
        """Raises `BadArtifact` where the declarations make no sense."""
        try:
            return Signature.parse(self.inputs, self.outputs, self.dimensions)
        except MaasError as error:
            raise BadArtifact(f"the declared tensors are wrong: {error.message}") from error


class Manifest(Description):
    """A sealed version. `files` holds the SHA-256 of every other file; the digest of the manifest thus covers all."""

    format: Literal[1] = 1
    name: Annotated[str, AfterValidator(check_model_name)]
    version: Annotated[str, AfterValidator(check_version_name)]
    created: datetime
    files: dict[Annotated[str, AfterValidator(_check_file_name)], str]


def check_cost(signature: Signature, max_batch_cost: int | None) -> None:
    """Raise `BadArtifact` where one row of the greatest declared lengths is more than a batch may cost: no caller who goes by
    the declaration should be told so."""
    most = signature.most_elements if signature.is_batched else None
    if max_batch_cost is not None and most is not None and most > max_batch_cost:
        raise BadArtifact(
            f"max_batch_cost is {max_batch_cost}; one row of the greatest declared lengths costs {most}: allow that, or declare "
            "a smaller `max`"
        )


def to_yaml(model: Description) -> str:
    tree = model.model_dump(mode="json")
    return yaml.dump(tree, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110)


def read_description(text: str) -> Description:
    """An author's `model.yaml`. Raises `BadArtifact` with the path of the first key that is wrong."""
    return _read(Description, text)


def read_manifest(text: str) -> Manifest:
    """A sealed `model.yaml`. Raises `BadArtifact` with the path of the first key that is wrong."""
    return _read(Manifest, text)


class _PlainDumper(yaml.SafeDumper):
    """Writes what stands twice twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the library's signature
        return True


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases: ten lines of them can stand for a gigabyte, or for a tree without an end."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read here")
        return super().compose_node(parent, index)


def _plain_tree(text: str) -> object:
    """The document as JSON could hold it too, since it is answered as JSON and sent to model processes."""
    if len(text) > _MAX_BYTES:
        raise ValueError(f"it has {len(text)} characters; at most {_MAX_BYTES} are read")
    tree = yaml.load(text, _PlainLoader)  # noqa: S506 - a safe loader
    orjson.dumps(tree, option=orjson.OPT_NON_STR_KEYS)
    return tree


def _read(kind: type[_M], text: str) -> _M:
    try:
        found = kind.model_validate(_plain_tree(text))
        found.signature  # noqa: B018 - a manifest that exists declares tensors that make sense
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"])) or "the document"
        raise BadArtifact(f"{MANIFEST}: {path}: {first['msg']}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-13-45 is a ValueError
        raise BadArtifact(f"{MANIFEST} is no YAML: {str(error).splitlines()[0]}") from error
    return found
