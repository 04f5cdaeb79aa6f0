"""Demo steps on forwarding: the same unmodified programs, their CUDA calls carried to a GPU server daemon."""

from __future__ import annotations

import re
import secrets
import sys

from demo.services import start_service
from demo.software_gpu import PROGRAMS
from demo.steps import Demo, expect


def start_server(demo: Demo) -> str:
    """A GPU server daemon on the loopback address with two software GPUs; a shared secret lets clients in."""
    secret = demo.work / "secret"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32) + "\n")
    line = start_service(
        demo,
        *("gpuserver", "serve", "--listen", "127.0.0.1:0", "--secret-file", str(secret), "--driver", "softgpu"),
        GPUFERRY_SOFTGPU_DEVICES="2",
        GPUFERRY_SOFTGPU_MEMORY_MIB="2048",
    )
    found = re.search(r"listening on (\S+)", line)
    expect(found is not None, f"the daemon did not say where it listens: {line}")
    demo.server = ("--server", found[1] if found else "", "--secret-file", str(secret))
    demo.gpuferry("list", *demo.server, show=True)
    return line.strip()


def run_program(demo: Demo) -> str:
    output = demo.gpuferry("run", *demo.server, "-n", "2", "-m", "1024", "--", str(demo.work / "vector_add"))
    expect(output.count("1048576 of 1048576 sums right") == 2, f"wrong sums:\n{output}")
    expect("1024 MiB" in output, f"the program should see its slice of 1024 MiB:\n{output}")
    return f"2 slices of 1024 MiB: {output.splitlines()[0]}"


def run_cupy(demo: Demo) -> str:
    script = str(PROGRAMS / "compare_with_numpy.py")
    output = demo.gpuferry("run", *demo.server, "-m", "1024", "--", sys.executable, script)
    expect("arange sum 499999500000" in output, f"unexpected output:\n{output}")
    return output.strip()
