"""The public surface: what `maas` exports, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import maas

HEAVY = {
    "torch",
    "fastapi",
    "uvicorn",
    "pydantic",
    "numpy",
    "httpx",
    "yaml",
    "msgspec",
    "structlog",
    "sklearn",
}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after `statement`."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_exported_names_are_the_documented_ones() -> None:
    """`maas.__all__` is the surface, sorted, and every name of it has a home."""
    assert maas.__all__ == sorted(maas.__all__)
    assert set(maas.__all__) == maas._HOMES.keys()
    assert maas.__all__ == [
        "AsyncClient",
        "Bounds",
        "Client",
        "MaasError",
        "Prediction",
        "Tolerance",
        "publish",
    ]


@pytest.mark.parametrize("name", maas.__all__)
def test_every_exported_name_is_there(name: str) -> None:
    """A name of the surface is what its home module calls so, and says in a docstring what it is."""
    found = getattr(maas, name)
    assert found.__name__ == name
    assert found.__module__.startswith(maas._HOMES[name])
    assert found.__doc__


def test_a_star_import_brings_the_surface() -> None:
    """`from maas import *` brings the names of `__all__` and nothing else."""
    space: dict[str, object] = {}
    exec("from maas import *", space)
    assert space.keys() - {"__builtins__"} == set(maas.__all__)


def test_another_name_is_refused() -> None:
    """A name that is not exported is an attribute error, as of any module."""
    with pytest.raises(AttributeError, match="module 'maas' has no attribute 'predict'"):
        maas.predict  # noqa: B018


def test_importing_maas_loads_nothing_heavy() -> None:
    """`import maas` costs no third-party package: names are loaded when they are used."""
    assert HEAVY.isdisjoint(modules_after("import maas"))


def test_importing_the_server_loads_no_engine() -> None:
    """`import maas.server` leaves torch to the model processes."""
    loaded = modules_after("import maas.server")
    assert {"fastapi", "uvicorn"} <= loaded
    assert {"torch", "sklearn", "statsmodels", "pandas", "scipy"}.isdisjoint(loaded)


@pytest.mark.parametrize("statement", ["import maas.cli", "from maas import publish"])
def test_the_command_line_and_publish_load_no_engine_until_they_run(statement: str) -> None:
    """Help and completion answer at once; a Python class is published without torch."""
    assert "torch" not in modules_after(statement)


def test_the_version_is_that_of_the_package() -> None:
    """`maas.__version__` is what is installed."""
    assert maas.__version__ == metadata.version("maas")
