"""The demo's programs in the client VM, as its user runs them: unmodified, over `gpuferry run`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from demo.building import PROGRAMS
from demo.data_centre import PACKAGES
from demo.pool import PATIENCE_S, answer, wait_for
from demo.steps import Demo, expect

AT_ONCE = 4
COUNTS = re.compile(r"round_trips (\d+) posts (\d+)")


def login(demo: Demo, command: str) -> list[str]:
    """The ssh command that runs a command as root in the client VM."""
    options = ("StrictHostKeyChecking=no", f"UserKnownHostsFile={demo.work / 'known_hosts'}", "LogLevel=ERROR")
    flags = [part for each in options for part in ("-o", each)]
    where = ["-i", str(demo.work / "ssh_key"), f"gpuferry@{demo.client}"]
    return ["ssh", *flags, *where, f"sudo -n sh -c '{command}' 2>&1"]


def in_client(demo: Demo, command: str) -> str:
    """The output of a command in the client VM, both streams."""
    return demo.run(*login(demo, command), shown=f"client-01 # {command}")


def counted(demo: Demo, output: str, program: str) -> str:
    """The blocking round trips of a program, for the summary."""
    found = [(int(one), int(other)) for one, other in COUNTS.findall(output)]
    expect(bool(found), f"{program} told no statistics:\n{output}")
    trips, posts = sum(one for one, _ in found), sum(other for _, other in found)
    demo.traffic.append(f"{program}: {trips} blocking round trips, {posts} calls posted without waiting")
    return f"{trips} blocking round trips"


def run_program(demo: Demo) -> str:
    shutil.copy(demo.work / "vector_add", demo.work / "programs")
    program = demo.work / "programs" / "vector_add"
    output = in_client(demo, f"GPUFERRY_STATS=1 gpuferry run -n 2 -m 1024 -- {program}")
    expect(output.count("1048576 of 1048576 sums right") == 2, f"wrong sums:\n{output}")
    expect("1024 MiB" in output, f"the program should see its slice of 1024 MiB:\n{output}")
    first = next(line for line in output.splitlines() if "sums right" in line)
    return f"2 slices of 1024 MiB, {counted(demo, output, 'vector_add')}: {first}"


def run_cupy(demo: Demo) -> str:
    shutil.copy(PROGRAMS / "compare_with_numpy.py", demo.work / "programs")
    script = demo.work / "programs" / "compare_with_numpy.py"
    output = in_client(
        demo, f"GPUFERRY_STATS=1 PYTHONPATH={PACKAGES} gpuferry run -n 2 -m 1024 -- {sys.executable} {script}"
    )
    expect(output.count("values equal NumPy's, arange sum 499999500000") == 2, f"unexpected output:\n{output}")
    first = next(line for line in output.splitlines() if "equal NumPy" in line)
    return f"{counted(demo, output, 'CuPy')}: {first}"


def share(demo: Demo) -> str:
    """Programs enough to fill every GPU to its last MiB, all at once: each waits until all have their slices."""
    shutil.copy(PROGRAMS / "share_gpus.py", demo.work / "programs")
    script = demo.work / "programs" / "share_gpus.py"
    started = []
    for number in range(AT_ONCE):
        command = f"PYTHONPATH={PACKAGES} gpuferry run --timeout 4m -n 2 -m 1024 -- {sys.executable} {script} {number}"
        demo.console.print(f"    client-01 # {command} &", style="dim", markup=False)
        started.append(subprocess.Popen(login(demo, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    demo.undo.extend(process.kill for process in started)
    for process in started:
        lines = [""]
        while not lines[-1].startswith("ready") and process.stdout and (line := process.stdout.readline()):
            lines.append(line)  # before it: that it waited until the last program's slices were free again
        expect(lines[-1] == "ready with 2 GPUs\n", f"a program did not begin: {''.join(lines)}")
    gpus = answer(demo.api.get("/v1/gpus"))["items"]
    reserved = [(gpu["reserved_mib"], gpu["memory_mib"]) for gpu in gpus]
    expect(all(one == whole for one, whole in reserved), f"every GPU should be shared to its last MiB: {reserved}")
    results = 0
    for process in started:
        out, _ = process.communicate("\n", timeout=PATIENCE_S)
        expect(process.returncode == 0 and out.count("of 1024 MiB:") == 2, f"a program failed:\n{out}")
        results += sum(map(int, re.findall(r"(\d+) results equal", out)))
    free = lambda: not any(gpu["reserved_mib"] for gpu in answer(demo.api.get("/v1/gpus"))["items"])  # noqa: E731
    wait_for(free, "the GPUs come free")
    return (
        f"{AT_ONCE} programs, {2 * AT_ONCE} slices on {len(gpus)} GPUs, {results} results equal NumPy's; all memory "
        "free afterwards"
    )
