"""What forwarding costs: run `python benchmarks/forwarding.py [FOLDER]` in a source tree after `make native`.

A GPU server with the null driver (which returns at once), raw sockets in the same run beside it, and a relay that adds
delay. What is compared is measured in turns, and the medians of the turns are shown. Prints a table; writes
forwarding.json and, where matplotlib is installed (dependency group `benchmarks`), forwarding.png to FOLDER.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "gpuserver" / "forwarding")]

from gpu_server import GpuServer, gpu_server, surroundings  # noqa: E402

from gpuserver.native import find_native  # noqa: E402
from gpuserver.protocol.header import find_cuda_include  # noqa: E402

TURNS = 5
DELAYS_US = (0, 50, 300, 1000, 10_000, 30_000)
NULL_DRIVER = "gpuserver/worker/nulldriver/lib/libcuda.so.1"
# What the table compares with: the limits.
LIMITS = {
    "round trip / raw": ("<=", 1.25),
    "launches per second": (">=", 1e6),
    "client time of a launch, ns": ("<=", 300),
    "256 MiB up / raw": (">=", 0.9),
    "256 MiB down / raw": (">=", 0.9),
    "idle worker beyond the driver, MiB": ("<=", 30),
}


def build_probe(folder: Path) -> Path:
    probe = folder / "probe"
    source = Path(__file__).with_name("forwarding_probe.cpp")
    flags = ["-O2", "-std=c++20", "-isystem", str(find_cuda_include()), "-o", str(probe), str(source)]
    subprocess.run(["c++", *flags, "-ldl", "-lpthread"], check=True)
    return probe


def measure(program: list[str], environment: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise SystemExit(f"{' '.join(program)}: {done.stderr}")
    return dict(json.loads(done.stdout))


def take_turn(server: GpuServer, probe: Path, round_trips: int) -> dict[str, dict[str, float]]:
    """Raw sockets, then the same through forwarding: the shorter apart, the less the machine has changed."""
    raw = measure([str(probe), "raw", str(round_trips)], surroundings())
    environment = surroundings(**server.shim_environment())
    calls = measure([str(probe), "calls", str(round_trips), "1000000"], environment)
    rows = {
        "round trip / raw": calls["round_trip_us"] / raw["round_trip_us"],
        "launches per second": calls["launches_per_s"],
        "client time of a launch, ns": calls["launch_ns"],
        "256 MiB up / raw": calls["up_bytes_per_s"] / raw["up_bytes_per_s"],
        "256 MiB down / raw": calls["down_bytes_per_s"] / raw["down_bytes_per_s"],
    }
    return {"rows": rows, "raw": raw, "calls": calls}


def native() -> dict[str, str]:
    return surroundings(LD_LIBRARY_PATH=str(find_native(NULL_DRIVER).parent), GPUFERRY_NULL_COPIES="0")


def idle_worker_mib(server: GpuServer) -> float:
    """Resident memory of a worker whose client does nothing, less that of a process that has only the driver."""
    hold = (
        "import ctypes, sys; assert ctypes.CDLL('libcuda.so.1').cuInit(0) == 0; print(1, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold],
        env=surroundings(**server.shim_environment()),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as client:
        assert client.stdout is not None
        client.stdout.readline()
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        sizes = [Path(f"/proc/{pid}/statm").read_text().split() for pid in children]
        client.communicate(b"")
    page = os.sysconf("SC_PAGESIZE")
    return max(int(fields[1]) for fields in sizes) * page / 2**20  # the null driver itself takes next to nothing


def sweep(server: GpuServer, probe: Path, iterations: int) -> dict[str, dict[str, float]]:
    """The loops, natively and over each delay."""
    results = {"native": measure([str(probe), "loops", str(iterations)], native())}
    port = server.address.rsplit(":", 1)[1]
    for delay in DELAYS_US:
        with subprocess.Popen([str(probe), "relay", port, str(delay)], stdout=subprocess.PIPE, text=True) as relay:
            assert relay.stdout is not None
            assert select.select([relay.stdout], [], [], 30)[0]
            near = json.loads(relay.stdout.readline())["port"]
            environment = server.shim_environment() | {"GPUFERRY_SERVER": f"127.0.0.1:{near}"}
            turns = iterations if delay < 10_000 else max(5, iterations // 10)
            results[str(delay)] = measure([str(probe), "loops", str(turns)], surroundings(**environment))
            relay.kill()
    return results


def plot(results: dict[str, dict[str, float]], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        sys.stderr.write("no plot: matplotlib is not installed\n")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    for loop in results["native"]:
        axes.plot(
            DELAYS_US, [results[str(d)][loop] / results["native"][loop] for d in DELAYS_US], "o-", label=loop[:-3]
        )
    axes.set_xscale("symlog", linthresh=50)
    axes.set_yscale("log")
    axes.set_xlabel("added round trip delay, µs")
    axes.set_ylabel("time of an iteration ÷ native")
    axes.legend()
    figure.savefig(path)


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    quick = bool(os.environ.get("QUICK"))
    with tempfile.TemporaryDirectory() as scratch:
        probe = build_probe(Path(scratch))
        with gpu_server(Path(scratch), "null", GPUFERRY_NULL_COPIES="0") as server:
            round_trips = 2000 if quick else 20_000
            turns = [take_turn(server, probe, round_trips) for _ in range(1 if quick else TURNS)]
            rows = {name: statistics.median(turn["rows"][name] for turn in turns) for name in turns[0]["rows"]}
            rows["idle worker beyond the driver, MiB"] = idle_worker_mib(server)
            first_launch = statistics.median(turn["calls"]["first_launch_ms"] for turn in turns)
            delays = sweep(server, probe, 20 if quick else 100)
    for name, value in rows.items():
        sign, limit = LIMITS[name]
        met = value <= limit if sign == "<=" else value >= limit
        print(f"{name:<36} {value:>14,.2f}   {sign} {limit:,g} {'' if met else ' MISSED'}")
    print(f"{'time to first launch, ms':<36} {first_launch:>14.1f}")
    print(f"\n{'added delay, µs':<16}" + "".join(f"{loop[:-3]:>16}" for loop in delays["native"]) + "   (µs)")
    for delay, times in delays.items():
        print(f"{delay:<16}" + "".join(f"{time:>16,.0f}" for time in times.values()))
    report: dict[str, Any] = {"rows": rows, "first_launch_ms": first_launch, "turns": turns, "delays": delays}
    (folder / "forwarding.json").write_text(json.dumps(report, indent=2) + "\n")
    plot(delays, folder / "forwarding.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
