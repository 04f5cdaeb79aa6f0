"""The names of vSphere's API as pyVmomi gives them: the one vocabulary of every object of the simulator.

pyVmomi's stubs leave constructors untyped, so its name spaces are ``Any`` here, and only here. All facts about types
(fields, versions, privileges, parameters) are read from pyVmomi's own tables, never written down again.
"""

import functools
from typing import Any

import pyVmomi
from pyVmomi import VmomiSupport

# The two names are made when pyVmomi is imported, where mypy does not see them.
vim: Any = vars(pyVmomi)["vim"]
vmodl: Any = vars(pyVmomi)["vmodl"]
support: Any = VmomiSupport

DataObject: Any = support.DataObject
ManagedObject: Any = support.ManagedObject
MethodFault: Any = support.GetVmodlType("vmodl.MethodFault")

NAMESPACE = "urn:vim25"


@functools.cache
def fields(cls: Any) -> dict[str, Any]:
    """Name to property information of a data or managed type, base types included, in the order of the wire."""
    return {info.name: info for info in cls._GetPropertyList()}


@functools.cache
def methods(cls: Any) -> dict[str, Any]:
    """WSDL name to method information of a managed type, base types included."""
    return {info.wsdlName: info for info in cls._GetMethodList()}


def version_named(version_id: str) -> str:
    """pyVmomi's version (``vim.version.v8_0_3_0``) of an API version as servers announce it (``8.0.3.0``).

    Raises ValueError for a version pyVmomi does not know.
    """
    try:
        return str(support.versionMap[f"vim25/{version_id}"])
    except KeyError:
        raise ValueError(f"pyVmomi knows no vSphere API version {version_id}") from None
