"""CustomFieldsManager: custom attributes, the columns that people and tools add to inventory entities."""

import itertools
from typing import Any

from .api import vim
from .managed_object import Call, Managed, invalid_argument, method
from .values import build, vary
from .world import World


class CustomFieldsManager(Managed):
    """Definitions of fields, and their values on entities."""

    kind = vim.CustomFieldsManager

    def __init__(self, world: World) -> None:
        super().__init__(world, "CustomFieldsManager", field=[])
        self._keys = itertools.count(101)

    def _field(self, key: int) -> Any:
        for each in self.values["field"]:
            if each.key == key:
                return each
        raise invalid_argument("key", f"There is no custom field {key}.")

    def available(self, kind: Any) -> list[Any]:
        """The fields that entities of a kind may have."""
        return [
            each
            for each in self.values["field"]
            if each.managedObjectType is None or issubclass(kind, each.managedObjectType)
        ]

    @method
    def AddCustomFieldDef(self, call: Call, name: str, moType: Any, fieldDefPolicy: Any, fieldPolicy: Any) -> Any:
        """Defines a field, for one kind of entity or for all."""
        for each in self.values["field"]:
            if each.name == name and (each.managedObjectType is moType or None in (each.managedObjectType, moType)):
                raise vim.fault.DuplicateName(name=name, object=self.ref, msg=f"The name '{name}' already exists.")
        made = build(
            vim.CustomFieldsManager.FieldDef, key=next(self._keys), name=name, type=str, managedObjectType=moType
        )
        self.set("field", [*self.values["field"], made])
        return made

    @method
    def RenameCustomFieldDef(self, call: Call, key: int, name: str) -> None:
        """Gives a field another name."""
        renamed = vary(self._field(key), name=name)
        self.set("field", [renamed if each.key == key else each for each in self.values["field"]])

    @method
    def RemoveCustomFieldDef(self, call: Call, key: int) -> None:
        """Removes a field and its values everywhere."""
        self._field(key)
        self.set("field", [each for each in self.values["field"] if each.key != key])
        for managed in self.world.objects.values():
            held = managed.values.get("value")
            if held and any(each.key == key for each in held):
                self._store(managed, [each for each in held if each.key != key])

    @method
    def SetField(self, call: Call, entity: Any, key: int, value: str) -> None:
        """Sets a value; an empty one removes it."""
        field = self._field(key)
        managed = self.world.find(entity)
        if field.managedObjectType is not None and not isinstance(managed.ref, field.managedObjectType):
            raise invalid_argument("key", f"The field {field.name} is not for a {managed.kind._wsdlName}.")
        held = [each for each in managed.values.get("value") or () if each.key != key]
        if value:
            held.append(build(vim.CustomFieldsManager.StringValue, key=key, value=value))
        self._store(managed, held)

    def set_by_name(self, managed: Managed, name: str, value: str) -> None:
        """Sets a value by the field's name. Raises vmodl.fault.InvalidArgument."""
        for each in self.available(managed.kind):
            if each.name == name:
                held = [other for other in managed.values.get("value") or () if other.key != each.key]
                held.append(build(vim.CustomFieldsManager.StringValue, key=each.key, value=value))
                self._store(managed, held)
                return
        raise invalid_argument("key", f"There is no custom field {name}.")

    def _store(self, managed: Managed, held: list[Any]) -> None:
        managed.set("value", held)
        managed.changed("customValue")
