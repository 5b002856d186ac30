"""Hostile archives: whatever a `.pt2` carries, nothing of it runs, and it is refused in words.

Every attack is real: a file appears if its code runs. Where torch itself falls for one, the test shows that first.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.assets import torch_models

from maas.errors import BadArtifact
from maas.runtimes.contract import Artifact
from maas.runtimes.torch import exported
from maas.runtimes.torch.export import write_exported
from maas.runtimes.torch.exported import PROGRAM, inspect_archive, load_exported
from maas.types import Signature

CPU = torch.device("cpu")
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
GRAPH = "models/model.json"

Members = dict[str, bytes]


class Payload:
    """Its pickle creates a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (self.marker,)


def saved(marker: Path) -> bytes:
    """What `torch.save` makes of the payload."""
    buffer = io.BytesIO()
    torch.save(Payload(marker), buffer)
    return buffer.getvalue()


def code(marker: Path) -> str:
    """The payload as a Python expression."""
    return f"__import__('os').mkdir({str(marker)!r})"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The members of an archive as we publish it, with a parameter and a constant, by name below the root."""
    directory = tmp_path_factory.mktemp("honest")
    signature = Signature.parse({"x": "float32[batch, 3]"}, {"y": "float32[batch, 2]"}, {})
    write_exported(directory, torch_models.Shifted(), signature, [{"x": np.ones((2, 3), np.float32)}])
    with zipfile.ZipFile(directory / PROGRAM) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def hostile(tmp_path: Path) -> Artifact:
    """A version whose archive the test writes."""
    directory = tmp_path / "version"
    directory.mkdir()
    signature = Signature.parse({"x": "float32[batch, 3]"}, {"y": "float32[batch, 2]"}, {})
    return Artifact(directory, signature)


def archive_of(members: Mapping[str, bytes], root: str = "archive/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(root + name, data)
    return buffer.getvalue()


def edited(data: bytes, change: Callable[[Any], None]) -> bytes:
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()


def first_entry(**changes: Any) -> Callable[[Any], None]:
    return lambda document: next(iter(document["config"].values())).update(changes)


def put(document: Any, text: str, path: tuple[Any, ...]) -> None:
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = text


def replaced(honest: Members, old: str, new: str) -> Members:
    graph = honest[GRAPH].decode()
    assert old in graph
    return honest | {GRAPH: graph.replace(old, new).encode()}


# -- what runs code, or would


def pickled_weights(honest: Members, marker: Path) -> Members:
    return honest | {
        WEIGHTS: edited(honest[WEIGHTS], first_entry(use_pickle=True)),
        "data/weights/weight_0": saved(marker),
    }


def pickled_constants(honest: Members, marker: Path) -> Members:
    return honest | {
        CONSTANTS: edited(honest[CONSTANTS], first_entry(use_pickle=True)),
        "data/constants/tensor_0": saved(marker),
    }


def sample_inputs(honest: Members, marker: Path) -> Members:
    return honest | {"data/sample_inputs/model.pt": saved(marker)}


def opaque_object(honest: Members, marker: Path) -> Members:
    return honest | {
        CONSTANTS: edited(honest[CONSTANTS], first_entry(path_name="opaque_obj_0", use_pickle=True)),
        "data/constants/opaque_obj_0": pickle.dumps(Payload(marker)),
    }


def legacy_weights(honest: Members, marker: Path) -> Members:
    return honest | {"data/weights/model.pt": saved(marker)}


def legacy_constants(honest: Members, marker: Path) -> Members:
    return honest | {"data/constants/model.pt": saved(marker)}


def expression(honest: Members, marker: Path) -> Members:
    shape = next(
        size["as_expr"]["expr_str"]
        for size in json.loads(honest[GRAPH])["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        if "as_expr" in size
    )
    return replaced(honest, json.dumps(shape), json.dumps(code(marker)))


def placeholder(honest: Members, marker: Path) -> Members:
    return replaced(honest, '"x"', json.dumps(f"x={code(marker)}"))


RUNNING = [
    pickled_weights,
    pickled_constants,
    sample_inputs,
    opaque_object,
    legacy_weights,
    legacy_constants,
    expression,
    placeholder,
]


@pytest.mark.parametrize("attack", RUNNING, ids=lambda attack: attack.__name__)
def test_an_archive_that_runs_code_is_refused(
    attack: Callable[[Members, Path], Members], honest: Members, hostile: Artifact, marker: Path
) -> None:
    """What torch would unpickle or evaluate is refused before torch reads it; torch alone runs it."""
    path = hostile.directory / PROGRAM
    path.write_bytes(archive_of(attack(honest, marker)))
    with pytest.raises(BadArtifact, match=r"unpickle|as pickled|which loading could run"):
        load_exported(hostile, CPU)
    assert not marker.exists()
    load_without_protection(path)
    assert marker.exists(), "the attack is none: torch does not run it"


def load_without_protection(path: Path) -> None:
    with warnings.catch_warnings(), suppress(Exception):  # code has run before it raises, or has not
        warnings.simplefilter("ignore")
        torch.export.load(path).module()


def test_a_module_that_a_graph_names_is_not_imported(honest: Members, hostile: Artifact) -> None:
    """A tree specification may name an enumeration, which torch imports: it is refused unimported."""
    enumeration = {"__enum__": True, "fqn": "tests.assets.canary:Canary", "name": "x"}
    tree = {"type": "builtins.dict", "context": json.dumps([enumeration]), "children_spec": []}
    path = ("graph_module", "module_call_graph", 0, "signature", "in_spec")
    graph = edited(honest[GRAPH], lambda document: put(document, json.dumps([1, tree]), path))
    sys.modules.pop("tests.assets.canary", None)
    (hostile.directory / PROGRAM).write_bytes(archive_of(honest | {GRAPH: graph}))
    with pytest.raises(BadArtifact, match="as 'in_spec', which loading could run"):
        load_exported(hostile, CPU)
    assert "tests.assets.canary" not in sys.modules
    load_without_protection(hostile.directory / PROGRAM)
    assert "tests.assets.canary" in sys.modules


def test_two_directories_that_differ_are_refused(honest: Members, hostile: Artifact, marker: Path) -> None:
    """Python's reader finds the honest directory of a crafted file and torch's the hostile one: that is noticed."""
    bad = expression(honest, marker)
    longest = max(len(bad[GRAPH]), len(honest[GRAPH]))
    first = archive_of(bad | {GRAPH: bad[GRAPH].ljust(longest)})[:-22]
    second = archive_of(honest | {GRAPH: honest[GRAPH].ljust(longest)})
    # The end record is the second's, whose offsets torch takes from the start of the file: there lies the first.
    path = hostile.directory / PROGRAM
    path.write_bytes(first + second)
    with zipfile.ZipFile(path) as archive:
        assert archive.read(f"archive/{GRAPH}").strip() == honest[GRAPH]
    with pytest.raises(BadArtifact):
        load_exported(hostile, CPU)
    assert not marker.exists()
    load_without_protection(path)
    assert marker.exists(), "the attack is none: both readers see the same"


def test_the_format_of_old_is_refused(hostile: Artifact, marker: Path) -> None:
    """What torch reads as an archive of version 2.7, pickles and all, is no archive here."""
    from torch._export.serde.schema import SCHEMA_VERSION

    members = {
        "version": ".".join(map(str, SCHEMA_VERSION)).encode(),
        "serialized_exported_program.json": b"{}",
        **{f"serialized_{part}.pt": saved(marker) for part in ("state_dict", "constants", "example_inputs")},
    }
    (hostile.directory / PROGRAM).write_bytes(archive_of(members, root=""))
    with pytest.raises(BadArtifact):
        load_exported(hostile, CPU)
    assert not marker.exists()


# -- what is refused for what it is


@pytest.mark.parametrize(
    "member",
    [
        "data/aotinductor/model/evil.so",
        "data/aotinductor/model/evil.wrapper.cpp",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/constants/tensor_x",
        "data/weights/weight_0.pt",
        "data/weights/../weights/weight_0",
        "data/weights/WEIGHT_0",
        "data/sample_inputs/other.pt",
        "data/executorch/model.pte",
        "data/xl_model_weights/model_param_config.json",
        "models/other.json",
        "extra/note.txt",
        "code/__torch__.py",
        "data.pkl",
        "version",
        "",
    ],
)
def test_a_member_that_we_do_not_know_is_refused(honest: Members, hostile: Artifact, member: str) -> None:
    """Only the members of a plain program are let through: native code, objects and extras are named and refused."""
    (hostile.directory / PROGRAM).write_bytes(archive_of(honest | {member: b"\x7fELF"}))
    with pytest.raises(BadArtifact, match=r"which is unpickled or run when loaded"):
        load_exported(hostile, CPU)


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS, "data/weights/weight_0", "data/sample_inputs/model.pt"])
@pytest.mark.parametrize("root", ["archive/", "other/", ""])
def test_a_member_that_comes_twice_is_refused(
    honest: Members, hostile: Artifact, name: str, root: str
) -> None:
    """Two readers may take different ones of two members of a name; so there is one, under one root."""
    buffer = io.BytesIO(archive_of(honest))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr(root + name, honest[name])
    (hostile.directory / PROGRAM).write_bytes(buffer.getvalue())
    with pytest.raises(BadArtifact, match="twice or under a second root"):
        load_exported(hostile, CPU)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_member_is_refused(honest: Members, hostile: Artifact, method: int) -> None:
    """Torch stores plainly; what is compressed may be a bomb, and is not inflated to find out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in honest.items():
            compressed = method if name == "data/weights/weight_0" else zipfile.ZIP_STORED
            archive.writestr(f"archive/{name}", data * 1000, compressed)
    (hostile.directory / PROGRAM).write_bytes(buffer.getvalue())
    with pytest.raises(BadArtifact, match="weight_0' compressed"):
        load_exported(hostile, CPU)


def test_a_table_too_large_to_read_is_refused(
    honest: Members, hostile: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph and the tables are parsed, so there is a limit to their size."""
    monkeypatch.setattr(exported, "_MAX_JSON", len(honest[GRAPH]) - 1)
    (hostile.directory / PROGRAM).write_bytes(archive_of(honest))
    with pytest.raises(BadArtifact, match=r"model\.json' of \d+ bytes; at most \d+"):
        load_exported(hostile, CPU)


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (WEIGHTS, b""),
        (WEIGHTS, b"{"),
        (WEIGHTS, b"[]"),
        (WEIGHTS, b"{}"),
        (WEIGHTS, b'{"config": 3}'),
        (WEIGHTS, b'{"config": {"a": 3}}'),
        (WEIGHTS, b'{"config": {"a": {}}}'),
        (WEIGHTS, b'{"config": {"a": {"use_pickle": 0}}}'),
        (WEIGHTS, b'{"config": {"a": {"use_pickle": null}}}'),
        (WEIGHTS, deep(100_000)),
        (WEIGHTS, b"\xff\xfe"),
        (GRAPH, b""),
        (GRAPH, b"{}"),
        (GRAPH, b"3"),
        (GRAPH, b'"x y"'),
        (GRAPH, deep(100_000)),
        (GRAPH, b'{"in_spec": "x"}'),
        (GRAPH, b'{"in_spec": "[1, {}]"}'),
        ("archive_version", b"99"),
        ("data/weights/weight_0", b"short"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_member_that_makes_no_sense_is_refused(
    honest: Members, hostile: Artifact, name: str, data: bytes
) -> None:
    """Whatever a damaged or crafted document makes its reader raise, the version is refused as a bad artifact."""
    (hostile.directory / PROGRAM).write_bytes(archive_of(honest | {name: data}))
    with pytest.raises(BadArtifact, match=PROGRAM.replace(".", r"\.") + "|graph"):
        load_exported(hostile, CPU)


@pytest.mark.parametrize("missing", [GRAPH, WEIGHTS, CONSTANTS, "data/weights/weight_0", "archive_version"])
def test_an_archive_that_lacks_a_member_is_refused(honest: Members, hostile: Artifact, missing: str) -> None:
    """An archive without a part that the program needs is a bad artifact."""
    members = {name: data for name, data in honest.items() if name != missing}
    (hostile.directory / PROGRAM).write_bytes(archive_of(members))
    with pytest.raises(BadArtifact):
        load_exported(hostile, CPU)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no archive at all",
        lambda data: b"PK\x05\x06" + bytes(18),
        lambda data: data[: len(data) // 2],
        lambda data: data[:-10],
        lambda data: data[100:],
        lambda data: data[:-22] + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, 2**31, 2**31, 0),
    ],
    ids=["empty", "text", "no members", "half", "cut", "beheaded", "directory elsewhere"],
)
def test_what_is_no_whole_archive_is_refused(
    honest: Members, hostile: Artifact, damage: Callable[[bytes], bytes]
) -> None:
    """Truncated, foreign and empty files are refused as such."""
    (hostile.directory / PROGRAM).write_bytes(damage(archive_of(honest)))
    with pytest.raises(BadArtifact, match=r"model\.pt2"):
        load_exported(hostile, CPU)


def test_a_pickle_under_the_archive_s_name_is_refused(hostile: Artifact, marker: Path) -> None:
    """What `torch.save` writes is a zip as well, and is not read as one of ours; nor is a bare pickle."""
    for data in (saved(marker), pickle.dumps(Payload(marker))):
        (hostile.directory / PROGRAM).write_bytes(data)
        with pytest.raises(BadArtifact):
            load_exported(hostile, CPU)
    assert not marker.exists()


# -- the graph's grammar

NODE = ("graph_module", "graph", "nodes", 0)


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.from_file",
        "torch.ops.other.add.Tensor",
        "torch.load",
        "torch.serialization.os.system",
        "torch.ops.load_library",
        "os.system",
        "builtins.eval",
        "#anything",
        "torch.ops.aten.add.Tensor; import os",
    ],
)
def test_an_operator_that_is_no_arithmetic_is_refused(
    honest: Members, hostile: Artifact, target: str
) -> None:
    """A graph calls operators of aten that compute; what opens files or is a function of Python's is refused."""
    graph = edited(honest[GRAPH], lambda document: put(document, target, (*NODE, "target")))
    (hostile.directory / PROGRAM).write_bytes(archive_of(honest | {GRAPH: graph}))
    with pytest.raises(BadArtifact, match="as 'target', which loading could run"):
        load_exported(hostile, CPU)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("expr_str", "Symbol('s0').func"),
        ("expr_str", "Symbol('__import__(\"os\")')"),
        ("expr_str", "Integer(2)()"),
        ("expr_str", "lambda: 0"),
        ("expr_str", "exec('')"),
        ("expr_str", "Integer(f'{1}')"),
        ("expr_str", "Integer(2) if 1 else 2"),
        ("name", "x y"),
        ("name", "x.y"),
        ("name", "0x"),
        ("as_name", "x=1"),
        ("as_operator", "torch.load"),
        ("in_spec", '[1, {"type": "os.system", "context": "null", "children_spec": []}]'),
        ("in_spec", '[1, {"type": "builtins.dict", "context": "[\\"a b\\"]", "children_spec": []}]'),
        ("out_spec", '[1, {"type": "collections.defaultdict", "context": "{}", "children_spec": []}]'),
        ("anything", "a b"),
    ],
)
def test_text_outside_the_grammar_is_refused(honest: Members, hostile: Artifact, key: str, text: str) -> None:
    """Each text of a graph is of the grammar that its key calls for, wherever it stands, or the graph is refused."""
    graph = edited(honest[GRAPH], lambda document: put(document, text, (*NODE, key)))
    (hostile.directory / PROGRAM).write_bytes(archive_of(honest | {GRAPH: graph}))
    with pytest.raises(BadArtifact, match=f"'{key}', which loading could run"):
        load_exported(hostile, CPU)


def test_a_key_outside_the_grammar_is_refused(honest: Members, hostile: Artifact) -> None:
    """The keys of the document are words, too."""
    graph = edited(honest[GRAPH], lambda document: put(document, "x", ("a b",)))
    (hostile.directory / PROGRAM).write_bytes(archive_of(honest | {GRAPH: graph}))
    with pytest.raises(BadArtifact, match="'a b' as a key"):
        load_exported(hostile, CPU)


# -- the second lock


def test_the_second_lock_stops_what_the_first_lets_through(
    honest: Members, hostile: Artifact, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were an archive with pickles to pass the inspection, looking up the first class would end the load."""
    monkeypatch.setattr(exported, "inspect_archive", lambda path: None)
    for attack in (pickled_weights, pickled_constants, sample_inputs, opaque_object, legacy_weights):
        (hostile.directory / PROGRAM).write_bytes(archive_of(attack(honest, marker)))
        with pytest.raises(BadArtifact, match=r"tried to unpickle|does not load"):
            load_exported(hostile, CPU)
        assert not marker.exists()


def test_the_second_lock_holds_while_a_program_is_loaded_and_no_longer(marker: Path) -> None:
    """Inside, no pickle may look up a class or function; before and after, unpickling is as ever."""
    data = pickle.dumps(Payload(marker))
    plain = pickle.dumps([1, "two", {"three": 3.0}])
    with exported._unpickling_refused():
        assert pickle.loads(plain) == [1, "two", {"three": 3.0}]
        for load in (pickle.loads, lambda data: pickle._Unpickler(io.BytesIO(data)).load()):
            with pytest.raises(BadArtifact, match=r"tried to unpickle (posix|os)\.mkdir"):
                load(data)
        with pytest.raises(BadArtifact, match="tried to unpickle"):
            torch.load(io.BytesIO(saved(marker)), weights_only=False)
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists()


def test_the_second_lock_opens_after_an_error() -> None:
    """A load that fails leaves the process able to unpickle."""
    with pytest.raises(RuntimeError), exported._unpickling_refused():
        raise RuntimeError
    assert pickle.loads(pickle.dumps(Signature)) is Signature


# -- and what is honest passes


def test_what_we_publish_holds_nothing_to_unpickle(honest: Members) -> None:
    """Our own archive has no sample inputs and marks no tensor as pickled."""
    assert honest["data/sample_inputs/model.pt"] == b""
    for table in (WEIGHTS, CONSTANTS):
        entries = json.loads(honest[table])["config"].values()
        assert entries
        assert not any(entry["use_pickle"] for entry in entries)


def test_the_honest_archive_loads_under_any_root(honest: Members, hostile: Artifact) -> None:
    """The archive's own name, its first folder, is free."""
    for root in ("archive/", "my model/"):
        (hostile.directory / PROGRAM).write_bytes(archive_of(honest, root))
        assert load_exported(hostile, CPU)(torch.ones(5, 3)).shape == (5, 2)


class Zoo(torch.nn.Module):
    """Operators with text, casts, branches, constants and derived shapes among their arguments."""

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> dict[str, Any]:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        y = torch.nn.functional.scaled_dot_product_attention(x, z, z, attn_mask=mask)
        with torch.no_grad():
            y = torch.einsum("bij,bkj->bik", y, y)
        with torch.autocast("cpu", torch.bfloat16):
            y = y @ y
        y = torch.cond(y.sum() > 0, lambda t: t + 1.0, lambda t: t - 1.0, (y.float(),))
        y = torch.nn.functional.gelu(torch.div(y, 2, rounding_mode="floor"), approximate="tanh")
        return {"flat": y.reshape(x.shape[0], -1), "half": [y + 1], "size": (y.sum(-1),)}


def test_a_graph_of_many_kinds_of_operators_passes(tmp_path: Path) -> None:
    """The grammar is that of real programs: text arguments, sub-graphs, casts, derived and shared dimensions."""
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", min=2, max=64)
    example = torch.randn(2, 7, 4)
    shapes = {"x": {0: batch, 1: length}, "z": {0: batch, 1: length}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(Zoo(), (example, example), dynamic_shapes=shapes)
    program.example_inputs = None
    torch.export.save(program, tmp_path / PROGRAM)
    inspect_archive(tmp_path / PROGRAM)
    signature = Signature.parse({"x": "float32[batch, length, 4]"}, {"y": "float32[batch]"}, {})
    loaded = load_exported(Artifact(tmp_path, signature), CPU)
    x = torch.randn(3, 5, 4)
    assert torch.equal(loaded(x, x)["flat"], Zoo()(x, x)["flat"])


def test_a_missing_archive_is_named_without_its_place(hostile: Artifact) -> None:
    """The message says which file, not where on this machine it would be."""
    with pytest.raises(BadArtifact) as caught:
        load_exported(dataclasses.replace(hostile, directory=hostile.directory / "nowhere"), CPU)
    assert PROGRAM in caught.value.message
