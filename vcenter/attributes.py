"""Custom attributes and events: gpuferry's state shown where the vSphere administrator looks.

The attributes appear on hosts and VMs in the vSphere client; the events in their event lists, as user events.
Source: CustomFieldsManager.AddCustomFieldDef/SetField, EventManager.LogUserEvent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pyVmomi import vim

from vcenter.collector import read
from vcenter.errors import InvalidRequest
from vcenter.plan import Change, Plan
from vcenter.session import Session

MAX_EVENT = 1000
MAX_VALUE = 1024


class Attribute(Enum):
    """Our custom attributes, by the name that the vSphere client shows."""

    ROLE = "gpuferry role"
    POOL_STATE = "gpuferry pool state"
    GPU_USE = "gpuferry GPU use"
    LAST_RUN = "gpuferry last run"


@dataclass(frozen=True)
class AttributePlan(Plan):
    """`define` are attributes that vCenter does not have yet; `values` what to set on the object, by attribute."""

    kind: str = ""
    id: str = ""
    define: tuple[Attribute, ...] = ()
    values: tuple[tuple[Attribute, str], ...] = ()


def _definitions(session: Session) -> dict[str, int]:
    """Key of each custom field that may stand on hosts and VMs (global ones have no type), by name."""
    manager = session.content.customFieldsManager
    if manager is None:
        raise InvalidRequest("This server has no custom attributes (a vCenter is needed, not a host).")
    with session.doing("Reading the custom attributes"):
        fields = read(session, manager, "field").get("field", [])
    return {str(field.name): int(field.key) for field in fields if field.managedObjectType in (None, vim.ManagedEntity)}


def values_of(session: Session, ref: Any) -> dict[Attribute, str]:
    """Our attributes of one object, as they are set; unset ones are absent."""
    keys = {key: name for name, key in _definitions(session).items()}
    with session.doing("Reading the custom attributes"):
        values = read(session, ref, "customValue").get("customValue", [])
    names = {attribute.value for attribute in Attribute}
    return {
        Attribute(keys[int(v.key)]): str(v.value)
        for v in values
        if keys.get(int(v.key)) in names and str(v.value or "")
    }


def plan_attributes(session: Session, ref: Any, name: str, wanted: Mapping[Attribute, str]) -> AttributePlan:
    """The plan that shows these values on a host or VM; "" clears one; attributes not named stay as they are."""
    for value in wanted.values():
        if len(value) > MAX_VALUE:
            raise InvalidRequest(f"A custom attribute holds at most {MAX_VALUE} characters.", object_name=name)
    known = _definitions(session)
    have = values_of(session, ref)
    values = tuple((a, value) for a, value in wanted.items() if have.get(a, "") != value)
    define = tuple(a for a, value in values if value and a.value not in known)
    changes = tuple(Change(name, a.value, have.get(a, ""), value) for a, value in values)
    return AttributePlan(
        name, changes, kind=type(ref).__name__.rpartition(".")[2], id=str(ref._moId), define=define, values=values
    )


def apply_attributes(session: Session, plan: AttributePlan) -> None:
    """Carries an attribute plan out. Safe to repeat, and when somebody else defines the attribute meanwhile."""
    if plan.empty:
        return
    manager = session.content.customFieldsManager
    ref = session.object(getattr(vim, plan.kind), plan.id)
    for attribute in plan.define:
        with session.doing("Defining a custom attribute", attribute.value):
            try:
                manager.AddCustomFieldDef(attribute.value, None, None, None)
            except vim.fault.DuplicateName:
                continue
    known = _definitions(session)
    for attribute, value in plan.values:
        if attribute.value not in known:
            continue  # clearing what was never defined
        with session.doing("Setting a custom attribute", plan.object_name):
            manager.SetField(ref, known[attribute.value], value)


def log_event(session: Session, ref: Any, message: str) -> None:
    """Writes a user event on a host or VM: `gpuferry: <message>`, at most 1000 characters."""
    text = f"gpuferry: {message}"
    with session.doing("Logging an event"):
        session.content.eventManager.LogUserEvent(ref, text if len(text) <= MAX_EVENT else text[: MAX_EVENT - 1] + "…")
