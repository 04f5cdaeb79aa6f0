"""The errors of everything that speaks to vCenter: what failed, on which object, which vSphere fault, what to do.

pyVmomi's faults stop here. They cannot be pickled and carry live connections, so `from_fault` turns each into one of
these classes at the border, and nothing above this package ever sees a pyVmomi exception.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pyVmomi  # noqa: F401  (loads the type tables before vim is used)
from pyVmomi import vim, vmodl


class VcenterError(Exception):
    """Base of all errors here.

    `what` is one sentence; `object_name` the vSphere object as the administrator knows it; `fault` the vSphere fault
    (`vim.fault.InvalidLogin`) or "" when none came from vCenter; `fault_message` vCenter's own words; `remedy` what
    to do.
    """

    default_remedy: ClassVar[str] = (
        "Look at the fault and at vCenter's task list, then repeat the command: it is safe to repeat."
    )

    def __init__(
        self, what: str, *, object_name: str = "", fault: str = "", fault_message: str = "", remedy: str = ""
    ) -> None:
        super().__init__(what)
        self.what = what
        self.object_name = object_name
        self.fault = fault
        self.fault_message = fault_message
        self.remedy = remedy or self.default_remedy

    def __str__(self) -> str:
        text = self.what
        if self.object_name and self.object_name not in text:
            text = f"{self.object_name}: {text}"
        if self.fault:
            text += f" [{self.fault}: {self.fault_message}]" if self.fault_message else f" [{self.fault}]"
        return f"{text} {self.remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), dict(self.__dict__))

    def as_dict(self) -> dict[str, str]:
        """The error as plain data, for `--json` and for the appliance's records."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "object": self.object_name,
            "fault": self.fault,
            "fault_message": self.fault_message,
            "remedy": self.remedy,
        }


def _restore(kind: type[VcenterError], state: dict[str, Any]) -> VcenterError:
    error = kind(state["what"])
    error.__dict__.update(state)
    return error


class Unreachable(VcenterError):
    default_remedy = "Check the address, the port, the network between here and vCenter, and that vCenter runs."


class CertificateUntrusted(VcenterError):
    default_remedy = (
        "Give vCenter's CA certificate, or compare the thumbprint with the one that vCenter's console shows and pin it."
    )


class CertificateChanged(VcenterError):
    default_remedy = (
        "Ask the vSphere administrator whether the certificate was renewed. If it was, pin the new thumbprint with "
        "`gpuferry vcenter add`; if not, somebody may be between you and vCenter."
    )


class WrongPassword(VcenterError):
    default_remedy = "Check user name (with its domain: user@vsphere.local) and password; the account may be locked."


class MissingPrivilege(VcenterError):
    """`privilege` is the id as vCenter knows it, e.g. `Host.Config.PciPassthru`."""

    privilege: str = ""
    default_remedy = "Give the account a role with this privilege on this object, propagated to its children."


class ApiTooOld(VcenterError):
    default_remedy = "Upgrade vCenter and the host, or choose an option that the older version has."


class NotFound(VcenterError):
    default_remedy = "Check the name; `gpuferry vcenter hosts` and `gpuferry vcenter gpus` list what there is."


class Ambiguous(VcenterError):
    default_remedy = "Name it by its path or its id."


class NameTaken(VcenterError):
    default_remedy = "Choose another name, or remove what has it."


class HostDisconnected(VcenterError):
    default_remedy = "Reconnect the host in vCenter (or power it on), then repeat."


class HostBusy(VcenterError):
    default_remedy = "Power off or move the virtual machines named here, then repeat."


class DeviceInUse(VcenterError):
    default_remedy = "Drain and power off the virtual machine that holds the device, or choose another device."


class DeviceNotReady(VcenterError):
    default_remedy = "Turn passthrough on for the device first: `gpuferry vcenter passthrough on`."


class GraphicsTypeForbids(VcenterError):
    default_remedy = (
        "The card serves vGPU (Shared Direct). In the vSphere client, Host > Configure > Graphics, set it to Shared "
        "once no virtual machine uses a vGPU of it, then repeat."
    )


class NoCapacity(VcenterError):
    default_remedy = "Choose a host with more free memory or devices, or a smaller virtual machine."


class PortgroupMissing(VcenterError):
    default_remedy = "Create the distributed portgroup, or name another one; a standard switch will not do for PVRDMA."


class PvrdmaUnsupported(VcenterError):
    default_remedy = "PVRDMA needs an RDMA uplink on the host, a distributed portgroup, hardware version 13 or later."


class InvalidRequest(VcenterError):
    default_remedy = "Correct the request and repeat; nothing was changed."


class TooLarge(InvalidRequest):
    default_remedy = "Make the cloud-init data smaller, or have it fetch the rest at first boot."


class TaskFailed(VcenterError):
    pass


class TaskTimeout(VcenterError):
    default_remedy = "The task may still be running in vCenter: look at its task list, then repeat."


class GuestSilent(VcenterError):
    default_remedy = (
        "Look at the machine's console: open-vm-tools must run in the guest, and its adapter must get an address."
    )


class Cancelled(VcenterError):
    default_remedy = "Repeat the command when ready: it goes on from what is already done."


# vSphere fault class -> our class. Order matters: the first that matches wins.
_BY_FAULT: tuple[tuple[str, type[VcenterError]], ...] = (
    ("vim.fault.InvalidLogin", WrongPassword),
    ("vim.fault.NoPermission", MissingPrivilege),
    ("vim.fault.RestrictedVersion", MissingPrivilege),
    ("vmodl.fault.HostNotConnected", HostDisconnected),
    ("vmodl.fault.HostNotReachable", HostDisconnected),
    ("vim.fault.HostConnectFault", HostDisconnected),
    ("vmodl.fault.HostCommunication", HostDisconnected),
    ("vim.fault.DuplicateName", NameTaken),
    ("vim.fault.ResourceInUse", DeviceInUse),
    ("vim.fault.InsufficientResourcesFault", NoCapacity),
    ("vim.fault.NoCompatibleHost", NoCapacity),
    ("vim.fault.NoDiskSpace", NoCapacity),
    ("vim.fault.NotFound", NotFound),
    ("vmodl.fault.ManagedObjectNotFound", NotFound),
    ("vim.fault.Timedout", TaskTimeout),
    ("vim.fault.InvalidState", HostBusy),
)


def fault_name(fault: object) -> str:
    """The full name of a fault's class as vSphere writes it, e.g. `vim.fault.NoPermission`."""
    return str(getattr(type(fault), "__name__", fault))


def _class_of(name: str) -> type | None:
    found: Any = {"vim": vim, "vmodl": vmodl}
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else getattr(found, part, None)
        if found is None:
            return None
    return found  # type: ignore[no-any-return]


def _details(fault: Any) -> list[str]:
    """vCenter's words: the localised message and the messages of its causes (faultMessage), without repeats."""
    words = [str(getattr(fault, "msg", "") or "").strip()]
    for extra in getattr(fault, "faultMessage", None) or []:
        words.append(str(getattr(extra, "message", "") or "").strip())
    for cause in getattr(fault, "error", None) or [] if isinstance(getattr(fault, "error", None), list) else []:
        words.append(str(getattr(getattr(cause, "fault", cause), "msg", "") or "").strip())
    return list(dict.fromkeys(word for word in words if word))


def from_fault(fault: Any, what: str, object_name: str = "", remedy: str = "") -> VcenterError:
    """Our error for a vSphere fault, raised or read from `info.error` of a task. Never raises."""
    name = fault_name(fault)
    kind: type[VcenterError] = TaskFailed
    for known, ours in _BY_FAULT:
        cls = _class_of(known)
        if cls is not None and isinstance(fault, cls):
            kind = ours
            break
    error = kind(what, object_name=object_name, fault=name, fault_message="; ".join(_details(fault)), remedy=remedy)
    if isinstance(error, MissingPrivilege):
        error.privilege = str(getattr(fault, "privilegeId", "") or "")
        if error.privilege:
            error.remedy = remedy or (
                f"Give the account a role with the privilege {error.privilege} on {object_name or 'this object'}, "
                "propagated to its children."
            )
    if isinstance(error, NameTaken):
        taken = str(getattr(fault, "name", "") or "")
        error.what = f"{what} The name {taken!r} is taken." if taken else what
    return error


@contextmanager
def border(what: str, object_name: str = "", remedy: str = "") -> Iterator[None]:
    """Turns every vSphere fault and connection failure inside into our own error. `what` says what was being done."""
    try:
        yield
    except VcenterError:
        raise
    except (vmodl.MethodFault, vmodl.RuntimeFault) as fault:
        raise from_fault(fault, f"{what} failed.", object_name, remedy) from None
    except ssl.SSLCertVerificationError as bad:
        raise CertificateUntrusted(
            f"{what} failed: vCenter's certificate is not trusted here ({bad.verify_message}).", object_name=object_name
        ) from None
    except (OSError, http.client.HTTPException) as lost:
        raise Unreachable(
            f"{what} failed: {lost or type(lost).__name__}.", object_name=object_name, remedy=remedy
        ) from lost
