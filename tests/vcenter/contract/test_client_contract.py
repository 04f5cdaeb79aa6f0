"""Our client with the same assertions against our simulator and against govmomi's vcsim, which others wrote.

Only what vcsim has: sessions, inventory, live updates, tasks, power, PVRDMA settings, adapters, attributes, events.
It has neither passthrough nor reboots, so those are tested against our simulator alone.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from pyVmomi import vim

from vcenter import errors, host_power, vm_power
from vcenter.attributes import Attribute, apply_attributes, plan_attributes, values_of
from vcenter.certificate import Trust, fetch_thumbprint
from vcenter.events import note
from vcenter.live import LiveInventory
from vcenter.pvrdma import apply_adapter, apply_host_pvrdma, host_state, plan_adapter, plan_host_pvrdma
from vcenter.reading import load
from vcenter.server_plan import servers
from vcenter.session import Endpoint, Session
from vcenter.tasks import wait_for_task

HOST = "DC0_C0_H0"
MACHINE = "DC0_C0_RP0_VM0"


@pytest.fixture
def endpoint(server: Any) -> Endpoint:
    return Endpoint(server.host, server.user, server.port, Trust(thumbprint=fetch_thumbprint(server.host, server.port)))


@pytest.fixture
def session(server: Any, endpoint: Endpoint) -> Iterator[Session]:
    with Session(endpoint, server.password) as opened:
        yield opened


def test_login(session: Session, endpoint: Endpoint) -> None:
    assert session.api_version.startswith("7.0.3")
    with pytest.raises(errors.WrongPassword):
        Session(Endpoint(endpoint.host, endpoint.user, endpoint.port, endpoint.trust), "wrong")
    with pytest.raises(errors.CertificateChanged):
        Session(Endpoint(endpoint.host, endpoint.user, endpoint.port, Trust(thumbprint="0" * 64)), "x")


def test_inventory_in_three_calls(session: Session) -> None:
    before = session.calls.total()
    inventory = load(session)
    assert session.calls.total() - before == 3
    assert sorted(host.name for host in inventory.hosts.values()) == ["DC0_C0_H0", "DC0_C0_H1", "DC0_C0_H2"]
    assert {host.connection for host in inventory.hosts.values()} == {"connected"}
    assert {MACHINE, "DC0_C0_RP0_VM1"} <= {vm.name for vm in inventory.vms.values()}
    assert "DC0_DVPG0" in {group.name for group in inventory.portgroups.values()}
    assert "LocalDS_0" in {store.name for store in inventory.datastores.values()}
    cluster = inventory.clusters[inventory.host(HOST).cluster]
    assert (cluster.name, cluster.standalone) == ("DC0_C0", False)
    assert inventory.datacenters[cluster.datacenter].name == "DC0"
    assert inventory.gpus() == []
    assert servers(inventory) == []


def test_live_follows_power_and_equals_loaded(session: Session) -> None:
    with LiveInventory(session, wait_seconds=2) as live:
        vm = session.object(vim.VirtualMachine, live.snapshot().vm(MACHINE).id)
        if vm_power.is_on(session, vm):
            vm_power.power_off(session, vm, MACHINE, shutdown_seconds=0)
            live.wait_until(lambda seen: not seen.vm(MACHINE).running)
        assert vm_power.power_on(session, vm, MACHINE) is True
        live.wait_until(lambda seen: seen.vm(MACHINE).running)
        assert vm_power.power_on(session, vm, MACHINE) is False
        assert vm_power.power_off(session, vm, MACHINE, shutdown_seconds=0) is True
        live.wait_until(lambda seen: not seen.vm(MACHINE).running)
        live.wait_until(lambda seen: seen == load(session))
        assert live.restarts == 0


def test_tasks(session: Session) -> None:
    vm = session.object(vim.VirtualMachine, load(session).vm(MACHINE).id)
    wait_for_task(session, vm.ReconfigVM_Task(vim.vm.ConfigSpec(annotation="ours")), "Reconfiguring", MACHINE)
    assert load(session).vm(MACHINE).annotation == "ours"
    vm_power.power_off(session, vm, MACHINE, shutdown_seconds=0)
    with pytest.raises(errors.VcenterError) as failed:
        wait_for_task(session, vm.PowerOffVM_Task(), "Powering off", MACHINE)
    assert failed.value.object_name == MACHINE
    assert failed.value.fault.endswith("InvalidPowerState")


def test_maintenance_is_always_left(session: Session, server: Any) -> None:
    inventory = load(session)
    for vm in inventory.vms_on(inventory.host("DC0_C0_H1").id):
        vm_power.power_off(session, session.object(vim.VirtualMachine, vm.id), vm.name, shutdown_seconds=0)
    host = session.object(vim.HostSystem, inventory.host("DC0_C0_H1").id)
    with host_power.maintenance(session, host, "DC0_C0_H1"):
        assert host_power.in_maintenance(session, host)
        assert host_power.claimed(session, host) == (server.name == "ours")  # see the last test
    assert not host_power.in_maintenance(session, host)
    with pytest.raises(RuntimeError), host_power.maintenance(session, host, "DC0_C0_H1"):
        raise RuntimeError("in between")
    assert not host_power.in_maintenance(session, host)
    assert not host_power.claimed(session, host)


def test_pvrdma_adapter(session: Session) -> None:
    vm = session.object(vim.VirtualMachine, load(session).vm(MACHINE).id)
    vm_power.power_off(session, vm, MACHINE, shutdown_seconds=0)
    wait_for_task(session, vm.UpgradeVM_Task("vmx-19"), "Upgrading", MACHINE)
    apply_adapter(session, plan_adapter(session, load(session), MACHINE, "DC0_DVPG0"))
    cards = [d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualVmxnet3Vrdma)]
    assert [card.deviceProtocol for card in cards] == ["rocev2"]
    assert load(session).vm(MACHINE).reserved_mib == load(session).vm(MACHINE).memory_mib
    assert plan_adapter(session, load(session), MACHINE, "DC0_DVPG0").empty
    apply_adapter(session, plan_adapter(session, load(session), MACHINE, present=False))
    assert not [d for d in vm.config.hardware.device if isinstance(d, vim.vm.device.VirtualVmxnet3Vrdma)]


def test_pvrdma_of_a_host_without_rdma(session: Session) -> None:
    inventory = load(session)
    state = host_state(session, inventory.host(HOST))
    assert (state.vmknic, state.problems) == ("", ("the host has no RDMA NIC",))
    with pytest.raises(errors.PvrdmaUnsupported):
        plan_host_pvrdma(session, inventory, HOST)
    apply_host_pvrdma(session, plan_host_pvrdma(session, inventory, HOST, enable=False))
    assert host_state(session, inventory.host(HOST)).ruleset_open is False


def test_events(session: Session, server: Any) -> None:
    ref = session.object(vim.HostSystem, load(session).host(HOST).id)
    told = note(session, ref, "hello")
    assert told == (server.name == "ours")  # vcsim has no LogUserEvent: the work goes on without
    found = session.content.eventManager.QueryEvents(vim.event.EventFilterSpec())
    assert ("gpuferry: hello" in [getattr(event, "message", "") for event in found]) == told


def test_attributes(session: Session, server: Any) -> None:
    ref = session.object(vim.HostSystem, load(session).host(HOST).id)
    plan = plan_attributes(session, ref, HOST, {Attribute.ROLE: "GPU host"})
    if server.name == "vcsim":  # it answers AddCustomFieldDef without the required field `type`
        with pytest.raises(errors.AnswerNotUnderstood, match="AddCustomFieldDef"):
            apply_attributes(session, plan)
        return
    apply_attributes(session, plan)
    assert values_of(session, ref) == {Attribute.ROLE: "GPU host"}
    assert plan_attributes(session, ref, HOST, {Attribute.ROLE: "GPU host"}).empty
