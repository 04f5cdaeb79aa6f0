"""Guests of the simulated vCenter that one can log in to, and what cloud-init's part of them understands."""

import base64
import contextlib
import gzip
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from pyVim.task import WaitForTask
from pyVmomi import vim
from simulator_client import connect

from vcenter.simulator import GuestKind, Simulation, start
from vcenter.simulator.guest_cloud_init import GuestinfoError, first_boot
from vcenter.simulator.guest_plain import PORT_SETTING
from vcenter.simulator.guest_sandbox import Leftovers, SandboxError, SandboxGuests, demand_possible

EMPTY: dict[str, Any] = {
    "datacenters": [
        {
            "name": "DC0",
            "datastores": [{"name": "vsan-gpu", "capacity_gib": 1000}],
            "clusters": [{"name": "gpu-cluster", "hosts": [{"name": "esx-01.example.test"}]}],
            "virtual_machines": [
                {"name": f"guest-{number}", "extra": {"guestinfo.token": "one-time"}} for number in (1, 2)
            ],
        }
    ]
}


def sandbox_missing() -> str:
    try:
        demand_possible()
    except SandboxError as error:
        return str(error)
    return ""


needs_sandbox = pytest.mark.skipif(bool(sandbox_missing()), reason=sandbox_missing() or "-")
needs_sshd = pytest.mark.skipif(not Path("/usr/sbin/sshd").exists(), reason="sshd is not installed (openssh-server)")


class Key:
    """An SSH key, and ssh with it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.path)], check=True)
        self.public = self.path.with_suffix(".pub").read_text().strip()

    def ssh(self, user: str, address: str, command: str, port: int = 22) -> str:
        done = subprocess.run(
            [
                "ssh",
                "-i",
                str(self.path),
                "-p",
                str(port),
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "BatchMode=yes",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
                f"{user}@{address}",
                command,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return Key(tmp_path)


def machines(vcenter: Simulation) -> dict[str, Any]:
    folder = connect(vcenter).content.rootFolder.childEntity[0].vmFolder
    return {each.name: each for each in folder.childEntity}


def user_data(machine: Any, text: str) -> None:
    values = {
        "guestinfo.userdata": base64.b64encode(gzip.compress(text.encode())).decode(),
        "guestinfo.userdata.encoding": "gzip+base64",
    }
    extra = [vim.option.OptionValue(key=name, value=value) for name, value in values.items()]
    WaitForTask(machine.Reconfigure(vim.vm.ConfigSpec(extraConfig=extra)))


def address_of(machine: Any) -> str:
    deadline = time.monotonic() + 60
    while machine.guest.ipAddress is None:
        assert time.monotonic() < deadline, "the guest does not come up"
        time.sleep(0.02)
    return str(machine.guest.ipAddress)


def left(directory: Path, bridge: str) -> list[str]:
    """What is there of a simulation's traces. Other simulations of this machine have others."""
    found = [str(directory)] if directory.exists() else []
    return found + ([bridge] if Path(f"/sys/class/net/{bridge}").exists() else [])


@pytest.fixture
def sandboxes(tmp_path: Path) -> Iterator[Simulation]:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "file").write_text("from outside")
    with start(EMPTY, pace=0.002, guests=GuestKind.SANDBOX, guest_bundles=[bundle]) as simulation:
        guests = simulation.world.guests
        assert isinstance(guests, SandboxGuests)
        traces = guests.traces
        assert len(left(*traces)) == 2
        yield simulation
    assert left(*traces) == []


@needs_sandbox
def test_one_can_log_in_to_a_sandbox_and_it_keeps_its_disk(sandboxes, key, tmp_path):
    machine = machines(sandboxes)["guest-1"]
    config = f"""#cloud-config
hostname: gpu-server-1
ssh_authorized_keys: ['{key.public}']
users:
- {{name: ferry, sudo: 'ALL=(ALL) NOPASSWD:ALL', ssh_authorized_keys: ['{key.public}']}}
write_files:
- {{path: /etc/gpuferry/server.conf, content: "port = 1\\n", permissions: '0600'}}
runcmd:
- [sh, -c, 'echo run >> ~root/runs']
"""
    user_data(machine, config)
    WaitForTask(machine.PowerOn())
    address = address_of(machine)
    assert machine.guest.hostName == "gpu-server-1"
    assert key.ssh(
        "root", address, "hostname; cat /etc/gpuferry/server.conf; stat -c %a /etc/gpuferry/server.conf"
    ) == ("gpu-server-1\nport = 1\n600")
    assert key.ssh("ferry", address, "whoami") == "ferry"
    assert key.ssh("root", address, "vmware-rpctool 'info-get guestinfo.token'") == "one-time"
    assert key.ssh("root", address, f"cat {tmp_path}/bundle/file") == "from outside"
    assert key.ssh("root", address, "touch /usr/bin/only-here; ls /proc | grep -c '^[0-9]'").isdigit()
    assert not Path("/usr/bin/only-here").exists()
    key.ssh("root", address, "while [ ! -e /run/cloud-init-finished ]; do sleep 0.01; done")
    WaitForTask(machine.PowerOff())
    assert machine.guest.ipAddress is None
    WaitForTask(machine.PowerOn())
    assert address_of(machine) == address
    assert key.ssh("root", address, "cat ~root/runs; ls /usr/bin/only-here") == "run\n/usr/bin/only-here"


@needs_sandbox
def test_guests_reach_each_other_and_nothing_else_of_each_other(sandboxes, key):
    first, second = machines(sandboxes).values()
    for machine in (first, second):
        user_data(machine, f"#cloud-config\nssh_authorized_keys: ['{key.public}']\n")
        WaitForTask(machine.PowerOn())
    addresses = [address_of(each) for each in (first, second)]
    assert addresses[0] != addresses[1]
    banner = key.ssh("root", addresses[0], f"bash -c 'exec 3<>/dev/tcp/{addresses[1]}/22; head -c 4 <&3'")
    assert banner == "SSH-"
    key.ssh("root", addresses[0], "echo secret > ~root/secret")
    assert key.ssh("root", addresses[1], "ls ~root/secret 2>/dev/null || echo none") == "none"


@needs_sandbox
def test_destroying_a_machine_removes_its_guest(sandboxes, key):
    machine = machines(sandboxes)["guest-1"]
    WaitForTask(machine.PowerOn())
    address_of(machine)
    directory = sandboxes.world.guests.traces[0] / machine._moId
    assert directory.exists()
    WaitForTask(machine.PowerOff())
    WaitForTask(machine.Destroy())
    deadline = time.monotonic() + 60
    while directory.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def spawn(*arguments: str) -> tuple["subprocess.Popen[str]", dict[str, str]]:
    """``gpuferry vcenter simulate`` as a process of its own, and where it says it is."""
    program = "import typer; from vcenter.simulator.command import simulate; typer.run(simulate)"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--port", "0", "--pace", "0.002", "--json", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60)[0], "the simulator does not start"
    return process, json.loads(process.stdout.readline())


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        return [int(one) for each in threads for one in each.read_text().split()]
    return []


@needs_sandbox
def test_nothing_stays_after_the_simulator_was_killed(tmp_path):
    inventory = tmp_path / "inventory.json"
    content = json.loads(json.dumps(EMPTY))
    content["datacenters"][0]["virtual_machines"][0]["power"] = True
    inventory.write_text(json.dumps(content))
    process, _ = spawn(str(inventory), "--guests", "sandbox")
    deadline = time.monotonic() + 120
    guest: list[int] = []
    try:
        while not any("sshd" in command(each) for each in guest):
            assert time.monotonic() < deadline, "no guest was started"
            time.sleep(0.02)
            guest = [one for each in children(process.pid) for one in (each, *children(each))]
        init = next(each for each in command(guest[0]).split("\0") if each.endswith("init.sh"))
        directory = Path(init).parents[1]
        bridge = json.loads((directory / "network.json").read_text())["bridge"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    while any(Path(f"/proc/{each}").exists() for each in guest):
        assert time.monotonic() < deadline, "the guest outlives its simulator"
        time.sleep(0.02)
    # Files and bridge wait for the next simulator, whoever starts it.
    Leftovers().close()
    assert left(directory, bridge) == []


@needs_sshd
def test_a_plain_guest_is_an_sshd_on_a_loopback_port(key):
    with start(EMPTY, pace=0.002, guests=GuestKind.PLAIN) as vcenter:
        machine = machines(vcenter)["guest-1"]
        user_data(machine, f"#cloud-config\nssh_authorized_keys: ['{key.public}']\n")
        WaitForTask(machine.PowerOn())
        address = address_of(machine)
        port = next(int(each.value) for each in machine.config.extraConfig if each.key == PORT_SETTING)
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        assert key.ssh(user, address, "echo here", port) == "here"
        WaitForTask(machine.PowerOff())


def test_the_command_serves_and_takes_orders(tmp_path):
    certificate = tmp_path / "certificate.pem"
    process, facts = spawn("--hosts", "4", "--machines", "8", "--certificate-out", str(certificate))
    try:
        with requests.Session() as http:
            http.trust_env = False
            http.verify = str(certificate)
            order = {"do": "fail", "method": "Login", "fault": {"name": "InvalidLogin", "message": "by order"}}
            assert http.post(facts["control"], json=order).status_code == 401
            http.headers["x-simulator-token"] = facts["control_token"]
            assert http.post(facts["control"], json={"do": "nothing"}).status_code == 400
            assert http.post(facts["control"], json={"do": "fail", "colour": 1}).status_code == 400
            assert http.post(facts["control"], json=order).json() == {"result": None}
            place = {
                "host": "127.0.0.1",
                "port": int(facts["url"].rpartition(":")[2]),
                "thumbprint": facts["thumbprint"],
            }
            target: Any = SimpleNamespace(**place, user=facts["user"], password=facts["password"])
            with pytest.raises(vim.fault.InvalidLogin, match="by order"):
                connect(target)
            content = connect(target).content
            view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
            assert len(view.view) == 8
            assert http.post(facts["control"], json={"do": "expire_sessions"}).json() == {"result": 1}
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


# What user data may say.


def info(name: str, text: bytes, encoding: str = "base64") -> dict[str, str]:
    """Advanced settings with an encoded value; gzip is said but not done, unless the text is packed already."""
    return {f"guestinfo.{name}": base64.b64encode(text).decode(), f"guestinfo.{name}.encoding": encoding}


def test_metadata_names_the_guest():
    boot = first_boot(info("metadata", b"instance-id: i-1\nlocal-hostname: one\n"), "machine")
    assert (boot.instance_id, boot.hostname) == ("i-1", "one")
    assert first_boot({}, "machine").hostname == "machine"
    changed = {first_boot(info("userdata", text), "m").instance_id for text in (b"#cloud-config\n", b"#!/bin/sh\n")}
    assert len(changed) == 2, "other user data is another instance"


@pytest.mark.parametrize(
    "extra",
    [
        info("userdata", b"not gzip", "gzip+base64"),
        info("userdata", b"#cloud-config\n[a\n"),
        info("userdata", b"#cloud-config\n- a\n"),
        {"guestinfo.userdata": "x" * (64 * 1024 + 1)},
        info("metadata", b"{"),
    ],
)
def test_broken_guestinfo_is_told(extra):
    with pytest.raises(GuestinfoError):
        first_boot(extra, "machine")


def test_the_script_survives_hostile_text(tmp_path):
    path = tmp_path / "a b'c"
    config = {"write_files": [{"path": str(path), "content": "'; touch /tmp/owned; '\n" * 5000, "permissions": "0600"}]}
    boot = first_boot(
        info("userdata", gzip.compress(b"#cloud-config\n" + json.dumps(config).encode()), "gzip+base64"), "machine"
    )
    subprocess.run(["sh", "-e"], input=boot.setup, text=True, check=True)
    assert path.read_text() == config["write_files"][0]["content"]
    assert path.stat().st_mode & 0o777 == 0o600
