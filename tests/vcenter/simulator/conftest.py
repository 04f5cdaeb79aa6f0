"""A simulated vCenter for each test, spoken to with pyVmomi over HTTPS, as any client would."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

from vcenter.simulator import Simulation, start


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


@pytest.fixture
def vcenter() -> Iterator[Simulation]:
    with start(pace=0.002) as simulation:
        yield simulation


@pytest.fixture
def si(vcenter: Simulation) -> Iterator[Any]:
    instance = connect(vcenter)
    yield instance
    vcenter.control.clear()
    Disconnect(instance)


@pytest.fixture
def inventory(si: Any) -> SimpleNamespace:
    """The objects tests talk about, by short names."""
    content = si.content
    datacenter = content.rootFolder.childEntity[0]
    cluster = datacenter.hostFolder.childEntity[0]
    machines = {each.name: each for each in datacenter.vmFolder.childEntity}
    return SimpleNamespace(
        si=si,
        content=content,
        datacenter=datacenter,
        cluster=cluster,
        pool=cluster.resourcePool,
        hosts=list(cluster.host),
        machines=machines,
        template=machines["gpuferry-template"],
        folder=datacenter.vmFolder,
        stores={each.name: each for each in datacenter.datastore},
        networks={each.name: each for each in datacenter.network},
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
