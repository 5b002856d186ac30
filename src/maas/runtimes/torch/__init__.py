"""PyTorch: exported programs (`.pt2`), and modules by import path with safetensors weights."""

from maas.runtimes.torch.runner import RUNTIME

__all__ = ["RUNTIME"]
