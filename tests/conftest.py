"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.proving import LoadOnce, one_launcher


@pytest.fixture(scope="session")
def _load_once() -> Iterator[LoadOnce]:
    with one_launcher() as load:
        yield load


@pytest.fixture
def proven_quickly(monkeypatch: pytest.MonkeyPatch, _load_once: LoadOnce) -> None:
    """For tests that publish much and are not about how a process is started: all are proven from the same fork servers."""
    monkeypatch.setattr("maas.models.verification._load_once", _load_once)
