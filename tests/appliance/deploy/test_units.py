"""The systemd units that the installer writes: systemd's own judgement of them, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.deploy.on_target import services
from appliance.deploy.on_target.layout import Layout

MOST_EXPOSED = {"client": 28, "server": 34}
"""`systemd-analyze security`: 0 is a unit that may do nothing, 100 one that may do everything (96: nothing is set)."""


def written(role: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A role's units, and a program at the place that they start."""
    monkeypatch.setattr(services, "has_systemd", lambda layout: True)
    layout = Layout(role, root)
    program = layout.version("1-a") / "bin/gpuferry"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    layout.current.symlink_to(layout.version("1-a"))
    config = {"environment": {"A": "two words", "B": "100%"}, "arguments": ["--driver", "softgpu"]}
    files = services.service_files(layout, config, "/usr/bin/env")
    for path, (text, mode) in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    assert {path.suffix for path in files} == {".service", ".path"}
    return list(files)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("role", ["client", "server"])
def test_systemd_finds_nothing_wrong(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = written(role, tmp_path, monkeypatch)
    verified = analyze("verify", "--man=no", *map(str, units))
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    # It does look: a unit with a misspelt line is told.
    units[0].write_text(units[0].read_text().replace("ProtectSystem=strict", "ProtectSystem=strikt"))
    assert "strikt" in analyze("verify", "--man=no", str(units[0])).stderr


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_service_is_let_do_little(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = next(each for each in written(role, tmp_path, monkeypatch) if "upgrade" not in each.name)
    judged = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSED[role]}", str(unit))
    assert judged.returncode == 0, judged.stdout.splitlines()[-1]
