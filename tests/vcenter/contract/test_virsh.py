"""libvirt's vSphere client (C, curl, its own SOAP) lists and changes what the simulated vCenter holds, unmodified."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vcenter.simulator import Simulation

if shutil.which("virsh") is None:
    pytest.skip("Debian's libvirt-clients is not installed", allow_module_level=True)

Virsh = Callable[..., str]


@pytest.fixture
def virsh(vcenter: Simulation, tmp_path: Path) -> Virsh:
    login = tmp_path / "auth.conf"
    login.write_text(
        f"[credentials-simulated]\nusername={vcenter.user}\npassword={vcenter.password}\n"
        f"[auth-esx-{vcenter.host}]\ncredentials=simulated\n"
    )
    where = f"vpx://{vcenter.host}:{vcenter.port}/DC0/gpu-cluster/esx-01.example.test?no_verify=1"
    environment = {**os.environ, "LIBVIRT_AUTH_FILE": str(login), "LIBVIRT_LOG_OUTPUTS": f"1:file:{tmp_path}/log"}

    def run(*arguments: str) -> str:
        command = ["virsh", "--quiet", "--connect", where, *arguments]
        return subprocess.run(command, env=environment, text=True, capture_output=True, check=True, timeout=120).stdout

    return run


def test_it_lists(virsh: Virsh) -> None:
    assert [line.split()[1:] for line in virsh("list", "--all").splitlines()] == [
        ["client-01", "running"],
        ["gpuferry-template", "shut", "off"],
    ]
    node = dict(line.split(":", 1) for line in virsh("nodeinfo").splitlines())
    assert (node["CPU(s)"].strip(), node["CPU socket(s)"].strip()) == ("32", "2")
    pools = [line.split()[:2] for line in virsh("pool-list", "--all").splitlines()]
    assert pools == [["nfs-templates", "active"], ["vsan-gpu", "active"]]
    assert "20.00 TiB" in virsh("pool-info", "vsan-gpu")
    assert [line.split()[0] for line in virsh("vol-list", "vsan-gpu").splitlines()] == [
        "client-01/client-01.vmdk",
        "client-02/client-02.vmdk",
    ]


def test_it_reads_the_configuration_file(virsh: Virsh) -> None:
    domain = ElementTree.fromstring(virsh("dumpxml", "client-01"))  # noqa: S314 - our own simulator wrote it
    assert domain.findtext("vcpu") == "8"
    assert domain.findtext("memory") == str(32768 * 1024)
    assert [each.get("arch") for each in domain.iterfind("os/type")] == ["x86_64"]
    disks = [each.get("file") for each in domain.iterfind("devices/disk/source")]
    assert disks == ["[vsan-gpu] client-01/client-01.vmdk"]


def test_it_changes_power_and_snapshots(virsh: Virsh) -> None:
    virsh("suspend", "client-01")
    assert virsh("domstate", "client-01").strip() == "paused"
    virsh("resume", "client-01")
    virsh("snapshot-create-as", "client-01", "before")
    assert [line.split()[0] for line in virsh("snapshot-list", "client-01").splitlines()] == ["before"]
    virsh("destroy", "client-01")
    assert virsh("domstate", "client-01").strip() == "shut off"
    virsh("snapshot-revert", "client-01", "before")
    virsh("snapshot-delete", "client-01", "before")
    assert not virsh("snapshot-list", "client-01").split()
    if virsh("domstate", "client-01").strip() == "running":
        virsh("destroy", "client-01")
    virsh("start", "client-01")
    assert virsh("domstate", "client-01").strip() == "running"
