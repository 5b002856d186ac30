"""The names of the document, as generators of SDKs make classes, functions and files of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.api.documented import Documented
from tests.api.harness import Model, in_loop, serving

from maas.api.openapi.names import Names, names_of
from maas.types import MODEL_NAME, VERSION_NAME


@dataclass(frozen=True)
class Version:
    """As much of a live version as it is named by."""

    name: str
    version: str

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"


SHARED = ("V1Request", "V1Response", "InferRequest", "PredictError")
PLAIN = ("infer", "infer-version", "v1-predict", "list-models")


def names(*labels: tuple[str, str]) -> dict[tuple[str, str], Names]:
    found = names_of([Version(*label) for label in labels], SHARED, PLAIN)  # type: ignore[arg-type]
    return {label: found["/".join(label)] for label in labels}


# ── what generators do: each drops separators, and writes words in a case of its own ─────────────────────────────


def words(name: str) -> list[str]:
    """A capital begins a word, and what is no letter and no digit ends one."""
    return [word for word in re.split(r"[^A-Za-z0-9]+|(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", name) if word]


def pascal(name: str) -> str:
    return "".join(word[0].upper() + word[1:] for word in words(name))


def camel(name: str) -> str:
    made = pascal(name)
    return made[:1].lower() + made[1:]


def snake(name: str) -> str:
    return "_".join(words(name)).lower()


def module_of_class(name: str) -> str:
    """A file for each class, on a disk that knows no case."""
    return snake(pascal(name)).replace("_", "")


CASES = (pascal, camel, snake, module_of_class)

# Few letters, so that they often run into each other.
_NAMES = st.from_regex(r"[aBv1][ab1A._-]{0,4}", fullmatch=True) | st.sampled_from(
    ("class", "1st", "model-1st", "self", "None", "infer", "version-a", "a" * 64, "digits-cnn", "digits_cnn")
)
_VERSIONS = st.from_regex(r"[1a][1a._-]{0,3}", fullmatch=True) | st.sampled_from(("1", "2", "1.2", "12"))
_LABELS = st.lists(st.tuples(_NAMES, _VERSIONS), unique=True, min_size=1, max_size=12)


@given(_LABELS)
@settings(max_examples=100, deadline=None)
def test_no_generator_makes_one_name_of_two(labels: list[tuple[str, str]]) -> None:
    """Whatever case a generator writes, every version has its own classes, every operation its own function, and no class is
    one of those that all models share. All are names that a program may have, and OpenAPI."""
    found = names(*labels)
    schemas = [f"{each.schema}.{kind}" for each in found.values() for kind in ("Request", "Response")]
    titles = [f"{each.title} {kind}" for each in found.values() for kind in ("Request", "Response")]
    operations = [each.operation for each in found.values()]
    operations += {each.default_operation for each in found.values()}
    for case in CASES:
        for written, others in ((schemas, SHARED), (titles, SHARED), (operations, PLAIN)):
            made = [case(name) for name in (*written, *others)]
            assert len(set(made)) == len(made), sorted(written)
            assert all(re.match("[A-Za-z]", name) and not iskeyword(name) for name in made)
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in schemas)
    assert all(len(name) < 200 for name in (*schemas, *operations))
    assert {MODEL_NAME.fullmatch(name) and VERSION_NAME.fullmatch(version) for name, version in labels} != {
        None
    }


@given(_LABELS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_name_is_the_same_in_any_company_that_is_not_like_it(
    labels: list[tuple[str, str]], random: Any
) -> None:
    """In another order the names are the same; and one that is changed by its company is changed in one way alone."""
    found = names(*labels)
    shuffled = random.sample(labels, len(labels))
    assert names(*shuffled) == found
    for label in labels:
        alone = names(label)[label]
        assert found[label].schema in (alone.schema, f"{alone.schema}.{_letters(found[label].schema)}")
        assert found[label].operation.startswith(alone.operation)


def _letters(name: str) -> str:
    return name.rpartition(".")[2]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (("longley", "1"), ("longley.1", "predict-version.longley.1", "predict.longley")),
        (("digits-cnn", "1.2"), ("digits-cnn.1.2", "predict-version.digits-cnn.1.2", "predict.digits-cnn")),
        (("a.b", "1"), ("a..b.1", "predict-version.a..b.1", "predict.a.b")),
        (("1st", "1"), ("model-1st.1", "predict-version.model-1st.1", "predict.1st")),
    ],
)
def test_name_without_company_says_model_and_version(label: tuple[str, str], expected: Sequence[str]) -> None:
    """In the common case nothing is added, and what else is served changes nothing."""
    for company in ((), (("other", "1"), ("iris", "12"))):
        found = names(label, *company)[label]
        assert (found.schema, found.operation, found.default_operation) == expected


def test_names_that_are_one_to_a_generator_are_all_told_apart() -> None:
    """None of them keeps the short name, so that none takes it from another: each has letters that are its own for good."""
    twins = [("a-b", "1"), ("a.b", "1"), ("a_b", "1"), ("aB", "1"), ("ab", "1")]
    found = names(*twins, ("other", "1"))
    schemas = {label: each.schema for label, each in found.items()}
    assert schemas.pop(("other", "1")) == "other.1"
    assert all(re.fullmatch(r"[a-zA-Z._-]+\.1\.[a-z]{6}", schema) for schema in schemas.values()), schemas
    assert {names(twin, twins[index - 1])[twin] for index, twin in enumerate(twins)} <= set(found.values())


@in_loop
async def test_names_stay_while_versions_come_and_go() -> None:
    """A version that loads, drains or has failed counts, so that those beside it are called what they will be called."""
    twins = (Model(name="a-b"), Model(name="a_b", state="loading"), Model(name="other"))
    async with serving(*twins) as service:
        before = (await Documented.of(service)).operations
        service.live("a_b").state = type(service.live("a_b").state)("ready")
        after = await Documented.of(service)
    assert "POST /predict/a_b" not in before
    assert "POST /predict/a_b" in after.operations
    for path, operation in before.items():
        assert after.operations[path]["operationId"] == operation["operationId"]
    assert before["POST /predict/other"]["operationId"] == "predict.other"
    assert re.fullmatch(r"predict\.a-b\.[a-z]{6}", before["POST /predict/a-b"]["operationId"])


@in_loop
async def test_inputs_may_be_called_what_languages_reserve() -> None:
    """Tensors keep their names, whatever they are: the body's members are those that the model knows."""
    inputs = dict.fromkeys(
        ("class", "self", "from", "type", "_x", "a.b", "a-b", "None", "id"), "float32[batch]"
    )
    model = Model(name="class", inputs=inputs, outputs={"y": "float32[batch]"}, function=_sum)
    async with serving(model) as service:
        documented = await Documented.of(service)
        body = dict.fromkeys(inputs, 1)
        answer = await service.predict(body, "class")
    OpenAPIV31SpecValidator(documented.document).validate()
    documented.request_validator("POST /predict/class").validate(body)
    assert answer.json() == {"y": len(inputs)}
    documented.check("POST /predict/class", answer)


def _sum(tensors: Any) -> Any:
    return {"y": sum(tensors.values())}
