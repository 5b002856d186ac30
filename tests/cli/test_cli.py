"""The command line: what people meet who mistype, lack a package, or may not write."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.versions import store

import maas
from maas import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["maas", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        code = ended.value.code
        return int(code or 0), *capsys.readouterr()

    return run


def command(*arguments: str, folder: Path, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in `folder`, after some Python."""
    code = f"import sys\n{prelude}\nsys.argv = ['maas', *{arguments!r}]\nfrom maas.cli import main\nmain()"
    return subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )


def assert_one_sentence(error: str) -> None:
    assert error.startswith("Error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_the_version_is_printed(run: Run) -> None:
    """`maas --version` prints the package's version."""
    assert run("--version") == (0, f"maas {maas.__version__}\n", "")


# -- what cannot be done


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("nope", "of model 'nope'; it has []; models in REPOSITORY: model"),
        ("model/7", "no version '7' of model 'model'; it has ['1']; models in REPOSITORY: model"),
        ("no name", "'no name' is no model name"),
    ],
)
def test_verifying_what_is_not_there_says_what_is(
    run: Run, tmp_path: Path, wanted: str, message: str
) -> None:
    """A mistyped model or version is told in a sentence, with what the repository has."""
    store(tmp_path)
    code, output, error = run("verify", wanted, "--repository", str(tmp_path))
    assert (code, output) == (1, "")
    assert_one_sentence(error)
    assert message.replace("REPOSITORY", str(tmp_path)) in error


def test_verifying_in_an_empty_repository_says_so(run: Run, tmp_path: Path) -> None:
    """A repository that holds nothing, or is not there, is told to have no models."""
    code, _, error = run("verify", "model", "--repository", str(tmp_path / "none"))
    assert code == 1
    assert error.endswith(f"; models in {tmp_path / 'none'}: none\n")


@pytest.mark.parametrize("arguments", [("train", "longley"), ("publish", "folder")])
def test_a_repository_that_cannot_be_written_is_one_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Training does not even begin, and nobody sees a traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    write_folder(tmp_path)
    (tmp_path / "folder" / "golden.safetensors").write_bytes(b"")
    code, output, error = run(*arguments, "--repository", "file/models")
    assert (code, output) == (1, "")
    assert_one_sentence(error)
    assert "Not a directory" in error


def test_a_folder_without_golden_sample_is_told_what_to_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishing a folder needs samples or an example to make them from."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path)
    code, _, error = run("publish", "folder")
    assert (code, error) == (1, "Error: golden.safetensors is missing: give --example FILE, or write it\n")


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("train", "longley"), "torch", "training"),
        (("train", "longley"), "statsmodels", "training"),
        (("publish", "folder"), "yaml", "torch"),
        (("verify", "model"), "pydantic", "torch"),
        (("serve",), "yaml", "server"),
        (("config",), "yaml", "server"),
    ],
)
def test_a_command_whose_package_is_missing_names_its_extra(
    tmp_path: Path, arguments: tuple[str, ...], package: str, extra: str
) -> None:
    """Whoever has the client alone is told what to install for all that the command needs."""
    done = command(*arguments, folder=tmp_path, prelude=f"sys.modules[{package!r}] = None")
    assert done.returncode == 1
    assert_one_sentence(done.stderr)
    assert done.stderr.endswith(f"this command needs {package!r}: pip install 'maas[{extra}]'\n")


def test_publish_without_its_extra_is_an_import_error_that_names_it(tmp_path: Path) -> None:
    """`from maas import publish` with the client alone says what to install."""
    code = "import sys; sys.modules['pydantic'] = None\nfrom maas import publish"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ImportError: maas.publish needs the package 'pydantic': pip install 'maas[torch]'" in done.stderr


# -- what can


def write_folder(parent: Path) -> None:
    (parent / "folder").mkdir()
    (parent / "folder" / "model.yaml").write_text(
        "runtime: {name: python, class: 'mine_alone:Twice'}\n"
        'inputs: {x: "float32[batch]"}\noutputs: {y: "float32[batch]"}\n'
    )


def test_a_folder_s_code_is_found_where_the_command_is_given(tmp_path: Path) -> None:
    """A class in the current folder answers the example, proves the version, and proves it again."""
    write_folder(tmp_path)
    (tmp_path / "mine_alone.py").write_text(
        "class Twice:\n"
        "    def __init__(self, directory, device): pass\n"
        "    def run(self, inputs): return {'y': inputs['x'] * 2}\n"
    )
    (tmp_path / "example.json").write_text('{"x": [1, 2]}')
    options = ("--allow-code", "mine_alone")
    done = command("publish", "folder", "--example", "example.json", *options, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "folder/1\n"), done.stderr
    done = command("verify", "folder", *options, folder=tmp_path)
    assert "folder/1 is as published" in done.stdout, done.stderr


def test_training_into_a_pipe_prints_one_line_for_each_model(tmp_path: Path) -> None:
    """A log gets a line with the model and its metrics, no bars; standard output the label alone."""
    done = command("train", "longley", "--repository", "~/models", folder=tmp_path, prelude=home(tmp_path))
    assert (done.returncode, done.stdout) == (0, "longley/1\n"), done.stderr
    assert re.fullmatch(r"longley/1  \w.* [\d.e+-]+\n", done.stderr)
    assert (tmp_path / "models" / "longley" / "1").is_dir()


def home(folder: Path) -> str:
    return f"import os\nos.environ['HOME'] = {str(folder)!r}"
