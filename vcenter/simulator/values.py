"""Data objects as values: built once, never changed in place, varied by copying.

Every property of every simulated object holds such values, so a reader may keep what it was given, a clone shares
nothing that can change under it, and "has it changed?" is a question of identity first.
"""

import datetime
import functools
from typing import Any

from .api import fields, support


@functools.cache
def _blank(cls: Any) -> dict[str, Any]:
    return dict(cls().__dict__)


def build(cls: Any, **values: Any) -> Any:
    """Like pyVmomi's constructor, ten times faster: field names are checked, field types are not; lists are typed."""
    made = cls.__new__(cls)
    slots = made.__dict__
    slots.update(_blank(cls))
    for name, value in values.items():
        if name not in slots:
            raise AttributeError(f"{cls.__name__} has no field {name}")
        slots[name] = fields(cls)[name].type(value) if value.__class__ is list else value
    return made


def vary(value: Any, **changes: Any) -> Any:
    """A copy of ``value`` with some fields changed; the original stays as it was."""
    made = value.__class__.__new__(value.__class__)
    made.__dict__.update(value.__dict__)
    for name, changed in changes.items():
        if name not in made.__dict__:
            raise AttributeError(f"{value.__class__.__name__} has no field {name}")
        typed = fields(value.__class__)[name].type(changed) if changed.__class__ is list else changed
        made.__dict__[name] = typed
    return made


def overlay(value: Any, spec: Any, names: tuple[str, ...]) -> Any:
    """A copy of ``value`` with those fields of ``names`` that are set in ``spec`` (unset means: leave as it is)."""
    return vary(value, **{name: getattr(spec, name) for name in names if is_set(getattr(spec, name))})


def is_set(value: Any) -> bool:
    """Whether a field has a value on the wire: unset optional fields are None, unset arrays are empty."""
    return value is not None and not (isinstance(value, list) and not value)


def deep_copy(value: Any) -> Any:
    """A copy that shares nothing changeable with ``value`` (a specification a client sent, for instance)."""
    if isinstance(value, support.DataObject):
        made = value.__class__.__new__(value.__class__)
        made.__dict__.update({name: deep_copy(item) for name, item in value.__dict__.items()})
        return made
    if isinstance(value, list):
        copied = value.__class__()
        copied.extend(deep_copy(item) for item in value)
        return copied
    return value


def equal(one: Any, other: Any) -> bool:
    """Whether two values would look the same on the wire."""
    if one is other:
        return True
    if one.__class__ is not other.__class__:
        return bool(isinstance(one, str | int) and isinstance(other, str | int) and one == other)
    if isinstance(one, support.DataObject):
        return all(equal(getattr(one, name), getattr(other, name)) for name in fields(one.__class__))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def now() -> datetime.datetime:
    """The time of day with its zone, as every time stamp of the API carries it."""
    return datetime.datetime.now(datetime.UTC)
