"""The layers: an import goes down the list or sideways within a package, never up."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "maas"

# From the top down. What stands on one line does not know each other either.
LAYERS = (
    ("maas.cli", "maas.server", "maas.edge", "maas.publisher"),
    ("maas.training", "maas.optimizing", "maas.bench", "maas.importing"),
    ("maas.api",),
    ("maas.gateway",),
    ("maas.models",),
    ("maas.telemetry",),
    ("maas.workers",),
    ("maas.batching",),
    ("maas.runtimes",),
    ("maas.generation",),  # its records are what an engine of generation takes
    ("maas.tensors",),
    ("maas.config",),
    ("maas.types",),
    ("maas.elements",),
    ("maas.dtypes",),
    ("maas.errors",),
)
GROUND = ("maas.tensors", "maas.types", "maas.elements", "maas.dtypes", "maas.errors")
LEVEL = {package: level for level, packages in enumerate(LAYERS) for package in packages}
MAY_KNOW_EACH_OTHER = {
    ("maas.cli", "maas.server"),
    ("maas.cli", "maas.publisher"),
    ("maas.server", "maas.edge"),
}

FRAMEWORKS = {
    *("torch", "transformers", "tokenizers", "gguf", "onnxruntime", "openvino"),
    *("sklearn", "statsmodels", "tensorflow", "jax"),
}
WEB = {"fastapi", "starlette", "uvicorn", "httpx", "grpc"}
METERS = {"prometheus_client", "opentelemetry"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> set[str]:
    """Full names of all modules that the file imports, wherever in it, but for type checking."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "maas")
    return found


def package_of(module: str) -> str | None:
    return next((package for package in LEVEL if module == package or module.startswith(package + ".")), None)


MODULES = list(modules())


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_go_down(name: str, path: Path) -> None:
    """A module imports what stands below its package, or its own package."""
    own = package_of(name)
    for imported in imports(path):
        other = package_of(imported)
        if own is None or other is None or own == other or (own, other) in MAY_KNOW_EACH_OTHER:
            continue
        if own == "maas.cli" and other == "maas.client":
            continue
        assert LEVEL[own] < LEVEL[other], f"{name} imports {imported}, which is not below it"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_each_kind_of_knowledge_has_one_door(name: str, path: Path) -> None:
    """Frameworks are known in runtimes, training and importing, HTTP in api, server and client, meters in telemetry."""
    tops = {imported.partition(".")[0] for imported in imports(path)}
    if not name.startswith(
        ("maas.runtimes.torch", "maas.runtimes.transformers", "maas.training", "maas.importing")
    ):
        is_type_only = name == "maas.publisher"  # for annotations
        own_engine = {name.removeprefix("maas.runtimes.")}
        if name == "maas.importing.tokenizer":
            own_engine = {"tokenizers"}  # a tokenizer is made of its parts there
        assert is_type_only or not tops & FRAMEWORKS - own_engine
    if not name.startswith(("maas.api", "maas.edge", "maas.server", "maas.client")):
        assert not tops & WEB
    if not name.startswith("maas.telemetry"):
        assert not tops & METERS
    if not name.startswith(("maas.telemetry", "maas.server")):
        assert "logging" not in tops


@pytest.mark.parametrize(
    ("name", "path"),
    [(n, p) for n, p in MODULES if n.startswith("maas.client")],
    ids=lambda value: str(value),
)
def test_client_sees_only_the_ground(name: str, path: Path) -> None:
    """The client knows types, tensors and errors, so that it installs without the server."""
    ours = {imported for imported in imports(path) if imported.startswith("maas.")}
    assert all(i.startswith(("maas.client", *GROUND)) for i in ours)


@pytest.mark.parametrize(
    ("name", "path"),
    [(n, p) for n, p in MODULES if n.startswith("maas.bench")],
    ids=lambda value: str(value),
)
def test_the_load_generator_knows_nothing_of_the_server(name: str, path: Path) -> None:
    """What loads any server shares with ours the ground and the client alone."""
    ours = {imported for imported in imports(path) if imported.startswith("maas.")}
    ground = ("maas.bench", "maas.client", *GROUND)
    assert all(imported.startswith(ground) for imported in ours)


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_only_the_configuration_reads_the_environment(name: str, path: Path) -> None:
    """`os.environ` is read in `maas.config`; the launcher hands it on to its children."""
    text = path.read_text(encoding="utf-8")
    if name not in ("maas.config", "maas.workers.launcher"):
        assert "environ" not in text.replace("environment", "")
        assert "getenv" not in text


def test_every_module_has_its_layer() -> None:
    """A new package must be given its place in the list above."""
    ground = {"maas", "maas.client", "maas.__main__"}
    homeless = {
        n for n, _ in MODULES if package_of(n) is None and n not in ground and not n.startswith("maas.client")
    }
    assert homeless == set()


def test_gateway_process_loads_no_framework() -> None:
    """`import maas.server` leaves torch alone, and bfloat16 until a model has it, so the gateway starts fast and stays small."""
    code = "import maas.server, sys; assert not {'torch', 'transformers', 'sklearn', 'pandas', 'scipy', 'ml_dtypes'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
