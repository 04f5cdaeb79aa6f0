"""OVA files: read, checked, and imported into the simulated vCenter as GPU servers."""

import tarfile
from pathlib import Path

import pytest
from ova_files import write_ova, write_tar
from pyVmomi import vim
from simulated_vcenter import endpoint_of

from vcenter import errors
from vcenter.ovf import read_ova
from vcenter.reading import load
from vcenter.server_plan import OvaFile, ServerRequest, plan_server
from vcenter.server_vm import apply_server
from vcenter.session import Session
from vcenter.simulator import Simulation, start
from vcenter.tasks import ProgressEvent


def _request(path: Path) -> ServerRequest:
    return ServerRequest("from-ova", OvaFile(path), "dv-management", count=2, rdma_network="dv-pvrdma")


def test_what_is_in_an_ova(tmp_path: Path) -> None:
    disk = bytes(range(256)) * 1000
    ova = read_ova(write_ova(tmp_path / "a.ova", disk=disk))
    assert (ova.firmware, ova.networks, ova.disk_mib) == ("efi", ("lan",), 16 * 1024)
    assert set(ova.files) == {"gpu-server.ovf", "gpu-server.mf", "disk.vmdk"}
    with ova.open("disk.vmdk") as part:
        assert len(part) == len(disk)
        assert part.read(10) + part.read() == disk
        assert part.read() == b""
    with pytest.raises(errors.InvalidRequest, match="no file"), ova.open("other.vmdk"):
        pass


def test_damaged_and_strange_files(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="manifest"):
        read_ova(write_ova(tmp_path / "broken.ova", broken=True))
    assert read_ova(tmp_path / "broken.ova", check=False).networks == ("lan",)
    (tmp_path / "text.ova").write_text("not a tar")
    with pytest.raises(errors.InvalidRequest, match="no readable OVA"):
        read_ova(tmp_path / "text.ova")
    with pytest.raises(errors.InvalidRequest, match="no readable OVA"):
        read_ova(tmp_path / "missing.ova")
    with pytest.raises(errors.InvalidRequest, match=r"holds 0"):
        read_ova(write_tar(tmp_path / "empty.ova", {"a.txt": b""}))
    bomb = b'<!DOCTYPE x [<!ENTITY a "aa">]><Envelope/>'
    with pytest.raises(errors.InvalidRequest, match="DTD"):
        read_ova(write_tar(tmp_path / "bomb.ova", {"a.ovf": bomb}))
    with pytest.raises(errors.InvalidRequest, match="well-formed"):
        read_ova(write_tar(tmp_path / "torn.ova", {"a.ovf": b"<Envelope>"}))
    named = write_tar(tmp_path / "named.ova", {"a.ovf": b"<Envelope/>", "a.mf": b"SHA256(gone.vmdk)= 00\n"})
    with pytest.raises(errors.InvalidRequest, match=r"gone\.vmdk"):
        read_ova(named)
    whole = (tmp_path / "broken.ova").read_bytes()
    (tmp_path / "cut.ova").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.InvalidRequest):
        read_ova(tmp_path / "cut.ova")
    assert tarfile.is_tarfile(tmp_path / "broken.ova")


def test_a_server_from_an_ova(session: Session, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    request = _request(write_ova(tmp_path / "server.ova", version=13))
    server = apply_server(session, plan_server(session, load(session), request), events.append, address_timeout=30)
    config = session.object(vim.VirtualMachine, server.id).config
    assert (config.firmware, config.version, config.hardware.numCPU) == ("efi", "vmx-13", 8)
    assert config.annotation == "gpuferry GPU server: 2 x A100 PCIe 40GB"
    kinds = [type(device).__name__.rpartition(".")[2] for device in config.hardware.device]
    assert kinds.count("VirtualPCIPassthrough") == 2
    assert kinds.count("VirtualVmxnet3") == 1
    assert kinds.count("VirtualVmxnet3Vrdma") == 1
    assert kinds.count("VirtualDisk") == 1
    group = next(g for g in load(session).portgroups.values() if g.name == "dv-management")
    card = next(d for d in config.hardware.device if type(d).__name__.endswith("VirtualVmxnet3"))
    assert card.backing.port.portgroupKey == group.key
    assert max(event.percent or 0 for event in events if event.step == "upload") == 100
    assert plan_server(session, load(session), request).empty


def test_a_bios_ova_is_refused_before_anything_is_sent(session: Session, vcenter: Simulation, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="EFI"):
        plan_server(session, load(session), _request(write_ova(tmp_path / "bios.ova", firmware="bios")))
    assert vcenter.control.count("ImportVApp") == 0


@pytest.mark.parametrize(
    "failing", ["CreateImportSpec", "ImportVApp", "HttpNfcLeaseComplete", "ReconfigVM_Task", "PowerOnVM_Task"]
)
def test_a_failed_import_leaves_nothing_and_the_repeat_finishes(tmp_path: Path, failing: str) -> None:
    with start(pace=0.001) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
        request = _request(write_ova(tmp_path / "server.ova"))
        before = load(session)
        simulation.control.fail(failing)
        with pytest.raises(errors.VcenterError) as failed:
            apply_server(session, plan_server(session, before, request), address_timeout=30)
        assert failed.value.object_name == "from-ova"
        assert set(load(session).vms) == set(before.vms)
        server = apply_server(session, plan_server(session, load(session), request), address_timeout=30)
        assert load(session).vms[server.id].running


def test_an_upload_that_breaks(session: Session, tmp_path: Path) -> None:
    """The disk vanishes while it is being sent: the lease is given up, and the machine with it."""
    path = write_ova(tmp_path / "server.ova")
    plan = plan_server(session, load(session), _request(path))
    write_tar(path, {"gpu-server.ovf": read_ova(path).descriptor.encode()})
    with pytest.raises(errors.InvalidRequest, match=r"disk\.vmdk"):
        apply_server(session, plan)
    assert "from-ova" not in {vm.name for vm in load(session).vms.values()}
