"""What numba-cuda's tests need around them: a fixture of theirs, and a new context after a test that spoilt its own."""

from __future__ import annotations

import pytest


@pytest.fixture
def initialize_from_pytest_config(request: pytest.FixtureRequest) -> None:
    """`CUDATestCase` asks whether to dump failed FileCheck comparisons: no. (Its conftest.py is not in the wheel.)"""
    request.cls._dump_failed_filechecks = False


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """A kernel's error stays in its context: without this, one test's would fail every test after it in its process."""
    from cuda.bindings import driver

    (synchronized,) = driver.cuCtxSynchronize()
    harmless = (driver.CUresult.CUDA_SUCCESS, driver.CUresult.CUDA_ERROR_INVALID_CONTEXT)
    if synchronized in harmless or synchronized == driver.CUresult.CUDA_ERROR_NOT_INITIALIZED:
        return
    from numba import cuda

    cuda.close()
