"""Runs a case natively on the software GPU and forwarded to a GPU server of one, and compares."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.long.frameworks.framework import PROGRAMS, ROOT, Case, Framework

sys.path[:0] = [str(ROOT / "tests" / "gpuserver" / "forwarding")]

from gpu_server import gpu_server, read_stats, surroundings  # noqa: E402


@dataclass(frozen=True)
class Outcome:
    """`verdict` is `equal`, `agrees` (with the case's own measure) or what went wrong; times in seconds."""

    case: str
    verdict: str
    round_trips: int | None = None
    posts: int | None = None
    native_seconds: float | None = None
    forwarded_seconds: float | None = None

    @property
    def good(self) -> bool:
        return self.verdict in ("equal", "agrees")

    def row(self) -> str:
        cells = [self.case, self.verdict, self.round_trips, self.posts, self.native_seconds, self.forwarded_seconds]
        shown = ["–" if cell is None else f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
        return f"| {' | '.join(shown)} |"


class CaseFailedError(Exception):
    """The program did not end well."""


def read_output(done: subprocess.CompletedProcess[str], way: str, log: Path) -> dict[str, Any]:
    """The JSON line that the program printed last. Raises CaseFailedError."""
    log.write_text(f"{done.stdout}\n{done.stderr}")
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("gpuferry stats")][
            -1:
        ]
        raise CaseFailedError(f"{way}: exit status {done.returncode}: {''.join(said)[:300]} ({log})")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise CaseFailedError(f"{way}: no line of JSON ({log})")
    return dict(json.loads(lines[-1]))


def compare(framework: Framework, folder: Path, case: Case, logs: Path) -> Outcome:
    """One case, both ways. What the programs said lies in `logs`."""
    program = [str(PROGRAMS / f"{case.program}.py"), *case.arguments]
    command = framework.command(folder, program)
    variables = {**framework.variables, **case.variables}
    device = {
        "GPUFERRY_SOFTGPU_DEVICES": str(case.devices),
        **framework.device,
        **case.device,
    }
    # A slice does not count modules' variables, as a device does: the server's device has room for them beside it.
    sizes = [",".join([str(mib)] * case.devices) for mib in (case.device_mib, case.device_mib + 64)]
    of_device, of_server = ({"GPUFERRY_SOFTGPU_MEMORY_MIB": size, **device} for size in sizes)
    uuids = ",".join(f"GPU-{uuid.uuid4()}" for _ in range(case.devices))
    native_command = [sys.executable, "-m", "clientagent.command", "softgpu", "exec", "--", *command]
    native_variables = surroundings(**variables, **of_device, GPUFERRY_SOFTGPU_UUID=uuids)
    try:
        done = run(native_command, native_variables, case.seconds, "natively")
        native = read_output(done, "natively", logs / f"{case.name}-native.log")
        with tempfile.TemporaryDirectory() as scratch, gpu_server(Path(scratch), "softgpu", **of_server) as server:
            options = ["-n", str(case.devices), "-m", str(case.device_mib)]
            forwarded_command = server.command(*command)
            at = forwarded_command.index("--")
            forwarded_command[at:at] = options
            done = run(
                [*forwarded_command],
                surroundings(**variables, GPUFERRY_STATS="1"),
                case.seconds,
                "forwarded",
            )
            (logs / f"{case.name}-server.log").write_text(server.log.read_text())
        forwarded = read_output(done, "forwarded", logs / f"{case.name}-forwarded.log")
    except CaseFailedError as failed:
        return Outcome(case.name, str(failed))
    stats = read_stats(done.stderr)
    verdict = judge(case, native["output"], forwarded["output"], stats.round_trips)
    return Outcome(case.name, verdict, stats.round_trips, stats.posts, native["seconds"], forwarded["seconds"])


def judge(case: Case, native: object, forwarded: object, round_trips: int) -> str:
    if case.round_trips is not None and round_trips > case.round_trips:
        return f"{round_trips} blocking round trips, not at most {case.round_trips}"
    if json.dumps(native) == json.dumps(forwarded):
        return "equal"
    if case.agrees is None:
        return f"differs: natively {json.dumps(native)[:200]}, forwarded {json.dumps(forwarded)[:200]}"
    return case.agrees(native, forwarded) or "agrees"


def run(command: list[str], environment: dict[str, str], seconds: int, way: str) -> subprocess.CompletedProcess[str]:
    """The program to its end. Raises CaseFailedError past its time."""
    try:
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as late:
        raise CaseFailedError(f"{way}: not done after {seconds} s: {str(late.stderr)[-300:]}") from late
