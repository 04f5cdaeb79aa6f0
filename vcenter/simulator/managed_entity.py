"""What every inventory entity shares: a name, a parent, tasks, custom values; renaming and destroying."""

from typing import Any

from .api import vim
from .managed_object import Call, Managed, method
from .task import Operation, Step, start_task
from .world import World


class ManagedEntity(Managed):
    """A node of the inventory tree."""

    live_properties = frozenset({"customValue", "permission", "availableField"})

    def __init__(self, world: World, name: str, parent: "ManagedEntity | None", moid: str | None = None) -> None:
        super().__init__(
            world,
            moid,
            name=name,
            parent=parent.ref if parent is not None else None,
            overallStatus="green",
            configStatus="green",
            alarmActionsEnabled=True,
            effectiveRole=[-1],
            recentTask=[],
        )

    @property
    def name(self) -> str:
        """The inventory name."""
        return str(self.values["name"])

    @property
    def parent(self) -> "ManagedEntity":
        """The entity above. Raises KeyError at the root."""
        found = self.world.objects[self.values["parent"]._moId]
        assert isinstance(found, ManagedEntity)  # noqa: S101
        return found

    @property
    def datacenter(self) -> Any:
        """The datacenter this entity is in. Raises KeyError outside of any."""
        at: Any = self
        while not isinstance(at.ref, vim.Datacenter):
            at = at.parent
        return at

    def named_siblings(self, name: str) -> bool:
        """Whether another entity beside this one has ``name``."""
        siblings = self.parent.values.get("childEntity") or ()
        return any(
            each._moId != self.moid and self.world.objects[each._moId].values.get("name") == name for each in siblings
        )

    def live(self, name: str) -> Any:
        """``customValue`` shows ``value``; permissions and fields are their managers'."""
        if name == "customValue":
            return self.values.get("value") or []
        if name == "permission":
            rights: Any = self.world.objects["AuthorizationManager"]
            return [each for each in rights.permissions if each.entity._moId == self.moid]
        fields: Any = self.world.objects["CustomFieldsManager"]
        return fields.available(self.kind)

    def rename(self, name: str) -> None:
        """Takes a new name. Raises vim.fault.DuplicateName, InvalidName."""
        check_name(name)
        if self.named_siblings(name):
            raise duplicate_name(self.parent, name)
        self.set("name", name)

    @method
    def Rename_Task(self, call: Call, newName: str) -> Any:
        """Gives a new name."""
        return start_task(call, self, "Rename_Task", self._rename(newName))

    def _rename(self, name: str) -> Operation:
        yield Step("rename", 50)
        self.rename(name)

    @method
    def Destroy_Task(self, call: Call) -> Any:
        """Removes the entity and what it holds."""
        return start_task(call, self, "Destroy_Task", self._destroy())

    def _destroy(self) -> Operation:
        yield Step("destroy", 50)
        self.remove_from_inventory()

    def remove_from_inventory(self) -> None:
        """Takes the entity out of its parent and out of the world."""
        parent = self.parent
        children = parent.values.get("childEntity")
        if children is not None:
            parent.set("childEntity", [each for each in children if each._moId != self.moid])
        self.world.remove(self)

    @method
    def Reload(self, call: Call) -> None:
        """Everything is always up to date here."""

    @method
    def setCustomValue(self, call: Call, key: str, value: str) -> None:
        """Sets a custom value by the name of its field."""
        fields: Any = self.world.objects["CustomFieldsManager"]
        fields.set_by_name(self, key, value)


def check_name(name: str) -> None:
    """Refuses names vCenter refuses. Raises vim.fault.InvalidName."""
    if not name or len(name) > 80:
        raise vim.fault.InvalidName(name=name, msg=f"The name '{name}' is invalid.")


def duplicate_name(parent: ManagedEntity, name: str) -> Any:
    """The fault for a name that is taken."""
    held = next(
        (
            each
            for each in parent.values.get("childEntity") or ()
            if parent.world.objects[each._moId].values.get("name") == name
        ),
        parent.ref,
    )
    return vim.fault.DuplicateName(name=name, object=held, msg=f"The name '{name}' already exists.")
