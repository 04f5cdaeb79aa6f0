"""The one fixture that numba-cuda's tests expect of the conftest.py which is not in its wheel."""

from __future__ import annotations

import pytest


@pytest.fixture
def initialize_from_pytest_config(request: pytest.FixtureRequest) -> None:
    """`CUDATestCase` asks whether to dump failed FileCheck comparisons: no."""
    request.cls._dump_failed_filechecks = False
