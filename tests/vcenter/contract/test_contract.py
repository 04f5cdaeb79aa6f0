"""What our simulated vCenter and govmomi's vcsim must both do: the same assertions against each.

vcsim knows nothing of passthrough's rules, reboots or guests: those are tested against ours alone. Where the two differ
on purpose, the test asserts only what both say, and names the difference.
"""

import time
from typing import Any

import pytest
import requests
from pyVim.connect import SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

# The first test waits for the build of vcsim: half a minute of processor time, much longer on a busy machine.
pytestmark = pytest.mark.timeout(1800)

PC = vmodl.query.PropertyCollector
device = vim.vm.device


def fault_of(task: Any) -> Any:
    with pytest.raises(vmodl.MethodFault) as caught:
        WaitForTask(task)
    return caught.value


def result_of(task: Any) -> Any:
    WaitForTask(task)
    return task.info.result


def off(machine: Any) -> Any:
    if machine.runtime.powerState != "poweredOff":
        WaitForTask(machine.PowerOff())
    return machine


def create(site: Any, name: str, **fields: Any) -> Any:
    spec = vim.vm.ConfigSpec(
        name=name,
        version="vmx-17",
        guestId="ubuntu64Guest",
        numCPUs=4,
        memoryMB=4096,
        files=vim.vm.FileInfo(vmPathName="[LocalDS_0]"),
        **fields,
    )
    return result_of(site.folder.CreateVM_Task(spec, site.pool, site.hosts[0]))


def added(made: Any, operation: str | None = None) -> Any:
    return device.VirtualDeviceSpec(operation="add", fileOperation=operation, device=made)


def devices(machine: Any, kind: Any) -> list[Any]:
    return [each for each in machine.config.hardware.device if isinstance(each, kind)]


def port_of(site: Any, name: str = "DC0_DVPG0") -> Any:
    group = site.networks[name]
    port = vim.dvs.PortConnection(switchUuid=group.config.distributedVirtualSwitch.uuid, portgroupKey=group.key)
    return device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port)


def read(site: Any, view: Any, paths: dict[Any, list[str]]) -> dict[Any, dict[str, Any]]:
    result = site.content.propertyCollector.RetrievePropertiesEx([filter_of(view, paths)], PC.RetrieveOptions())
    return {each.obj: {prop.name: prop.val for prop in each.propSet} for each in result.objects}


def filter_of(view: Any, paths: dict[Any, list[str]]) -> Any:
    step = PC.TraversalSpec(name="view", type=type(view), path="view", skip=False)
    return PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[step])],
        propSet=[PC.PropertySpec(type=kind, pathSet=names) for kind, names in paths.items()],
    )


def view_of(site: Any, *kinds: Any) -> Any:
    return site.content.viewManager.CreateContainerView(site.content.rootFolder, list(kinds), True)


# Sessions.


def test_login(site):
    about = site.content.about
    assert (about.apiType, about.apiVersion) == ("VirtualCenter", "7.0.3.0")
    assert site.content.sessionManager.currentSession.userName
    assert site.si._stub.version == "vim.version.v7_0_3_0"


def test_a_wrong_password_is_refused(server):
    with pytest.raises(vim.fault.InvalidLogin):
        SmartConnect(host=server.host, port=server.port, user=server.user, pwd="wrong", disableSslCertValidation=True)


def test_after_logging_out_nothing_is_answered(site):
    site.content.sessionManager.Logout()
    with pytest.raises(vim.fault.NotAuthenticated):
        _ = site.content.rootFolder.name


# Reading.


def test_the_inventory_by_one_view(site):
    view = view_of(site, vim.HostSystem, vim.VirtualMachine, vim.ClusterComputeResource, vim.Datastore)
    found = read(
        site,
        view,
        {
            vim.HostSystem: ["name", "parent", "runtime.connectionState", "runtime.inMaintenanceMode"],
            vim.VirtualMachine: ["name", "config.template", "config.files.vmPathName", "resourcePool"],
            vim.ClusterComputeResource: ["name", "host"],
            vim.Datastore: ["name", "summary.accessible"],
        },
    )
    hosts = {obj: values for obj, values in found.items() if isinstance(obj, vim.HostSystem)}
    assert sorted(values["name"] for values in hosts.values()) == ["DC0_C0_H0", "DC0_C0_H1", "DC0_C0_H2"]
    for values in hosts.values():
        assert values["parent"] == site.cluster
        assert (values["runtime.connectionState"], values["runtime.inMaintenanceMode"]) == ("connected", False)
    machines = {obj: values for obj, values in found.items() if isinstance(obj, vim.VirtualMachine)}
    assert {values["name"] for values in machines.values()} == {"DC0_C0_RP0_VM0", "DC0_C0_RP0_VM1"}
    for values in machines.values():
        assert values["config.template"] is False
        assert values["config.files.vmPathName"].startswith("[LocalDS_0] ")
        assert values["resourcePool"] == site.pool
    assert set(found[site.cluster]["host"]) == set(hosts)
    assert found[site.store] == {"name": "LocalDS_0", "summary.accessible": True}


def test_the_classic_traversal(site):
    loop = PC.SelectionSpec(name="folders")
    steps = [
        PC.TraversalSpec(
            name="folders",
            type=vim.Folder,
            path="childEntity",
            skip=False,
            selectSet=[loop, PC.SelectionSpec(name="hosts"), PC.SelectionSpec(name="members")],
        ),
        PC.TraversalSpec(name="hosts", type=vim.Datacenter, path="hostFolder", skip=False, selectSet=[loop]),
        PC.TraversalSpec(name="members", type=vim.ComputeResource, path="host", skip=False),
    ]
    spec = PC.FilterSpec(
        objectSet=[PC.ObjectSpec(obj=site.content.rootFolder, skip=False, selectSet=steps)],
        propSet=[PC.PropertySpec(type=vim.HostSystem, pathSet=["name"])],
    )
    found = site.content.propertyCollector.RetrieveContents([spec])
    assert sorted(each.propSet[0].val for each in found) == ["DC0_C0_H0", "DC0_C0_H1", "DC0_C0_H2"]


def test_an_object_nobody_has(site):
    with pytest.raises(vmodl.fault.ManagedObjectNotFound) as caught:
        _ = vim.VirtualMachine("vm-0", site.si._stub).name
    assert caught.value.obj._moId == "vm-0"


def test_updates(site):
    for machine in site.machines.values():
        off(machine)
    collector = site.content.propertyCollector.CreatePropertyCollector()
    view = view_of(site, vim.VirtualMachine)
    collector.CreateFilter(filter_of(view, {vim.VirtualMachine: ["name", "runtime.powerState"]}), True)
    first = collector.WaitForUpdatesEx("", PC.WaitOptions(maxWaitSeconds=1))
    updates = first.filterSet[0].objectSet
    assert {each.kind for each in updates} == {"enter"}
    assert len(updates) == 2
    machine = site.machines["DC0_C0_RP0_VM0"]
    WaitForTask(machine.PowerOnVM_Task())
    version, seen = first.version, {}
    while "runtime.powerState" not in seen:
        update = collector.WaitForUpdatesEx(version, PC.WaitOptions(maxWaitSeconds=10))
        assert update is not None
        version = update.version
        for each in update.filterSet[0].objectSet:
            assert (each.kind, each.obj) == ("modify", machine)
            seen.update({change.name: change.val for change in each.changeSet})
    assert seen["runtime.powerState"] == "poweredOn"
    collector.DestroyPropertyCollector()


def test_finding(site):
    index = site.content.searchIndex
    machine = site.machines["DC0_C0_RP0_VM0"]
    assert index.FindByInventoryPath("/DC0/vm/DC0_C0_RP0_VM0") == machine
    assert index.FindByInventoryPath("/DC0/vm/nobody") is None
    assert index.FindByUuid(None, machine.config.uuid, True, False) == machine
    assert index.FindByUuid(None, machine.config.instanceUuid, True, True) == machine
    assert index.FindChild(site.datacenter.vmFolder, "DC0_C0_RP0_VM1") == site.machines["DC0_C0_RP0_VM1"]


# Virtual machines.


def test_a_new_machine(site):
    machine = create(
        site,
        "fresh",
        firmware="efi",
        memoryReservationLockedToMax=True,
        extraConfig=[vim.option.OptionValue(key="guestinfo.metadata", value="e30=")],
        deviceChange=[
            added(device.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus="noSharing")),
            added(
                device.VirtualDisk(
                    key=-2,
                    controllerKey=-1,
                    unitNumber=0,
                    capacityInKB=1 << 20,
                    backing=device.VirtualDisk.FlatVer2BackingInfo(
                        fileName="", diskMode="persistent", thinProvisioned=True
                    ),
                ),
                "create",
            ),
            added(device.VirtualVmxnet3(key=-3, backing=port_of(site))),
        ],
    )
    config = machine.config
    assert (config.name, config.firmware, config.version, config.guestId) == ("fresh", "efi", "vmx-17", "ubuntu64Guest")
    assert (config.hardware.numCPU, config.hardware.memoryMB, config.template) == (4, 4096, False)
    assert config.memoryReservationLockedToMax
    assert ("guestinfo.metadata", "e30=") in [(each.key, each.value) for each in config.extraConfig]
    assert (machine.runtime.host, machine.runtime.powerState) == (site.hosts[0], "poweredOff")
    disk = devices(machine, device.VirtualDisk)[0]
    assert disk.capacityInKB == 1 << 20
    assert disk.backing.fileName.startswith("[LocalDS_0] ")
    assert len(devices(machine, device.VirtualVmxnet3)) == 1
    assert machine in site.folder.childEntity
    assert machine in site.hosts[0].vm


def test_a_name_is_given_once(site):
    """Of folders; vcsim 0.24 gives the name of a machine twice."""
    site.folder.CreateFolder("once")
    with pytest.raises(vim.fault.DuplicateName) as caught:
        site.folder.CreateFolder("once")
    assert caught.value.name == "once"


def test_a_clone(site):
    """Name, place and power; vcsim 0.24 ignores CloneSpec.config, and its copy writes into the source's disk."""
    source = off(site.machines["DC0_C0_RP0_VM0"])
    location = vim.vm.RelocateSpec(pool=site.pool, host=site.hosts[1], datastore=site.store)
    spec = vim.vm.CloneSpec(location=location, powerOn=False, template=False)
    copy = result_of(source.CloneVM_Task(site.folder, "copy", spec))
    assert (copy.name, copy.runtime.powerState, copy.config.template) == ("copy", "poweredOff", False)
    assert copy.config.uuid != source.config.uuid
    assert copy in site.folder.childEntity
    assert len(devices(copy, device.VirtualDisk)) == len(devices(source, device.VirtualDisk))


def test_templates(site):
    """vcsim 0.24 dies when it is asked for the resource pool of a template."""
    machine = off(site.machines["DC0_C0_RP0_VM0"])
    machine.MarkAsTemplate()
    assert machine.config.template
    machine.MarkAsVirtualMachine(site.pool, site.hosts[0])
    assert not machine.config.template
    assert machine.resourcePool == site.pool


def test_power(site):
    machine = off(site.machines["DC0_C0_RP0_VM0"])
    WaitForTask(machine.PowerOnVM_Task())
    assert machine.runtime.powerState == "poweredOn"
    assert machine.summary.runtime.powerState == "poweredOn"
    fault = fault_of(machine.PowerOnVM_Task())
    assert (type(fault), fault.existingState) == (vim.fault.InvalidPowerState, "poweredOn")
    assert isinstance(fault_of(machine.Destroy_Task()), vim.fault.InvalidPowerState)
    WaitForTask(machine.PowerOffVM_Task())
    assert isinstance(fault_of(machine.PowerOffVM_Task()), vim.fault.InvalidPowerState)


def test_reconfiguring(site):
    machine = create(site, "fresh")
    spec = vim.vm.ConfigSpec(
        numCPUs=8,
        memoryMB=8192,
        annotation="noted",
        memoryReservationLockedToMax=True,
        cpuHotAddEnabled=False,
        extraConfig=[
            vim.option.OptionValue(key="pciPassthru.use64bitMMIO", value="TRUE"),
            vim.option.OptionValue(key="pciPassthru.64bitMMIOSizeGB", value="256"),
        ],
    )
    WaitForTask(machine.ReconfigVM_Task(spec))
    config = machine.config
    assert (config.hardware.numCPU, config.hardware.memoryMB, config.annotation) == (8, 8192, "noted")
    extra = {each.key: each.value for each in config.extraConfig}
    assert extra["pciPassthru.use64bitMMIO"] == "TRUE"
    assert extra["pciPassthru.64bitMMIOSizeGB"] == "256"
    gone = vim.vm.ConfigSpec(extraConfig=[vim.option.OptionValue(key="pciPassthru.use64bitMMIO", value="")])
    WaitForTask(machine.ReconfigVM_Task(gone))
    assert not {each.key: each.value for each in machine.config.extraConfig}.get("pciPassthru.use64bitMMIO")


def test_devices_come_and_go(site):
    """A dynamic DirectPath device and a PVRDMA adapter, together; both servers give them keys of their own."""
    machine = create(site, "fresh")
    allowed = device.VirtualPCIPassthrough.AllowedDevice(vendorId=0x10DE, deviceId=0x20F1)
    gpu = device.VirtualPCIPassthrough(
        key=-1, backing=device.VirtualPCIPassthrough.DynamicBackingInfo(deviceName="", allowedDevice=[allowed])
    )
    rdma = device.VirtualVmxnet3Vrdma(key=-2, backing=port_of(site), deviceProtocol="rocev2")
    WaitForTask(machine.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[added(gpu), added(rdma)])))
    gpus, adapters = devices(machine, device.VirtualPCIPassthrough), devices(machine, device.VirtualVmxnet3Vrdma)
    assert [each.backing.allowedDevice[0].deviceId for each in gpus] == [0x20F1]
    assert [(each.deviceProtocol, bool(each.macAddress)) for each in adapters] == [("rocev2", True)]
    assert gpus[0].key > 0
    assert adapters[0].key > 0
    removals = [device.VirtualDeviceSpec(operation="remove", device=each) for each in (*gpus, *adapters)]
    WaitForTask(machine.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=removals)))
    assert not devices(machine, device.VirtualPCIPassthrough)
    assert not devices(machine, device.VirtualVmxnet3Vrdma)


def test_destroying(site):
    machine = create(site, "fresh")
    WaitForTask(machine.Destroy_Task())
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = machine.name
    assert "fresh" not in [each.name for each in site.folder.childEntity]


def test_tasks(site):
    task = off(site.machines["DC0_C0_RP0_VM0"]).PowerOnVM_Task()
    WaitForTask(task)
    info = task.info
    assert (info.state, info.entity) == ("success", site.machines["DC0_C0_RP0_VM0"])
    assert info.queueTime <= info.startTime <= info.completeTime


# Hosts.


def test_maintenance_mode(site):
    for machine in site.machines.values():
        off(machine)
    host = site.hosts[2]
    WaitForTask(host.EnterMaintenanceMode_Task(0))
    assert host.runtime.inMaintenanceMode
    WaitForTask(host.ExitMaintenanceMode_Task(0))
    assert not host.runtime.inMaintenanceMode


def test_advanced_settings(site):
    options = site.hosts[0].configManager.advancedOption
    options.UpdateOptions([vim.option.OptionValue(key="Net.PVRDMAVmknic", value="vmk1")])
    assert [each.value for each in options.QueryOptions("Net.PVRDMAVmknic")] == ["vmk1"]
    with pytest.raises(vim.fault.InvalidName):
        options.QueryOptions("Nothing.Here")


def test_firewall(site):
    firewall = site.hosts[0].configManager.firewallSystem
    firewall.EnableRuleset("pvrdma")
    states = {each.key: each.enabled for each in firewall.firewallInfo.ruleset}
    assert states["pvrdma"] is True
    firewall.DisableRuleset("pvrdma")
    assert {each.key: each.enabled for each in firewall.firewallInfo.ruleset}["pvrdma"] is False
    with pytest.raises(vim.fault.NotFound):
        firewall.EnableRuleset("nothing")


def test_a_pci_device_list(site):
    found = site.hosts[0].hardware.pciDevice
    assert found
    for each in found:
        assert each.id.count(":") == 2
        assert -32768 <= each.vendorId <= 32767


# Networks, clusters, attributes, events.


def test_a_distributed_switch_with_a_port_group(site):
    config = vim.dvs.VmwareDistributedVirtualSwitch.ConfigSpec(name="made", maxMtu=9000)
    spec = vim.DistributedVirtualSwitch.CreateSpec(configSpec=config)
    switch = result_of(site.datacenter.networkFolder.CreateDVS_Task(spec))
    assert switch.name == "made"
    group = vim.dvs.DistributedVirtualPortgroup.ConfigSpec(name="made-group", numPorts=8, type="earlyBinding")
    WaitForTask(switch.AddDVPortgroup_Task([group]))
    made = next(each for each in switch.portgroup if each.name == "made-group")
    assert made.config.distributedVirtualSwitch == switch
    assert made.key == made.config.key
    assert made in site.datacenter.network or made in site.datacenter.networkFolder.childEntity


def test_drs_overrides(site):
    """Added and edited; vcsim 0.24 dies when one is removed."""
    machine = site.machines["DC0_C0_RP0_VM0"]
    info = vim.cluster.DrsVmConfigInfo(key=machine, enabled=False, behavior="manual")
    spec = vim.cluster.ConfigSpecEx(drsVmConfigSpec=[vim.cluster.DrsVmConfigSpec(operation="add", info=info)])
    WaitForTask(site.cluster.ReconfigureComputeResource_Task(spec, True))
    assert [(each.key, each.enabled) for each in site.cluster.configurationEx.drsVmConfig] == [(machine, False)]
    info.enabled = True
    spec.drsVmConfigSpec[0].operation = "edit"
    WaitForTask(site.cluster.ReconfigureComputeResource_Task(spec, True))
    assert [(each.key, each.enabled) for each in site.cluster.configurationEx.drsVmConfig] == [(machine, True)]


def test_custom_attributes(site):
    fields = site.content.customFieldsManager
    made = fields.AddCustomFieldDef("gpuferry.role", vim.VirtualMachine)
    with pytest.raises(vim.fault.DuplicateName):
        fields.AddCustomFieldDef("gpuferry.role", vim.VirtualMachine)
    machine = site.machines["DC0_C0_RP0_VM0"]
    fields.SetField(machine, made.key, "gpu-server")
    assert [(each.key, each.value) for each in machine.customValue] == [(made.key, "gpu-server")]
    fields.RemoveCustomFieldDef(made.key)
    assert made.key not in [each.key for each in fields.field]


def test_events(site):
    manager = site.content.eventManager
    machine = off(site.machines["DC0_C0_RP0_VM0"])
    WaitForTask(machine.PowerOnVM_Task())
    wanted = vim.event.EventFilterSpec(
        entity=vim.event.EventFilterSpec.ByEntity(entity=machine, recursion="self"), eventTypeId=["VmPoweredOnEvent"]
    )
    found = manager.QueryEvents(wanted)
    assert found
    assert all(isinstance(each, vim.event.VmPoweredOnEvent) and each.vm.vm == machine for each in found)
    collector = manager.CreateCollectorForEvents(wanted)
    assert [each.key for each in collector.latestPage]
    collector.DestroyCollector()


# OVF.

OVF = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
 <References><File ovf:href="disk.vmdk" ovf:id="file1" ovf:size="7"/></References>
 <DiskSection><Info>d</Info><Disk ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="vmdisk1"
  ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
 <NetworkSection><Info>n</Info><Network ovf:name="nat"><Description>n</Description></Network></NetworkSection>
 <VirtualSystem ovf:id="imported"><Info>v</Info><Name>imported</Name>
  <OperatingSystemSection ovf:id="94"><Info>o</Info></OperatingSystemSection>
  <VirtualHardwareSection><Info>h</Info>
   <System><vssd:ElementName>x</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
    <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
   <Item><rasd:ElementName>cpu</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>
    <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
   <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>memory</rasd:ElementName>
    <rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>
    <rasd:VirtualQuantity>2048</rasd:VirtualQuantity></Item>
   <Item><rasd:ElementName>scsi</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
    <rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
   <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk</rasd:ElementName>
    <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
    <rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
   <Item><rasd:AddressOnParent>7</rasd:AddressOnParent><rasd:Connection>nat</rasd:Connection>
    <rasd:ElementName>nic</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID>
    <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
  </VirtualHardwareSection></VirtualSystem>
</Envelope>"""


def test_an_ovf_import(site):
    params = vim.OvfManager.CreateImportSpecParams(
        locale="",
        deploymentOption="",
        entityName="imported",
        diskProvisioning="thin",
        networkMapping=[vim.OvfManager.NetworkMapping(name="nat", network=site.networks["VM Network"])],
    )
    made = site.content.ovfManager.CreateImportSpec(OVF, site.pool, site.store, params)
    assert not made.error
    assert [each.path for each in made.fileItem] == ["disk.vmdk"]
    lease = site.pool.ImportVApp(made.importSpec, site.folder, site.hosts[0])
    while lease.state == "initializing":
        time.sleep(0.01)
    assert lease.state == "ready"
    urls = {each.importKey: each.url for each in lease.info.deviceUrl}
    machine = lease.info.entity
    with requests.Session() as http:
        http.trust_env = False
        http.verify = False
        for item in made.fileItem:
            url = urls[item.deviceId].replace("//*/", f"//{site.server.host}:{site.server.port}/")
            assert http.put(url, data=b"content").ok
    lease.HttpNfcLeaseComplete()
    assert (machine.name, machine.config.hardware.numCPU, machine.config.hardware.memoryMB) == ("imported", 2, 2048)


# Tags, by the older REST, which is all that vcsim has.


def value_of(answer: requests.Response) -> Any:
    assert answer.ok, answer.text
    return answer.json().get("value") if answer.text.strip() else None


def test_a_content_library_over_rest(site):
    with requests.Session() as http:
        http.trust_env = False
        http.verify = False
        base = f"https://{site.server.host}:{site.server.port}/rest/com/vmware"
        token = value_of(http.post(f"{base}/cis/session", auth=(site.server.user, site.server.password)))
        http.headers["vmware-api-session-id"] = token
        backing = {"datastore_id": site.store._moId, "type": "DATASTORE"}
        spec = {"name": "images", "description": "", "type": "LOCAL", "storage_backings": [backing]}
        library = value_of(http.post(f"{base}/content/local-library", json={"create_spec": spec}))
        assert value_of(http.get(f"{base}/content/library")) == [library]
        assert value_of(http.get(f"{base}/content/library/id:{library}"))["name"] == "images"
        item_spec = {"name": "appliance", "library_id": library, "type": "iso"}
        item = value_of(http.post(f"{base}/content/library/item", json={"create_spec": item_spec}))
        assert value_of(http.get(f"{base}/content/library/item?library_id={library}")) == [item]
        update_spec = {"library_item_id": item}
        update = value_of(http.post(f"{base}/content/library/item/update-session", json={"create_spec": update_spec}))
        file_spec = {"name": "disk.iso", "source_type": "PUSH", "size": 7}
        files = f"{base}/content/library/item/updatesession/file/id:{update}"
        added = value_of(http.post(f"{files}?~action=add", json={"file_spec": file_spec}))
        assert http.put(added["upload_endpoint"]["uri"], data=b"content").ok
        value_of(http.post(f"{base}/content/library/item/update-session/id:{update}?~action=complete"))
        state = "ACTIVE"
        while state == "ACTIVE":
            state = value_of(http.get(f"{base}/content/library/item/update-session/id:{update}"))["state"]
        assert state == "DONE"
        value_of(http.delete(f"{base}/content/library/item/id:{item}"))
        assert not value_of(http.get(f"{base}/content/library/item?library_id={library}"))
        value_of(http.delete(f"{base}/content/local-library/id:{library}"))
        assert not value_of(http.get(f"{base}/content/library"))


def test_tags_over_rest(site):
    with requests.Session() as http:
        http.trust_env = False
        http.verify = False
        base = f"https://{site.server.host}:{site.server.port}/rest/com/vmware/cis"

        def value(answer: requests.Response) -> Any:
            assert answer.ok, answer.text
            return answer.json().get("value") if answer.text.strip() else None

        token = value(http.post(f"{base}/session", auth=(site.server.user, site.server.password)))
        http.headers["vmware-api-session-id"] = token
        spec = {"name": "gpuferry", "description": "", "cardinality": "MULTIPLE", "associable_types": []}
        category = value(http.post(f"{base}/tagging/category", json={"create_spec": spec}))
        assert value(http.get(f"{base}/tagging/category")) == [category]
        assert value(http.get(f"{base}/tagging/category/id:{category}"))["name"] == "gpuferry"
        tag_spec = {"name": "gpu-server", "description": "", "category_id": category}
        tag = value(http.post(f"{base}/tagging/tag", json={"create_spec": tag_spec}))
        target = {"type": "HostSystem", "id": site.hosts[0]._moId}
        association = f"{base}/tagging/tag-association"
        value(http.post(f"{association}/id:{tag}?~action=attach", json={"object_id": target}))
        assert value(http.post(f"{association}?~action=list-attached-tags", json={"object_id": target})) == [tag]
        attached = value(http.post(f"{association}/id:{tag}?~action=list-attached-objects", json={}))
        assert [(each["type"], each["id"]) for each in attached] == [("HostSystem", target["id"])]
        value(http.post(f"{association}/id:{tag}?~action=detach", json={"object_id": target}))
        assert not value(http.post(f"{association}?~action=list-attached-tags", json={"object_id": target}))
        value(http.delete(f"{base}/tagging/tag/id:{tag}"))
        assert http.get(f"{base}/tagging/tag/id:{tag}").status_code == 404
