"""Folder: what holds datacenters, hosts, virtual machines, datastores or networks."""

from typing import TYPE_CHECKING, Any

from .api import vim, vmodl
from .managed_entity import ManagedEntity, check_name, duplicate_name
from .managed_object import Call, method
from .task import Operation, Step, start_task
from .world import World

if TYPE_CHECKING:
    pass

_TYPES = {
    "datacenter": (vim.Folder, vim.Datacenter),
    "vm": (vim.Folder, vim.VirtualMachine, vim.VirtualApp),
    "host": (vim.Folder, vim.ComputeResource),
    "datastore": (vim.Folder, vim.Datastore),
    "network": (vim.Folder, vim.Network, vim.DistributedVirtualSwitch),
}


class Folder(ManagedEntity):
    """A folder of one of the five purposes."""

    kind = vim.Folder

    def __init__(
        self, world: World, name: str, parent: ManagedEntity | None, purpose: str, moid: str | None = None
    ) -> None:
        super().__init__(world, name, parent, moid or world.new_id("Folder").replace("group", f"group-{purpose[0]}", 1))
        self.purpose = purpose
        self.values["childType"] = list(_TYPES[purpose])
        self.values["childEntity"] = []

    def adopt(self, child: ManagedEntity) -> None:
        """Puts an entity into this folder; its name must be free here. Raises vim.fault.DuplicateName."""
        self.set("childEntity", [*self.values["childEntity"], child.ref])
        child.values["parent"] = self.ref
        child.set("parent", self.ref)

    def adopt_many(self, children: list[Any]) -> None:
        """Puts many entities in at once, while a world is built."""
        self.set("childEntity", [*self.values["childEntity"], *(child.ref for child in children)])

    def child(self, name: str) -> Any:
        """The entity of this name in this folder, None if there is none."""
        for each in self.values["childEntity"]:
            found = self.world.objects[each._moId]
            if found.values.get("name") == name:
                return found
        return None

    def claim(self, name: str) -> None:
        """Makes sure that a name may be used here. Raises vim.fault.DuplicateName, InvalidName."""
        check_name(name)
        if self.child(name) is not None:
            raise duplicate_name(self, name)

    @method
    def CreateFolder(self, call: Call, name: str) -> Any:
        """A folder of the same purpose inside this one."""
        self.claim(name)
        made = Folder(self.world, name, self, self.purpose)
        self.adopt(made)
        return made.ref

    @method
    def CreateDatacenter(self, call: Call, name: str) -> Any:
        """A datacenter with its four folders."""
        from .datacenter import Datacenter

        self._only("datacenter")
        self.claim(name)
        made: Datacenter = Datacenter(self.world, name, self)
        self.adopt(made)
        return made.ref

    @method
    def CreateClusterEx(self, call: Call, name: str, spec: Any) -> Any:
        """An empty cluster."""
        from .compute_resource import ClusterComputeResource

        self._only("host")
        self.claim(name)
        made = ClusterComputeResource(self.world, name, self)
        self.adopt(made)
        made.apply(spec)
        return made.ref

    @method
    def CreateVM_Task(self, call: Call, config: Any, pool: Any, host: Any) -> Any:
        """A virtual machine from nothing."""
        from .virtual_machine_create import create

        self._only("vm")
        return start_task(call, self, "CreateVM_Task", create(call, self, config, pool, host))

    @method
    def CreateDVS_Task(self, call: Call, spec: Any) -> Any:
        """A distributed switch."""
        from .distributed_virtual_switch import create_switch

        self._only("network")
        return start_task(call, self, "CreateDVS_Task", create_switch(self, spec))

    @method
    def MoveIntoFolder_Task(self, call: Call, list: Any) -> Any:
        """Moves entities here."""
        moved = [self.world.find(each) for each in list]
        for each in moved:
            if not isinstance(each.ref, tuple(_TYPES[self.purpose])):
                raise vmodl.fault.NotSupported(msg=f"{each.name} cannot be in the folder {self.name}")
        return start_task(call, self, "MoveIntoFolder_Task", self._move(moved))

    def _move(self, moved: list[ManagedEntity]) -> Operation:
        yield Step("move", 50)
        for each in moved:
            if each.parent is self:
                continue
            self.claim(each.name)
            before = each.parent
            before.set("childEntity", [ref for ref in before.values["childEntity"] if ref._moId != each.moid])
            self.adopt(each)

    def _destroy(self) -> Operation:
        if self.values["parent"] is None or isinstance(self.parent.ref, vim.Datacenter):
            raise vmodl.fault.NotSupported(msg=f"The folder {self.name} belongs to its datacenter and stays")
        yield Step("destroy", 10)
        for each in list(self.values["childEntity"]):
            child: Any = self.world.objects.get(each._moId)
            if child is not None:
                yield from child._destroy()
        self.remove_from_inventory()

    def _only(self, purpose: str) -> None:
        if self.purpose != purpose:
            raise vmodl.fault.NotSupported(msg=f"The folder {self.name} holds no such entities")
