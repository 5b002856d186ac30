"""The configuration: one typed, frozen tree. Defaults, then a YAML file, then `MAAS_…` variables.

Every option is declared here once, with its unit, its range and a sentence of advice; the reference page is made from
it. A key that is not here is refused with its path, in the file and in the environment alike. This is the only
place that reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from maas.errors import ConfigurationError
from maas.types import check_model_name, check_version_name

ENVIRONMENT_PREFIX = "MAAS_"


def _version_text(value: object) -> object:
    """YAML reads an unquoted version 3 as a number, which is meant; 1.10 it reads as 1.1, which is not."""
    if isinstance(value, float):
        raise ValueError(f"version {value} must be quoted: as a number, 1.10 would be 1.1")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


VersionName = Annotated[str, BeforeValidator(_version_text), AfterValidator(check_version_name)]
ModelName = Annotated[str, AfterValidator(check_model_name)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerOptions(_Section):
    """Where the server listens and how it starts and ends."""

    host: str = Field(
        "127.0.0.1", description="Address to bind. Any but a loopback one needs `access: open`."
    )
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one and logs it.")
    readiness: Literal["any", "all"] = Field(
        "any",
        description="`any`: ready when one model is, with failed ones named in the body; `all`: only when every one is.",
    )
    drain_timeout: float = Field(
        30.0, ge=0, le=3600, description="Seconds that accepted requests may take to end after SIGTERM."
    )


class Limits(_Section):
    """Bounds of the whole server."""

    body_bytes: int = Field(
        64 << 20, ge=1024, le=1 << 40, description="Bytes of a request body, whatever the model declares."
    )
    answer_bytes: int = Field(
        256 << 20,
        ge=1024,
        le=1 << 40,
        description="Bytes of one batch's outputs; a larger answer is a model error.",
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
    instances: int = Field(1, ge=1, le=256, description="Processes for each version, each with a copy of it.")
    threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="Threads of each instance; instances × threads may not exceed the cores.",
    )
    device: str = Field(
        "cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where instances compute: cpu, cuda, cuda:1 …"
    )
    max_batch_size: int | None = Field(
        None, ge=1, le=65536, description="Rows in one batch; at most what the manifest allows."
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
    request_timeout: float = Field(
        30.0, gt=0, le=86400, description="Seconds from admission to the answer; then the caller gets 504."
    )

    @model_validator(mode="after")
    def _check(self) -> ModelOptions:
        cores = os.cpu_count() or 1
        if self.device == "cpu" and self.instances * self.threads > max(cores, self.instances):
            raise ValueError(
                f"{self.instances} instances × {self.threads} threads need {self.instances * self.threads} cores; "
                f"there are {cores}"
            )
        if (
            isinstance(self.versions, tuple)
            and self.default is not None
            and self.default not in self.versions
        ):
            raise ValueError(f"default {self.default!r} is not among versions {list(self.versions)}")
        return self


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

    repository: Path = Field(Path("models"), description="Folder of the model versions.")
    access: Literal["loopback", "open"] = Field(
        "loopback",
        description="`open` says in so many words that whoever reaches the port may call every model.",
    )
    allow_code: tuple[str, ...] = Field(
        (), description="Modules, by prefix, whose code models may import and run in their processes."
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

    def options_of(self, model: str) -> ModelOptions:
        return self.models.get(model) or ModelOptions()


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
    tree: dict[str, Any] = _read_file(file) if file is not None else {}
    _merge(tree, _read_environment(os.environ if environment is None else environment))
    _merge(tree, overrides or {})
    try:
        return Configuration.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_explain(error))) from error


def _read_file(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2024-13-45 is a ValueError
        raise ConfigurationError(f"{file} is no YAML: {error}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{file} holds a {type(tree).__name__}; expected a mapping")
    return tree


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`MAAS_A__B=value` as the tree {a: {b: value}}, with the value read as YAML. Model names keep their case."""
    tree: dict[str, Any] = {}
    for variable, text in sorted(environment.items()):
        if variable.startswith(ENVIRONMENT_PREFIX):
            path = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")
            try:
                value = yaml.safe_load(text)
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                raise ConfigurationError(f"{variable} is no YAML value: {error}") from error
            _merge(tree, _nest(path, value))
    return tree


def _nest(path: list[str], value: Any) -> dict[str, Any]:
    is_model = path[0].lower() == "models"
    for depth in range(len(path) - 1, -1, -1):
        key = path[depth] if is_model and depth == 1 else path[depth].lower()
        value = {key: value}
    result: dict[str, Any] = value
    return result


def _merge(tree: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def _explain(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        # pydantic names the members of a union in brackets; they are no keys of the file.
        keys = [str(key) for key in problem["loc"] if "[" not in str(key)]
        path = ".".join(keys) or "the configuration"
        text = (
            "unknown key"
            if problem["type"] == "extra_forbidden"
            else problem["msg"].removeprefix("Value error, ")
        )
        yield f"{path}: {text}"
