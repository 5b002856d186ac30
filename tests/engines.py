"""Engines that may not be installed: a test that needs one is skipped without it.

`pytest.importorskip` is not for them: imported by anybody but our runtimes they send usage data, and OpenVINO takes seconds.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def skip_without(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
