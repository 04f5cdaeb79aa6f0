"""HostPciPassthruSystem, maintenance mode and reboots of the simulated hosts."""

import threading
import time
from typing import Any

import pytest
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl
from simulator_client import clone, fault_of, fixed_device, result_of, wide_mmio


def states(system: Any) -> dict[str, tuple[bool, bool, bool]]:
    return {
        each.id: (each.passthruCapable, each.passthruEnabled, each.passthruActive) for each in system.pciPassthruInfo
    }


def config(address: str, enabled: bool, **more: Any) -> Any:
    return vim.host.PciPassthruConfig(id=address, passthruEnabled=enabled, **more)


def test_devices_are_listed_with_signed_ids_and_states(inventory):
    first, second, third = inventory.hosts
    gpus = [each for each in third.hardware.pciDevice if each.vendorId == 0x10DE]
    assert [(each.id, each.deviceId & 0xFFFF, each.classId) for each in gpus] == [
        ("0000:3b:00.0", 0x26B1, 0x0300),
        ("0000:3b:00.1", 0x22BA, 0x0403),
        ("0000:3c:00.0", 0x1EB8, 0x0302),
    ]
    nic = next(each for each in first.hardware.pciDevice if each.vendorId == 0x15B3)
    assert (nic.deviceId, nic.classId) == (0x101D, 0x0200)
    board = third.hardware.pciDevice[2]
    assert board.vendorId == 0x8086 - 0x10000, "ids above 0x7fff are negative on the wire"
    assert states(first.configManager.pciPassthruSystem)["0000:3b:00.0"] == (True, True, True)
    assert states(second.configManager.pciPassthruSystem)["0000:3b:00.0"] == (True, False, False)
    assert states(third.configManager.pciPassthruSystem)["0000:3b:00.1"] == (True, True, False)
    assert [each.summary.rebootRequired for each in inventory.hosts] == [False, False, True]


def test_enabling_takes_effect_at_once_where_the_host_can(inventory):
    host = inventory.hosts[1]
    system = host.configManager.pciPassthruSystem
    assert [each.memorySizeInKB for each in host.config.graphicsInfo] == [48 << 20, 48 << 20]
    system.UpdatePassthruConfig([config("0000:3b:00.0", True, hardwareLabel="pool-a")])
    system.Refresh()
    assert states(system)["0000:3b:00.0"] == (True, True, True)
    assert [each.pciId for each in host.config.graphicsInfo] == ["0000:3c:00.0"], "the driver no longer has the card"
    assert next(each for each in host.config.pciPassthruInfo if each.id == "0000:3b:00.0").hardwareLabel == "pool-a"
    override = host.config.assignableHardwareConfig.attributeOverride
    assert [(each.instanceId, each.value) for each in override] == [("pci:0000:3b:00.0", "pool-a")]
    target = inventory.cluster.environmentBrowser.QueryConfigTarget(host)
    assert [each.pciDevice.id for each in target.pciPassthrough] == ["0000:3b:00.0"]
    assert [(each.deviceId, each.customLabel) for each in target.dynamicPassthrough] == [(0x26B9, "pool-a")]


def test_apply_now_false_waits_for_the_reboot(inventory):
    system = inventory.hosts[1].configManager.pciPassthruSystem
    system.UpdatePassthruConfig([config("0000:3b:00.0", True, applyNow=False)])
    assert states(system)["0000:3b:00.0"] == (True, True, False)
    assert inventory.hosts[1].summary.rebootRequired
    system.UpdatePassthruConfig([config("0000:3b:00.0", False, applyNow=False)])
    assert not inventory.hosts[1].summary.rebootRequired


def test_a_host_that_needs_it_reboots_and_comes_back_active(vcenter, inventory):
    vcenter.world.pace = 0.02
    host = inventory.hosts[2]
    system = host.configManager.pciPassthruSystem
    system.UpdatePassthruConfig([config("0000:3c:00.0", True, applyNow=None)])
    assert states(system)["0000:3c:00.0"] == (True, True, False)
    assert isinstance(fault_of(host.Reboot(False)), vim.fault.InvalidState), "not in maintenance mode"
    WaitForTask(host.EnterMaintenanceMode(0))
    before = host.runtime.bootTime
    WaitForTask(host.Reboot(False))
    seen = set()
    while host.runtime.bootTime == before or host.runtime.connectionState != "connected":
        seen.add(host.runtime.connectionState)
    assert "notResponding" in seen
    assert host.runtime.inMaintenanceMode, "maintenance mode outlives the reboot"
    assert states(system)["0000:3c:00.0"] == (True, True, True)
    assert not host.summary.rebootRequired
    WaitForTask(host.ExitMaintenanceMode(0))
    assert not host.runtime.inMaintenanceMode


def test_a_host_that_is_away_refuses(inventory):
    host = inventory.hosts[2]
    WaitForTask(host.Disconnect())
    with pytest.raises(vmodl.fault.HostNotConnected):
        host.configManager.pciPassthruSystem.Refresh()
    assert isinstance(fault_of(host.EnterMaintenanceMode(0)), vmodl.fault.HostNotConnected)
    WaitForTask(host.Reconnect())
    host.configManager.pciPassthruSystem.Refresh()


def test_functions_of_a_card_change_together_or_not_at_all(inventory):
    system = inventory.hosts[2].configManager.pciPassthruSystem
    before = states(system)
    with pytest.raises(vim.fault.HostConfigFault, match=r"0000:3b:00\.1"):
        system.UpdatePassthruConfig([config("0000:3b:00.0", False)])
    assert states(system) == before
    system.UpdatePassthruConfig([config("0000:3b:00.0", False), config("0000:3b:00.1", False)])
    assert states(system)["0000:3b:00.0"] == states(system)["0000:3b:00.1"] == (True, False, False)


@pytest.mark.parametrize(
    ("address", "message"), [("0000:ff:00.0", "no device"), ("0000:00:00.0", "not capable of passthrough")]
)
def test_what_cannot_be_passed_through_is_named(inventory, address, message):
    with pytest.raises(vim.fault.HostConfigFault, match=message):
        inventory.hosts[0].configManager.pciPassthruSystem.UpdatePassthruConfig([config(address, True)])


def test_shared_direct_graphics_forbid_passthrough_until_changed(inventory):
    host = inventory.hosts[1]
    graphics = host.configManager.graphicsManager
    direct = vim.host.GraphicsConfig(
        hostDefaultGraphicsType="shared",
        sharedPassthruAssignmentPolicy="performance",
        deviceType=[vim.host.GraphicsConfig.DeviceType(deviceId="0000:3b:00.0", graphicsType="sharedDirect")],
    )
    graphics.UpdateGraphicsConfig(direct)
    host.configManager.serviceSystem.RestartService("xorg")
    assert [each.graphicsType for each in graphics.graphicsInfo] == ["sharedDirect", "shared"]
    with pytest.raises(vim.fault.HostConfigFault, match="sharedDirect"):
        host.configManager.pciPassthruSystem.UpdatePassthruConfig([config("0000:3b:00.0", True)])
    direct.deviceType[0].graphicsType = "shared"
    graphics.UpdateGraphicsConfig(direct)
    host.configManager.serviceSystem.RestartService("xorg")
    host.configManager.pciPassthruSystem.UpdatePassthruConfig([config("0000:3b:00.0", True)])


def test_a_card_in_use_is_not_taken_away_and_blocks_maintenance(inventory):
    host = inventory.hosts[0]
    machine = clone(inventory, "gpu-server", extraConfig=wide_mmio(128))
    change = [fixed_device(inventory, host, "0000:3b:00.0")]
    WaitForTask(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=change)))
    WaitForTask(machine.PowerOn())
    binding = host.config.assignableHardwareBinding
    assert [(each.instanceId, each.vm) for each in binding] == [("pci:0000:3b:00.0", machine)]
    with pytest.raises(vim.fault.HostConfigFault, match="gpu-server"):
        host.configManager.pciPassthruSystem.UpdatePassthruConfig([config("0000:3b:00.0", False)])
    task = host.EnterMaintenanceMode(1)
    assert isinstance(fault_of(task), vim.fault.Timedout)
    assert not host.runtime.inMaintenanceMode
    canceled = host.EnterMaintenanceMode(0)
    while canceled.info.state != "running":
        time.sleep(0.001)
    canceled.Cancel()
    fault_of(canceled)
    assert canceled.info.cancelled
    assert not host.runtime.inMaintenanceMode
    waiting = host.EnterMaintenanceMode(0)
    timer = threading.Timer(0.05, machine.PowerOff)
    timer.start()
    WaitForTask(waiting)
    assert host.runtime.inMaintenanceMode
    assert isinstance(fault_of(host.EnterMaintenanceMode(0)), vim.fault.InvalidState)


def test_maintenance_moves_what_can_move(inventory):
    host = inventory.hosts[0]
    client = inventory.machines["client-01"]
    assert client.runtime.powerState == "poweredOn"
    WaitForTask(host.EnterMaintenanceMode(0))
    assert client.runtime.host != host
    assert client not in host.vm
    assert client in client.runtime.host.vm


def test_a_forced_reboot_takes_the_power_of_its_machines(inventory):
    host = inventory.hosts[0]
    WaitForTask(host.Reboot(True))
    client = inventory.machines["client-01"]
    while client.runtime.powerState != "poweredOff":
        time.sleep(0.001)
    assert client.runtime.cleanPowerOff is False


def test_no_machine_is_started_or_made_on_a_host_in_maintenance(inventory):
    host = inventory.hosts[0]
    machine = clone(inventory, "gpu-server", host)
    change = [fixed_device(inventory, host, "0000:3b:00.0")]
    WaitForTask(machine.Reconfigure(vim.vm.ConfigSpec(deviceChange=change)))
    WaitForTask(host.EnterMaintenanceMode(0))
    assert isinstance(fault_of(machine.PowerOn()), vim.fault.InvalidHostState)
    spec = vim.vm.CloneSpec(location=vim.vm.RelocateSpec(host=host, pool=inventory.pool), powerOn=False, template=False)
    assert isinstance(fault_of(inventory.template.Clone(inventory.folder, "other", spec)), vim.fault.InvalidHostState)
    assert result_of(host.ExitMaintenanceMode(0)) is None
