"""What the documentation says is what happens: commands and code of the README are run, and their outputs compared."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.test_server import Server, serving

ROOT = Path(__file__).parent.parent
_EXAMPLE = re.compile(r"<!-- test: (\w+) -->\n```\w*\n(.*?)```\n```\w*\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True)
class Example:
    """A block of the README and the output that stands under it."""

    kind: str
    code: str
    output: str


EXAMPLES = [Example(*match.groups()) for match in _EXAMPLE.finditer((ROOT / "README.md").read_text())]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The demo model of the README, trained and published by the command that `make serve` runs."""
    folder = tmp_path_factory.mktemp("readme")
    repository = folder / "models"
    maas(["train", "longley", "--repository", str(repository)], folder)
    with serving(repository, folder) as running:
        yield running


def maas(arguments: list[str], folder: Path) -> str:
    command = [sys.executable, "-m", "maas", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=120).stdout


def python(code: str, folder: Path) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=120).stdout


def assert_same(actual: str, expected: str) -> None:
    """Equal, but for the last digits of numbers: machines differ there."""
    assert _NUMBER.sub("#", actual.strip()) == _NUMBER.sub("#", expected.strip())
    numbers = [[float(text) for text in _NUMBER.findall(side)] for side in (actual, expected)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-9)


def of_kind(kind: str) -> list[Example]:
    found = [example for example in EXAMPLES if example.kind == kind]
    assert found, f"the README has an example of kind {kind!r}"
    return found


@pytest.mark.parametrize("example", of_kind("call"), ids=lambda example: example.code[:60])
def test_readme_calls_give_the_readme_answers(example: Example, server: Server) -> None:
    """Each `curl` line, against a running server."""
    command = shlex.split(example.code.replace("localhost:8000", f"127.0.0.1:{server.port}"))
    assert command[0] == "curl"
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert_same(result.stdout, example.output)


@pytest.mark.parametrize("example", of_kind("command"), ids=lambda example: example.code[:60])
def test_readme_commands_give_the_readme_answers(example: Example, server: Server, tmp_path: Path) -> None:
    """Each `maas` line, against a running server."""
    command = shlex.split(example.code)
    assert command[0] == "maas"
    assert_same(maas([*command[1:], "--url", server.url], tmp_path), example.output)


@pytest.mark.parametrize("example", of_kind("python"), ids=lambda example: example.code[:60])
def test_readme_client_prints_what_the_readme_says(example: Example, server: Server, tmp_path: Path) -> None:
    """The Python client's lines, as they stand."""
    assert_same(python(example.code.replace("http://localhost:8000", server.url), tmp_path), example.output)


def test_readme_publishes_a_users_own_model_and_serves_it(tmp_path: Path) -> None:
    """Ten lines of somebody's own PyTorch become a version that is served and proven."""
    (example,) = of_kind("publish")
    (tmp_path / "train.py").write_text(example.code)
    command = [sys.executable, "train.py"]
    result = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=120)
    assert_same(result.stdout, example.output)
    with serving(tmp_path / "models", tmp_path) as server:
        answer = server.post("/predict/scorer", {"x": [[1, 2, 3], [0, 0, 0]]})
        assert answer.headers["x-model-version"] == "scorer/1"
        assert len(answer.json()["score"]) == 2
    assert "scorer/1 is as published" in maas(["verify", "scorer"], tmp_path)


def test_the_class_of_the_publishing_page_is_published_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's Python class, in a module of its own, becomes a version by the page's own call."""
    page = (ROOT / "docs/publishing.md").read_text()
    code = re.search(r"<!-- example: class -->\n```python\n(.*?)```", page, re.DOTALL)
    call = re.search(r"`(maas\.publish\(Replies, .*)`\.", page)
    assert code is not None
    assert call is not None
    (tmp_path / "replies.py").write_text(code[1])
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "replies.json").write_text('{"hello": "hi", "bye": "see you"}')
    assert python(f"import maas\nfrom replies import Replies\nprint({call[1]})", tmp_path) == "replies/1\n"
    monkeypatch.chdir(tmp_path)  # model processes find the module where the server was started
    with serving(tmp_path / "models", tmp_path, allow_code=["replies"]) as server:
        answer = server.post("/predict/replies", {"text": ["bye", "what"]})
        assert answer.json() == {"reply": ["see you", "…"], "length": [7, 3]}


def test_readme_names_only_paths_that_are_served(server: Server) -> None:
    """The table of interfaces agrees with the server's own document."""
    paths = json.loads(server.get("/openapi.json").text)["paths"]
    for path in ("/models", "/models/{model}", "/v2/health/live", "/metrics", "/predict/longley"):
        assert path in paths
    assert server.get("/docs").status_code == 200


def test_configuration_page_is_what_the_command_prints() -> None:
    """The reference page follows from the options; `maas config reference > docs/configuration.md` renews it."""
    assert (ROOT / "docs/configuration.md").read_text() == maas(["config", "reference"], ROOT)


@pytest.mark.parametrize("file", ["quickstart.yaml", "production.yaml"])
def test_shipped_configurations_are_valid(file: str) -> None:
    """The configurations that people start from pass the check."""
    assert "is a valid configuration" in maas(["config", "check", f"configs/{file}"], ROOT)


def test_quickstart_configuration_serves(tmp_path: Path) -> None:
    """The quickstart file, but for its port and its place, is one that a server starts with."""
    import yaml
    from tests.versions import store

    store(tmp_path / "models")
    tree = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())
    tree["server"]["port"] = 0
    with serving(tmp_path / "models", tmp_path, server=tree["server"], logging=tree["logging"]) as server:
        assert server.post("/predict/model", {"x": [1, 2]}).status_code == 200


def test_documents_link_only_to_files_that_are_there() -> None:
    """A relative link of a page leads somewhere."""
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_structure_page_names_only_files_that_are_there() -> None:
    """The life of a request leads through files that exist."""
    text = (ROOT / "docs/structure.md").read_text()
    for name in re.findall(r"`([a-z_/]+\.py)`", text):
        assert (ROOT / "src/maas" / name).exists() or (ROOT / name).exists(), name


def test_faults_page_names_only_tests_that_are_there() -> None:
    """Each test that is said to hold a fault exists; a row without one says that it is a gap."""
    rows = [line for line in (ROOT / "docs/faults.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 30
    for row in rows:
        tests = re.findall(r"`([a-z_/]+\.py)::(\w+)`", row)
        assert tests or "GAP" in row, row
        for file, name in tests:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), (
                name
            )


def test_protocols_page_names_only_tests_that_are_there() -> None:
    """Each path and call is held by a test or by a client's call that exists."""
    lines = (ROOT / "docs/protocols.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.endswith("| tested by |")]
    assert len(rows) > 30
    for row in rows:
        tests = re.findall(r"`([a-z0-9_/]+\.py)::(\w+)`", row)
        assert tests, row
        for file, name in tests:
            code = (ROOT / "tests" / file).read_text()
            assert re.search(rf"^(async )?def {name}\(", code, re.MULTILINE), name
