"""Virtual machines of the simulated vCenter: made, copied, changed, powered, with the rules of the real one."""

import time
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl
from simulator_client import add, clone, fault_of, fixed_device, result_of, wide_mmio

from vcenter.simulator.guest import PaperGuests

device = vim.vm.device
GPU_0, GPU_1 = "0000:3b:00.0", "0000:3c:00.0"


def reconfigure(machine: Any, **fields: Any) -> None:
    WaitForTask(machine.Reconfigure(vim.vm.ConfigSpec(**fields)))


def dynamic_device(vendor: int = 0x10DE, product: int = 0x20F1, label: str = "", key: int = -1) -> Any:
    allowed = device.VirtualPCIPassthrough.AllowedDevice(vendorId=vendor, deviceId=product)
    backing = device.VirtualPCIPassthrough.DynamicBackingInfo(deviceName="", allowedDevice=[allowed], customLabel=label)
    return add(device.VirtualPCIPassthrough(key=key, backing=backing))


def pvrdma(inventory: Any, network: str = "dv-pvrdma", protocol: str | None = "rocev2") -> Any:
    group = inventory.networks[network]
    port = vim.dvs.PortConnection(switchUuid=group.config.distributedVirtualSwitch.uuid, portgroupKey=group.key)
    backing = device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port)
    return add(device.VirtualVmxnet3Vrdma(key=-9, backing=backing, deviceProtocol=protocol))


def devices(machine: Any, kind: Any) -> list[Any]:
    return [each for each in machine.config.hardware.device if isinstance(each, kind)]


def wait_for_address(machine: Any) -> str:
    while machine.guest.ipAddress is None:
        time.sleep(0.001)
    return machine.guest.ipAddress


# Copies.


def test_a_clone_shares_nothing_with_its_template(inventory):
    template = inventory.template
    before = devices(template, device.VirtualDisk)[0].backing.fileName
    machine = clone(inventory, "server-1", numCPUs=8, extraConfig=wide_mmio(256))
    config = machine.config
    assert (config.name, config.template, config.hardware.numCPU, config.hardware.memoryMB) == (
        "server-1",
        False,
        8,
        16384,
    )
    assert config.memoryAllocation.reservation == 16384
    assert config.files.vmPathName == "[vsan-gpu] server-1/server-1.vmx"
    assert devices(machine, device.VirtualDisk)[0].backing.fileName == "[vsan-gpu] server-1/server-1.vmdk"
    assert devices(template, device.VirtualDisk)[0].backing.fileName == before
    assert template.config.hardware.memoryMB == 8192
    assert not template.config.extraConfig
    macs = {devices(each, device.VirtualEthernetCard)[0].macAddress for each in (template, machine)}
    assert len(macs) == 2
    assert config.uuid != template.config.uuid
    assert machine.runtime.host == inventory.hosts[0]
    assert machine.resourcePool == inventory.pool
    assert machine in inventory.hosts[0].vm
    assert machine in inventory.pool.vm
    assert machine in inventory.stores["vsan-gpu"].vm


def test_a_name_is_given_once(inventory):
    clone(inventory, "server-1")
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(pool=inventory.pool), powerOn=False, template=False)
    assert isinstance(fault_of(inventory.template.Clone(inventory.folder, "server-1", spec)), vim.fault.DuplicateName)
    assert sum(each.name == "server-1" for each in inventory.folder.childEntity) == 1


def test_a_template_needs_a_pool_and_cannot_be_powered_on(inventory):
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False)
    fault = fault_of(inventory.template.Clone(inventory.folder, "server-1", spec))
    assert isinstance(fault, vmodl.fault.InvalidArgument)
    assert isinstance(fault_of(inventory.template.PowerOn()), vmodl.fault.NotSupported)


def test_a_full_datastore_refuses_and_nothing_stays(vcenter, inventory):
    store = vcenter.control.find("vsan-gpu")
    store.capacity = store.values["_used"] + (10 << 30)
    location = vim.vm.RelocateSpec(pool=inventory.pool, datastore=inventory.stores["vsan-gpu"])
    spec = vim.vm.CloneSpec(location=location, powerOn=False, template=False)
    used = store.values["_used"]
    fault = fault_of(inventory.template.Clone(inventory.folder, "server-1", spec))
    assert (type(fault), fault.datastore) == (vim.fault.NoDiskSpace, "vsan-gpu")
    assert store.values["_used"] == used


@pytest.mark.parametrize("step", ["validate", "copy disks", "register"])
def test_a_clone_that_fails_at_any_step_leaves_nothing(vcenter, inventory, step):
    store = vcenter.control.find("vsan-gpu")
    used, machines = store.values["_used"], len(inventory.folder.childEntity)
    failure = vcenter.control.fail("CloneVM_Task", step=step)
    location = vim.vm.RelocateSpec(pool=inventory.pool, datastore=inventory.stores["vsan-gpu"])
    spec = vim.vm.CloneSpec(location=location, powerOn=False, template=False)
    assert isinstance(fault_of(inventory.template.Clone(inventory.folder, "server-1", spec)), vmodl.fault.SystemError)
    assert failure.hits == 1
    assert (store.values["_used"], len(inventory.folder.childEntity)) == (used, machines)
    clone(inventory, "server-1")


def test_marking_as_template_and_back(inventory):
    machine = inventory.machines["client-02"]
    machine.MarkAsTemplate()
    assert machine.config.template
    assert machine.resourcePool is None
    machine.MarkAsVirtualMachine(inventory.pool, inventory.hosts[1])
    assert not machine.config.template
    assert machine.resourcePool == inventory.pool
    with pytest.raises(vim.fault.InvalidPowerState):
        inventory.machines["client-01"].MarkAsTemplate()


# New machines.


def test_a_new_machine_has_what_its_specification_says(inventory):
    group = inventory.networks["dv-clients"]
    port = vim.dvs.PortConnection(switchUuid=group.config.distributedVirtualSwitch.uuid, portgroupKey=group.key)
    spec = vim.vm.ConfigSpec(
        name="fresh",
        version="vmx-19",
        guestId="ubuntu64Guest",
        firmware="efi",
        numCPUs=4,
        memoryMB=4096,
        memoryReservationLockedToMax=True,
        files=vim.vm.FileInfo(vmPathName="[vsan-gpu]"),
        extraConfig=[vim.option.OptionValue(key="guestinfo.metadata", value="e30=")],
        deviceChange=[
            add(device.ParaVirtualSCSIController(key=-1, busNumber=0, sharedBus="noSharing")),
            vim.vm.device.VirtualDeviceSpec(
                operation="add",
                fileOperation="create",
                device=device.VirtualDisk(key=-2, controllerKey=-1, unitNumber=0, capacityInKB=20 << 20),
            ),
            add(
                device.VirtualVmxnet3(
                    key=-3, backing=device.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port)
                )
            ),
        ],
    )
    free = inventory.stores["vsan-gpu"].summary.freeSpace
    machine = result_of(inventory.folder.CreateVm(spec, inventory.pool, inventory.hosts[1]))
    config = machine.config
    assert (config.firmware, config.version, config.guestFullName) == ("efi", "vmx-19", "Ubuntu Linux (64-bit)")
    disk = devices(machine, device.VirtualDisk)[0]
    assert (disk.key, disk.controllerKey, disk.unitNumber, disk.capacityInBytes) == (2000, 1000, 0, 20 << 30)
    assert disk.backing.fileName == "[vsan-gpu] fresh/fresh.vmdk"
    nic = devices(machine, device.VirtualEthernetCard)[0]
    assert (nic.key, nic.controllerKey, nic.unitNumber, nic.addressType) == (4000, 100, 7, "assigned")
    assert list(machine.network) == [group]
    assert inventory.stores["vsan-gpu"].summary.freeSpace == free - (20 << 30)
    WaitForTask(machine.Destroy())
    assert inventory.stores["vsan-gpu"].summary.freeSpace == free
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        _ = machine.name


@pytest.mark.parametrize("step", ["validate", "create files", "register"])
def test_a_machine_that_could_not_be_made_leaves_nothing(vcenter, inventory, step):
    vcenter.control.fail("CreateVM_Task", step=step)
    spec = vim.vm.ConfigSpec(name="fresh", files=vim.vm.FileInfo(vmPathName="[vsan-gpu]"))
    free = inventory.stores["vsan-gpu"].summary.freeSpace
    fault_of(inventory.folder.CreateVm(spec, inventory.pool, None))
    assert inventory.stores["vsan-gpu"].summary.freeSpace == free
    assert "fresh" not in [each.name for each in inventory.folder.childEntity]
    result_of(inventory.folder.CreateVm(spec, inventory.pool, None))


# Changes.


def test_a_reconfiguration_is_all_or_nothing(inventory):
    machine = clone(inventory, "server-1")
    before = machine.config
    broken = vim.vm.ConfigSpec(
        numCPUs=16, extraConfig=wide_mmio(128), deviceChange=[dynamic_device(), dynamic_device(key=-2, vendor=-1)]
    )
    assert isinstance(fault_of(machine.Reconfigure(broken)), vim.fault.InvalidDeviceBacking)
    after = machine.config
    assert after.hardware.numCPU == before.hardware.numCPU
    assert len(after.hardware.device) == len(before.hardware.device)
    assert not after.extraConfig


def test_one_key_for_two_devices_is_refused(inventory):
    machine = clone(inventory, "server-1")
    spec = vim.vm.ConfigSpec(deviceChange=[dynamic_device(key=-1), dynamic_device(key=-1)])
    fault = fault_of(machine.Reconfigure(spec))
    assert isinstance(fault, vim.fault.InvalidDeviceSpec)
    assert "Cannot add multiple devices using the same device key" in fault.msg
    assert fault.deviceIndex == 1


def test_an_empty_value_removes_an_advanced_setting(inventory):
    machine = clone(inventory, "server-1", extraConfig=wide_mmio(128))
    reconfigure(machine, extraConfig=[vim.option.OptionValue(key="pciPassthru.use64bitMMIO", value="")])
    assert {each.key: each.value for each in machine.config.extraConfig} == {"pciPassthru.64bitMMIOSizeGB": "128"}


def test_the_reservation_follows_locked_memory(inventory):
    machine = clone(inventory, "server-1")
    reconfigure(machine, memoryMB=32768)
    assert machine.config.memoryAllocation.reservation == 32768
    reconfigure(machine, memoryReservationLockedToMax=False, memoryAllocation=vim.ResourceAllocationInfo(reservation=0))
    assert machine.config.memoryAllocation.reservation == 0


def test_a_disk_grows_but_never_shrinks(inventory):
    machine = clone(inventory, "server-1")
    disk = devices(machine, device.VirtualDisk)[0]
    disk.capacityInKB = 80 << 20
    disk.capacityInBytes = None
    reconfigure(machine, deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])
    assert devices(machine, device.VirtualDisk)[0].capacityInBytes == 80 << 30
    disk.capacityInKB = 1 << 20
    spec = vim.vm.ConfigSpec(deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="edit", device=disk)])
    assert isinstance(fault_of(machine.Reconfigure(spec)), vim.fault.InvalidDeviceSpec)


def test_a_device_that_is_not_there_cannot_be_removed(inventory):
    machine = clone(inventory, "server-1")
    gone = vim.vm.device.VirtualDeviceSpec(operation="remove", device=device.VirtualPCIPassthrough(key=13000))
    assert isinstance(
        fault_of(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=[gone]))), vim.fault.InvalidDeviceSpec
    )


def test_two_changes_at_once_are_refused(vcenter, inventory):
    vcenter.world.pace = 0.05
    machine = inventory.machines["client-02"]
    first = machine.Reconfigure(vim.vm.ConfigSpec(annotation="one"))
    while first.info.state != "running":
        time.sleep(0.001)
    second = machine.Reconfigure(vim.vm.ConfigSpec(annotation="two"))
    assert isinstance(fault_of(second), vim.fault.TaskInProgress)
    WaitForTask(first)
    assert machine.config.annotation == "one"


# Passthrough devices.


def test_a_server_with_two_gpus_and_pvrdma(inventory):
    host = inventory.hosts[0]
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(256))
    reconfigure(
        machine,
        deviceChange=[
            fixed_device(inventory, host, GPU_0, -1),
            fixed_device(inventory, host, GPU_1, -2),
            pvrdma(inventory),
        ],
    )
    passed = devices(machine, device.VirtualPCIPassthrough)
    assert [(each.key, each.controllerKey, each.unitNumber, each.backing.id) for each in passed] == [
        (13000, 100, 18, GPU_0),
        (13001, 100, 19, GPU_1),
    ]
    rdma = devices(machine, device.VirtualVmxnet3Vrdma)[0]
    assert (rdma.key, rdma.deviceProtocol) == (4001, "rocev2")
    WaitForTask(machine.PowerOn())
    assert machine.runtime.powerState == "poweredOn"
    assert wait_for_address(machine)
    assert [each.network for each in machine.guest.net] == ["VM Network", "dv-pvrdma"]
    bindings = host.config.assignableHardwareBinding
    assert [(each.instanceId, each.vm) for each in bindings] == [(f"pci:{GPU_0}", machine), (f"pci:{GPU_1}", machine)]
    WaitForTask(machine.PowerOff())
    assert not host.config.assignableHardwareBinding
    assert machine.guest.ipAddress is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("deviceId", "8433"),
        ("deviceId", "0x20f1"),
        ("deviceId", "20F1"),
        ("systemId", "other"),
        ("id", "0000:ff:00.0"),
        ("vendorId", 1),
    ],
)
def test_a_fixed_device_must_be_named_exactly(inventory, field, value):
    machine = clone(inventory, "gpu-server")
    change = fixed_device(inventory, inventory.hosts[0], GPU_0)
    setattr(change.device.backing, field, value)
    fault = fault_of(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=[change])))
    assert isinstance(fault, vim.fault.InvalidDeviceBacking)
    assert "systemId does not match" in fault.msg


def test_a_card_twice_in_one_machine_is_refused(inventory):
    machine = clone(inventory, "gpu-server")
    changes = [fixed_device(inventory, inventory.hosts[0], GPU_0, key) for key in (-1, -2)]
    fault = fault_of(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=changes)))
    assert isinstance(fault, vim.fault.InvalidDeviceBacking)


def test_passthrough_is_not_hot_plugged(inventory):
    machine = clone(inventory, "gpu-server")
    WaitForTask(machine.PowerOn())
    change = [fixed_device(inventory, inventory.hosts[0], GPU_0)]
    fault = fault_of(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=change)))
    assert isinstance(fault, vim.fault.DeviceHotPlugNotSupported)
    fault = fault_of(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=[pvrdma(inventory)])))
    assert isinstance(fault, vim.fault.DeviceHotPlugNotSupported)
    assert not devices(machine, device.VirtualPCIPassthrough)


def start_refused(machine: Any) -> str:
    fault = fault_of(machine.PowerOn())
    assert machine.runtime.powerState == "poweredOff"
    assert isinstance(fault, vim.fault.GenericVmConfigFault)
    assert fault.faultMessage
    return fault.msg


def test_without_full_reservation_it_does_not_start(inventory):
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(128))
    reconfigure(
        machine,
        memoryReservationLockedToMax=False,
        memoryAllocation=vim.ResourceAllocationInfo(reservation=4096),
        deviceChange=[fixed_device(inventory, inventory.hosts[0], GPU_0)],
    )
    assert "memory reservation (sched.mem.min) should be equal to memsize(16384)" in start_refused(machine)
    reconfigure(machine, memoryReservationLockedToMax=True)
    WaitForTask(machine.PowerOn())


def test_pvrdma_needs_the_reservation_too(inventory):
    machine = clone(inventory, "client")
    reconfigure(
        machine,
        memoryReservationLockedToMax=False,
        memoryAllocation=vim.ResourceAllocationInfo(reservation=0),
        deviceChange=[pvrdma(inventory)],
    )
    assert "sched.mem.min" in start_refused(machine)


@pytest.mark.parametrize(
    ("gpus", "extra", "firmware", "starts"),
    [
        (1, [], "efi", False),
        (1, wide_mmio(64), "efi", False),
        (1, wide_mmio(128), "efi", True),
        (1, wide_mmio(128), "bios", False),
        (2, wide_mmio(128), "efi", False),
        (2, wide_mmio(256), "efi", True),
    ],
)
def test_the_mmio_window_must_hold_the_cards(inventory, gpus, extra, firmware, starts):
    machine = clone(inventory, "gpu-server", extraConfig=extra, firmware=firmware)
    changes = [fixed_device(inventory, inventory.hosts[0], (GPU_0, GPU_1)[at], -1 - at) for at in range(gpus)]
    reconfigure(machine, deviceChange=changes)
    if starts:
        WaitForTask(machine.PowerOn())
    else:
        assert "Module 'DevicePowerOn' power on failed." in start_refused(machine)


@pytest.mark.parametrize("field", ["nestedHVEnabled", "cpuHotAddEnabled", "memoryHotAddEnabled"])
def test_what_passthrough_excludes(inventory, field):
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(128), **{field: True})
    reconfigure(machine, deviceChange=[fixed_device(inventory, inventory.hosts[0], GPU_0)])
    start_refused(machine)
    reconfigure(machine, **{field: False})
    WaitForTask(machine.PowerOn())


def test_a_card_serves_one_running_machine(inventory):
    first, second = (clone(inventory, name, extraConfig=wide_mmio(128)) for name in ("one", "two"))
    for machine in (first, second):
        reconfigure(machine, deviceChange=[fixed_device(inventory, inventory.hosts[0], GPU_0)])
    WaitForTask(first.PowerOn())
    assert "in use" in start_refused(second)
    WaitForTask(first.PowerOff())
    WaitForTask(second.PowerOn())


def test_a_card_that_is_no_longer_active(inventory):
    host = inventory.hosts[0]
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(128))
    reconfigure(machine, deviceChange=[fixed_device(inventory, host, GPU_0)])
    off = vim.host.PciPassthruConfig(id=GPU_0, passthruEnabled=False)
    host.configManager.pciPassthruSystem.UpdatePassthruConfig([off])
    assert "not configured for passthrough" in start_refused(machine)


def test_a_copy_of_a_server_elsewhere_finds_no_card(inventory):
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(128))
    reconfigure(machine, deviceChange=[fixed_device(inventory, inventory.hosts[0], GPU_0)])
    location = vim.vm.RelocateSpec(host=inventory.hosts[1], pool=inventory.pool)
    spec = vim.vm.CloneSpec(location=location, powerOn=False, template=False)
    copy = result_of(machine.Clone(inventory.folder, "copy", spec))
    assert len(devices(copy, device.VirtualPCIPassthrough)) == 1, "a clone copies the devices"
    assert "is not on esx-02" in start_refused(copy)


def test_dynamic_devices_are_placed_where_a_card_is_free(inventory):
    machines = []
    for number in range(3):
        machine = clone(inventory, f"dynamic-{number}", inventory.hosts[1], extraConfig=wide_mmio(128))
        reconfigure(machine, deviceChange=[dynamic_device()])
        machines.append(machine)
    for machine in machines[:2]:
        WaitForTask(machine.PowerOn())
        assert machine.runtime.host == inventory.hosts[0]
    held = {devices(each, device.VirtualPCIPassthrough)[0].backing.assignedId for each in machines[:2]}
    assert held == {GPU_0, GPU_1}
    assert "No free device" in start_refused(machines[2])


def test_dynamic_devices_need_hardware_17_and_the_label(inventory):
    old = clone(inventory, "old")
    machine = clone(inventory, "labelled", extraConfig=wide_mmio(128))
    reconfigure(machine, deviceChange=[dynamic_device(label="pool-a")])
    start_refused(machine)
    label = vim.host.PciPassthruConfig(id=GPU_0, passthruEnabled=True, hardwareLabel="pool-a")
    inventory.hosts[0].configManager.pciPassthruSystem.UpdatePassthruConfig([label])
    WaitForTask(machine.PowerOn())
    spec = vim.vm.ConfigSpec(
        name="vmx-14", version="vmx-14", files=vim.vm.FileInfo(vmPathName="[vsan-gpu]"), deviceChange=[dynamic_device()]
    )
    fault = fault_of(inventory.folder.CreateVm(spec, inventory.pool, None))
    assert isinstance(fault, vim.fault.DeviceUnsupportedForVmVersion)
    assert (fault.currentVersion, fault.expectedVersion) == ("vmx-14", "vmx-17")
    assert old.config.version == "vmx-19"


def test_pvrdma_needs_a_distributed_port_group_and_hardware_13(inventory):
    machine = clone(inventory, "client")
    change = pvrdma(inventory)
    change.device.backing = device.VirtualEthernetCard.NetworkBackingInfo(deviceName="VM Network")
    fault = fault_of(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=[change])))
    assert isinstance(fault, vim.fault.InvalidDeviceBacking)
    change = pvrdma(inventory)
    change.device.backing.port.portgroupKey = "dvportgroup-1"
    fault = fault_of(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=[change])))
    assert isinstance(fault, vim.fault.InvalidDeviceBacking)
    spec = vim.vm.ConfigSpec(
        name="vmx-11",
        version="vmx-11",
        files=vim.vm.FileInfo(vmPathName="[vsan-gpu]"),
        deviceChange=[pvrdma(inventory)],
    )
    fault = fault_of(inventory.folder.CreateVm(spec, inventory.pool, inventory.hosts[0]))
    assert isinstance(fault, vim.fault.DeviceUnsupportedForVmVersion)
    assert "A minimum version of 'vmx-13' is required" in fault.msg


def test_a_host_that_is_not_in_the_switch_has_no_such_network(inventory):
    machine = clone(inventory, "client", inventory.hosts[2])
    fault = fault_of(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=[pvrdma(inventory)])))
    assert isinstance(fault, vim.fault.CannotAccessNetwork)


def test_a_server_can_neither_move_nor_suspend_nor_be_copied_while_it_runs(inventory):
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(128))
    reconfigure(machine, deviceChange=[fixed_device(inventory, inventory.hosts[0], GPU_0)])
    WaitForTask(machine.PowerOn())
    fault = fault_of(machine.Relocate(vim.vm.RelocateSpec(host=inventory.hosts[1])))
    assert isinstance(fault, vim.fault.MigrationFeatureNotSupported)
    assert isinstance(fault_of(machine.Suspend()), vim.fault.InvalidState)
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(), powerOn=False, template=False)
    assert isinstance(fault_of(machine.Clone(inventory.folder, "copy", spec)), vim.fault.InvalidState)


def test_memory_is_given_once(inventory):
    first, second = (clone(inventory, name, inventory.hosts[1], numCPUs=4) for name in ("one", "two"))
    for machine in (first, second):
        reconfigure(machine, memoryMB=300 << 10)
    WaitForTask(first.PowerOn())
    fault = fault_of(second.PowerOn())
    assert isinstance(fault, vim.fault.InsufficientMemoryResourcesFault)
    assert fault.requested == 300 << 30


# Power and guests.


def test_power_goes_on_once_and_off_once(inventory):
    machine = inventory.machines["client-02"]
    assert isinstance(fault_of(machine.PowerOff()), vim.fault.InvalidPowerState)
    WaitForTask(machine.PowerOn())
    fault = fault_of(machine.PowerOn())
    assert (type(fault), fault.existingState) == (vim.fault.InvalidPowerState, "poweredOn")
    assert isinstance(fault_of(machine.Destroy()), vim.fault.InvalidPowerState)


@pytest.mark.parametrize("step", ["validate", "reserve", "power on"])
def test_a_start_that_fails_at_any_step_holds_nothing(vcenter, inventory, step):
    host = inventory.hosts[0]
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(128))
    reconfigure(machine, deviceChange=[fixed_device(inventory, host, GPU_0)])
    vcenter.control.fail("PowerOnVM_Task", step=step, on="gpu-server")
    assert isinstance(fault_of(machine.PowerOn()), vmodl.fault.SystemError)
    assert machine.runtime.powerState == "poweredOff"
    assert not host.config.assignableHardwareBinding
    WaitForTask(machine.PowerOn())


def test_the_guest_gets_an_address_and_shuts_down_when_asked(inventory):
    machine = inventory.machines["client-02"]
    with pytest.raises(vim.fault.InvalidPowerState):
        machine.ShutdownGuest()
    WaitForTask(machine.PowerOn())
    address = wait_for_address(machine)
    assert machine.guest.toolsRunningStatus == "guestToolsRunning"
    assert machine.summary.guest.ipAddress == address
    assert inventory.content.searchIndex.FindByIp(None, address, True) == machine
    WaitForTask(machine.Reset())
    assert wait_for_address(machine) == address
    machine.ShutdownGuest()
    while machine.runtime.powerState != "poweredOff":
        time.sleep(0.001)
    assert machine.guest.toolsRunningStatus == "guestToolsNotRunning"


class NeverUp(PaperGuests):
    """Guests whose tools never run."""

    def start(self, machine: Any) -> None:
        pass


def test_without_tools_there_is_no_soft_shutdown(vcenter, inventory):
    vcenter.world.guests = NeverUp()
    machine = inventory.machines["client-02"]
    WaitForTask(machine.PowerOn())
    with pytest.raises(vim.fault.ToolsUnavailable):
        machine.ShutdownGuest()


def test_destroying_forgets_overrides(inventory):
    machine = clone(inventory, "server-1")
    override = vim.cluster.DrsVmConfigSpec(
        operation="add", info=vim.cluster.DrsVmConfigInfo(key=machine, enabled=False)
    )
    WaitForTask(
        inventory.cluster.ReconfigureComputeResource_Task(vim.cluster.ConfigSpecEx(drsVmConfigSpec=[override]), True)
    )
    assert [each.key for each in inventory.cluster.configurationEx.drsVmConfig] == [machine]
    WaitForTask(machine.Destroy())
    assert not inventory.cluster.configurationEx.drsVmConfig


def test_snapshots_are_kept_and_gone_back_to(inventory):
    machine = inventory.machines["client-02"]
    assert machine.snapshot is None
    first = result_of(machine.CreateSnapshot_Task("first", "as it was", False, False))
    reconfigure(machine, annotation="changed")
    second = result_of(machine.CreateSnapshot_Task("second", "", False, False))
    tree = machine.snapshot.rootSnapshotList
    assert [(each.name, [below.name for below in each.childSnapshotList]) for each in tree] == [("first", ["second"])]
    assert machine.snapshot.currentSnapshot == second
    WaitForTask(first.RevertToSnapshot_Task(None, None))
    assert (machine.config.annotation, machine.snapshot.currentSnapshot) == ("", first)
    WaitForTask(first.RemoveSnapshot_Task(False, None))
    assert [each.name for each in machine.snapshot.rootSnapshotList] == ["second"]
    WaitForTask(machine.RemoveAllSnapshots_Task(None))
    assert machine.snapshot is None


def test_a_running_server_has_no_snapshots(inventory):
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(128))
    reconfigure(machine, deviceChange=[fixed_device(inventory, inventory.hosts[0], GPU_0)])
    WaitForTask(machine.PowerOn())
    assert isinstance(fault_of(machine.CreateSnapshot_Task("x", "", True, False)), vim.fault.InvalidState)
