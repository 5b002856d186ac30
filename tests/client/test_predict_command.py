"""`maas predict`: JSON in, JSON out, errors in one sentence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from maas.cli import predict as command

HEADERS = {"X-Model-Version": "line/1", "Server-Timing": "queue;dur=0.012, compute;dur=1.3, total;dur=1.9"}


def respond(handler, status, content):
    handler.send_response(status)
    for name, value in {"X-Request-Id": handler.headers["X-Request-Id"], **HEADERS}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def line(handler, stopped):
    respond(handler, 200, json.dumps({"y": json.loads(handler.body)["x"]}).encode())


@pytest.fixture
def run(loopback):
    """Runs the command against a server that answers as `script` says."""
    application = typer.Typer()
    application.command()(command.predict)

    def run(*arguments: str, script=line, url: str | None = "", **options):
        server = loopback(script)
        where = [] if url is None else ["--url", url or server.url]
        result = CliRunner().invoke(application, [*arguments, *where], **options)
        result.paths = server.paths
        return result

    return run


def test_the_answer_is_printed_as_one_line(run):
    """Into a pipe the outputs go as compact JSON and nothing else."""
    result = run("line", "--json", '{"x": [0.5, 2]}')
    assert (result.exit_code, result.stdout, result.stderr) == (0, '{"y":[0.5,2.0]}\n', "")
    assert result.paths == ["/predict/line"]


def test_inputs_come_from_standard_input(run):
    """`--json -` reads standard input."""
    assert run("line", "--json", "-", input='{"x": [1]}').stdout == '{"y":[1]}\n'


def test_inputs_come_from_a_file(run, tmp_path):
    """`--json @FILE` reads a file."""
    (tmp_path / "inputs.json").write_text('{"x": ["ü"]}', encoding="utf-8")
    assert run("line", "--json", f"@{tmp_path / 'inputs.json'}").stdout == '{"y":["ü"]}\n'


def test_version_and_id_are_passed_on(run):
    """The call asks for the version and carries the id, and `--timing` tells who answered when."""
    result = run("line", "--json", '{"x": 1}', "--version", "1", "--request-id", "call-7", "--timing")
    assert result.paths == ["/predict/line/versions/1"]
    assert result.stdout == '{"y":1}\n'
    assert result.stderr == "line/1, request call-7: queue 0.012 ms, compute 1.300 ms, total 1.900 ms\n"


def test_a_version_may_stand_behind_the_name(run):
    """NAME/VERSION asks for a version, as with `maas verify`; two of them are wrong usage."""
    assert run("line/1", "--json", '{"x": 1}').paths == ["/predict/line/versions/1"]
    result = run("line/1", "--json", '{"x": 1}', "--version", "2")
    assert (result.exit_code, result.paths) == (2, [])


def test_numbers_that_are_not_finite_are_printed_as_they_came(run):
    """NaN stays NaN on its way through the command, in both directions."""
    assert run("line", "--json", '{"x": [NaN, 1]}').stdout == '{"y":[NaN,1.0]}\n'


def test_on_a_terminal_each_output_has_a_line(loopback):
    """People see one output per line, and the text is still JSON."""
    ours, theirs = os.openpty()
    code = "import typer; from maas.cli.predict import predict; typer.run(predict)"
    arguments = ["line", "--json", '{"x": [[1, 2], [3, 4]]}', "--url", loopback(line).url]
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run([sys.executable, "-c", code, *arguments], stdout=theirs, check=True, timeout=60)
        os.close(theirs)
        assert terminal.read(1000) == b'{\r\n  "y": [[1,2],[3,4]]\r\n}\r\n'


def test_an_error_is_one_sentence_and_code_1(run):
    """The server's message goes to standard error, with the id, and nothing to standard output."""

    def script(handler, stopped):
        respond(handler, 404, b'{"error": "there is no model \'line\'", "code": "model_not_found"}')

    result = run("line", "--json", '{"x": 1}', "--request-id", "call-7", script=script)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: there is no model 'line' (request call-7)\n"


def test_a_missing_server_is_one_sentence_and_code_1(run):
    """Without a server the address is named, and no traceback shown."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        result = run("line", "--json", '{"x": 1}', url=url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: no connection to {url}: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("line", "--url", "nowhere"),
        ("../line",),
        ("line", "--request-id", "two words"),
        ("line", "--version", "1/2"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence_and_code_1(run, arguments):
    """A name, id or address that makes no sense is an expected error too."""
    result = run(*arguments, "--json", '{"x": 1}', url=None if "--url" in arguments else "http://127.0.0.1:9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--json", "{"),
        ("--json", "[1]"),
        ("--json", "nan"),
        ("--json", "@no-such-file.json"),
        ("--json", "@/"),
        ("--json", '{"x": 1}', "--timeout", "0"),
    ],
)
def test_wrong_usage_is_code_2(run, arguments):
    """What is wrong with the command line itself is said with the usage, before any call."""
    result = run("line", *arguments)
    assert (result.exit_code, result.stdout, result.paths) == (2, "", [])
    assert "Usage" in result.stderr
    assert "Traceback" not in result.stderr
