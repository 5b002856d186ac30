"""The transformer encoder on digits, and its attention against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from maas.training.digits import load_digits
from maas.training.transformer import attention, patches


def test_digits_transformer_reaches_its_mark(trained):
    """At least 97 % of the held-out images are read right."""
    assert trained("digits-transformer").card["metrics"]["accuracy"] >= 0.97


def test_digits_transformer_takes_raw_pixels_and_gives_probabilities(trained):
    """Pixels from 0 to 16 go in; each row of the answer sums to one and favours the right digit."""
    part = load_digits().held_out
    module = trained("digits-transformer").module
    with torch.inference_mode():
        probabilities = module(part.inputs)
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(len(part)))
    assert (probabilities.argmax(dim=1) == part.targets).float().mean() >= 0.97


@pytest.mark.parametrize("shape", [(3, 5, 8), (2, 4, 16, 12), (1, 1, 1)])
def test_attention_is_scaled_dot_product_attention(shape):
    """softmax(QKᵀ/√d)V, as PyTorch computes it."""
    query, key, value = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    expected = functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attention(query, key, value), expected)


def test_patches_are_the_squares_of_the_image():
    """The first patch is the square at the top left, the second the one to its right."""
    image = torch.arange(64.0).reshape(1, 8, 8)
    cut = patches(image)
    assert cut.shape == (1, 16, 4)
    assert cut[0, :2].tolist() == [[0, 1, 8, 9], [2, 3, 10, 11]]
    assert cut[0, 4].tolist() == [16, 17, 24, 25]
