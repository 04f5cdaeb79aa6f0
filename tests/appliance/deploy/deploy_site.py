"""What the tests of deployment work on: an appliance, a bundle, and sandboxed guests with sshd that reach each other.

A guest is a virtual machine of the simulated vCenter: powered on it is a set of Linux namespaces with an sshd of its
own. Machines are switched on when a test asks for one.
"""

from __future__ import annotations

import base64
import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVim.connect import SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim
from service_site import ServiceSite

from appliance.deploy.bundle import Bundle
from appliance.deploy.deployment import DeploySettings
from appliance.deploy.ssh import Answer, Target, connect
from appliance.peers import new_enrolment_token
from gpuserver.protocol.control.curve import Ticket
from vcenter.simulator import GuestKind, Simulation, start
from vcenter.simulator.guest_sandbox import SandboxError, SandboxGuests, demand_possible

PASSWORD = "correct horse"
USER_DATA = f"""#cloud-config
ssh_authorized_keys: ['{{key}}']
bootcmd: [': > ~root/.bashrc']
users:
- {{{{name: ferry, sudo: 'ALL=(ALL) NOPASSWD:ALL', ssh_authorized_keys: ['{{key}}']}}}}
- {{{{name: asked, sudo: 'ALL=(ALL) ALL', ssh_authorized_keys: ['{{key}}']}}}}
- {{{{name: plain, ssh_authorized_keys: ['{{key}}']}}}}
runcmd:
- "echo 'asked:{PASSWORD}' | chpasswd; echo 'ferry:{PASSWORD}' | chpasswd"
- >-
  /usr/sbin/sshd -p 2222 -o HostKey=/etc/ssh/ssh_host_ed25519_key -o UsePAM=no -o PasswordAuthentication=yes
  -o StrictModes=no -o PidFile=/run/sshd-2222.pid
"""


def sandbox_missing() -> str:
    """Why there can be no sandboxes here; empty when there can."""
    try:
        demand_possible()
    except SandboxError as error:
        return str(error)
    return ""


class Guest:
    """A machine that is on."""

    def __init__(self, name: str, address: str, folder: Path, key: str) -> None:
        self.name = name
        self.address = address
        self.folder = folder
        public = (folder / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text().split()
        self.target = Target(address, key=key, host_key=f"{public[0]} {public[1]}")
        self.run("while [ ! -e /run/cloud-init-finished ]; do sleep 0.05; done")

    def run(self, command: str) -> Answer:
        """As root; it has to succeed."""
        with connect(self.target) as machine:
            answer = machine.run(command)
        assert answer.status == 0, (command, answer)
        return answer

    def on(self, guests: Guests) -> None:
        """Switch it on again."""
        guests.on(self.name)
        self.run("while [ ! -e /run/cloud-init-finished ]; do sleep 0.05; done")

    def files(self) -> set[str]:
        """What the machine has whose name names gpuferry, by path."""
        # Not all of the homes and /opt: guests see what this machine has there.
        deep, flat = "/opt/gpuferry /etc /usr/local/bin /var/lib /var/log /run", "/opt /tmp /root /home"
        found = self.run(
            f"find {deep} -xdev -name '*gpuferry*' 2>/dev/null; "
            f"find {flat} -xdev -maxdepth 2 -name '*gpuferry*' 2>/dev/null || true"
        ).output
        return set(found.split())

    def sees(self, user: str = "root", **changes: Any) -> Target:
        """A target that is this guest, reached in another way."""
        return replace(self.target, user=user, **changes)


class Guests:
    """A data centre of guests."""

    def __init__(self, simulation: Simulation, private: str) -> None:
        self.simulation = simulation
        self.private = private
        sandboxes = simulation.world.guests
        assert isinstance(sandboxes, SandboxGuests)
        self.sandboxes = sandboxes
        self.gateway = sandboxes._bridge.gateway
        self._unused = sorted(self._machines())

    def _machines(self) -> dict[str, Any]:
        # A session for each operation: one that lay idle for long has lost its connection.
        service = SmartConnect(
            host=self.simulation.host, port=self.simulation.port, user=self.simulation.user,
            pwd=self.simulation.password, thumbprint=self.simulation.thumbprint, disableSslCertValidation=True,
        )  # fmt: skip
        folder = service.content.rootFolder.childEntity[0].vmFolder
        return {each.name: each for each in folder.childEntity if isinstance(each, vim.VirtualMachine)}

    def new(self) -> Guest:
        """Switch the next machine on, and wait until one can log in."""
        name = self._unused.pop(0)
        address, moid = self.on(name)
        return Guest(name, address, self.sandboxes.traces[0] / moid, self.private)

    def on(self, name: str) -> tuple[str, str]:
        """Power a machine on and wait until its sshd answers: its address and id."""
        machine = self._machines()[name]
        WaitForTask(machine.PowerOn())
        deadline = time.monotonic() + 180
        while machine.guest.ipAddress is None:
            if time.monotonic() > deadline:
                known = self.sandboxes._guests.get(machine._moId)
                pytest.fail(f"{name} does not come up: {known.said() if known else 'it was never started'}")
            time.sleep(0.05)
        return str(machine.guest.ipAddress), str(machine._moId)

    def off(self, guest: Guest) -> None:
        """Cut a machine's power."""
        machine = self._machines()[guest.name]
        if machine.runtime.powerState == "poweredOn":
            WaitForTask(machine.PowerOff())


@contextlib.contextmanager
def guests_of(folder: Path, count: int, bundles: list[Path] | None = None) -> Iterator[Guests]:
    """A data centre with so many machines, all off."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")], check=True)
    user_data = USER_DATA.format(key=(folder / "key.pub").read_text().strip())
    extra = {
        "guestinfo.userdata": base64.b64encode(user_data.encode()).decode(),
        "guestinfo.userdata.encoding": "base64",
    }
    inventory = {
        "datacenters": [
            {
                "name": "DC0",
                "datastores": [{"name": "vsan-gpu", "capacity_gib": 10000}],
                "clusters": [{"name": "gpu-cluster", "hosts": [{"name": "esx-01.example.test", "memory_gib": 4096}]}],
                "virtual_machines": [{"name": f"vm-{at:03}", "memory_gib": 1, "extra": extra} for at in range(count)],
            }
        ]
    }
    with start(inventory, pace=0.002, guests=GuestKind.SANDBOX, guest_bundles=bundles) as simulation:
        yield Guests(simulation, (folder / "key").read_text())


class DeploySite:
    """The appliance at the guests' gateway, and a bundle that it signed."""

    def __init__(self, site: ServiceSite, bundle: Bundle, guests: Guests) -> None:
        self.site = site
        self.bundle = bundle
        self.guests = guests
        self._one_at_a_time = threading.Lock()

    @property
    def settings(self) -> DeploySettings:
        config = self.site.site.config
        reach = tuple(f"{config.name}:{port}" for port in (config.control_port, config.enrol_port))
        return DeploySettings(appliance_key=self.site.site.curve_public, reach=reach)

    def ticket(self, role: str = "client", name: str = "") -> str:
        with self._one_at_a_time:
            token = new_enrolment_token(self.site.engine, role, name=name)
        return str(Ticket(self.site.site.config.enrol_endpoint, self.site.site.curve_public, token))

    def clients(self) -> list[dict[str, Any]]:
        """What the appliance says of its clients."""
        with self.site.api as api:
            answer = api.get("/v1/clients", params={"limit": 500})
            assert answer.status_code == 200, answer.text
            return list(answer.json()["items"])
