"""What a request may ask of sampling, and that what it may not is refused by name."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas.errors import InvalidRequest
from maas.generation.job import Job
from maas.generation.limits import Limits
from maas.generation.sampling import Sampling

LIMITS = Limits(context=16, slots=2, vocabulary=100)

OUT_OF_RANGE = [
    ("temperature", -1, "from 0 to 2"),
    ("temperature", 2.1, "from 0 to 2"),
    ("temperature", math.nan, "from 0 to 2"),
    ("temperature", math.inf, "from 0 to 2"),
    ("temperature", True, "from 0 to 2"),
    ("temperature", "1", "from 0 to 2"),
    ("temperature", 10**5000, "16610 bits"),
    ("top_p", 1.5, "from 0 to 1"),
    ("min_p", -0.1, "from 0 to 1"),
    ("presence_penalty", 3, "from -2 to 2"),
    ("frequency_penalty", -3, "from -2 to 2"),
    ("repetition_penalty", 0, "from 0.01 to 100"),
    ("top_k", -2, "from -1 to 2147483647"),
    ("top_k", 1.5, "an integer"),
    ("min_tokens", -1, "from 0"),
    ("seed", 2**63, "9223372036854775807"),
    ("seed", "7", "an integer"),
    ("logprobs", 21, "from 0 to 20"),
    ("logprobs", True, "from 0 to 20"),
    ("ignore_eos", 1, "true or false"),
    ("logit_bias", [1], "of type list"),
    ("logit_bias", {"5": 1.0}, "ids are integers"),
    ("logit_bias", {-1: 1.0}, "ids are integers"),
    ("logit_bias", {5: 101}, "from -100 to 100"),
    ("logit_bias", {5: math.nan}, "from -100 to 100"),
    ("logit_bias", dict.fromkeys(range(301), 0.0), "at most 300"),
]


@pytest.mark.parametrize(("field", "value", "limit"), OUT_OF_RANGE, ids=map(str, range(len(OUT_OF_RANGE))))
def test_what_is_out_of_range_is_refused_by_name(field: str, value: object, limit: str) -> None:
    """The message has the field, its value and its limit, and the error the field for programs."""
    with pytest.raises(InvalidRequest) as refused:
        Sampling(**{field: value})  # type: ignore[arg-type]
    assert refused.value.param == field
    assert field in refused.value.message
    assert limit in refused.value.message
    assert len(refused.value.message) < 300


def test_the_limits_themselves_are_allowed() -> None:
    """What a message names as the first and the last value is taken, and numbers become floats."""
    least = Sampling(0, -1, 0, 0, -2, -2, 0.01, {0: -100}, -(2**63), 0, logprobs=0)
    most = Sampling(2, 2**31 - 1, 1, 1, 2, 2, 100, {2**70: 100}, 2**63 - 1, 2**31 - 1, logprobs=20)
    assert isinstance(least.temperature, float)
    assert isinstance(most.logit_bias[2**70], float)


@pytest.mark.parametrize(("temperature", "is_greedy"), [(0, True), (1e-300, True), (1e-4, False), (1, False)])
def test_a_temperature_that_would_overflow_is_greedy(temperature: float, is_greedy: bool) -> None:
    """A logit divided by what is not greedy stays finite in float32."""
    assert Sampling(temperature).is_greedy is is_greedy


def test_later_changes_of_the_callers_biases_change_nothing() -> None:
    """What was checked is what is used."""
    biases = {1: 2.0}
    sampling = Sampling(logit_bias=biases)
    biases[-1] = math.nan
    assert sampling.logit_bias == {1: 2.0}


def test_each_choice_has_a_seed_of_its_own() -> None:
    """The seeds of n answers to one request follow each other, past the greatest one too; without a seed there is none."""
    assert [Sampling(seed=7).of_choice(index).seed for index in range(3)] == [7, 8, 9]
    assert Sampling(seed=2**63 - 1).of_choice(1).seed == -(2**63)
    assert Sampling().of_choice(3).seed is None


@pytest.mark.parametrize(
    ("job", "field", "code", "message"),
    [
        (Job([]), "prompt", "invalid_request", "empty"),
        (Job([1] * 16), "prompt", "context_length_exceeded", "16 tokens; the context has 16"),
        (Job([1] * 10**6), "prompt", "context_length_exceeded", "1000000 tokens"),
        (Job([1] * 10, max_new=7), "max_tokens", "context_length_exceeded", "max_tokens is 7"),
        (Job([1, 100]), "prompt", "invalid_request", "token 100; ids are integers below 100"),
        (Job([1, -1]), "prompt", "invalid_request", "token -1"),
        (Job([1, 2.0]), "prompt", "invalid_request", "token 2.0"),  # type: ignore[list-item]
        (Job([True]), "prompt", "invalid_request", "token True"),
        (Job([1], Sampling(logit_bias={100: 1})), "logit_bias", "invalid_request", "token 100"),
        (Job([1], Sampling(min_tokens=5), 4), "min_tokens", "invalid_request", "may have 4 tokens"),
        (Job([1], Sampling(min_tokens=16)), "min_tokens", "invalid_request", "may have 15 tokens"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_a_model_cannot_take_is_refused(job: Job, field: str, code: str, message: str) -> None:
    """Lengths and ids are held against the model before a job is accepted."""
    with pytest.raises(InvalidRequest) as refused:
        LIMITS.check(job)
    assert (refused.value.param, refused.value.code) == (field, code)
    assert message in refused.value.message


@pytest.mark.parametrize(("max_new", "longest"), [(None, 6), (6, 6), (1, 1)])
def test_an_answer_is_as_long_as_asked_or_as_the_context_leaves(max_new: int | None, longest: int) -> None:
    """Without `max_new` the answer may fill the context."""
    job = Job([1] * 10, max_new=max_new)
    LIMITS.check(job)
    assert LIMITS.longest_answer(job) == longest


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("max_tokens", {"max_new": 0}),
        ("max_tokens", {"max_new": True}),
        ("prompt", {"prompt": "text"}),
        ("prompt", {"prompt": 7}),
        ("stop", {"stop": ["x"] * 5}),
        ("stop", {"stop": [str(n) for n in range(10**6)]}),
        ("stop", {"stop": [""]}),
        ("stop", {"stop": [7]}),
        ("stop", {"stop": "x"}),
        ("stop", {"stop": ["x" * 257]}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_job_that_exists_is_well_formed(field: str, arguments: dict[str, object]) -> None:
    """What is wrong whatever the model is refused when the job is made."""
    with pytest.raises(InvalidRequest) as refused:
        Job(**{"prompt": [1], **arguments})  # type: ignore[arg-type]
    assert refused.value.param == field
    assert len(refused.value.message) < 300


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(Sampling.__match_args__), anything), anything, anything, anything)
def test_whatever_a_request_carries_it_is_taken_or_refused(
    fields: dict[str, object], prompt: object, max_new: object, stop: object
) -> None:
    """No value of any type raises anything but `InvalidRequest`."""
    with suppress(InvalidRequest):
        LIMITS.check(Job(prompt, Sampling(**fields), max_new, stop))  # type: ignore[arg-type]
