"""The convolutional network on digits."""

from __future__ import annotations

import torch

from maas.training.digits import jittered, load_digits


def test_digits_cnn_reaches_its_mark(trained):
    """At least 98.5 % of the held-out images are read right."""
    assert trained("digits-cnn").card["metrics"]["accuracy"] >= 0.985


def test_digits_cnn_takes_raw_pixels_and_gives_probabilities(trained):
    """Pixels from 0 to 16 go in; each row of the answer sums to one and favours the right digit."""
    part = load_digits().held_out
    module = trained("digits-cnn").module
    with torch.inference_mode():
        probabilities = module(part.inputs)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(part)))
    assert (probabilities.argmax(dim=1) == part.targets).float().mean() >= 0.985


def test_jitter_moves_ink_and_keeps_most_of_it():
    """An augmented image is another image of about as much ink, within the same range of pixels."""
    images = load_digits().fit.inputs[:64]
    moved = jittered(images)
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    assert moved.min() >= 0
    assert moved.max() <= 16 + 1e-4
    torch.testing.assert_close(moved.mean(), images.mean(), rtol=0.1, atol=0)
