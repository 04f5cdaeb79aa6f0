"""Provisioning with real guests: the appliance at the guests' gateway, a bundle that it signed, sandboxes with sshd."""

from __future__ import annotations

import base64
import contextlib
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cupy
import pytest
import yaml
from provisioning_site import PATIENCE_S, ProvisioningSite, until

from appliance.deploy.building import build_bundle
from vcenter import simulator
from vcenter.certificate import Trust
from vcenter.session import Endpoint, Session
from vcenter.simulator import GuestKind
from vcenter.simulator.guest_sandbox import SandboxError, SandboxGuests, demand_possible
from vcenter.simulator.inventory import DEFAULT_INVENTORY

PACKAGES = Path(cupy.__file__).parent.parent
PROGRAMS = Path(__file__).resolve().parents[2] / "demo" / "programs"
TESTS = Path(__file__).resolve().parents[1]
STEADY = TESTS / "appliance" / "steady_program.py"
SOFTWARE = {"GPUFERRY_SOFTGPU_DEVICES": "2", "GPUFERRY_SOFTGPU_MEMORY_MIB": "2048"}
OVERLAID = ("usr", "etc", "var", "opt", "home", "root", "srv")
HOST = "esx-01.example.test"


def server_wanted(**changes: Any) -> dict[str, Any]:
    """Parameters of a server with two GPUs in software on the host whose cards are passed through already."""
    return {
        "vcenter": "lab",
        "host": HOST,
        "name": "gpu-server-1",
        "gpu_count": 2,
        "source": {"template": "gpuferry-template"},
        "network": "dv-management",
        "driver": "softgpu",
        "environment": SOFTWARE,
        "python_path": [str(PACKAGES)],
        **changes,
    }


def data_centre(public_key: str, *, bare: bool = False) -> dict[str, Any]:
    """The default one; its client VMs let this key in. A bare one passes no card through; its clients are on."""
    content: dict[str, Any] = yaml.safe_load(DEFAULT_INVENTORY.read_text())
    account = {"name": "gpuferry", "sudo": "ALL=(ALL) NOPASSWD:ALL", "ssh_authorized_keys": [public_key]}
    user_data = "#cloud-config\n" + yaml.safe_dump({"users": [account]})
    for machine in content["datacenters"][0]["virtual_machines"]:
        if machine["name"].startswith("client"):
            machine["extra"] = {
                "guestinfo.userdata": base64.b64encode(user_data.encode()).decode(),
                "guestinfo.userdata.encoding": "base64",
            }
            if bare:
                machine["power"] = "on"
    if bare:
        for host in content["datacenters"][0]["clusters"][0]["hosts"]:
            for gpu in host["gpus"]:
                gpu["passthrough"] = False
    return content


class GuestSite(ProvisioningSite):
    """`key` is the file of the private key with which the appliance, and the test, log in to guests."""

    key: Path

    def patch_settings(self, **change: Any) -> None:
        with self.api as api:
            answer = api.patch("/v1/settings", json=change, headers={"If-Match": "*"})
        assert answer.status_code == 200, answer.text

    def lab(self) -> Session:
        """A session of an administrator of the vCenter."""
        here = self.simulation
        trust = Trust(thumbprint=here.thumbprint)
        return Session(Endpoint(here.host, here.user, here.port, trust), here.password)

    def tag(self, thing: str, tag: str, *, present: bool) -> None:
        with self.api as api:
            wanted = {"object": thing, "tag": tag, "present": present}
            answer = api.put(f"/v1/vcenters/{self.vcenter}/tags", json=wanted)
        assert answer.status_code == 200, answer.text

    def by_tag(self, kind: str) -> str:
        """The run of a kind that a tag has started."""
        found = until(lambda: self.get(f"/v1/runs?kind={kind}")["items"], f"a tag starts {kind}")
        assert found[0]["actor"] == "a tag in vCenter lab"
        return str(found[0]["id"])

    def in_guest(self, address: str, command: str) -> str:
        """The output of a command that has to succeed, run in a guest by root."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes")
        flags = [part for each in options for part in ("-o", each)]
        done = subprocess.run(
            ["ssh", *flags, "-i", str(self.key), f"gpuferry@{address}", f"sudo -n sh -c {shlex.quote(command)}"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def begin_steady(self, address: str) -> None:
        """A program that computes on a slice and checks every result, in a guest, until `end_steady`."""
        stop = "(while [ ! -e /run/stop ]; do sleep 0.1; done; echo)"
        program = f"gpuferry run -m 256 -- {sys.executable} {STEADY}"
        self.in_guest(address, f"rm -f /run/stop; {{ {stop} | {program}; }} >/run/steady.log 2>&1 </dev/null & true")
        until(lambda: "working" in self.in_guest(address, "cat /run/steady.log"), "the program computes")

    def end_steady(self, address: str) -> int:
        """How many rounds it has computed, all of them right."""
        self.in_guest(address, "touch /run/stop")
        log = until(
            lambda: (said := self.in_guest(address, "cat /run/steady.log")).count("\n") > 1 and said,
            "the program ends",
        )
        assert log.splitlines()[-1].startswith("right "), log
        return int(log.split()[-1])

    def active_leases(self) -> list[str]:
        return [each["id"] for each in self.get("/v1/leases?state=active")["items"]]


@contextlib.contextmanager
def guest_site(folder: Path, database: str, *, pace: float = 0.005, bare: bool = False) -> Iterator[GuestSite]:
    """A running appliance that guests reach, a vCenter whose machines are sandboxes, and a bundle.

    `bare`: the appliance was told of no vCenter yet, and no card is passed through.
    """
    try:
        demand_possible()
    except SandboxError as impossible:
        pytest.skip(str(impossible))
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    content = data_centre(key.with_suffix(".pub").read_text().strip(), bare=bare)
    # Most folders of this machine are part of a guest already; these may lie elsewhere.
    seen = [
        each for each in (Path(sys.prefix), Path(sys.base_prefix), PROGRAMS, TESTS) if each.parts[1] not in OVERLAID
    ]
    with simulator.start(content, pace=pace, guests=GuestKind.SANDBOX, guest_bundles=seen) as simulation:
        guests = simulation.world.guests
        assert isinstance(guests, SandboxGuests)
        site = GuestSite(folder / "site", database, guests.gateway)
        site.key = key
        try:
            site.serve()
            build_bundle(site.folder, installed=True)
            site.await_up(PATIENCE_S)
            if bare:
                site.simulation = simulation
            else:
                site.add_vcenter(simulation)
            site.patch_settings(ssh_key=key.read_text())
            yield site
        finally:
            site.close()
