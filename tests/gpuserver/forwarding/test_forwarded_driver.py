"""The software GPU's own driver tests a second time: the same bodies, forwarded to a server that has the same GPU."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from gpu_server import GpuServer, gpu_server, surroundings

CASES = Path(__file__).resolve().parents[1] / "softgpu" / "driver"
MODULES = (
    "test_driver_answers",
    "test_driver_contexts",
    "test_driver_graphs",
    "test_driver_host_pools",
    "test_driver_launches",
    "test_driver_memory",
    "test_driver_sharing",
    "test_driver_streams",
    "test_driver_textures",
)
# What is not the same when forwarded, and why.
GRANULES = "memory is taken from the slice in granules of 2 MiB, as NVIDIA's driver does, not byte by byte"
DIFFERENT = {
    "test_fragmentation_costs_no_memory": GRANULES,
    "test_memory_ends_exactly_at_the_configured_size": GRANULES,
}


@dataclass(frozen=True)
class Case:
    file: str
    name: str
    settings: tuple[tuple[str, str], ...]


def collect() -> list[Case]:
    """The test functions of the driver's tests, with the settings of the software GPU that each asks for."""
    sys.path.insert(0, str(CASES))
    import driver_case

    # Before run_case is replaced: the modules keep what they import, and are the same that pytest runs natively.
    modules = [importlib.import_module(module) for module in MODULES]
    found: list[Case] = []
    run_natively = driver_case.run_case

    def remember(file: str, name: str, /, **settings: str) -> str:
        found.append(Case(file, name, tuple(sorted(settings.items()))))
        return ""

    driver_case.run_case = remember
    try:
        for module in modules:
            for name, test in sorted(vars(module).items()):
                if name.startswith("test_") and hasattr(test, "__wrapped__") and not hasattr(test, "pytestmark"):
                    test()
    finally:
        driver_case.run_case = run_natively
    return found


class Servers:
    """One GPU server for each set of settings, started when first needed."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.running: dict[tuple[tuple[str, str], ...], GpuServer] = {}

    def with_settings(self, settings: tuple[tuple[str, str], ...]) -> GpuServer:
        if settings not in self.running:
            folder = self.folder / str(len(self.running))
            folder.mkdir()
            variables = {f"GPUFERRY_SOFTGPU_{name.upper()}": value for name, value in settings}
            self.running[settings] = self.stack.enter_context(gpu_server(folder, "softgpu", **variables))
        return self.running[settings]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack, tmp_path_factory.mktemp("servers"))


def marked(case: Case) -> object:
    reason = DIFFERENT.get(case.name)
    return pytest.param(case, id=case.name, marks=[pytest.mark.xfail(reason=reason, strict=True)] if reason else [])


@pytest.mark.parametrize("case", [marked(case) for case in collect()])
def test_the_same_forwarded(servers: Servers, case: Case) -> None:
    server = servers.with_settings(case.settings)
    variables = server.shim_environment() | {"GPUFERRY_TEST_CASE": "1"}
    variables["GPUFERRY_DEVICES"] = dict(case.settings).get("devices", "1")
    paths = f"{surroundings()['PYTHONPATH']}:{CASES.parent}:{CASES}"
    done = subprocess.run(
        [sys.executable, str(CASES / "driver_case.py"), case.file, case.name],
        env=surroundings(**variables) | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (
        f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}\n{server.log.read_text()}"
    )
