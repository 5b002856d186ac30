"""The configuration: one typed, frozen tree. Defaults, then a YAML file, then `MAAS_…` variables.

Every option is declared here once, with its unit, its range and a sentence of advice; the reference page is made from
it. A key that is not here is refused with its path, in the file and in the environment alike. This is the only
place that reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from maas.config.yaml import lines_of, read_yaml
from maas.errors import ConfigurationError
from maas.types import check_model_name, check_version_name

ENVIRONMENT_PREFIX = "MAAS_"

# Of a Service that is called `maas`, or `maas-…`: https://kubernetes.io/docs/concepts/services-networking/service/
_SERVICE_VARIABLE = re.compile(
    r"MAAS_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS_VARIABLE = re.compile(r"MAAS_(\w+_)?PORT")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")

# In the words of YAML, not those of Python.
_UNKNOWN = "unknown key"
_WORDS = {
    "extra_forbidden": _UNKNOWN,
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping",
    "model_type": "expected a mapping",
}


def _version_text(value: object) -> object:
    """YAML reads an unquoted version 3 as a number, which is meant; 1.10 it reads as 1.1, which is not."""
    if isinstance(value, float):
        raise ValueError(f"version {value} must be quoted: as a number, 1.10 would be 1.1")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


VersionName = Annotated[str, BeforeValidator(_version_text), AfterValidator(check_version_name)]
ModelName = Annotated[str, AfterValidator(check_model_name)]


_NEEDS_RESTART: dict[str, JsonValue] = {"needs_restart": True}
"""Marks an option that a running server cannot change; every other is changed by a reload."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerOptions(_Section):
    """Where the server listens and how it starts and ends."""

    host: str = Field(
        "127.0.0.1",
        description="Address to bind. Any but a loopback one needs `access: open`, and so does a proxy in front of one.",
        json_schema_extra=_NEEDS_RESTART,
    )
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        description="TCP port; 0 takes a free one and logs it.",
        json_schema_extra=_NEEDS_RESTART,
    )
    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="TCP port of the same address for gRPC, which the extra `grpc` installs; 0 serves none.",
        json_schema_extra=_NEEDS_RESTART,
    )
    readiness: Literal["any", "all"] = Field(
        "any",
        description="`any`: ready when one model is, with failed ones named in the body; `all`: only when every one is.",
    )
    drain_delay: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds after SIGTERM in which requests are still served, each answer with `Connection: close`, while "
        "the server already says that it is not ready. Give a load balancer time to notice.",
    )
    drain_timeout: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Seconds that accepted requests may then take to end, while new ones are refused.",
    )
    max_connections: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Open connections; one more gets 503. Fewer where the process may not have as many descriptors.",
    )
    header_timeout: float = Field(
        5.0, gt=0, le=3600, description="Seconds from a request's first byte to the end of its headers."
    )
    idle_timeout: float = Field(
        15.0, gt=0, le=3600, description="Seconds that a connection may be open before its first request."
    )
    keep_alive_timeout: float = Field(
        75.0,
        gt=0,
        le=86400,
        description="Seconds between requests on a connection; more than a proxy in front of it keeps one (often 60).",
    )
    body_grace: float = Field(
        5.0, gt=0, le=3600, description="Seconds that a body may take however slowly it comes."
    )
    body_min_rate: int = Field(
        4096,
        ge=1,
        le=1 << 30,
        description="Bytes a second that a body must bring on average after `body_grace`.",
    )
    write_timeout: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Seconds that a client may take nothing of its answer; then it is cut off.",
    )
    header_bytes: int = Field(
        64 << 10, ge=1024, le=1 << 20, description="Bytes of a request's line and headers together."
    )
    header_count: int = Field(100, ge=8, le=10_000, description="Headers of a request.")
    url_bytes: int = Field(8192, ge=256, le=1 << 20, description="Bytes of a request's target.")
    compression: bool = Field(
        True,
        description="Read bodies that are compressed with gzip or deflate, and compress inference answers for callers that "
        "accept it; off, such a body is refused with 415. gRPC has its own.",
    )


class Limits(_Section):
    """Bounds of the whole server."""

    body_bytes: int = Field(
        64 << 20,
        ge=1024,
        le=1 << 40,
        description="Bytes of a request body, whatever the model declares; over gRPC no more than at the start.",
    )
    answer_bytes: int = Field(
        256 << 20,
        ge=1024,
        le=1 << 40,
        description="Bytes of one batch's outputs; a larger answer is a model error.",
    )
    requests: int = Field(
        20_000,
        ge=1,
        le=10_000_000,
        description="Requests that may be read, wait or run at once over all models; one more is refused before it is read.",
    )
    waiting_requests: int = Field(
        20_000,
        ge=1,
        le=10_000_000,
        description="Requests that may wait over all models; one more is refused at once.",
    )
    waiting_bytes: int = Field(
        4 << 30, ge=1024, le=1 << 44, description="Bytes of inputs that may wait over all models."
    )
    codec_processes: int = Field(
        1,
        ge=1,
        le=256,
        description="Processes that read large bodies and write large answers, so that nobody else waits for them; each is "
        "started when it is needed.",
    )
    running_batches: int = Field(
        os.cpu_count() or 1,
        ge=1,
        le=4096,
        description="Batches that run at once over all models. The default, one for each core, keeps models on the CPU "
        "from thrashing each other; raise it for models that wait for an accelerator.",
    )


class ModelOptions(_Section):
    """How one model is served. What is not said is as its manifest has it."""

    versions: Literal["all", "highest"] | tuple[VersionName, ...] = Field(
        "all",
        description="Versions to serve side by side: `all`, `highest`, or a list; an empty list serves none.",
    )
    default: VersionName | None = Field(
        None, description="Version that answers where a caller names none; the highest unless told."
    )
    instances: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Processes for each version, each with a copy of it. Where neither this nor `threads` is said: what "
        "`maas optimize` measured, if on a machine like this one, else 1.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Threads of each instance, 1 unless told or measured; instances × threads may not exceed the cores.",
    )
    device: str = Field(
        "cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where instances compute: cpu, cuda, cuda:1 …"
    )
    max_batch_size: int | None = Field(
        None, ge=1, le=65536, description="Rows in one batch; at most what the manifest allows."
    )
    max_batch_cost: int | None = Field(
        None,
        ge=1,
        le=1 << 40,
        description="Rows × lengths of the variable dimensions in one batch, padding included; at most what the manifest "
        "allows, and at least what one row of the greatest declared lengths costs. A request that costs more is a 400.",
    )
    max_queue_delay: float | None = Field(
        None,
        ge=0,
        le=60,
        description="Seconds the oldest request may wait for company though an instance is idle.",
    )
    queue_size: int = Field(
        4096, ge=1, le=1_000_000, description="Requests that may wait; one more is refused at once."
    )
    queue_bytes: int = Field(
        1 << 30,
        ge=1024,
        le=1 << 40,
        description="Bytes of inputs that may wait; a request over it is refused.",
    )
    request_timeout: float = Field(
        30.0,
        gt=0,
        le=86400,
        description="Seconds from admission to the answer; then the caller gets 504. A caller may ask for less.",
    )
    compute_timeout: float = Field(
        30.0,
        gt=0,
        le=86400,
        description="Seconds that one batch may compute; then its process is ended and replaced.",
    )
    load_timeout: float = Field(
        300.0,
        gt=0,
        le=86400,
        description="Seconds that an instance may take to load, test itself and warm up.",
    )
    max_slowdown: float = Field(
        5.0,
        ge=0,
        le=1000,
        description="How many times as long as the version that serves a newer one may take for one row of the same "
        "lengths, measured when it loads; a slower one fails, and the old one goes on. 0 takes any.",
    )
    refuse_unreachable: bool = Field(
        True,
        description="Refuse a request at the door (503) that by what is measured and queued would miss its deadline.",
    )

    @model_validator(mode="after")
    def _check(self) -> ModelOptions:
        cores = os.cpu_count() or 1
        instances, threads = self.instances or 1, self.threads or 1
        if self.device == "cpu" and instances * threads > cores:
            raise ValueError(
                f"{instances} instances × {threads} threads need {instances * threads} cores; there are {cores}"
            )
        if (
            isinstance(self.versions, tuple)
            and self.default is not None
            and self.default not in self.versions
        ):
            raise ValueError(f"default {self.default!r} is not among versions {list(self.versions)}")
        return self


_DEFAULT_OPTIONS = ModelOptions()  # made once: it is asked for with every request


class LoggingOptions(_Section):
    """What is logged, as JSON lines on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least level that is written."
    )
    access: bool = Field(
        False, description="Log every answered request, not only failed, refused and slow ones."
    )
    access_sample: float = Field(
        0.0, ge=0, le=1, description="Share of answered requests that is logged while `access` is off."
    )
    slow_seconds: float = Field(1.0, gt=0, description="An answer that took longer is logged as slow.")


class Configuration(_Section):
    """Everything that `maas serve` can be told."""

    repository: Path = Field(
        Path("models"), description="Folder of the model versions.", json_schema_extra=_NEEDS_RESTART
    )
    access: Literal["loopback", "open"] = Field(
        "loopback",
        description="`loopback`: programs of this machine may ask, and pages that it serves, so `Host` and `Origin` must be "
        "localhost or a loopback address. `open` says in so many words that whoever reaches the port may call every model.",
        json_schema_extra=_NEEDS_RESTART,
    )
    allow_control: bool = Field(
        False,
        description="With `access: open`, let whoever reaches the port load and unload models. With `loopback` they may anyway.",
        json_schema_extra=_NEEDS_RESTART,
    )
    allow_code: tuple[str, ...] = Field(
        (),
        description="Modules, by prefix, whose code models may import and run in their processes.",
        json_schema_extra=_NEEDS_RESTART,
    )
    watch_seconds: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="How often to look for versions that came or went; 0 looks at the start only, and when it is told to.",
    )
    server: ServerOptions = ServerOptions()
    limits: Limits = Limits()
    logging: LoggingOptions = LoggingOptions()
    models: dict[ModelName, ModelOptions] = Field(
        {}, description="Options by model name; a model not named has the defaults."
    )

    @model_validator(mode="after")
    def _check(self) -> Configuration:
        if self.access != "open" and not is_loopback(self.server.host):
            raise ValueError(
                f"server.host is {self.server.host!r}, which others can reach, and there are no keys yet: "
                "say `access: open` if that is meant"
            )
        return self

    @property
    def may_control(self) -> bool:
        """Whether callers may load and unload models."""
        return self.allow_control or self.access == "loopback"

    def options_of(self, model: str) -> ModelOptions:
        return self.models.get(model) or _DEFAULT_OPTIONS


def changed_keys(old: Configuration, new: Configuration) -> dict[str, bool]:
    """The path of each option of `new` that has another value than in `old`, and whether it needs a restart."""
    changed = dict(_changed(old, new, ()))
    for name in sorted({*old.models, *new.models}):
        changed |= _changed(old.options_of(name), new.options_of(name), ("models", name))
    return changed


def _changed(old: BaseModel, new: BaseModel, above: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    for key, field in type(new).model_fields.items():
        before, after = getattr(old, key), getattr(new, key)
        if isinstance(after, BaseModel):
            yield from _changed(before, after, (*above, key))
        elif before != after and not isinstance(after, dict):  # of models, which are compared one by one
            yield ".".join((*above, key)), field.json_schema_extra == _NEEDS_RESTART


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_configuration(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Configuration:
    """The effective tree: defaults, then `file`, then `MAAS_SERVER__PORT=…` variables, then the command line's
    `overrides` (a tree like the file's). Raises `ConfigurationError`."""
    tree, lines = _read_file(file) if file is not None else ({}, {})
    in_file = set(_paths(tree))
    variables = _read_environment(os.environ if environment is None else environment)
    for path, value in variables.values():
        _merge(tree, _nest(path, value))
    _merge(tree, overrides or {})
    try:
        return Configuration.model_validate(tree)
    except ValidationError as error:
        sources = {path: variable for variable, (path, _) in variables.items()}
        raise ConfigurationError(*_explain(error, _Origin(file, lines, in_file, sources))) from error


def _read_file(file: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """Its tree, and the line of every key."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file} is no text in UTF-8") from error
    try:
        tree, lines = read_yaml(text), lines_of(text)
    except ValueError as error:  # also a date such as 2024-13-45
        raise ConfigurationError(f"{file} is no YAML: {error}") from error
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        what = "a list" if isinstance(tree, list) else "one value"
        raise ConfigurationError(f"{file} holds {what}; expected a mapping")
    return tree, lines


def _read_environment(environment: Mapping[str, str]) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Our variables: `MAAS_A__B=value` as the path (a, b) and the value read as YAML."""
    found = {}
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX) and not _is_of_kubernetes(variable, text):
            first, *others = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")
            is_model = first.lower() == "models"  # model names keep their case
            path = (
                first.lower(),
                *(key if is_model and not depth else key.lower() for depth, key in enumerate(others)),
            )
            try:
                found[variable] = (path, read_yaml(text))
            except ValueError as error:
                raise ConfigurationError(
                    f"environment variable {variable} is no YAML value: {error}"
                ) from error
    return found


def _is_of_kubernetes(variable: str, text: str) -> bool:
    """Whether it is one that Kubernetes gives every container for a Service whose name begins with `maas`."""
    is_address = _SERVICE_ADDRESS_VARIABLE.fullmatch(variable) and _SERVICE_ADDRESS.match(text)
    return "__" not in variable and bool(is_address or _SERVICE_VARIABLE.fullmatch(variable))


def _nest(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    *outer, last = path
    tree: dict[str, Any] = {last: value}
    for key in reversed(outer):
        tree = {key: tree}
    return tree


def _paths(tree: Mapping[Any, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key in the tree."""
    for key, value in tree.items():
        path = (*above, str(key))
        yield path
        if isinstance(value, Mapping):
            yield from _paths(value, path)


def _merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a key may come from: the file, the line of each of its keys, all of its keys, and variables by path."""

    file: Path | None
    lines: Mapping[tuple[str, ...], int]
    in_file: Container[tuple[str, ...]]
    variables: Mapping[tuple[str, ...], str]

    def line(self, keys: tuple[str, ...]) -> str:
        """Of the key, or of the nearest above it that stands in the file."""
        above = (keys[:length] for length in range(len(keys), 0, -1))
        return next((f"line {self.lines[path]}" for path in above if path in self.lines), "")


def _explain(error: ValidationError, origin: _Origin) -> Iterator[str]:
    """What is wrong, after the variable or the file and line that say it and the path of its key."""
    for problem in error.errors():
        # pydantic names the members of a union in brackets; they are no keys of the file.
        keys = tuple(str(key) for key in problem["loc"] if "[" not in str(key))
        path = ".".join(keys)
        text = _WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))
        if variable := _variable(keys, origin.variables, origin.in_file):
            what = f"unknown key {path}" if text == _UNKNOWN else f"{path}: {text}"
            yield f"environment variable {variable}: {what}"
        else:
            where = [str(part) for part in (origin.file, origin.line(keys), path) if part]
            yield ": ".join([*(where or ["the configuration"]), text])


def _variable(
    keys: tuple[str, ...], variables: Mapping[tuple[str, ...], str], in_file: Container[tuple[str, ...]]
) -> str | None:
    """The variable that set what is at `keys`: the one at or above it, or one below it where no file has it."""
    if not keys:
        return None
    above = [variable for path, variable in variables.items() if path == keys[: len(path)]]
    below = [variable for path, variable in variables.items() if path[: len(keys)] == keys]
    return next(iter(above if above or keys in in_file else below), None)
