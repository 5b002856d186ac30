"""Model as a Service: train, publish, serve and call models from one Python package."""

from __future__ import annotations

__version__ = "0.1.0"
