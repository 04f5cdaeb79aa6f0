"""The data centre of the demo: a simulated vCenter whose virtual machines are sandboxes with a real sshd."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import cupy
import yaml

from demo.services import start_service
from demo.steps import Demo, StepFailedError
from vcenter.simulator.guest_sandbox import SandboxError, demand_possible
from vcenter.simulator.inventory import DEFAULT_INVENTORY

PACKAGES = Path(cupy.__file__).parent.parent
IN_GUESTS = ("usr", "etc", "var", "opt", "home", "root", "srv")
"""Folders of this machine that every guest sees anyway, as a copy of its own."""
TELL_HOST_KEY = (
    'vmware-rpctool "info-set guestinfo.gpuferry.host-key $(cut -d" " -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)"'
)
"""What a template's cloud-init runs so that vCenter knows the machine's SSH host key."""


def inventory(public_key: str) -> dict[str, Any]:
    """Three hosts with six GPUs; the client VM lets the appliance's key in and says its host key to vCenter."""
    content: dict[str, Any] = yaml.safe_load(DEFAULT_INVENTORY.read_text())
    account = {"name": "gpuferry", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [public_key]}
    user_data = "#cloud-config\n" + yaml.safe_dump({"users": [account], "runcmd": [TELL_HOST_KEY]})
    for machine in content["datacenters"][0]["virtual_machines"]:
        if machine["name"] == "client-01":
            machine["extra"] = {
                "guestinfo.userdata": base64.b64encode(user_data.encode()).decode(),
                "guestinfo.userdata.encoding": "base64",
            }
    return content


def start(demo: Demo) -> str:
    """Start the simulator as a process of its own. Its guests need root: namespaces and overlay mounts."""
    try:
        demand_possible()
    except SandboxError as impossible:
        raise StepFailedError(f"{impossible}. Run `make demo` as root.") from None
    demo.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(demo.work / "ssh_key"))
    content = inventory((demo.work / "ssh_key.pub").read_text().strip())
    (demo.work / "inventory.json").write_text(json.dumps(content))
    seen = {Path(sys.prefix), Path(sys.base_prefix), PACKAGES, demo.work / "programs"}
    (demo.work / "programs").mkdir()
    bundles = [
        part for each in sorted(seen) if each.parts[1] not in IN_GUESTS for part in ("--guest-bundle", str(each))
    ]
    demo.vcenter = json.loads(
        start_service(
            demo,
            *("vcenter", "simulate", str(demo.work / "inventory.json"), "--guests", "sandbox", *bundles),
            *("--port", "0", "--pace", "0.05", "--json"),
        )
    )
    return f"vCenter at {demo.vcenter['url']}, guests at {demo.vcenter['gateway']}/24"
