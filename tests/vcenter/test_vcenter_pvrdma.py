"""PVRDMA against the simulated vCenter: hosts made ready, adapters put on and taken off, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
from pyVmomi import vim
from simulated_vcenter import endpoint_of

from vcenter import errors
from vcenter.inventory import Host, HostSwitch, RdmaNic
from vcenter.pvrdma import (
    apply_adapter,
    apply_host_pvrdma,
    host_state,
    plan_adapter,
    plan_host_pvrdma,
    uplink_problems,
)
from vcenter.reading import load
from vcenter.session import Session
from vcenter.simulator import Simulation, start

HOST = "esx-01.example.test"


def _switch(session: Session) -> str:
    return next(s.uuid for s in load(session).switches.values() if s.name == "DSwitch-RDMA")


def _adapters(session: Session, vm: str) -> list[Any]:
    devices = session.object(vim.VirtualMachine, load(session).vm(vm).id).config.hardware.device
    return [device for device in devices if isinstance(device, vim.vm.device.VirtualVmxnet3Vrdma)]


def test_a_host_made_ready_and_taken_back(session: Session, vcenter: Simulation) -> None:
    state = host_state(session, load(session).host(HOST), _switch(session))
    assert (state.vmknic, state.ruleset_open, state.problems, state.ready) == ("", False, (), False)
    plan = plan_host_pvrdma(session, load(session), HOST, network="dv-pvrdma")
    assert [str(change) for change in plan.changes] == [
        f"{HOST}: PVRDMA VMkernel adapter: vmk1",
        f"{HOST}: firewall rule set pvrdma: off -> on",
    ]
    apply_host_pvrdma(session, plan)
    assert host_state(session, load(session).host(HOST), _switch(session)).ready
    assert plan_host_pvrdma(session, load(session), HOST).empty
    apply_host_pvrdma(session, plan_host_pvrdma(session, load(session), HOST))
    assert (vcenter.control.count("UpdateOptions"), vcenter.control.count("EnableRuleset")) == (1, 1)
    apply_host_pvrdma(session, plan_host_pvrdma(session, load(session), HOST, enable=False))
    state = host_state(session, load(session).host(HOST))
    assert (state.vmknic, state.ruleset_open) == ("", False)


def test_a_failure_between_tag_and_firewall_is_finished_by_the_repeat(session: Session, vcenter: Simulation) -> None:
    vcenter.control.fail("EnableRuleset")
    with pytest.raises(errors.VcenterError) as failed:
        apply_host_pvrdma(session, plan_host_pvrdma(session, load(session), HOST))
    assert failed.value.object_name == HOST
    plan = plan_host_pvrdma(session, load(session), HOST)
    assert [change.what for change in plan.changes] == ["firewall rule set pvrdma"]
    apply_host_pvrdma(session, plan)
    assert host_state(session, load(session).host(HOST)).ready


def test_hosts_that_will_not_do(session: Session) -> None:
    inventory = load(session)
    with pytest.raises(errors.PvrdmaUnsupported, match="no RDMA NIC"):
        plan_host_pvrdma(session, inventory, "esx-03.example.test")
    with pytest.raises(errors.PvrdmaUnsupported, match="no RDMA NIC is an uplink"):
        plan_host_pvrdma(session, inventory, HOST, network="dv-management")
    with pytest.raises(errors.PvrdmaUnsupported, match="vmk9"):
        plan_host_pvrdma(session, inventory, HOST, vmknic="vmk9")
    with pytest.raises(errors.PvrdmaUnsupported, match="No VMkernel adapter"):
        plan_host_pvrdma(session, inventory, "esx-02.example.test")
    with pytest.raises(errors.PortgroupMissing):
        plan_host_pvrdma(session, inventory, HOST, network="nowhere")


def test_uplink_rules(session: Session) -> None:
    host = load(session).host(HOST)
    switch = _switch(session)
    assert uplink_problems(host, switch) == []

    def changed(nics: tuple[RdmaNic, ...] = host.rdma_nics, switches: tuple[HostSwitch, ...] = host.switches) -> Host:
        return replace(host, rdma_nics=nics, switches=switches)

    teamed = tuple(replace(s, uplinks=(*s.uplinks, "vmnic9")) for s in host.switches)
    assert "only one" in uplink_problems(changed(switches=teamed), switch)[0]
    down = tuple(replace(nic, link_up=False) for nic in host.rdma_nics)
    assert "no link" in uplink_problems(changed(nics=down), switch)[0]
    assert uplink_problems(changed(nics=down)) == ["no RDMA NIC of the host has a link"]
    assert uplink_problems(changed(nics=()), switch) == ["the host has no RDMA NIC"]
    assert "not a member" in uplink_problems(changed(switches=()), switch)[0]


def test_an_adapter_put_on_and_taken_off(session: Session, vcenter: Simulation) -> None:
    plan = plan_adapter(session, load(session), "client-02", "dv-pvrdma")
    apply_adapter(session, plan)
    adapters = _adapters(session, "client-02")
    assert [adapter.deviceProtocol for adapter in adapters] == ["rocev2"]
    client = load(session).vm("client-02")
    assert client.reserved_mib == client.memory_mib
    assert plan_adapter(session, load(session), "client-02", "dv-pvrdma").empty
    apply_adapter(session, plan_adapter(session, load(session), "client-02", "dv-pvrdma"))
    assert vcenter.control.count("ReconfigVM_Task") == 1
    changed = plan_adapter(session, load(session), "client-02", "dv-pvrdma", protocol="rocev1")
    apply_adapter(session, changed)
    assert [adapter.deviceProtocol for adapter in _adapters(session, "client-02")] == ["rocev1"]
    off = plan_adapter(session, load(session), "client-02", present=False)
    apply_adapter(session, off)
    assert _adapters(session, "client-02") == []
    assert plan_adapter(session, load(session), "client-02", present=False).empty


def test_a_host_without_rdma_is_warned_about(session: Session) -> None:
    """PVRDMA falls back to TCP without a word there, so we say it."""
    inventory = load(session)
    moved = {**inventory.vms}
    client = inventory.vm("client-02")
    moved[client.id] = replace(client, host=inventory.host("esx-03.example.test").id)
    plan = plan_adapter(session, replace(inventory, vms=moved), "client-02", "dv-pvrdma")
    assert any("no RDMA NIC" in warning for warning in plan.warnings)


def test_adapters_that_cannot_be(session: Session) -> None:
    inventory = load(session)
    with pytest.raises(errors.PvrdmaUnsupported, match="standard network"):
        plan_adapter(session, inventory, "client-02", "VM Network")
    with pytest.raises(errors.PortgroupMissing) as missing:
        plan_adapter(session, inventory, "client-02", "nowhere")
    assert missing.value.object_name == "nowhere"
    with pytest.raises(errors.NotFound):
        plan_adapter(session, inventory, "no-client", "dv-pvrdma")


def test_an_old_machine_is_upgraded_while_it_is_off() -> None:
    site = {
        "datacenters": [
            {
                "name": "DC",
                "datastores": [{"name": "ds", "capacity_gib": 100}],
                "switches": [{"name": "S", "portgroups": [{"name": "rdma"}]}],
                "hosts": [{"name": "h", "nics": [{"model": "ConnectX-6-Dx", "switch": "S"}]}],
                "virtual_machines": [
                    {"name": "old", "host": "h", "datastore": "ds", "network": "rdma", "hardware": 11},
                    {"name": "on", "host": "h", "datastore": "ds", "network": "rdma", "hardware": 11, "power": "on"},
                ],
            }
        ]
    }
    with start(site, pace=0.002) as simulation, Session(endpoint_of(simulation), simulation.password) as session:
        plan = plan_adapter(session, load(session), "old", "rdma")
        assert plan.upgrade_to == 13
        apply_adapter(session, plan)
        assert load(session).vm("old").hardware_version == 13
        assert len(_adapters(session, "old")) == 1
        with pytest.raises(errors.InvalidRequest, match="must be off"):
            plan_adapter(session, load(session), "on", "rdma")
    with (
        start(site, api_version="6.5", pace=0.002) as old,
        Session(endpoint_of(old), old.password) as session,
        pytest.raises(errors.ApiTooOld, match=r"6\.7"),
    ):
        plan_adapter(session, load(session), "old", "rdma")
