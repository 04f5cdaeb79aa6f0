"""The smaller services of the simulated vCenter: rights, settings, firewall, adapters, attributes, events, search."""

from datetime import timedelta
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl
from simulator_client import clone, connect, fault_of, result_of

from vcenter.simulator import start
from vcenter.simulator.inventory import InventoryError
from vcenter.simulator.values import build, deep_copy, equal, vary

# Rights.


def privileges_of(si: Any, entity: Any, user: str) -> set[str]:
    found = si.content.authorizationManager.FetchUserPrivilegeOnEntities([entity], user)
    return set(found[0].privileges)


def test_a_user_may_do_what_was_granted_and_no_more(vcenter, inventory):
    host = inventory.hosts[1]
    vcenter.control.restrict("gpu@vsphere.local", "secret", ["Host.Config.PciPassthru"], on="gpu-cluster")
    si = connect(vcenter, "gpu@vsphere.local", "secret")
    mine = vim.HostSystem(host._moId, si._stub)
    assert "Host.Config.PciPassthru" in privileges_of(si, mine, "gpu@vsphere.local")
    mine.configManager.pciPassthruSystem.UpdatePassthruConfig(
        [vim.host.PciPassthruConfig(id="0000:3b:00.0", passthruEnabled=True)]
    )
    with pytest.raises(vim.fault.NoPermission) as caught:
        mine.configManager.pciPassthruSystem.Refresh()
    assert caught.value.privilegeId == "Host.Config.Settings"
    assert caught.value.object._moId == mine.configManager.pciPassthruSystem._moId
    with pytest.raises(vim.fault.NoPermission) as caught:
        mine.EnterMaintenanceMode(0)
    assert caught.value.privilegeId == "Host.Config.Maintenance"
    assert caught.value.object == mine


def test_what_is_not_permitted_is_not_seen_but_the_way_there_is(vcenter, inventory):
    vcenter.control.restrict("gpu@vsphere.local", "secret", [], on="gpu-cluster")
    si = connect(vcenter, "gpu@vsphere.local", "secret")
    content = si.content
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.ManagedEntity], True)
    step = vmodl.query.PropertyCollector.TraversalSpec(name="v", type=type(view), path="view", skip=False)
    spec = vmodl.query.PropertyCollector.FilterSpec(
        objectSet=[vmodl.query.PropertyCollector.ObjectSpec(obj=view, skip=True, selectSet=[step])],
        propSet=[vmodl.query.PropertyCollector.PropertySpec(type=vim.ManagedEntity, pathSet=["name"])],
    )
    seen = {each.propSet[0].val for each in content.propertyCollector.RetrieveContents([spec])}
    assert {"DC0", "host", "gpu-cluster", "esx-01.example.test", "Resources"} <= seen
    assert not seen & {"vsan-gpu", "client-01", "dv-pvrdma"}


@pytest.mark.parametrize(
    ("spec", "privilege"),
    [
        ({"numCPUs": 2}, "VirtualMachine.Config.CPUCount"),
        ({"memoryMB": 2048}, "VirtualMachine.Config.Memory"),
        ({"memoryReservationLockedToMax": True}, "VirtualMachine.Config.Resource"),
        ({"extraConfig": [vim.option.OptionValue(key="a", value="b")]}, "VirtualMachine.Config.AdvancedConfig"),
        ({"annotation": "x"}, "VirtualMachine.Config.Annotation"),
        (
            {
                "deviceChange": [
                    vim.vm.device.VirtualDeviceSpec(operation="add", device=vim.vm.device.VirtualTPM(key=-1))
                ]
            },
            "VirtualMachine.Config.AddRemoveDevice",
        ),
    ],
)
def test_what_a_reconfiguration_needs_depends_on_what_it_changes(vcenter, inventory, spec, privilege):
    vcenter.control.restrict("one@vsphere.local", "secret", [])
    vcenter.control.restrict("two@vsphere.local", "secret", [privilege])
    machine = inventory.machines["client-02"]
    refused = vim.VirtualMachine(machine._moId, connect(vcenter, "one@vsphere.local", "secret")._stub)
    with pytest.raises(vim.fault.NoPermission) as caught:
        refused.Reconfigure(vim.vm.ConfigSpec(**spec))
    assert caught.value.privilegeId == privilege
    allowed = vim.VirtualMachine(machine._moId, connect(vcenter, "two@vsphere.local", "secret")._stub)
    WaitForTask(allowed.Reconfigure(vim.vm.ConfigSpec(**spec)))


def test_a_parameter_needs_its_privilege_too(vcenter, inventory):
    vcenter.control.restrict("one@vsphere.local", "secret", ["VirtualMachine.Inventory.Create"])
    folder = vim.Folder(inventory.folder._moId, connect(vcenter, "one@vsphere.local", "secret")._stub)
    spec = vim.vm.ConfigSpec(name="x", files=vim.vm.FileInfo(vmPathName="[vsan-gpu]"))
    with pytest.raises(vim.fault.NoPermission) as caught:
        folder.CreateVM_Task(spec, inventory.pool, None)
    assert (caught.value.privilegeId, caught.value.object) == ("Resource.AssignVMToPool", inventory.pool)


def test_roles(inventory):
    manager = inventory.content.authorizationManager
    role = manager.AddAuthorizationRole("operator", ["VirtualMachine.Interact.PowerOn"])
    permission = vim.AuthorizationManager.Permission(
        principal="someone@vsphere.local", group=False, roleId=role, propagate=True
    )
    manager.SetEntityPermissions(inventory.cluster, [permission])
    assert "VirtualMachine.Interact.PowerOn" in privileges_of(inventory.si, inventory.hosts[0], "someone@vsphere.local")
    with pytest.raises(vim.fault.RemoveFailed):
        manager.RemoveAuthorizationRole(role, True)
    manager.RemoveEntityPermission(inventory.cluster, "someone@vsphere.local", False)
    manager.RemoveAuthorizationRole(role, True)
    assert role not in [each.roleId for each in manager.roleList]
    with pytest.raises(vmodl.fault.InvalidArgument):
        manager.AddAuthorizationRole("other", ["No.Such.Privilege"])


# Hosts.


def test_advanced_settings_of_a_host(inventory):
    options = inventory.hosts[0].configManager.advancedOption
    options.UpdateOptions([vim.option.OptionValue(key="Net.PVRDMAVmknic", value="vmk1")])
    assert options.QueryOptions("Net.PVRDMAVmknic")[0].value == "vmk1"
    assert ("Net.PVRDMAVmknic", "vmk1") in [(each.key, each.value) for each in inventory.hosts[0].config.option]
    with pytest.raises(vim.fault.InvalidName):
        options.UpdateOptions([vim.option.OptionValue(key="Net.Nothing", value="x")])
    with pytest.raises(vmodl.fault.InvalidArgument):
        options.UpdateOptions([vim.option.OptionValue(key="Net.PVRDMAVmknic", value=1)])


def test_firewall_rule_sets(inventory):
    firewall = inventory.hosts[0].configManager.firewallSystem
    firewall.EnableRuleset("pvrdma")
    assert {each.key: each.enabled for each in inventory.hosts[0].config.firewall.ruleset}["pvrdma"]
    with pytest.raises(vim.fault.NotFound):
        firewall.DisableRuleset("nothing")


def test_rdma_cards_and_vmkernel_adapters(inventory):
    host = inventory.hosts[0]
    network = host.config.network
    device = network.rdmaDevice[0]
    card = next(each for each in network.pnic if each.key == device.backing.pairedUplink)
    assert (device.device, device.driver, card.device, card.rdmaDevice) == (
        "vmrdma0",
        "nmlx5_rdma",
        "vmnic1",
        device.key,
    )
    switch = next(each for each in network.proxySwitch if each.dvsName == "DSwitch-RDMA")
    assert list(switch.pnic) == [card.key]
    assert [each.device for each in network.vnic] == ["vmk0", "vmk1"]
    group = inventory.networks["dv-pvrdma"]
    uuid = group.config.distributedVirtualSwitch.uuid
    port = vim.dvs.PortConnection(switchUuid=uuid, portgroupKey=group.key)
    spec = vim.host.VirtualNic.Specification(
        ip=vim.host.IpConfig(dhcp=False, ipAddress="198.51.100.99", subnetMask="255.255.255.0"),
        distributedVirtualPort=port,
    )
    other = inventory.hosts[1].configManager
    name = other.networkSystem.AddVirtualNic("", spec)
    assert name == "vmk1"
    other.virtualNicManager.SelectVnicForNicType("vmotion", name)
    selected = other.virtualNicManager.QueryNetConfig("vmotion").selectedVnic
    assert len(selected) == 1
    assert selected[0].endswith(name)
    with pytest.raises(vim.fault.NotFound):
        inventory.hosts[2].configManager.networkSystem.AddVirtualNic("", spec)
    other.networkSystem.RemoveVirtualNic(name)
    assert [each.device for each in inventory.hosts[1].config.network.vnic] == ["vmk0"]


def test_what_a_guest_could_be_given(inventory):
    browser = inventory.cluster.environmentBrowser
    assert [each.key for each in browser.QueryConfigOptionDescriptor() if each.defaultConfigOption] == ["vmx-21"]
    old = browser.QueryConfigOptionEx(vim.EnvironmentBrowser.ConfigOptionQuerySpec(key="vmx-11"))
    new = browser.QueryConfigOptionEx(
        vim.EnvironmentBrowser.ConfigOptionQuerySpec(key="vmx-13", guestId=["ubuntu64Guest"])
    )
    assert [each.id for each in new.guestOSDescriptor] == ["ubuntu64Guest"]
    rdma = vim.vm.device.VirtualVmxnet3Vrdma
    assert rdma in new.guestOSDescriptor[0].supportedEthernetCard
    assert not any(rdma in each.supportedEthernetCard for each in old.guestOSDescriptor)
    target = browser.QueryConfigTarget(inventory.hosts[0])
    assert {each.portgroupName for each in target.distributedVirtualPortgroup} >= {"dv-pvrdma", "dv-clients"}
    assert {each.name for each in target.datastore} == set(inventory.stores)
    systems = {
        inventory.cluster.environmentBrowser.QueryConfigTarget(each).pciPassthrough[0].systemId
        for each in inventory.hosts[:1]
    }
    assert len(systems) == 1
    with pytest.raises(vmodl.fault.InvalidArgument):
        browser.QueryConfigOption("vmx-99", None)


# Switches.


def test_a_port_group_appears_everywhere_and_goes(inventory):
    switch = inventory.networks["dv-pvrdma"].config.distributedVirtualSwitch
    spec = vim.dvs.DistributedVirtualPortgroup.ConfigSpec(name="fresh", numPorts=4, type="earlyBinding")
    group = result_of(switch.CreateDVPortgroup_Task(spec))
    assert group in switch.portgroup
    assert group in inventory.hosts[0].network
    assert group in inventory.cluster.network
    assert group not in inventory.hosts[2].network
    again = vim.dvs.DistributedVirtualPortgroup.ConfigSpec(name="fresh", type="earlyBinding")
    assert isinstance(fault_of(switch.AddDVPortgroup_Task([again])), vim.fault.DuplicateName)
    WaitForTask(group.Destroy_Task())
    assert group not in inventory.hosts[0].network
    used = inventory.networks["dv-clients"]
    assert isinstance(fault_of(used.Destroy_Task()), vim.fault.ResourceInUse)


def test_a_host_joins_and_leaves_a_switch(inventory):
    switch = inventory.networks["dv-pvrdma"].config.distributedVirtualSwitch
    host = inventory.hosts[2]

    def change(operation: str, cards: list[str]) -> Any:
        backing = vim.dvs.HostMember.PnicBacking(
            pnicSpec=[vim.dvs.HostMember.PnicSpec(pnicDevice=each) for each in cards]
        )
        member = vim.dvs.HostMember.ConfigSpec(operation=operation, host=host, backing=backing)
        spec = vim.dvs.VmwareDistributedVirtualSwitch.ConfigSpec(
            configVersion=switch.config.configVersion, host=[member]
        )
        return switch.ReconfigureDvs_Task(spec)

    assert isinstance(fault_of(change("add", ["vmnic9"])), vmodl.fault.InvalidArgument)
    WaitForTask(change("add", ["vmnic0"]))
    assert inventory.networks["dv-pvrdma"] in host.network
    assert host in switch.summary.hostMember
    WaitForTask(change("remove", []))
    assert inventory.networks["dv-pvrdma"] not in host.network
    stale = vim.dvs.VmwareDistributedVirtualSwitch.ConfigSpec(configVersion="0", maxMtu=9000)
    assert isinstance(fault_of(switch.ReconfigureDvs_Task(stale)), vim.fault.ConcurrentAccess)


# Attributes, events, tasks, search.


def test_custom_attributes(inventory):
    fields = inventory.content.customFieldsManager
    role = fields.AddCustomFieldDef("gpuferry.role", vim.VirtualMachine)
    state = fields.AddCustomFieldDef("gpuferry.state")
    with pytest.raises(vim.fault.DuplicateName):
        fields.AddCustomFieldDef("gpuferry.state", vim.HostSystem)
    machine = inventory.machines["client-01"]
    fields.SetField(machine, role.key, "client")
    machine.setCustomValue("gpuferry.state", "ready")
    assert {each.key: each.value for each in machine.customValue} == {role.key: "client", state.key: "ready"}
    assert {each.name for each in machine.availableField} == {"gpuferry.role", "gpuferry.state"}
    assert {each.name for each in inventory.hosts[0].availableField} == {"gpuferry.state"}
    with pytest.raises(vmodl.fault.InvalidArgument):
        fields.SetField(inventory.hosts[0], role.key, "x")
    fields.SetField(machine, state.key, "")
    fields.RemoveCustomFieldDef(role.key)
    assert list(machine.customValue) == []
    assert machine.summary.customValue == []


def test_events_are_logged_and_found(vcenter, inventory):
    manager = inventory.content.eventManager
    machine = inventory.machines["client-02"]
    WaitForTask(machine.PowerOn())
    manager.LogUserEvent(machine, "gpuferry: enabled")
    posted = vim.event.EventEx(
        eventTypeId="com.gpuferry.run",
        message="run 7 started",
        objectId=machine._moId,
        severity="info",
        createdTime=inventory.si.CurrentTime(),
        userName="",
    )
    manager.PostEvent(posted)
    about = vim.event.EventFilterSpec.ByEntity(entity=machine, recursion="self")
    found = manager.QueryEvents(vim.event.EventFilterSpec(entity=about))
    assert [type(each).__name__ for each in found] == [
        "vim.event.VmPoweredOnEvent",
        "vim.event.GeneralUserEvent",
        "vim.event.EventEx",
    ]
    assert {each.userName for each in found} == {vcenter.user}
    assert [each.key for each in found] == sorted({each.key for each in found})
    assert found[1].fullFormattedMessage == "User logged event: gpuferry: enabled"
    assert found[1].host.name == machine.runtime.host.name
    only = manager.QueryEvents(vim.event.EventFilterSpec(eventTypeId=["com.gpuferry.run"]))
    assert [each.message for each in only] == ["run 7 started"]
    later = vim.event.EventFilterSpec.ByTime(beginTime=inventory.si.CurrentTime() + timedelta(hours=1))
    assert manager.QueryEvents(vim.event.EventFilterSpec(time=later)) == []
    collector = manager.CreateCollectorForEvents(vim.event.EventFilterSpec(entity=about))
    assert [each.key for each in collector.latestPage] == [each.key for each in reversed(found)]
    assert [each.key for each in collector.ReadNextEvents(2)] == [each.key for each in found[:2]]
    assert [each.key for each in collector.ReadNextEvents(2)] == [found[2].key]
    collector.DestroyCollector()


def test_task_history(inventory):
    WaitForTask(inventory.machines["client-02"].PowerOn())
    fault_of(inventory.machines["client-02"].PowerOn())
    by = vim.TaskFilterSpec.ByEntity(entity=inventory.machines["client-02"], recursion="self")
    collector = inventory.content.taskManager.CreateCollectorForTasks(vim.TaskFilterSpec(entity=by, state=["error"]))
    assert [each.state for each in collector.ReadNextTasks(10)] == ["error"]
    made = inventory.content.taskManager.CreateTask(inventory.cluster, "com.gpuferry.run", None, False, None, None)
    made.task.SetTaskState("running")
    made.task.UpdateProgress(40)
    made.task.SetTaskState("success", "done")
    assert (made.task.info.state, made.task.info.result) == ("success", "done")


def test_search(inventory):
    index = inventory.content.searchIndex
    machine = inventory.machines["client-01"]
    assert index.FindByInventoryPath("DC0/vm/client-01") == machine
    assert index.FindByInventoryPath("DC0/host/gpu-cluster/esx-02.example.test") == inventory.hosts[1]
    assert index.FindByInventoryPath("DC0/host/gpu-cluster/Resources") == inventory.pool
    assert index.FindByInventoryPath("DC0/vm/nobody") is None
    assert index.FindByDnsName(None, "esx-03.example.test", False) == inventory.hosts[2]
    assert (
        index.FindByIp(None, inventory.hosts[0].config.network.vnic[0].spec.ip.ipAddress, False) == inventory.hosts[0]
    )
    assert index.FindAllByUuid(None, machine.config.instanceUuid, True, True) == [machine]
    assert index.FindByDatastorePath(inventory.datacenter, machine.config.files.vmPathName) == machine


# Failures by order.


def test_every_step_of_a_task_can_be_found_and_failed(vcenter, inventory):
    seen = vcenter.control.record()
    clone(inventory, "server-1")
    steps = [each.step for each in seen if each.method == "CloneVM_Task" and each.step]
    assert steps == ["validate", "copy disks", "copy disks", "copy disks", "register"]
    for number in range(len(steps)):
        failure = vcenter.control.fail(step="*", after=number)
        with pytest.raises(vmodl.fault.SystemError):
            clone(inventory, "server-2")
        assert failure.hits == number + 1
        vcenter.control.clear()
    clone(inventory, "server-2")


def test_an_answer_can_be_lost_before_or_after_the_deed(vcenter, inventory):
    folder = inventory.folder
    for before, count in ((True, 0), (False, 1)):
        vcenter.control.lose_answer("CreateFolder", before=before)
        with pytest.raises(Exception, match=r"(?i)remote end closed|connection"):
            folder.CreateFolder("lost")
        assert sum(each.name == "lost" for each in folder.childEntity) == count
    assert vcenter.control.count("CreateFolder") == 2


def test_delays_and_plain_faults(vcenter, inventory):
    vcenter.control.fail(
        "Refresh",
        on=inventory.hosts[0].configManager.pciPassthruSystem._moId,
        fault=vim.fault.HostConfigFault(msg="by order"),
        times=2,
    )
    for _ in range(2):
        with pytest.raises(vim.fault.HostConfigFault, match="by order"):
            inventory.hosts[0].configManager.pciPassthruSystem.Refresh()
    inventory.hosts[0].configManager.pciPassthruSystem.Refresh()
    inventory.hosts[1].configManager.pciPassthruSystem.Refresh()


# Inventory files.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"datacenters": [{}]}, "name is missing"),
        ({"datacenters": [{"name": "a", "colour": 1}]}, "there is no colour"),
        ({"datacenters": [{"name": "a", "hosts": [{"name": "h", "gpus": [{"model": "B9000"}]}]}]}, "B9000"),
        (
            {"datacenters": [{"name": "a", "hosts": [{"name": "h", "nics": [{"model": "X710", "switch": "s"}]}]}]},
            "switch s",
        ),
        ({"datacenters": [{"name": "a", "virtual_machines": [{"name": "v", "host": "h"}]}]}, "host h"),
        ({"users": [{"name": "u", "password": "p", "on": "nowhere"}]}, "nowhere"),
        ("/no/such/file.yaml", "no/such/file"),
    ],
)
def test_a_broken_inventory_is_told(content, message):
    with pytest.raises(InventoryError, match=message), start(content):
        pass


# Values.


def test_values_are_copied_never_changed():
    spec = vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key="a", value="b")])
    copy = deep_copy(spec)
    assert equal(spec, copy)
    changed = vary(spec, name="x")
    assert (spec.name, changed.name) == (None, "x")
    copy.extraConfig[0].value = "c"
    assert spec.extraConfig[0].value == "b"
    assert not equal(spec, copy)
    with pytest.raises(AttributeError, match="colour"):
        build(vim.vm.ConfigSpec, colour=1)
