"""The log of a test goes nowhere unless the test records it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from maas.telemetry.logs import logging_to


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with logging_to(io.StringIO()):
        yield
