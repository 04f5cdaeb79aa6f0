"""A VM's configuration flattened to paths and plain values, so that two can be compared field by field."""

from typing import Any

from pyVmomi.VmomiSupport import DataObject, ManagedObject

# What every VM has of its own, or that says when it was changed.
VOLATILE = {"changeVersion", "modified", "createDate", "uuid", "instanceUuid", "macAddress"}


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Every field that is set, by path; items of lists by their key, where they have one, with the type of the item."""
    if isinstance(value, ManagedObject):
        return {path: value._moId}
    if isinstance(value, DataObject):
        found: dict[str, Any] = {f"{path}:type": type(value).__name__} if path else {}
        for info in value._GetPropertyList():
            if info.name not in VOLATILE and not info.name.startswith("dynamic"):
                found |= flatten(getattr(value, info.name), f"{path}.{info.name}" if path else info.name)
        return found
    if isinstance(value, list):
        found = {}
        for number, item in enumerate(value):
            found |= flatten(item, f"{path}[{getattr(item, 'key', number)}]")
        return found
    return {} if value is None else {path: value}


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What of `after` is not the same in `before`, and what is gone (None)."""
    return {
        path: after.get(path) for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)
    }
