"""Arrays as tensors and back, sharing their memory. A bfloat16 crosses as its bits, for PyTorch and NumPy do not know each other's."""

from __future__ import annotations

import numpy as np
import torch

from maas.dtypes import BFLOAT16, DTYPES, is_bfloat16
from maas.errors import ModelFailed
from maas.types import Array


def to_tensor(array: Array) -> torch.Tensor:
    if is_bfloat16(array.dtype):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_array(name: str, tensor: torch.Tensor) -> Array:
    """Copied only where it is on another device. Raises `ModelFailed` where no array can hold what it is."""
    tensor = tensor.detach().cpu()
    try:
        if tensor.dtype == torch.bfloat16:
            return tensor.view(torch.int16).numpy().view(DTYPES[BFLOAT16])
        array: Array = tensor.numpy()
    except (TypeError, RuntimeError) as error:  # float8, quantised, sparse
        raise ModelFailed(
            f"output {name!r} is {tensor.dtype} ({tensor.layout}), which no array can hold; return it as float32"
        ) from error
    return array
