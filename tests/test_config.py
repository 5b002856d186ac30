"""The configuration: defaults, then a file, then the environment; what is wrong is refused with its path."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from maas import cli
from maas.cli import app
from maas.config import Configuration, ModelOptions, is_loopback, load_configuration
from maas.errors import ConfigurationError


def load(
    tmp_path: Path, text: str = "", environment: Mapping[str, str] | None = None, **overrides: Any
) -> Configuration:
    file = tmp_path / "maas.yaml"
    file.write_text(text)
    return load_configuration(file, environment or {}, overrides)


# -- the options themselves


def options(section: type[BaseModel] = Configuration, path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every option by its path, and those of a model under `models.NAME`."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from options(field.annotation, f"{path}{name}.")
        else:
            yield f"{path}{name}", field
            if name == "models":
                yield from options(ModelOptions, "models.NAME.")


@pytest.mark.parametrize(
    ("path", "field"), list(options()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_option_is_described_with_a_default_and_a_range(path: str, field: FieldInfo) -> None:
    """An option says in a sentence what it does, works without being set, and is bounded if it is a number."""
    assert field.description
    assert field.description.endswith((".", "…"))
    assert not field.is_required()
    numbers = {int, float, int | None, float | None}
    if field.annotation in numbers:
        assert any(isinstance(bound, (Ge, Gt)) for bound in field.metadata), f"{path} has no least value"
        if path != "logging.slow_seconds":  # the slowest answer is bounded by other options
            assert any(isinstance(bound, Le) for bound in field.metadata), f"{path} has no greatest value"


def test_defaults_make_a_configuration() -> None:
    """Without file and environment the server is reachable from this machine only, and may run no one's code."""
    configuration = load_configuration(environment={})
    assert is_loopback(configuration.server.host)
    assert configuration.access == "loopback"
    assert configuration.allow_code == ()
    assert configuration.limits.running_batches == (os.cpu_count() or 1)
    assert configuration.options_of("whatever") == ModelOptions()


def test_a_configuration_cannot_be_changed() -> None:
    """The tree is frozen, down to its leaves."""
    configuration = load_configuration(environment={})
    for section, name in ((configuration, "access"), (configuration.server, "port")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, name, "other")


# -- where values come from


def test_the_environment_overrides_the_file_which_overrides_the_defaults(tmp_path: Path) -> None:
    """Each source changes what it names and leaves the rest; the command line has the last word."""
    text = "server: {host: '::1', port: 1001, drain_timeout: 7}\nrepository: /from/file"
    environment = {"MAAS_SERVER__PORT": "1002", "MAAS_SERVER__READINESS": "all", "HOME": "/", "MAASX": "?"}
    configuration = load(tmp_path, text, environment, server={"port": 1003})
    assert configuration.server.port == 1003
    assert configuration.server.readiness == "all"
    assert configuration.server.drain_timeout == 7
    assert configuration.server.host == "::1"
    assert configuration.repository == Path("/from/file")
    assert load(tmp_path, text, environment).server.port == 1002
    assert load(tmp_path, text).server.port == 1001
    assert load(tmp_path).server.port == 8000


def test_variables_are_read_as_yaml(tmp_path: Path) -> None:
    """A variable's value is YAML, so lists, numbers and truth values can be said."""
    configuration = load(
        tmp_path,
        environment={
            "MAAS_ALLOW_CODE": "[mine, yours.models]",
            "MAAS_LOGGING__ACCESS": "true",
            "MAAS_LOGGING__SLOW_SECONDS": "0.5",
            "MAAS_LIMITS": "{body_bytes: 2048}",
            "MAAS_LIMITS__RUNNING_BATCHES": "3",
        },
    )
    assert configuration.allow_code == ("mine", "yours.models")
    assert configuration.logging.access is True
    assert configuration.logging.slow_seconds == 0.5
    assert (configuration.limits.body_bytes, configuration.limits.running_batches) == (2048, 3)


def test_model_names_keep_their_case_in_the_environment(tmp_path: Path) -> None:
    """Options may be written in capitals, as variables are; a model's name stays as it is."""
    configuration = load(
        tmp_path,
        "models: {ResNet: {threads: 1}}",
        {"MAAS_MODELS__ResNet__MAX_BATCH_SIZE": "5", "MAAS_MODELS__my-model.v2__queue_size": "6"},
    )
    assert configuration.options_of("ResNet") == ModelOptions(threads=1, max_batch_size=5)
    assert configuration.options_of("resnet") == ModelOptions()
    assert configuration.options_of("my-model.v2").queue_size == 6


def test_the_process_s_own_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless told otherwise, the variables are those of the process."""
    monkeypatch.setenv("MAAS_SERVER__PORT", "4321")
    assert load_configuration().server.port == 4321


# -- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("servr: {}", r"^\S+/maas\.yaml: line 1: servr: unknown key$"),
        ("server: {prt: 1}", r"yaml: line 1: server\.prt: unknown key$"),
        ("models: {m: {thread: 1}}", r"yaml: line 1: models\.m\.thread: unknown key$"),
        ("models: {'no name': {}}", r"yaml: line 1: models\.no name: 'no name' is no model name"),
        ("server: {port: 65536}", r"yaml: line 1: server\.port: .*less than or equal to 65535$"),
        ("server: {port: ninety}", r"yaml: line 1: server\.port: .*valid integer"),
        ("server: {drain_timeout: -1}", r"yaml: line 1: server\.drain_timeout: "),
        ("server: {drain_timeout: .nan}", r"yaml: line 1: server\.drain_timeout: "),
        ("server: {drain_timeout: .inf}", r"yaml: line 1: server\.drain_timeout: "),
        ("server: {readiness: some}", r"yaml: line 1: server\.readiness: Input should be 'any' or 'all'$"),
        ("models: {m: {request_timeout: 0}}", r"yaml: line 1: models\.m\.request_timeout: .*greater than 0$"),
        ("models: {m: {device: xcpux}}", r"yaml: line 1: models\.m\.device: "),
        ("models: {m: {device: 'cuda:'}}", r"yaml: line 1: models\.m\.device: "),
        ("models: {m: {device: cpu cuda}}", r"yaml: line 1: models\.m\.device: "),
        ("models: {m: {versions: newest}}", r"yaml: line 1: models\.m\.versions: "),
        ("models: {m: {versions: [a/b]}}", r"models\.m\.versions\.0: 'a/b' is no version"),
        (
            "models: {m: {versions: [1], default: 2}}",
            r"yaml: line 1: models\.m: default '2' is not among versions \['1'\]$",
        ),
        (
            "models: {m: {versions: [], default: 2}}",
            r"yaml: line 1: models\.m: default '2' is not among versions \[\]$",
        ),
        ("allow_code: mine", r"yaml: line 1: allow_code: expected a list$"),
        ("models: [m]", r"yaml: line 1: models: expected a mapping$"),
        ("models: {m: 1}", r"yaml: line 1: models\.m: expected a mapping$"),
        ("server: 1", r"yaml: line 1: server: expected a mapping$"),
        ("access: closed", r"yaml: line 1: access: Input should be 'loopback' or 'open'$"),
        ("server: {host: 0.0.0.0}", r"yaml: server\.host is '0\.0\.0\.0'"),
        ("logging: {access_sample: 1.5}", r"yaml: line 1: logging\.access_sample: "),
        ("a: 1\nb: 2", r"yaml: line 1: a: unknown key; \S+yaml: line 2: b: unknown key$"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    """The error shows the path of the bad key, and all of them if there are several."""
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server:\n  port: 1\n  prt: 2", r"yaml: line 3: server\.prt: unknown key$"),
        ("models:\n  m:\n    versions:\n    - 1\n    - a/b", r"line 5: models\.m\.versions\.1: 'a/b' is no"),
        ("models:\n  m:\n    default: 2\n    versions: [1]", r"yaml: line 2: models\.m: default '2'"),
        (
            "models:\n  a: &a {threads: 0}\n  b: *a",
            r"line 2: models\.a\.threads: .*line 2: models\.b\.threads: ",
        ),
        ("models:\n  a: &a {threads: 0}\n  b: {<<: *a}", r"yaml: line 3: models\.b\.threads: "),
    ],
)
def test_the_line_of_a_wrong_key_is_told(tmp_path: Path, text: str, message: str) -> None:
    """The line in the file, or that of the nearest key above which stands there."""
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, text)


def test_every_problem_is_told_by_itself(tmp_path: Path) -> None:
    """Who logs them does not have to take a sentence apart."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, "a: 1\nb: 2", {"MAAS_C": "3"})
    assert [problem.rpartition(": ")[0] for problem in caught.value.problems] == [
        f"{tmp_path}/maas.yaml: line 1: a",
        f"{tmp_path}/maas.yaml: line 2: b",
        "environment variable MAAS_C",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("MAAS_SERVR__PORT", "1", "^environment variable MAAS_SERVR__PORT: unknown key servr$"),
        ("MAAS_SERVER__PRT", "1", r"^environment variable MAAS_SERVER__PRT: unknown key server\.prt$"),
        ("MAAS_SERVER__PORT", "x", r"^environment variable MAAS_SERVER__PORT: server\.port: "),
        (
            "MAAS_LIMITS",
            "{bodybytes: 1}",
            r"^environment variable MAAS_LIMITS: unknown key limits\.bodybytes$",
        ),
        ("MAAS_PORT", "1", "^environment variable MAAS_PORT: unknown key port$"),
        ("MAAS_URL", "tcp://10.0.0.1", "^environment variable MAAS_URL: unknown key url$"),
        ("MAAS_SERVER_PORT", "9000", "^environment variable MAAS_SERVER_PORT: unknown key server_port$"),
        ("MAAS_", "1", "^environment variable MAAS_: unknown key"),
        ("MAAS_MODELS__m__", "1", "^environment variable MAAS_MODELS__m__: unknown key"),
        ("MAAS_SERVER", "1", "^environment variable MAAS_SERVER: server: expected a mapping$"),
        ("MAAS_ALLOW_CODE", "mine", "^environment variable MAAS_ALLOW_CODE: allow_code: expected a list$"),
        ("MAAS_SERVER__PORT", "[", "^environment variable MAAS_SERVER__PORT is no YAML value"),
        ("MAAS_SERVER__PORT", "2024-13-45", "^environment variable MAAS_SERVER__PORT is no YAML value"),
        ("MAAS_SERVER__PORT", "9" * 5000, "^environment variable MAAS_SERVER__PORT is no YAML value"),
        ("MAAS_SERVER__PORT", "[" * 2000, "^environment variable MAAS_SERVER__PORT is no YAML value"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_the_environment_is_held_to_the_same(tmp_path: Path, variable: str, value: str, message: str) -> None:
    """An unknown or wrong variable is refused by its name, with the path that it would have in the file."""
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, environment={variable: value})


def test_who_said_it_is_told(tmp_path: Path) -> None:
    """A wrong value is the variable's where there is one, which has the last word, and else the file's."""
    with pytest.raises(ConfigurationError, match=r"^environment variable MAAS_SERVER__PORT: server\.port: "):
        load(tmp_path, "server: {port: 1}", {"MAAS_SERVER__PORT": "x"})
    with pytest.raises(ConfigurationError, match=r"yaml: line 1: server\.port: "):
        load(tmp_path, "server: {port: x}", {"MAAS_SERVER__HOST": "::1"})
    with pytest.raises(
        ConfigurationError, match=r"^environment variable MAAS_MODELS__m__DEFAULT: models\.m: "
    ):
        load(tmp_path, "", {"MAAS_MODELS__m__DEFAULT": "2", "MAAS_MODELS__m__VERSIONS": "[1]"})
    with pytest.raises(ConfigurationError, match=r"^the configuration: server\.host is "):
        load_configuration(None, {}, {"server": {"host": "0.0.0.0"}})


def test_variables_that_kubernetes_sets_for_a_service_are_not_ours(tmp_path: Path) -> None:
    """A Service called `maas` puts its addresses into the environment of every container beside it."""
    environment = {
        "MAAS_PORT": "tcp://10.96.0.7:8000",
        "MAAS_PORT_8000_TCP": "tcp://10.96.0.7:8000",
        "MAAS_PORT_8000_TCP_PROTO": "tcp",
        "MAAS_PORT_8000_TCP_PORT": "8000",
        "MAAS_PORT_8000_TCP_ADDR": "10.96.0.7",
        "MAAS_SERVICE_HOST": "10.96.0.7",
        "MAAS_SERVICE_PORT": "8000",
        "MAAS_SERVICE_PORT_HTTP": "8000",
        "MAAS_PROMETHEUS_SERVICE_HOST": "10.96.0.8",
        "MAAS_PROMETHEUS_PORT": "tcp://10.96.0.8:9090",
    }
    assert load(tmp_path, environment=environment) == Configuration()
    with pytest.raises(ConfigurationError, match="MAAS_SERVER__PORT: server"):
        load(tmp_path, environment={"MAAS_SERVER__PORT": "tcp://10.96.0.7:8000"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("access: open\naccess: loopback", "is no YAML: line 2: key 'access' stands twice"),
        ("server:\n  port: 1\n  host: '::1'\n  port: 2", "is no YAML: line 4: key 'port' stands twice"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """YAML would take the last of them without a word."""
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, text)


_BOMB = "k0: &a0 [0]\n" + "".join(f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a list", "maas.yaml holds a list; expected a mapping"),
        ("text", "maas.yaml holds one value; expected a mapping"),
        ("a: [", "maas.yaml is no YAML"),
        ("a: 2024-13-45", "maas.yaml is no YAML"),
        ("a: !!python/object/apply:os.system [true]", "maas.yaml is no YAML"),
        ("a: " + "[" * 2000, "maas.yaml is no YAML"),
        ("server: &s\n  port: *s", "maas.yaml is no YAML: line 2: an alias stands within what it means"),
        (_BOMB, "maas.yaml is no YAML: line .*: there are over 100000 keys"),
        ("{1: 2}", "(?i)key"),
    ],
    ids=lambda value: value[:30],
)
def test_a_file_that_is_no_tree_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    """What is no YAML mapping is refused with the name of the file, and runs nothing."""
    with pytest.raises(ConfigurationError, match=message):
        load(tmp_path, text)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    """A missing file, a folder and bytes that are no text are configuration errors."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.yaml", "", "binary.yaml"):
        with pytest.raises(ConfigurationError, match=str(tmp_path)):
            load_configuration(tmp_path / name, {})


# -- versions


def test_versions_may_be_written_as_whole_numbers(tmp_path: Path) -> None:
    """YAML reads 3 as a number; as a version it is the text «3»."""
    options = load(tmp_path, "models: {m: {versions: [3, '1.10', beta], default: 3}}").options_of("m")
    assert options.versions == ("3", "1.10", "beta")
    assert options.default == "3"


@pytest.mark.parametrize("value", ["versions: [1.10]", "default: 1.10"])
def test_a_version_that_yaml_would_change_is_refused(tmp_path: Path, value: str) -> None:
    """An unquoted 1.10 is the number 1.1: it is refused, with what to do."""
    with pytest.raises(ConfigurationError, match=r"1\.1 must be quoted: as a number, 1\.10 would be 1\.1"):
        load(tmp_path, f"models: {{m: {{{value}}}}}")


@pytest.mark.parametrize("value", ["versions: [yes]", "default: true", "default: 2024-01-01", "default: {}"])
def test_what_is_no_version_is_refused(tmp_path: Path, value: str) -> None:
    """A truth value, a date and a mapping are no version names."""
    with pytest.raises(ConfigurationError, match=r"models\.m\."):
        load(tmp_path, f"models: {{m: {{{value}}}}}")


# -- rules over several options


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_a_loopback_address_needs_no_word(tmp_path: Path, host: str) -> None:
    """What only this machine reaches is bound without further ado."""
    assert load(tmp_path, server={"host": host}).server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "", "example.org", "127.0.0.1.example.org"])
def test_another_address_needs_open_access(tmp_path: Path, host: str) -> None:
    """Whoever binds an address that others reach must say so in so many words."""
    with pytest.raises(ConfigurationError, match="say `access: open` if that is meant"):
        load(tmp_path, server={"host": host})
    assert load(tmp_path, "access: open", server={"host": host}).server.host == host


def test_instances_and_threads_do_not_oversubscribe_the_cores(tmp_path: Path) -> None:
    """Instances × threads may not exceed the cores; those of instances on a device may."""
    cores = os.cpu_count() or 1
    with pytest.raises(
        ConfigurationError, match=rf"models\.m: 2 instances × {cores} threads need {2 * cores} cores"
    ):
        load(
            tmp_path,
            models={"m": {"instances": 2, "threads": cores}}
            if cores > 1
            else {"m": {"instances": 2, "threads": 2}},
        )
    with pytest.raises(ConfigurationError, match=f"{cores + 5} instances × 1 threads"):
        load(tmp_path, models={"m": {"instances": cores + 5}})
    load(tmp_path, models={"m": {"instances": cores}})
    load(tmp_path, models={"m": {"threads": cores}})
    load(tmp_path, models={"m": {"instances": 2, "threads": cores, "device": "cuda:1"}})


# -- the command line


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MAAS_")]:
        monkeypatch.delenv(name)


def test_the_effective_tree_is_printed_and_makes_the_same_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`maas config` prints every option as YAML; what is printed is a configuration file with the same meaning."""
    file = tmp_path / "maas.yaml"
    file.write_text("models: {m: {versions: ['1.10'], threads: 1}}\naccess: open\n")
    monkeypatch.setenv("MAAS_SERVER__PORT", "4321")
    done = CliRunner().invoke(app, ["config", "--config", str(file)])
    assert done.exit_code == 0
    assert yaml.safe_load(done.output)["server"]["port"] == 4321
    again = tmp_path / "again.yaml"
    again.write_text(done.output)
    assert load_configuration(again, {}) == load_configuration(file)


def test_a_valid_file_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`maas config check` ends with 0 for a valid file, whatever the environment says."""
    monkeypatch.setenv("MAAS_NONSENSE", "1")
    file = tmp_path / "maas.yaml"
    file.write_text("server: {port: 1234}")
    done = CliRunner().invoke(app, ["config", "check", str(file)])
    assert (done.exit_code, done.output) == (0, f"{file} is a valid configuration\n")


@pytest.mark.parametrize("text", ["server: {prt: 1}", "a: [", "- 1", None])
def test_a_wrong_file_ends_with_one_sentence(
    tmp_path: Path, text: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`maas config check` ends with 1 and one line of what is wrong, without a traceback."""
    file = tmp_path / "maas.yaml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr("sys.argv", ["maas", "config", "check", str(file)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Error: ")
    assert "Traceback" not in captured.err


def test_the_configurations_that_come_along_are_valid() -> None:
    """Every YAML file under configs/ that is ours is a configuration."""
    for file in (Path(__file__).parent.parent / "configs").glob("*.yaml"):
        load_configuration(file, {})
