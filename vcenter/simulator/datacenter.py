"""Datacenter: four folders, and the datastores and networks its hosts can reach."""

from typing import Any

from .api import vim
from .folder import Folder
from .managed_entity import ManagedEntity
from .managed_object import Call, method
from .task import Operation, Step, start_task
from .values import build
from .world import World


class Datacenter(ManagedEntity):
    """A datacenter."""

    kind = vim.Datacenter

    def __init__(self, world: World, name: str, parent: ManagedEntity) -> None:
        super().__init__(world, name, parent)
        self.vm_folder = Folder(world, "vm", self, "vm")
        self.host_folder = Folder(world, "host", self, "host")
        self.datastore_folder = Folder(world, "datastore", self, "datastore")
        self.network_folder = Folder(world, "network", self, "network")
        self.values.update(
            vmFolder=self.vm_folder.ref,
            hostFolder=self.host_folder.ref,
            datastoreFolder=self.datastore_folder.ref,
            networkFolder=self.network_folder.ref,
            datastore=[],
            network=[],
            configuration=build(vim.Datacenter.ConfigInfo),
        )

    def inside(self, kind: type) -> list[Any]:
        """All objects of a simulator class that are in this datacenter."""
        return [each for each in self.world.of_kind(kind) if each.datacenter is self]

    @method
    def PowerOnMultiVM_Task(self, call: Call, vm: Any, option: Any) -> Any:
        """Powers on several virtual machines; the result names the task of each."""
        return start_task(call, self, "PowerOnMultiVM_Task", self._power_on(call, vm))

    def _power_on(self, call: Call, machines: Any) -> Operation:
        yield Step("place", 30)
        attempted = []
        for each in machines:
            machine = self.world.find(each)
            attempted.append(build(vim.cluster.AttemptedVmInfo, vm=each, task=machine.PowerOnVM_Task(call, host=None)))
        return build(vim.cluster.PowerOnVmResult, attempted=attempted)

    def _destroy(self) -> Operation:
        yield Step("destroy", 10)
        for folder in (self.vm_folder, self.host_folder, self.datastore_folder, self.network_folder):
            for each in list(folder.values["childEntity"]):
                child: Any = self.world.objects.get(each._moId)
                if child is not None:
                    yield from child._destroy()
            self.world.remove(folder)
        self.remove_from_inventory()
