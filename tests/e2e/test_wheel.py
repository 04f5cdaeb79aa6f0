"""The wheel: what it holds, and that it alone, installed in a clean environment, runs a CUDA program.

It is made of what `make native` has built, as `make wheel` does. GPUFERRY_WHEEL=compile makes `pip wheel .` compile
everything once more, as it does from a source distribution; that takes minutes.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGE = ROOT / "build" / "stage"
NATIVE = (
    "clientagent/shim/lib/libcuda.so.1",
    "gpuserver/softgpu/lib/libcuda.so.1",
    "gpuserver/softgpu/lib/libnvidia-ml.so.1",
    "gpuserver/worker/bin/gpuferry-worker",
)
CUPY_SUM = """
import cupy as c; print(int(c.arange(10**6).sum()))
print(next(line.split()[-1] for line in open("/proc/self/maps") if "libcuda.so" in line))
"""

pytestmark = pytest.mark.timeout(1200)


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The program's output; it sees nothing of this source tree."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GPUFERRY_", "PYTHON", "VIRTUAL_ENV", "LD_", "CUDA_"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    settings = [f"build-dir={folder / 'build'}"]
    if os.environ.get("GPUFERRY_WHEEL") != "compile":
        settings.append(f"cmake.define.GPUFERRY_PREBUILT={STAGE}")
    options = [part for setting in settings for part in ("-C", setting)]
    # The build's CMake and Ninja are beside the interpreter.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run(
        *(sys.executable, "-m", "pip", "wheel", ROOT, "--no-build-isolation", "--no-deps", "--no-index", *options),
        *("-w", folder / "dist"),
        cwd=folder,
        PATH=path,
    )
    (made,) = (folder / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that has the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    run(folder / "bin" / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder / "bin"


def test_the_wheel_holds_every_native_part_and_no_source_of_them(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (record,) = (name for name in names if name.endswith(".dist-info/RECORD"))
        recorded = {line.split(",")[0] for line in archive.read(record).decode().splitlines()}
        mode = archive.getinfo("gpuserver/worker/bin/gpuferry-worker").external_attr >> 16
    assert recorded == names
    assert set(NATIVE) <= names
    assert stat.S_IMODE(mode) & 0o111 == 0o111, "the worker is not executable"
    assert not [name for name in names if name.endswith((".cpp", ".h", ".inc", "CMakeLists.txt"))]
    assert not [name for name in names if name.startswith(("tests/", "demo/", "build/", "benchmarks/"))]
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl"), "the client's Python is 3.9, the server's 3.11"


def test_the_native_parts_need_nothing_that_a_plain_machine_lacks(installed: Path) -> None:
    packages = next(installed.parent.glob("lib/python3*/site-packages"))
    for part in NATIVE:
        needed = run("readelf", "-d", packages / part, cwd=installed)
        libraries = {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "(NEEDED)" in line}
        foreign = {name for name in libraries if not name.startswith(("libc.so", "libm.so", "ld-linux"))}
        # The worker runs on a GPU server, where the C++ runtime is a package of every distribution.
        assert foreign <= ({"libstdc++.so.6", "libgcc_s.so.1"} if part.endswith("worker") else set()), part


def test_a_cuda_program_runs_on_what_the_wheel_installed(installed: Path, tmp_path: Path) -> None:
    gpuferry, python = installed / "gpuferry", installed / "python"
    where = run(python, "-c", "import gpuserver.native as n; print(n.ROOT)", cwd=tmp_path).strip()
    assert Path(where) == next(installed.parent.glob("lib/python3*/site-packages"))
    assert f"library   {where}/gpuserver/softgpu/lib/libcuda.so.1" in run(gpuferry, "softgpu", "info", cwd=tmp_path)
    # CuPy comes from the environment of the tests, the device from the wheel's.
    printed = run(gpuferry, "softgpu", "exec", "--", sys.executable, "-c", CUPY_SUM, cwd=tmp_path)
    assert printed.splitlines() == ["499999500000", f"{where}/gpuserver/softgpu/lib/libcuda.so.1"]
