"""The demo's programs in the client VM, as its user runs them: unmodified, over `gpuferry run`."""

from __future__ import annotations

import re
import shutil
import sys

from demo.building import PROGRAMS
from demo.data_centre import PACKAGES
from demo.steps import Demo, expect

COUNTS = re.compile(r"round_trips (\d+) posts (\d+)")


def in_client(demo: Demo, command: str) -> str:
    """The output of a command in the client VM, both streams."""
    options = ("StrictHostKeyChecking=no", f"UserKnownHostsFile={demo.work / 'known_hosts'}", "LogLevel=ERROR")
    flags = [part for each in options for part in ("-o", each)]
    return demo.run(
        *(
            "ssh",
            *flags,
            "-i",
            str(demo.work / "ssh_key"),
            f"gpuferry@{demo.client}",
            f"sudo -n sh -c '{command}' 2>&1",
        ),
        shown=f"client-01 # {command}",
    )


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
