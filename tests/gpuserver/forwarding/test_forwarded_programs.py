"""One program, two ways to run it: on the software GPU itself, and forwarded to a GPU server that has it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from gpu_server import GpuServer, read_stats, surroundings

from gpuserver.native import find_native
from gpuserver.softgpu.command import program_environment

PROGRAMS = Path(__file__).resolve().parent / "driver_api.py"
SLICE_MIB = 64


def natively(*program: str) -> subprocess.CompletedProcess[str]:
    folder = find_native("gpuserver/softgpu/lib/libcuda.so.1").parent
    environment = program_environment(folder, surroundings(GPUFERRY_SOFTGPU_MEMORY_MIB="1024"))
    return subprocess.run(list(program), env=environment, capture_output=True, text=True, timeout=300, check=False)


def forwarded(server: GpuServer, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    done = server.run(sys.executable, str(PROGRAMS), name, memory_mib=SLICE_MIB, GPUFERRY_STATS="1", **variables)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{server.log.read_text()}"
    return done


@pytest.mark.parametrize(
    "name", ["vector", "errors", "fork", "forked_workers", "big_copies", "training_loop", "library", "unload"]
)
def test_same_output_natively_and_forwarded(software_server: GpuServer, name: str) -> None:
    native = natively(sys.executable, str(PROGRAMS), name)
    assert native.returncode == 0, native.stderr
    assert native.stdout
    assert forwarded(software_server, name).stdout == native.stdout


def test_the_libraries_can_be_preloaded_instead(software_server: GpuServer) -> None:
    variables = software_server.shim_environment(SLICE_MIB)
    folder = Path(variables.pop("LD_LIBRARY_PATH"))
    variables["LD_PRELOAD"] = " ".join(str(folder / name) for name in ("libcuda.so.1", "libnvidia-ml.so.1"))
    environment = surroundings()
    if "LD_PRELOAD" in environment:  # a sanitizer's runtime comes first
        variables["LD_PRELOAD"] = f"{environment['LD_PRELOAD']} {variables['LD_PRELOAD']}"
    program = [sys.executable, str(PROGRAMS), "vector"]
    done = subprocess.run(
        program, env=environment | variables, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.stdout, done.returncode) == (natively(*program).stdout, 0), done.stderr


CUPY = """
import cupy, numpy
a = cupy.asarray(numpy.arange(1000, dtype=numpy.float32))
print((a * 2 + 1).sum())
"""


def test_cupy_prints_the_same_with_at_most_eight_round_trips(software_server: GpuServer) -> None:
    native = natively(sys.executable, "-c", CUPY)
    done = software_server.run(sys.executable, "-c", CUPY, memory_mib=256, GPUFERRY_STATS="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == native.stdout == "1e+06\n"
    assert read_stats(done.stderr).round_trips <= 8


def test_two_round_trips_to_the_first_launch_of_which_one_is_the_module(software_server: GpuServer) -> None:
    stats = read_stats(forwarded(software_server, "first_launch").stderr)
    assert stats.round_trips == 2  # the session's opening, the module
    assert stats.posts >= 2


def test_a_threads_own_stream_ends_with_the_thread(software_server: GpuServer) -> None:
    posts = [read_stats(forwarded(software_server, "threads", THREADS=str(n)).stderr).posts for n in (10, 30)]
    assert posts[1] - posts[0] == 20 * 3  # the stream's creation, the work, the stream's end


def test_posted_calls_take_no_round_trip(software_server: GpuServer) -> None:
    stats = read_stats(forwarded(software_server, "free_of_round_trips").stderr)
    assert stats.round_trips == 2  # the session's opening, the module
    assert stats.posts > 200


@pytest.mark.parametrize("iterations", [5, 25])
def test_a_training_step_takes_one_round_trip(software_server: GpuServer, iterations: int) -> None:
    stats = read_stats(forwarded(software_server, "training_loop", ITERATIONS=str(iterations)).stderr)
    assert stats.round_trips == 2 + iterations


@pytest.mark.parametrize("tensors", [1, 12])
def test_moving_a_model_to_the_gpu_takes_the_same_few_round_trips_whatever_its_size(
    software_server: GpuServer, tensors: int
) -> None:
    program = (sys.executable, str(PROGRAMS), "model_upload")
    done = software_server.run(*program, memory_mib=128, GPUFERRY_STATS="1", TENSORS=str(tensors))
    assert done.stdout == "1 1\n700\n", done.stderr
    # The session's opening, the module; the wait for the kernel, the download, the last wait.
    assert read_stats(done.stderr).round_trips == 5


def test_a_token_takes_one_round_trip_whatever_goes_up_for_it(software_server: GpuServer) -> None:
    done = forwarded(software_server, "tokens", TOKENS="6")
    assert done.stdout.splitlines() == [f"{token} {100 * token + 10} {100 * token + 10}" for token in range(6)]
    assert read_stats(done.stderr).round_trips == 2 + 6  # the session's opening, the module; the tokens


def test_a_function_of_a_librarys_module_takes_no_round_trip_of_its_own(software_server: GpuServer) -> None:
    stats = read_stats(forwarded(software_server, "library").stderr)
    assert stats.round_trips == 3  # the session's opening, the library, the download


def test_a_read_sees_what_another_thread_posted_before(software_server: GpuServer) -> None:
    assert forwarded(software_server, "order", TRIES="2000").stdout == "2000 tries, wrong: []\n"


def test_the_slice_is_exact_by_every_way_of_allocating(software_server: GpuServer) -> None:
    assert forwarded(software_server, "slice").stdout.splitlines() == [
        "info 64 64 64",
        "allocated 64 then 2",
        "free again 64",
        "all 0",
        "one more 2",
        "physical 0",
        "pool 2",
        "managed 2",
        "pool 0",
    ]
