"""Demo steps on the simulated vCenter: from bare hosts to a GPU server VM, through the command line."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import urlsplit

from demo.services import start_service
from demo.steps import Demo, expect


def start_vcenter(demo: Demo) -> str:
    """Start the simulator as a process of its own, and add it with its certificate pinned."""
    where = json.loads(start_service(demo, "vcenter", "simulate", "--port", "0", "--pace", "0.05", "--json"))
    address = urlsplit(where["url"]).netloc
    os.environ["XDG_CONFIG_HOME"] = str(demo.work / "config")
    os.environ["GPUFERRY_VCENTER_PASSWORD"] = where["password"]
    pinned = ("--thumbprint", where["thumbprint"])
    demo.gpuferry("vcenter", "add", address, "--user", where["user"], "--name", "demo", *pinned)
    return f"vCenter at {address}, certificate pinned"


def gpus(demo: Demo) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(demo.gpuferry("vcenter", "gpus", "--json"))
    return found


def discover(demo: Demo) -> str:
    found = gpus(demo)
    demo.gpuferry("vcenter", "gpus", show=True)
    hosts = {gpu["host_name"] for gpu in found}
    expect(len(found) == 6 and len(hosts) == 3, f"expected 6 GPUs in 3 hosts, got {found}")
    return f"{len(found)} GPUs in {len(hosts)} hosts, each with its next step"


def enable_passthrough(demo: Demo) -> str:
    """On every host: one takes the change at once, one needs its maintenance mode and a reboot."""
    for host in sorted({gpu["host_name"] for gpu in gpus(demo)}):
        demo.gpuferry("vcenter", "passthrough", "on", host, "--yes")
    after = gpus(demo)
    expect(all(gpu["active"] for gpu in after), f"not every GPU is active for passthrough: {after}")
    return f"passthrough is active for all {len(after)} GPUs"


def create_server(demo: Demo) -> str:
    demo.gpuferry(
        *("vcenter", "server", "create", "gpu-server-1", "--template", "gpuferry-template"),
        *("--network", "dv-management", "--rdma-network", "dv-pvrdma", "-n", "2", "--yes"),
    )
    listed = demo.gpuferry("vcenter", "server", "list", show=True)
    expect("gpu-server-1" in listed, f"the new server is not listed:\n{listed}")
    users = [gpu for gpu in gpus(demo) if "gpu-server-1" in json.dumps(gpu)]
    expect(len(users) == 2, f"expected two GPUs held by gpu-server-1, got {users}")
    return "gpu-server-1 runs with 2 GPUs and a PVRDMA adapter"
