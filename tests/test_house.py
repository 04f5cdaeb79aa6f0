"""The house rules that no linter knows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VAGUE = {"utils", "util", "helpers", "helper", "manager", "misc", "common"}
# What the repository may not name: package registry hosts and the folders of whoever wrote it.
FORBIDDEN = re.compile(r"files\.pythonhosted|pypi\.org/simple|registry\.npmjs|deb\.debian|/home/\w+/|bash_jobs")


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: nothing tells sources from what a build made")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_no_source_file_is_longer_than_one_subject() -> None:
    sources = [p for p in tracked() if p.suffix in {".py", ".cpp", ".h"}]
    assert sources
    too_long = {str(p.relative_to(ROOT)): n for p in sources if (n := len(p.read_text().splitlines())) > 700}
    assert too_long == {}


def test_no_vague_names() -> None:
    assert [str(p.relative_to(ROOT)) for p in tracked() if p.stem in VAGUE] == []


def test_every_python_module_says_what_it_is_for() -> None:
    silent = [
        str(p.relative_to(ROOT))
        for p in tracked()
        if p.suffix == ".py" and p.read_text().strip() and not p.read_text().lstrip().startswith(('"""', "#!", 'r"""'))
    ]
    assert silent == []


def test_no_registry_host_and_no_private_path() -> None:
    named = []
    for path in tracked():
        if path == Path(__file__).resolve() or path.suffix in {".png", ".svg", ".ova"}:
            continue
        named += [f"{path.relative_to(ROOT)}: {m[0]}" for m in FORBIDDEN.finditer(path.read_text(errors="ignore"))]
    assert named == []
