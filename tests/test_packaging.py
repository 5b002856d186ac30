"""What is installed, and the files that set it up: extras, pinned versions, image, compose file, scrape configuration.

No container engine is needed: each file is checked by the tool that knows its format.
"""

import re
import shutil
import subprocess
import sysconfig
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "configs/prometheus.yml").read_text())


# -- what is installed


def test_without_extras_only_the_client_is_installed() -> None:
    """`pip install maas` brings what a caller needs and nothing that a server needs."""
    requirements = [Requirement(line) for line in metadata.requires("maas") or []]
    always = {requirement.name for requirement in requirements if requirement.marker is None}
    assert always == {"httpx", "ml_dtypes", "numpy", "orjson", "typer"}
    assert all("extra" in str(requirement.marker) for requirement in requirements if requirement.marker)


def test_every_extra_is_installable() -> None:
    """Each extra of pyproject.toml is known to the installed package; the documented ones are there."""
    extras = set(metadata.metadata("maas").get_all("Provides-Extra") or [])
    assert extras == set(PROJECT["optional-dependencies"])
    assert {"server", "torch", "training", "dev"} <= extras


# -- pinned versions


def pins() -> dict[str, Version]:
    """The version of each package of constraints.txt, by canonical name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    named = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in named}


def direct_requirements() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    requirements = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in requirements if requirement.name != "maas"]


def test_constraints_hold_exact_versions_and_nothing_else() -> None:
    """A line is a comment or `name==version`: no address, no hash, no build label that one index alone has."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert [line for line in pinned if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)] == []
    assert len(pins()) == len(pinned)


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_every_direct_dependency_is_pinned(requirement: Requirement) -> None:
    """constraints.txt pins each dependency of pyproject.toml to a version that pyproject.toml accepts."""
    assert pins()[canonicalize_name(requirement.name)] in requirement.specifier


# -- the Makefile


def test_make_lists_every_command() -> None:
    """`make` alone describes each command that a person may give it."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"^([a-z-]+):.*## .", makefile, re.MULTILINE)) == set(phony[1].split())


# -- the image


def last_stage() -> list[tuple[str, str]]:
    """(instruction, arguments) of the stage that becomes the image, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    start = max(number for number, line in enumerate(lines) if line.startswith("FROM "))
    return [
        (name, arguments) for name, _, arguments in (line.partition(" ") for line in lines[start:]) if name
    ]


def test_dockerfile_passes_its_linter() -> None:
    """hadolint, which also runs shellcheck over each RUN, has nothing to say, not even a hint."""
    check(installed("hadolint"), "--no-color", "Dockerfile")


def test_image_runs_as_an_ordinary_user_and_tells_its_health() -> None:
    """The image runs as a numeric user other than root, stops by SIGTERM, and asks itself whether it is live."""
    stage = last_stage()
    instructions = dict(stage)
    assert [arguments for name, arguments in stage if name == "USER"] == ["10001:10001"]
    assert instructions["VOLUME"] == "/models"
    assert instructions["EXPOSE"] == "8000"
    assert instructions["STOPSIGNAL"] == "SIGTERM"
    assert "/v2/health/live" in instructions["HEALTHCHECK"]
    assert instructions["ENTRYPOINT"] == '["maas"]'
    assert instructions["CMD"] == '["serve", "--config", "/etc/maas/production.yaml"]'


def test_image_has_the_engines_that_are_asked_for() -> None:
    """The build argument EXTRAS is one of the extras unless told, the one of the compose file too; the example names such."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    (default,) = re.findall(r'^ARG EXTRAS="(.*)"$', dockerfile, re.MULTILINE)
    (example,) = re.findall(r"--build-arg EXTRAS=(\S+)", dockerfile)
    assert default == "torch"
    assert COMPOSE["services"]["maas"]["build"]["args"] == {"EXTRAS": f"${{MAAS_EXTRAS:-{default}}}"}
    assert {"server", *example.split(",")} <= PROJECT["optional-dependencies"].keys()
    assert '".[server,${EXTRAS}]"' in dockerfile


def test_everything_the_image_copies_exists_and_is_sent() -> None:
    """Each source of a COPY is in the repository and let through by .dockerignore."""
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {source for line in copies for source in line.split()}
    assert sources == sent
    assert [source for source in sorted(sources) if not (ROOT / source).exists()] == []


# -- the compose file and Prometheus


def test_compose_file_follows_the_specification() -> None:
    """docker-compose.yml is valid by the compose specification's own JSON schema."""
    check(installed("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_confined(name: str) -> None:
    """A service is reached from this machine alone, gains no privilege, writes no root file and is bounded."""
    service = COMPOSE["services"][name]
    assert [port for port in service["ports"] if not port.startswith("127.0.0.1:")] == []
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service.keys() >= {"mem_limit", "pids_limit"}


def test_compose_and_image_ask_the_same_question() -> None:
    """The health check of docker-compose.yml is the one of the Dockerfile."""
    asked = yaml.safe_load(dict(last_stage())["HEALTHCHECK"].partition("CMD ")[2])
    assert COMPOSE["services"]["maas"]["healthcheck"]["test"] == ["CMD", *asked]


def test_compose_pins_the_version_of_a_foreign_image() -> None:
    """An image that is not built here has a tag that names one release."""
    foreign = [service["image"] for service in COMPOSE["services"].values() if "build" not in service]
    assert foreign
    assert [image for image in foreign if not re.search(r":v?\d+\.\d+\.\d+$", image)] == []


def test_prometheus_accepts_its_configuration() -> None:
    """promtool finds no fault in configs/prometheus.yml."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package `prometheus` has it; .ci/run installs it)")
    check(promtool, "check", "config", "configs/prometheus.yml")


def test_prometheus_scrapes_the_service_that_compose_runs() -> None:
    """The scraped address is a compose service and a port that the image exposes."""
    (job,) = PROMETHEUS["scrape_configs"]
    assert job["metrics_path"] == "/metrics"
    host, _, port = job["static_configs"][0]["targets"][0].partition(":")
    assert host in COMPOSE["services"]
    assert port == dict(last_stage())["EXPOSE"]


def installed(command: str) -> str:
    """The path of a command that the `dev` extra brought into this environment."""
    return str(Path(sysconfig.get_path("scripts")) / command)


def check(*command: str) -> None:
    """Run a checker in the repository's root; what it complains of becomes the test's message."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
