"""The inventory against the simulated vCenter: what is read, in how many calls, and how it is kept live."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pyVmomi import vim
from simulated_vcenter import endpoint_of

from vcenter import errors
from vcenter.collector import Row
from vcenter.inventory import GpuState, Inventory
from vcenter.live import LiveInventory
from vcenter.passthrough import apply_passthrough, plan_passthrough
from vcenter.reading import inventory_of, load, passthrough_group
from vcenter.session import Session
from vcenter.simulator import Simulation, start


def test_every_gpu_with_host_state_and_next_step(session: Session) -> None:
    found = [(g.host_name, g.address, g.name, g.memory_mib, g.memory_source, g.state) for g in load(session).gpus()]
    assert found == [
        ("esx-01.example.test", "0000:3b:00.0", "A100 PCIe 40GB", 40960, "catalogue", GpuState.READY),
        ("esx-01.example.test", "0000:3c:00.0", "A100 PCIe 40GB", 40960, "catalogue", GpuState.READY),
        ("esx-02.example.test", "0000:3b:00.0", "L40S", 49152, "host", GpuState.OFF),
        ("esx-02.example.test", "0000:3c:00.0", "L40S", 49152, "host", GpuState.OFF),
        (
            "esx-03.example.test",
            "0000:3b:00.0",
            "RTX 6000 Ada Generation",
            49152,
            "host",
            GpuState.REBOOT_TO_TURN_ON,
        ),
        ("esx-03.example.test", "0000:3c:00.0", "Tesla T4", 16384, "host", GpuState.OFF),
    ]
    for gpu in load(session).gpus():
        assert gpu.next_step


def test_functions_and_groups(session: Session) -> None:
    ada = load(session).gpu("esx-03.example.test", "0000:3b:00.1")  # the audio function names its card
    assert ada.address == "0000:3b:00.0"
    assert [function.class_id for function in ada.functions] == [0x0300, 0x0403]
    assert ada.group == ("0000:3b:00.0", "0000:3b:00.1")
    assert ada.vendor_id == 0x10DE
    assert ada.sub_vendor_id >= 0


def test_networks_and_rdma(session: Session) -> None:
    inventory = load(session)
    host = inventory.host("esx-01.example.test")
    rdma_switch = next(s for s in inventory.switches.values() if s.name == "DSwitch-RDMA")
    assert {nic.switch for nic in host.rdma_nics} == {rdma_switch.uuid}
    assert {switch.name for switch in host.switches} == {"DSwitch", "DSwitch-RDMA"}
    assert rdma_switch.uuid in {adapter.switch for adapter in host.vmkernel_adapters}
    uplinks = [group.name for group in inventory.portgroups.values() if group.uplink]
    assert uplinks == ["DSwitch-DVUplinks", "DSwitch-RDMA-DVUplinks"]
    cluster = inventory.clusters[host.cluster]
    assert (cluster.name, cluster.drs, cluster.ha, cluster.standalone) == ("gpu-cluster", True, True, False)
    assert inventory.template("gpuferry-template").firmware == "efi"
    assert inventory.vm("client-01").running
    assert inventory.unreadable == ()


def test_names_that_are_not_there_or_not_alone(session: Session) -> None:
    inventory = load(session)
    with pytest.raises(errors.NotFound, match="no host 'esx-99'"):
        inventory.host("esx-99")
    with pytest.raises(errors.NotFound, match="no GPU at"):
        inventory.gpu("esx-01.example.test", "0000:ff:00.0")
    with pytest.raises(errors.NotFound):
        inventory.vm("gpuferry-template")  # a template is no machine
    client = inventory.vm("client-01")
    doubled = {**inventory.vms, "vm-9": type(client)(**{**client.__dict__, "id": "vm-9"})}
    two = Inventory(**{**inventory.__dict__, "vms": doubled})
    with pytest.raises(errors.Ambiguous, match="vm-9"):
        two.vm("client-01")
    assert two.vm("vm-9").name == "client-01"


def _data_centre(hosts: int, machines: int) -> dict[str, Any]:
    return {
        "datacenters": [
            {
                "name": "DC",
                "datastores": [{"name": "ds", "capacity_gib": 100000}],
                "networks": ["VM Network"],
                "switches": [{"name": "DSwitch", "mtu": 9000, "portgroups": [{"name": "dv"}]}],
                "clusters": [
                    {
                        "name": "c",
                        "hosts": [
                            {"name": f"h{n}", "gpus": [{"model": "T4", "passthrough": "active"}]} for n in range(hosts)
                        ],
                    }
                ],
                "virtual_machines": [
                    {"name": f"v{n}", "host": f"h{n % hosts}", "datastore": "ds", "network": "dv", "cpus": 1,
                     "memory_gib": 1, "disk_gib": 1}
                    for n in range(machines)
                ],
            }
        ]
    }  # fmt: skip


@pytest.mark.parametrize(("hosts", "machines"), [(1, 1), (7, 40), (40, 200)])
def test_the_number_of_calls_does_not_depend_on_the_size(hosts: int, machines: int) -> None:
    with (
        start(_data_centre(hosts, machines)) as simulation,
        Session(endpoint_of(simulation), simulation.password) as session,
    ):
        before = dict(simulation.control.calls)
        inventory = load(session)
        made = {m: n - before.get(m, 0) for m, n in simulation.control.calls.items() if n != before.get(m, 0)}
        assert made == {"CreateContainerView": 1, "RetrievePropertiesEx": 1, "DestroyView": 1}
        assert (len(inventory.hosts), len(inventory.vms), len(inventory.gpus())) == (hosts, machines, hosts)


def test_pages_give_the_same_inventory(session: Session, vcenter: Simulation) -> None:
    assert load(session, page=4) == load(session)
    assert vcenter.control.count("ContinueRetrievePropertiesEx") >= 4


def test_what_may_not_be_read_is_named(session: Session) -> None:
    row = Row(session.object(vim.HostSystem, "host-1"), {"name": "h"}, {"hardware.pciDevice": "vim.fault.NoPermission"})
    inventory = inventory_of("vc", "8.0.3.0", [row])
    assert inventory.unreadable == (("host-1", "hardware.pciDevice", "vim.fault.NoPermission"),)
    assert inventory.host("h").gpus == ()


# -- live ------------------------------------------------------------------------------------------


@pytest.fixture
def live(session: Session) -> Iterator[LiveInventory]:
    with LiveInventory(session) as following:
        yield following


def _ready(inventory: Inventory, host: str) -> list[bool]:
    return [gpu.free for gpu in inventory.host(host).gpus]


def test_live_equals_loaded(live: LiveInventory, session: Session) -> None:
    live.wait_until(lambda seen: seen == load(session))


def test_live_follows_passthrough(live: LiveInventory, session: Session) -> None:
    apply_passthrough(session, plan_passthrough(session, live.snapshot(), "esx-02.example.test"))
    live.wait_until(lambda seen: _ready(seen, "esx-02.example.test") == [True, True])
    live.wait_until(lambda seen: seen == load(session))
    assert live.restarts == 0


def test_live_goes_on_after_the_session_has_expired(live: LiveInventory, session: Session, vcenter: Simulation) -> None:
    vcenter.control.expire_sessions()
    apply_passthrough(session, plan_passthrough(session, load(session), "esx-02.example.test"))
    live.wait_until(lambda seen: _ready(seen, "esx-02.example.test") == [True, True])
    assert not live.stale
    live.wait_until(lambda seen: seen == load(session))


def test_live_keeps_what_it_had_while_vcenter_is_away(vcenter: Simulation) -> None:
    seen = threading.Event()
    with (
        Session(endpoint_of(vcenter), vcenter.password) as session,
        LiveInventory(session, lambda _: seen.set(), wait_seconds=1) as live,
    ):
        assert seen.wait(30)
        before = live.snapshot()
        vcenter.control.fail("WaitForUpdatesEx", fault=vim.fault.HostConnectFault(msg="away"), times=2)
        vcenter.control.expire_sessions()
        live.wait_until(lambda _: live.restarts >= 2 and not live.stale)
        assert live.snapshot() == before


def test_live_cannot_start_without_rights(vcenter: Simulation) -> None:
    with Session(endpoint_of(vcenter), vcenter.password) as session:
        vcenter.control.fail("CreateContainerView", fault=vim.fault.NoPermission(privilegeId="System.View"), times=9)
        with pytest.raises(errors.MissingPrivilege):
            LiveInventory(session).start()


# -- pure ------------------------------------------------------------------------------------------


def _info(address: str, dependent: str) -> Any:
    return vim.host.PciPassthruInfo(
        id=address, dependentDevice=dependent, passthruCapable=True, passthruEnabled=False, passthruActive=False
    )


@pytest.mark.parametrize(
    ("links", "group"),
    [
        ({"a:0.0": "a:0.0"}, ("a:0.0",)),
        ({"a:0.0": "a:0.0", "a:0.1": "a:0.0"}, ("a:0.0", "a:0.1")),
        ({"a:0.0": "p:0.0", "b:0.0": "p:0.0", "c:0.0": "c:0.0"}, ("a:0.0", "b:0.0", "p:0.0")),
        ({"a:0.0": "b:0.0", "b:0.0": "c:0.0", "c:0.0": "a:0.0"}, ("a:0.0", "b:0.0", "c:0.0")),
        ({}, ("a:0.0",)),
    ],
)
def test_passthrough_groups(links: dict[str, str], group: tuple[str, ...]) -> None:
    infos = {address: _info(address, dependent) for address, dependent in links.items()}
    assert passthrough_group("a:0.0", [], infos) == group
