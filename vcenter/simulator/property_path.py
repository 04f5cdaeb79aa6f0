"""Property paths such as ``config.hardware.device[4000].backing``: checked against the types, then followed."""

import functools
import re
from typing import Any

from .api import fields, support, vmodl
from .managed_object import Managed
from .values import is_set

_SEGMENT = re.compile(r"([A-Za-z_]\w*)((?:\[[^\]]*\])*)(?:\.|$)")


@functools.cache
def parse(path: str) -> tuple[tuple[str, str | None], ...]:
    """Segments of a path with their array keys. Raises vmodl.query.InvalidProperty."""
    segments = []
    position = 0
    while position < len(path):
        match = _SEGMENT.match(path, position)
        if match is None:
            raise _invalid(path)
        key = match.group(2)[1:-1].strip('"') if match.group(2) else None
        segments.append((match.group(1), key))
        position = match.end()
    if not segments or path.endswith("."):
        raise _invalid(path)
    return tuple(segments)


@functools.cache
def check(kind: Any, path: str) -> None:
    """Refuses a path that no object of this kind can have. Raises vmodl.query.InvalidProperty."""
    declared = kind
    for name, key in parse(path):
        if declared is object:
            return
        if not issubclass(declared, support.DataObject | support.ManagedObject):
            raise _invalid(path)
        info = fields(declared).get(name)
        if info is None:
            if declared is not kind and any(name in fields(sub) for sub in _below(declared)):
                return
            raise _invalid(path)
        declared = info.type
        if key is not None:
            if not issubclass(declared, list):
                raise _invalid(path)
            declared = declared.Item


def _below(cls: Any) -> list[Any]:
    found = []
    for sub in cls.__subclasses__():
        found.append(sub)
        found.extend(_below(sub))
    return found


def follow(managed: Managed, path: str) -> Any:
    """The value at a path as the type it is declared with, None when it or anything on the way is unset."""
    segments = parse(path)
    name, key = segments[0]
    value: Any = managed.get(name)
    declared = _declared(managed.kind, name)
    if key is not None:
        value = _keyed(value, key)
    for name, key in segments[1:]:
        if value is None:
            return None
        if isinstance(value, support.ManagedObject):
            owner = managed.world.find(value)
            value, declared = owner.get(name), _declared(owner.kind, name)
        else:
            declared = _declared(value.__class__, name)
            value = getattr(value, name, None)
        if key is not None:
            value = _keyed(value, key)
    if not is_set(value):
        return None
    # A plain int or str tells nothing of xsd:long and of enumerations, and strict clients look at xsi:type.
    if value.__class__ in (int, str) and declared is not None and issubclass(declared, value.__class__):
        return declared(value)
    return value


@functools.cache
def _declared(cls: Any, name: str) -> Any:
    info = fields(cls).get(name)
    return None if info is None else info.type


def _keyed(values: Any, key: str) -> Any:
    for value in values or ():
        if str(getattr(value, "key", value)) == key:
            return value
    return None


def _invalid(path: str) -> Any:
    return vmodl.query.InvalidProperty(name=path, msg=f"The property {path} does not exist")
