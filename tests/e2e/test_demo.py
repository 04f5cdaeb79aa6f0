"""`make demo` as its user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vcenter.simulator.guest_sandbox import SandboxError, demand_possible

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(1000)
def test_every_step_of_the_demo_passes() -> None:
    try:
        demand_possible()
    except SandboxError as impossible:
        pytest.skip(str(impossible))
    done = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "gpuferry demo: all steps passed"
    assert "blocking round trips" in done.stdout
