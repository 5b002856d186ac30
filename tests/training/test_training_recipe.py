"""The table of recipes, and what holds for the result of every one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
import torch

from maas.errors import InvalidRequest
from maas.training.recipe import Trained, TrainingOptions, find_recipe, recipes
from maas.types import Signature, TensorSpec

NAMES = ("longley", "diabetes", "breast-cancer", "digits-cnn", "sunspots-lstm", "digits-transformer")
QUICK = ("longley", "diabetes", "breast-cancer", "sunspots-lstm")
every_recipe = pytest.mark.parametrize("name", NAMES)
Train = Callable[[str], Trained]


def call(trained: Trained, request: dict[str, torch.Tensor]) -> Sequence[torch.Tensor]:
    """The outputs of one request, given positionally as a runner does."""
    with torch.inference_mode():
        result = trained.module(*(request[name] for name in trained.inputs))
    return result if isinstance(result, tuple) else (result,)


def row(request: dict[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
    return {name: tensor[index : index + 1] for name, tensor in request.items()}


def test_recipes_are_the_six_of_the_five_families():
    """The table names every recipe once, with a family and a summary."""
    assert tuple(recipes()) == NAMES
    assert len({recipe.family for recipe in recipes().values()}) == 5
    assert all(recipe.summary for recipe in recipes().values())


def test_listing_recipes_imports_no_framework_and_no_data():
    """Names, families and summaries are there without torch, scikit-learn or statsmodels."""
    script = (
        "import sys, maas.training.recipe as r; [(x.name, x.family, x.summary) for x in r.recipes().values()]; "
        "assert not {'torch', 'sklearn', 'statsmodels'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_a_model_imports_no_data_package():
    """A model process imports a recipe's file for its module alone, so that file needs neither data package."""
    files = ("linear_regression", "logistic_regression", "cnn", "rnn", "transformer")
    script = (
        f"import sys, {', '.join(f'maas.training.{file}' for file in files)}; "
        "assert not {'sklearn', 'statsmodels', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_unknown_recipe_is_refused_with_the_known_ones():
    """A name that is no recipe is the caller's mistake, and the message says what would have been right."""
    with pytest.raises(InvalidRequest, match=r"no recipe 'resnet'; known are longley, .*digits-transformer"):
        find_recipe("resnet")


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": -3}, {"seed": -1}, {"seed": 2**63}])
def test_impossible_options_are_refused(wrong):
    """Options that exist are valid."""
    with pytest.raises(InvalidRequest):
        TrainingOptions(**wrong)


@every_recipe
def test_signature_is_valid_and_kept(trained: Train, name):
    """The declarations form a signature, and the module's answers have the declared types and shapes."""
    result = trained(name)
    signature = Signature(
        tuple(TensorSpec.parse(*item) for item in result.inputs.items()),
        tuple(TensorSpec.parse(*item) for item in result.outputs.items()),
        result.bounds,
    )
    for request in result.golden:
        lengths = check(signature.inputs, [request[spec.name] for spec in signature.inputs], {})
        check(signature.outputs, call(result, request), lengths)
        assert all(
            signature.limits_of(dim).min <= lengths[dim] <= (signature.limits_of(dim).max or lengths[dim])
            for dim in lengths
        )


def check(specs, tensors, lengths: dict[str, int]) -> dict[str, int]:
    """Compare tensors with their declarations; the same name is the same length everywhere."""
    assert len(specs) == len(tensors)
    for spec, tensor in zip(specs, tensors, strict=True):
        assert tensor.dtype == getattr(torch, spec.dtype)
        assert len(tensor.shape) == len(spec.dims)
        for dim, length in zip(spec.dims, tensor.shape, strict=True):
            assert length == (dim if isinstance(dim, int) else lengths.setdefault(dim, length))
    return lengths


@every_recipe
def test_module_rebuilds_from_arguments_and_weights(trained: Train, name):
    """JSON arguments and the state dict are the whole model: also when its constructor allocates nothing."""
    result = trained(name)
    arguments = json.loads(json.dumps(dict(result.arguments)))
    fresh = type(result.module)(**arguments)
    fresh.load_state_dict(result.module.state_dict())
    with torch.device("meta"):
        hollow = type(result.module)(**arguments)
    hollow.load_state_dict(result.module.state_dict(), assign=True)
    with torch.inference_mode():
        for request in result.golden:
            expected = result.module(*request.values())
            assert torch.equal(fresh.eval()(*request.values()), expected)
            assert torch.equal(hollow.eval()(*request.values()), expected)


@every_recipe
def test_module_is_ready_to_serve(trained: Train, name):
    """The module is in evaluation mode and on the CPU."""
    module = trained(name).module
    assert not any(part.training for part in module.modules())
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"cpu"}


@every_recipe
def test_sample_alone_and_in_a_batch_get_the_same_answer(trained: Train, name):
    """Who else is in a batch does not change an answer, beyond rounding."""
    result = trained(name)
    for request in result.golden:
        together = call(result, request)
        for index in range(len(together[0])):
            alone = call(result, row(request, index))
            for one, many in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0], many[index], rtol=1e-5, atol=1e-5)


@every_recipe
def test_finite_input_gives_finite_answers(trained: Train, name):
    """Nothing, and a thousand times what is usual, are answered with numbers."""
    result = trained(name)
    for request in result.golden:
        for factor in (0.0, -1.0, 1000.0):
            scaled = {key: tensor * factor for key, tensor in request.items()}
            assert all(answer.isfinite().all() for answer in call(result, scaled))


@every_recipe
def test_golden_requests_vary_in_rows(trained: Train, name):
    """The samples hold a lone row and several, so that a self-test meets both."""
    rows = [len(next(iter(request.values()))) for request in trained(name).golden]
    assert min(rows) == 1
    assert max(rows) > 1


@pytest.mark.parametrize("name", QUICK)
def test_same_seed_gives_the_same_model(trained: Train, name):
    """Training again gives the same weights, bit for bit, and the same card but for the time it took."""
    again, first = find_recipe(name).train(TrainingOptions(seed=0)), trained(name)
    weights = again.module.state_dict()
    assert all(torch.equal(weights[key], tensor) for key, tensor in first.module.state_dict().items())
    assert {**again.card, "duration_seconds": 0} == {**first.card, "duration_seconds": 0}


@pytest.mark.parametrize("name", ["digits-cnn", "digits-transformer"])
def test_same_seed_gives_the_same_network(name):
    """Dropout and augmentation follow the seed too; another seed gives another network."""
    losses = [
        find_recipe(name).train(TrainingOptions(epochs=1, seed=seed)).card["training"]["loss_curve"]
        for seed in (3, 3, 4)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_training_leaves_threads_and_random_state_alone():
    """A program that trains in passing draws the same random numbers, on as many threads, as without."""
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    find_recipe("diabetes").train(TrainingOptions(epochs=1, seed=5))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_progress_hears_every_phase_to_its_end():
    """Each phase counts from 0 to its number of steps, and the phases follow one another."""
    heard: list[tuple[int, int, str]] = []
    find_recipe("diabetes").train(TrainingOptions(), lambda *told: heard.append(told))
    phases = list(dict.fromkeys(message for _, _, message in heard))
    assert phases == ["choosing the number of epochs", "training"]
    for phase in phases:
        steps = [(step, of) for step, of, message in heard if message == phase]
        assert [step for step, _ in steps] == list(range(steps[0][1] + 1))
        assert len({of for _, of in steps}) == 1
