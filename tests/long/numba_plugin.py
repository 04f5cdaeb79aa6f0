"""What numba-cuda's tests need around them: a fixture of theirs, a record of the outcomes as they come, and a new
context after a test that spoilt its own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest


@pytest.fixture
def initialize_from_pytest_config(request: pytest.FixtureRequest) -> None:
    """`CUDATestCase` asks whether to dump failed FileCheck comparisons: no. (Its conftest.py is not in the wheel.)"""
    request.cls._dump_failed_filechecks = False


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line of JSON a test; a failing setup or teardown counts as a failure. Subtests count with their test."""
    if "SubtestReport" in type(report).__name__ or (report.when != "call" and report.passed):
        return
    if report.when == "teardown" and report.skipped:
        return
    lines = str(getattr(report.longrepr, "reprcrash", report.longrepr) or "").strip().splitlines()
    reason = (lines[0] if lines else "")[-200:]
    test = report.nodeid.rpartition("/")[2].partition("::")[2]
    entry = {"test": test, "outcome": report.outcome, "reason": reason}
    with Path(os.environ["GPUFERRY_NUMBA_RESULTS"]).open("a") as results:
        results.write(json.dumps(entry) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """A kernel's error stays in its context: without this, one test's would fail every test after it in its process."""
    from cuda.bindings import driver

    (synchronized,) = driver.cuCtxSynchronize()
    no_context = (driver.CUresult.CUDA_ERROR_INVALID_CONTEXT, driver.CUresult.CUDA_ERROR_NOT_INITIALIZED)
    if synchronized == driver.CUresult.CUDA_SUCCESS or synchronized in no_context:
        return
    from numba import cuda

    cuda.close()
