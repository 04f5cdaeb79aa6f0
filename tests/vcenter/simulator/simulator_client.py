"""What tests of the simulated vCenter say to it by pyVmomi, in few words."""

from typing import Any

import pytest
from pyVim.connect import SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vcenter.simulator import Simulation


def connect(vcenter: Simulation, user: str | None = None, password: str | None = None) -> Any:
    """A ServiceInstance of pyVmomi, its server pinned by thumbprint."""
    return SmartConnect(
        host=vcenter.host,
        port=vcenter.port,
        user=user or vcenter.user,
        pwd=password or vcenter.password,
        thumbprint=vcenter.thumbprint,
        disableSslCertValidation=True,
    )


def fault_of(task: Any) -> Any:
    """The fault a task ends with; fails if it succeeds."""
    with pytest.raises(vmodl.MethodFault) as caught:
        WaitForTask(task)
    return caught.value


def result_of(task: Any) -> Any:
    """The result of a task that succeeds."""
    WaitForTask(task)
    return task.info.result


def clone(inventory: Any, name: str, host: Any = None, **config: Any) -> Any:
    """A copy of the template on a host, powered off, with 16 GiB of memory, all reserved."""
    host = host or inventory.hosts[0]
    spec = vim.vm.CloneSpec(
        location=vim.vm.RelocateSpec(host=host, pool=inventory.pool, datastore=inventory.stores["vsan-gpu"]),
        powerOn=False,
        template=False,
        config=vim.vm.ConfigSpec(memoryMB=16384, memoryReservationLockedToMax=True, **config),
    )
    return result_of(inventory.template.Clone(inventory.folder, name, spec))


def fixed_device(inventory: Any, host: Any, address: str, key: int = -1) -> Any:
    """A fixed DirectPath device, from what the host's configuration target says."""
    target = inventory.cluster.environmentBrowser.QueryConfigTarget(host)
    found = next(each for each in target.pciPassthrough if each.pciDevice.id == address)
    device = vim.vm.device.VirtualPCIPassthrough(
        key=key,
        backing=vim.vm.device.VirtualPCIPassthrough.DeviceBackingInfo(
            deviceName="",
            id=address,
            deviceId=format(found.pciDevice.deviceId & 0xFFFF, "x"),
            systemId=found.systemId,
            vendorId=found.pciDevice.vendorId,
        ),
    )
    return add(device)


def add(device: Any) -> Any:
    """The specification that adds a device."""
    return vim.vm.device.VirtualDeviceSpec(operation="add", device=device)


def wide_mmio(gib: int) -> Any:
    """The advanced settings for a 64-bit MMIO window."""
    return [
        vim.option.OptionValue(key="pciPassthru.use64bitMMIO", value="TRUE"),
        vim.option.OptionValue(key="pciPassthru.64bitMMIOSizeGB", value=str(gib)),
    ]
