"""The log of a test goes nowhere unless the test records it; and the contract of the hot routes holds for both drivers."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from tests.api.harness import DRIVER

from maas.telemetry.logs import logging_to


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with logging_to(io.StringIO()):
        yield


_BOTH_DRIVERS = (
    "test_api_native",
    "test_api_native_refusals",
    "test_api_open_inference",
    "test_api_oip_requests",
    "test_api_v1",
    "test_api_compression",
    "test_api_raw_tensors",
    "test_api_headers",
    "test_api_statuses",
)

# Of heads that no wire carries, or bodies that this wire has sent before anybody reads them.
_OF_THE_APPLICATION = (
    "test_odd_request_id_is_replaced",
    "test_unknown_names_are_not_found",
    "test_body_over_the_limit_is_refused_by_its_declared_length",
    "test_body_over_the_limit_is_refused_while_it_streams",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The modules that hold the contract of the hot routes run once for each driver."""
    is_for_both = metafunc.module.__name__.rpartition(".")[2] in _BOTH_DRIVERS
    if is_for_both and metafunc.function.__name__ not in _OF_THE_APPLICATION:
        metafunc.parametrize("driver", ["application", "lane"], indirect=True)


@pytest.fixture(autouse=True)
def driver(request: pytest.FixtureRequest) -> Iterator[None]:
    token = DRIVER.set(getattr(request, "param", "application"))
    yield
    DRIVER.reset(token)
