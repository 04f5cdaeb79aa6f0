"""What numba-cuda's tests need around them: a fixture of theirs, a record of the outcomes as they come, and an end of
the process after a test that spoilt its context; the next process goes on with the tests that have no outcome yet.
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


def results() -> Path:
    return Path(os.environ["GPUFERRY_NUMBA_RESULTS"])


def name_of(nodeid: str) -> str:
    return nodeid.rpartition("/")[2].partition("::")[2]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what has an outcome from an earlier process."""
    lines = results().read_text().splitlines() if results().exists() else []
    done = {json.loads(line).get("test") for line in lines}
    dropped = [item for item in items if name_of(item.nodeid) in done]
    items[:] = [item for item in items if name_of(item.nodeid) not in done]
    config.hook.pytest_deselected(items=dropped)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """One line of JSON a test; a failing setup or teardown counts as a failure. Subtests count with their test."""
    if "SubtestReport" in type(report).__name__ or (report.when != "call" and report.passed):
        return
    if report.when == "teardown" and report.skipped:
        return
    lines = str(getattr(report.longrepr, "reprcrash", report.longrepr) or "").strip().splitlines()
    reason = (lines[0] if lines else "")[-200:]
    entry = {"test": name_of(report.nodeid), "outcome": report.outcome, "reason": reason}
    with results().open("a") as stream:
        stream.write(json.dumps(entry) + "\n")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """A kernel's error stays in its context, and a reset is no way out: cuda.core, through which numba gets its
    context, keeps it for good and allows nobody to reset it (NVIDIA/cuda-python issue 1223). So the process ends.
    """
    from cuda.bindings import driver

    (synchronized,) = driver.cuCtxSynchronize()
    no_context = (driver.CUresult.CUDA_ERROR_INVALID_CONTEXT, driver.CUresult.CUDA_ERROR_NOT_INITIALIZED)
    if synchronized != driver.CUresult.CUDA_SUCCESS and synchronized not in no_context:
        item.session.shouldstop = f"{synchronized.name} after {item.name}"
