"""The manifest: what it says is checked when it is read, and what is wrong is named by its path."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from maas.config import ModelOptions
from maas.errors import BadArtifact, MaasError
from maas.models.live import _policy
from maas.models.manifest import Batching, Manifest, check_cost, read_description, read_manifest, to_yaml
from maas.types import DEFAULT_TOLERANCES, Bounds, Signature, Tolerance


def document(**changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "format": 1,
        "runtime": {"name": "torch", "format": "exported"},
        "inputs": {"ids": "int64[batch, seq]"},
        "outputs": {"y": "float32[batch]"},
        "dimensions": {"seq": {"min": 1, "max": 16}},
        "name": "model",
        "version": "1.10",
        "created": "2026-01-02T03:04:05Z",
        "files": {"model.pt2": "ab" * 32},
    }
    return usual | changes


def without(*keys: str) -> dict[str, Any]:
    return {key: value for key, value in document().items() if key not in keys}


def read(tree: Any) -> Manifest:
    return read_manifest(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    ("dtype", "pad", "element"),
    [
        ("int64", 0, 0),
        ("uint8", 255, 255),
        ("float32", -1, -1.0),
        ("float16", 0.5, 0.5),
        ("bool", False, False),
        ("bool", 1, True),
        ("bytes", "[PAD]", b"[PAD]"),
    ],
)
def test_a_pad_becomes_an_element_of_its_input(dtype: str, pad: Any, element: Any) -> None:
    """A plain value stands for every input that carries the dimension, a mapping says it by input; both are kept."""
    for given_pad in (pad, {"ids": pad}):
        dimensions = {"seq": {"min": 1, "max": 16, "pad": given_pad}}
        manifest = read(
            document(inputs={"ids": f"{dtype}[batch, seq]", "k": "int64[batch]"}, dimensions=dimensions)
        )
        again = read_manifest(to_yaml(manifest))
        assert again.signature.pads == {"ids": element}
        assert type(again.signature.pads["ids"]) is type(element)
        assert again.signature.stacks_all


def test_a_manifest_is_read_with_its_defaults() -> None:
    """What an author does not say has a default; the engine's own options are kept as they are."""
    manifest = read(document())
    assert manifest.runtime.name == "torch"
    assert manifest.runtime.options == {"format": "exported"}
    assert manifest.dimensions == {"seq": Bounds(1, 16)}
    assert manifest.tolerances == DEFAULT_TOLERANCES
    assert (manifest.batching.max_batch_size, manifest.batching.max_queue_delay) == (32, 0.0)
    assert manifest.allow_non_finite is False
    assert [str(spec) for spec in manifest.signature.inputs] == ["ids: int64[batch, seq]"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (document(nmae="x"), r"^model\.yaml: nmae: Extra inputs"),
        (document(batching={"max_batch": 1}), r"^model\.yaml: batching\.max_batch: Extra"),
        (document(batching={"max_batch_size": 0}), r"^model\.yaml: batching\.max_batch_size: "),
        (document(batching={"max_queue_delay": 61}), r"^model\.yaml: batching\.max_queue_delay: "),
        (document(dimensions={"seq": {"min": 0}}), r"^model\.yaml: dimensions\.seq: .*bounds 0…None"),
        (document(dimensions={"seq": {"pad": 0}}), r"^model\.yaml: dimensions\.seq: .*needs a `max`"),
        (document(dimensions={"seq": {"max": 8, "pad": {"x": 0}}}), r"no pad for input 'ids'"),
        (
            document(dimensions={"seq": {"max": 8, "pad": {"ids": 0, "x": 0}}}),
            r"a pad for 'x'; it is carried by ids",
        ),
        (
            document(dimensions={"seq": {"max": 8, "pad": 0.5}}),
            r"cannot be padded with 0\.5: input 'ids' is int64",
        ),
        (document(dimensions={"seq": {"max": 8, "pad": "no"}}), r"cannot be padded with 'no'"),
        (
            document(dimensions={"seq": {"max": 8, "pad": 1 << 63}}),
            r"cannot be padded with 9223372036854775808",
        ),
        (
            document(
                inputs={"ids": "int64[batch, seq]", "at": "int64[seq]"},
                dimensions={"seq": {"max": 8, "pad": 0}},
            ),
            r"input 'at', which carries it, has no 'batch'",
        ),
        (
            document(
                inputs={"ids": "int64[batch, h, w]"},
                dimensions={"h": {"max": 8, "pad": 0}, "w": {"max": 8, "pad": 1}},
            ),
            r"is padded with 1 along 'w', but with 0 along another",
        ),
        (document(dimensions={"seq": {"min": 3, "max": 2}}), r"^model\.yaml: dimensions\.seq: .*bounds 3…2"),
        (document(runtime="torch"), r"^model\.yaml: runtime: "),
        (document(runtime={}), r"^model\.yaml: runtime\.name: Field required"),
        (document(inputs=["x"]), r"^model\.yaml: inputs: "),
        (document(inputs={"ids": 3}), r"^model\.yaml: inputs\.ids: "),
        (document(name="../up"), r"^model\.yaml: name: .*is no model name"),
        (document(version=3), r"^model\.yaml: version: .*string"),
        (document(version="a/b"), r"^model\.yaml: version: .*is no version"),
        (document(format=2), r"^model\.yaml: format: "),
        (document(created="yesterday"), r"^model\.yaml: created: "),
        (document(tolerances={"float32": {"relative": 1}}), r"^model\.yaml: tolerances\.float32\.absolute: "),
        (
            document(tolerances={"flaot32": {"relative": 0, "absolute": 0}}),
            r"tolerances\.flaot32.*no type of num",
        ),
        (
            document(tolerances={"bytes": {"relative": 0, "absolute": 0}}),
            r"tolerances\.bytes.*no type of numbers",
        ),
        (document(files={"../up": "00"}), r"^model\.yaml: files\.\.\./up.*no plain file"),
        (document(files={"/etc/passwd": "00"}), r"^model\.yaml: files\./etc/passwd.*no plain file"),
        (document(files={"..": "00"}), "no plain file"),
        (document(files={"": "00"}), "no plain file"),
        (document(files={"model.yaml": "00"}), "no plain file"),
        (without("files"), r"^model\.yaml: files: Field required"),
        (without("inputs"), r"^model\.yaml: inputs: Field required"),
        ([], r"^model\.yaml: the document: "),
        (None, r"^model\.yaml: the document: "),
    ],
)
def test_a_wrong_key_is_named_by_its_path(tree: Any, message: str) -> None:
    """The error says where in the file the mistake is and what it is."""
    with pytest.raises(BadArtifact, match=message):
        read(tree)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {}}, "a model needs at least one input"),
        ({"outputs": {}}, "a model needs at least one output"),
        ({"inputs": {"ids": "int64[batch"}}, "tensor 'ids' is declared as"),
        ({"inputs": {"ids": "int65[batch, seq]"}}, "tensor 'ids' declares dtype 'int65'"),
        ({"inputs": {"ids": "int64[batch, batch]"}}, "declares 'batch' twice"),
        ({"inputs": {"ids": "int64[seq]"}}, "an output declares 'batch' but no input does"),
        ({"dimensions": {"len": {"max": 3}}}, r"bounds for \['len'\]"),
        ({"dimensions": {"batch": {"max": 3}}}, r"bounds for \['batch'\]"),
    ],
)
def test_declarations_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    """A manifest that exists declares tensors that make sense."""
    with pytest.raises(BadArtifact, match=f"^the declared tensors are wrong: .*{message}"):
        read(document(**changes))


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: !!python/object/apply:os.system [true]",
        "a: 2024-13-45",
        "[" * 3000,
        "a: " + "9" * 5000,
        "\0",
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_yaml_is_a_bad_artifact(text: str) -> None:
    """Whatever the reader meets, it is refused in one line, and nothing of it runs."""
    with pytest.raises(BadArtifact, match=r"^model\.yaml is no YAML: .+") as caught:
        read_manifest(text)
    assert "\n" not in caught.value.message


def test_a_description_is_a_manifest_without_its_seal() -> None:
    """An author writes neither name nor version, files nor date; those are refused in a description."""
    author = without("format", "name", "version", "created", "files")
    assert read_description(yaml.safe_dump(author)).inputs == {"ids": "int64[batch, seq]"}
    with pytest.raises(BadArtifact, match="name: Extra inputs"):
        read_description(yaml.safe_dump(author | {"name": "x"}))


# YAML folds the three characters that are left out into a line end.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(card=st.dictionaries(texts, values, max_size=3), description=texts, arguments=values)
def test_what_is_written_is_read_again(card: dict[str, Any], description: str, arguments: Any) -> None:
    """A manifest survives its own YAML, whatever text, numbers and nesting its card and arguments hold."""
    manifest = Manifest.model_validate(
        document(
            card=card,
            description=description,
            runtime={"name": "python", "class": "a:B", "arguments": {"given": arguments}},
            tolerances={"float32": Tolerance(relative=0.5, absolute=0.0)},
        )
    )
    assert read_manifest(to_yaml(manifest)) == manifest


@settings(deadline=None)
@given(st.text(max_size=60) | values.map(yaml.safe_dump))
def test_any_text_is_a_manifest_or_refused_in_our_own_words(text: str) -> None:
    """Reading ends with a manifest or an error of our tree, whatever the file holds."""
    try:
        read_manifest(text)
    except MaasError:
        return


@pytest.mark.parametrize(
    ("dimensions", "cost", "said"),
    [
        ({"a": Bounds(max=4), "b": Bounds(max=8)}, 32, ""),
        (
            {"a": Bounds(max=4), "b": Bounds(max=8)},
            31,
            "max_batch_cost is 31; one row .* costs 32: allow that",
        ),
        ({"a": Bounds(max=4)}, 3, ""),  # `b` may be as long as it likes, and what is too long is told
        ({"a": Bounds(max=4), "b": Bounds(max=8)}, None, ""),
    ],
)
def test_a_batch_may_cost_what_the_longest_row_does(
    dimensions: dict[str, Bounds], cost: int | None, said: str
) -> None:
    """A version, or a configuration of one, that would refuse its own declared lengths is refused itself."""
    signature = Signature.parse({"x": "float32[batch, a, b]"}, {"y": "float32[batch]"}, dimensions)
    with pytest.raises(BadArtifact, match=said) if said else nullcontext():
        check_cost(signature, cost)
    with pytest.raises(BadArtifact, match=said) if said else nullcontext():
        _policy(signature, Batching(max_batch_cost=cost), ModelOptions())
    with pytest.raises(BadArtifact, match=said) if said else nullcontext():
        _policy(signature, Batching(max_batch_cost=1 << 20), ModelOptions(max_batch_cost=cost))
