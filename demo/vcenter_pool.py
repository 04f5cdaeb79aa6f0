"""Demo steps on the simulated vCenter: from bare hosts to a GPU server VM, through the command line."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import threading
from typing import Any

from demo.steps import GPUFERRY, ROOT, Demo, StepFailedError, expect

PASSWORD = "demo"  # noqa: S105 - of a vCenter that lives as long as the demo, on the loopback address
USER = "administrator@vsphere.local"


def start_vcenter(demo: Demo) -> str:
    """Start the simulator as a process of its own and read from its output where it listens."""
    process = subprocess.Popen(
        [*GPUFERRY, "vcenter", "simulate", "--password", PASSWORD, "--port", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    demo.undo.append(lambda: stop(process))
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout or ()], daemon=True).start()
    said = ""
    while not ("thumbprint" in said.lower() and re.search(r":\d{3,}", said)):
        try:
            said += lines.get(timeout=60)
        except queue.Empty:
            raise StepFailedError(f"the simulated vCenter did not say where it listens:\n{said}") from None
    address = re.search(r"(127\.0\.0\.\d+|localhost):(\d+)", said)
    thumbprint = re.search(r"((?:[0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2})", said)
    if not address or not thumbprint:
        raise StepFailedError(f"no address or thumbprint in what the simulated vCenter said:\n{said}")
    os.environ["XDG_CONFIG_HOME"] = str(demo.work / "config")
    os.environ["GPUFERRY_VCENTER_PASSWORD"] = PASSWORD
    demo.gpuferry("vcenter", "add", address[0], "--user", USER, "--name", "demo", "--thumbprint", thumbprint[1])
    return f"vCenter at {address[0]}, certificate pinned"


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


def gpus(demo: Demo) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(demo.gpuferry("vcenter", "gpus", "--json"))
    return found


def discover(demo: Demo) -> str:
    found = gpus(demo)
    demo.gpuferry("vcenter", "gpus", show=True)
    hosts = {gpu["host"] for gpu in found}
    expect(len(found) == 6 and len(hosts) == 3, f"expected 6 GPUs in 3 hosts, got {found}")
    return f"{len(found)} GPUs in {len(hosts)} hosts, each with its next step"
