"""Where a GPU server goes: pure, on inventories made here."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcenter import errors
from vcenter.inventory import (
    Cluster,
    Datacenter,
    Datastore,
    Folder,
    Gpu,
    GpuState,
    Host,
    HostSwitch,
    Inventory,
    Network,
    Portgroup,
    RdmaNic,
    Switch,
    Vm,
)
from vcenter.placement import HOST_RESERVE_MIB, Wish, find_port, place

GIB = 1024


def gpu(host: str, number: int, model: str = "T4", state: GpuState = GpuState.READY) -> Gpu:
    return Gpu(
        host=host, host_name=host, address=f"0000:{number:02x}:00.0", name=model, vendor_id=0x10DE, device_id=1,
        sub_vendor_id=0, sub_device_id=0, memory_mib=16 * GIB, bar_mib=16 * GIB, memory_source="catalogue",
        functions=(), group=(), dependents=(), capable=True, enabled=True, active=True, hardware_label="",
        graphics_type="", users=(), state=state, next_step="",
    )  # fmt: skip


def host(name: str, *gpus: Gpu, memory: int = 256, **changes: Any) -> Host:
    base = Host(
        id=name, name=name, cluster="c", product="", api_version="8.0.3.0", connection="connected", power="poweredOn",
        in_maintenance=False, reboot_required=False, boot_time=None, cpus=32, memory_mib=memory * GIB, gpus=gpus,
        rdma_nics=(), vmkernel_adapters=(), switches=(HostSwitch("sw", "sw", ("vmnic0",)),), datastores=("ds",),
        networks=("net",),
    )  # fmt: skip
    return replace(base, **changes)


def vm(name: str, on: str, reserved: int, power: str = "poweredOn") -> Vm:
    return Vm(
        id=name, name=name, host=on, power=power, template=False, hardware_version=19, firmware="efi", cpus=1,
        memory_mib=reserved * GIB, reserved_mib=reserved * GIB, uuid="", instance_uuid="", address="",
        guest_host_name="", tools="", connection="connected", pool="", folder="", annotation="",
    )  # fmt: skip


def site(*hosts: Host, vms: tuple[Vm, ...] = (), stores: tuple[Datastore, ...] = ()) -> Inventory:
    found = stores or (Datastore("ds", "ds", 1000 * GIB, 2000 * GIB, True),)
    return Inventory(
        vcenter="vc",
        api_version="8.0.3.0",
        hosts={one.id: one for one in hosts},
        vms={one.id: one for one in vms},
        clusters={"c": Cluster("c", "c", False, True, True, "pool", "dc")},
        switches={"dvs": Switch("dvs", "sw", "sw", "dc"), "dvs2": Switch("dvs2", "rdma", "sw-rdma", "dc")},
        portgroups={
            "pg": Portgroup("pg", "lan", "pg", "dvs", False),
            "up": Portgroup("up", "uplinks", "up", "dvs", True),
            "pg2": Portgroup("pg2", "rdma", "pg2", "dvs2", False),
        },
        networks={"net": Network("net", "VM Network")},
        datastores={one.id: one for one in found},
        datacenters={"dc": Datacenter("dc", "dc", "f")},
        folders={"f": Folder("f", "vm", "dc")},
    )


def memory_for(gpus: list[Gpu]) -> int:
    return 24 * GIB * len(gpus)


def test_tight_packing_keeps_whole_hosts_free() -> None:
    inventory = site(host("a", *(gpu("a", n) for n in range(4))), host("b", gpu("b", 1), gpu("b", 2)))
    assert place(inventory, Wish(count=2), memory_for).host.name == "b"
    assert place(inventory, Wish(count=3), memory_for).host.name == "a"


def test_equal_cards_before_tight_packing() -> None:
    inventory = site(
        host("mixed", gpu("mixed", 1, "T4"), gpu("mixed", 2, "A100")),
        host("equal", *(gpu("equal", n, "A100") for n in range(4))),
    )
    placed = place(inventory, Wish(count=2), memory_for)
    assert placed.host.name == "equal"
    assert {one.name for one in placed.gpus} == {"A100"}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"connection": "disconnected"}, "not connected"),
        ({"in_maintenance": True}, "maintenance"),
        ({"memory_mib": 31 * GIB}, "must be reserved"),
        ({"datastores": ()}, "no accessible datastore"),
        ({"switches": ()}, "not a member of the distributed switch of lan"),
        ({"gpus": (gpu("h", 1, state=GpuState.OFF),)}, "0000:01:00.0 off"),
        ({"gpus": (gpu("h", 1, state=GpuState.IN_USE),)}, "in use"),
    ],
)
def test_each_reason_is_said(bad: dict[str, Any], reason: str) -> None:
    fine = host("h", gpu("h", 1))
    wish = Wish(count=1, ports=(find_port(site(fine), "lan"),))
    assert place(site(fine), wish, memory_for).host.name == "h"
    with pytest.raises(errors.NoCapacity, match=f"h: .*{reason}"):
        place(site(replace(fine, **bad)), wish, memory_for)


def test_memory_that_running_machines_have_reserved_is_not_free() -> None:
    one = host("h", gpu("h", 1), memory=64)
    fits = 64 - 24 - HOST_RESERVE_MIB // GIB
    place(site(one, vms=(vm("x", "h", fits),)), Wish(), memory_for)
    place(site(one, vms=(vm("x", "h", fits + 1, "poweredOff"),)), Wish(), memory_for)
    with pytest.raises(errors.NoCapacity):
        place(site(one, vms=(vm("x", "h", fits + 1),)), Wish(), memory_for)


def test_an_rdma_uplink_on_the_right_switch() -> None:
    nic = RdmaNic("vmrdma0", "nmlx5", "vmnic1", True, 100_000, "sw-rdma")
    switches = (HostSwitch("sw", "sw", ("vmnic0",)), HostSwitch("sw-rdma", "rdma", ("vmnic1",)))
    ready = host("ready", gpu("ready", 1), rdma_nics=(nic,), switches=switches)
    other = host("other", gpu("other", 1), rdma_nics=(replace(nic, switch="sw"),), switches=switches)
    wish = Wish(rdma_switch="sw-rdma")
    assert place(site(other, ready), wish, memory_for).host.name == "ready"
    with pytest.raises(errors.NoCapacity, match="RDMA"):
        place(site(other), wish, memory_for)


def test_datastores() -> None:
    stores = (
        Datastore("a", "a", 10 * GIB, 100 * GIB, True),
        Datastore("b", "b", 50 * GIB, 100 * GIB, True),
        Datastore("c", "c", 99 * GIB, 100 * GIB, False),
        Datastore("d", "d", 99 * GIB, 100 * GIB, True),
    )
    inventory = site(host("h", gpu("h", 1), datastores=("a", "b", "c")), stores=stores)
    assert place(inventory, Wish(), memory_for).datastore.name == "b"
    assert place(inventory, Wish(datastore="a"), memory_for).datastore.name == "a"
    with pytest.raises(errors.NoCapacity, match="does not mount the datastore d"):
        place(inventory, Wish(datastore="d"), memory_for)
    with pytest.raises(errors.NoCapacity, match="disk"):
        place(inventory, Wish(disk_mib=51 * GIB), memory_for)


def test_ports() -> None:
    inventory = site(host("h"))
    assert find_port(inventory, "lan").distributed
    assert find_port(inventory, "pg2").switch_uuid == "sw-rdma"
    assert not find_port(inventory, "VM Network").distributed
    with pytest.raises(errors.PortgroupMissing):
        find_port(inventory, "uplinks")  # a switch's own uplink portgroup is no place for a VM
    twice = replace(
        inventory, portgroups={**inventory.portgroups, "pg9": Portgroup("pg9", "lan", "pg9", "dvs2", False)}
    )
    with pytest.raises(errors.PortgroupMissing, match="pg, pg9"):
        find_port(twice, "lan")
    assert find_port(twice, "pg9").portgroup_key == "pg9"


states = st.sampled_from([GpuState.READY, GpuState.READY, GpuState.OFF, GpuState.IN_USE, GpuState.HELD])


@given(st.lists(st.lists(states, max_size=4), min_size=1, max_size=5), st.integers(1, 4))
def test_a_placement_is_always_possible_and_a_refusal_always_right(plan: list[list[GpuState]], count: int) -> None:
    hosts = [
        host(f"h{h}", *(gpu(f"h{h}", n, state=state) for n, state in enumerate(cards))) for h, cards in enumerate(plan)
    ]
    possible = any(sum(one.free for one in each.gpus) >= count for each in hosts)
    try:
        placed = place(site(*hosts), Wish(count=count), memory_for)
    except errors.NoCapacity:
        assert not possible
        return
    assert possible
    assert len(placed.gpus) == count
    assert all(one.free and one.host == placed.host.id for one in placed.gpus)
    assert len({one.address for one in placed.gpus}) == count
