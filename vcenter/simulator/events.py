"""Events that vCenter itself logs about virtual machines and hosts."""

from typing import Any

from .api import vim
from .values import build

_MESSAGES = {
    "VmCreatedEvent": "Created virtual machine {vm} on {host}",
    "VmClonedEvent": "Clone of {source} completed: {vm}",
    "VmPoweredOnEvent": "{vm} on {host} is powered on",
    "VmPoweredOffEvent": "{vm} on {host} is powered off",
    "VmReconfiguredEvent": "Reconfigured {vm} on {host}",
    "VmRemovedEvent": "Removed {vm} on {host}",
    "VmFailedToPowerOnEvent": "Cannot power on {vm} on {host}. {reason}",
    "VmResettingEvent": "{vm} on {host} is resetting",
    "VmSuspendedEvent": "{vm} on {host} is suspended",
}


def machine_event(kind: str, machine: Any, *, source: str = "", reason: Any = None, **fields: Any) -> Any:
    """A vim.event about a virtual machine."""
    cls = getattr(vim.event, kind)
    text = _MESSAGES[kind].format(
        vm=machine.name, host=machine.host.name, source=source, reason=getattr(reason, "msg", "") or ""
    )
    values: dict[str, Any] = {"fullFormattedMessage": text, **fields}
    if kind not in {"VmReconfiguredEvent", "VmClonedEvent", "VmFailedToPowerOnEvent"}:
        values.pop("configSpec", None)
        values["template"] = machine.is_template
    if reason is not None:
        values["reason"] = reason
        values["template"] = machine.is_template
    return build(cls, **values)
