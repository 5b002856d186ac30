"""Rows are split once and for all, and never shared between what is fitted and what is measured."""

from __future__ import annotations

import numpy as np
import torch

from maas.training.data import sample_requests, split_rows
from maas.training.digits import load_digits
from maas.training.rnn import load_sunspots, split_in_time

CLASSES = np.repeat([0, 1], [75, 25])


def test_parts_are_disjoint_and_complete():
    """Every row is held out, or fitted, or validates; `training` is the latter two."""
    numbers = np.arange(100)
    split = split_rows(numbers, numbers)
    fit, validation, held_out = (
        set(p.inputs.tolist()) for p in (split.fit, split.validation, split.held_out)
    )
    assert fit | validation == set(split.training.inputs.tolist())
    assert fit | validation | held_out == set(range(100))
    assert (len(fit), len(validation), len(held_out)) == (64, 16, 20)


def test_stratified_split_keeps_the_share_of_each_class():
    """A rare class is as rare in every part."""
    split = split_rows(np.arange(100), CLASSES, CLASSES)
    assert [int(p.targets.sum()) for p in (split.fit, split.validation, split.held_out)] == [16, 4, 5]


def test_held_out_digits_are_those_of_the_plain_scikit_learn_split():
    """A reader can find the held-out images again: 80/20, stratified, `random_state=0`."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    digits = datasets.load_digits()
    _, images, _, classes = train_test_split(
        digits.images, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    held_out = load_digits().held_out
    assert torch.equal(held_out.inputs, torch.from_numpy(images).float())
    assert torch.equal(held_out.targets, torch.from_numpy(classes))


def test_no_training_window_reaches_a_held_out_year():
    """The last 20 % of the years appear in no row that is fitted or validates."""
    activity = torch.arange(len(load_sunspots())).float()  # a year is its own value
    split = split_in_time(activity)
    assert split.training.targets.max() == 246
    assert split.held_out.targets[:, -1].tolist() == list(range(247, 309))
    assert split.fit.targets.max() < split.validation.targets[:, -1].min()


def test_sample_requests_are_consecutive_rows():
    """Requests of the given sizes, in order and without overlap."""
    requests = sample_requests("x", torch.arange(10), rows=(1, 2))
    assert [request["x"].tolist() for request in requests] == [[0], [1, 2]]
