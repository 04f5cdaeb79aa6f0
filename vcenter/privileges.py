"""The least privileges that gpuferry needs, and a check that names each missing one and the object it is missing on.

Source: vSphere Web Services API reference ("Required Privileges" of each method) and the vSphere Security guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from vcenter.inventory import Inventory
from vcenter.session import Session

# What is needed, by the kind of object on which; every privilege with what it is for.
ON_HOST: Mapping[str, str] = {
    "System.View": "see the host",
    "System.Read": "read its devices",
    "Host.Config.PciPassthru": "turn passthrough on and off",
    "Host.Config.Maintenance": "maintenance mode and reboot",
    "Host.Config.Settings": "refresh the passthrough state",
    "Host.Config.AdvancedConfig": "the PVRDMA VMkernel tag (Net.PVRDMAVmknic)",
    "Host.Config.NetService": "the PVRDMA firewall rule set",
}
ON_FOLDER: Mapping[str, str] = {
    "VirtualMachine.Inventory.CreateFromExisting": "make servers from a template",
    "VirtualMachine.Inventory.Create": "make servers from an OVA",
    "VirtualMachine.Inventory.Delete": "delete servers",
    "VirtualMachine.Provisioning.DeployTemplate": "deploy a template",
    "VirtualMachine.Config.AddNewDisk": "the server's disk",
    "VirtualMachine.Config.AddRemoveDevice": "add and remove passthrough devices and adapters",
    "VirtualMachine.Config.CPUCount": "CPUs",
    "VirtualMachine.Config.Memory": "memory",
    "VirtualMachine.Config.Resource": "the memory reservation",
    "VirtualMachine.Config.AdvancedConfig": "64-bit MMIO and cloud-init (extraConfig)",
    "VirtualMachine.Config.Settings": "firmware and hot add",
    "VirtualMachine.Config.EditDevice": "connect adapters",
    "VirtualMachine.Config.Annotation": "the notes",
    "VirtualMachine.Config.UpgradeVirtualHardware": "the virtual hardware version",
    "VirtualMachine.Interact.PowerOn": "power on",
    "VirtualMachine.Interact.PowerOff": "power off",
}
ON_POOL: Mapping[str, str] = {"Resource.AssignVMToPool": "place servers", "VApp.Import": "deploy an OVA"}
ON_CLUSTER: Mapping[str, str] = {"Host.Inventory.EditCluster": "DRS and HA settings of a server"}
ON_DATASTORE: Mapping[str, str] = {"Datastore.AllocateSpace": "room for disks"}
ON_NETWORK: Mapping[str, str] = {"Network.Assign": "connect adapters"}
ON_ROOT: Mapping[str, str] = {
    "InventoryService.Tagging.CreateCategory": "the category gpuferry",
    "InventoryService.Tagging.CreateTag": "its tags",
    "InventoryService.Tagging.AttachTag": "tag hosts and machines",
    "Global.ManageCustomFields": "define the custom attributes",
    "Global.SetCustomField": "show the state in the vSphere client",
    "Global.LogEvent": "log events",
}


@dataclass(frozen=True)
class Missing:
    """A privilege that the account lacks on an object, and what it is needed for."""

    object_name: str
    object_id: str
    privilege: str
    why: str

    def __str__(self) -> str:
        return f"{self.privilege} on {self.object_name} ({self.why})"


def missing_privileges(session: Session, inventory: Inventory, hosts: Iterable[str] = ()) -> list[Missing]:
    """Every privilege that this session's account lacks, on the hosts named (default: all hosts with a GPU) and what
    surrounds them. Two calls to vCenter.
    """
    needed = _needed(inventory, hosts)
    by_object: dict[str, tuple[Any, str, dict[str, str]]] = {}
    for kind, moid, name, privileges in needed:
        known = by_object.setdefault(moid, (session.object(kind, moid), name, {}))
        known[2].update(privileges)
    root = session.content.rootFolder
    by_object[str(root._moId)] = (root, "the vCenter (root folder)", dict(ON_ROOT))
    all_ids = sorted({privilege for _, _, privileges in by_object.values() for privilege in privileges})
    with session.doing("Checking privileges"):
        answers = session.content.authorizationManager.HasPrivilegeOnEntities(
            entity=[entry[0] for entry in by_object.values()],
            sessionId=str(session.content.sessionManager.currentSession.key),
            privId=all_ids,
        )
    granted = {
        str(answer.entity._moId): {str(a.privId) for a in answer.privAvailability if a.isGranted} for answer in answers
    }
    return [
        Missing(name, moid, privilege, why)
        for moid, (_, name, privileges) in sorted(by_object.items())
        for privilege, why in sorted(privileges.items())
        if privilege not in granted.get(moid, set())
    ]


def _needed(inventory: Inventory, hosts: Iterable[str]) -> list[tuple[Any, str, str, Mapping[str, str]]]:
    wanted = [inventory.host(host) for host in hosts] or [host for host in inventory.hosts.values() if host.gpus]
    needed: list[tuple[Any, str, str, Mapping[str, str]]] = []
    for host in wanted:
        needed.append((vim.HostSystem, host.id, host.name, ON_HOST))
        cluster = inventory.clusters.get(host.cluster)
        if cluster is not None:
            kind = vim.ComputeResource if cluster.standalone else vim.ClusterComputeResource
            if not cluster.standalone:
                needed.append((kind, cluster.id, cluster.name, ON_CLUSTER))
            if cluster.pool:
                needed.append((vim.ResourcePool, cluster.pool, f"the resource pool of {cluster.name}", ON_POOL))
            datacenter = inventory.datacenters.get(cluster.datacenter)
            if datacenter is not None and datacenter.vm_folder:
                needed.append((vim.Folder, datacenter.vm_folder, f"the VM folder of {datacenter.name}", ON_FOLDER))
        for moid in host.datastores:
            if moid in inventory.datastores:
                needed.append((vim.Datastore, moid, inventory.datastores[moid].name, ON_DATASTORE))
        for moid in host.networks:
            if moid in inventory.portgroups and not inventory.portgroups[moid].uplink:
                needed.append((vim.dvs.DistributedVirtualPortgroup, moid, inventory.portgroups[moid].name, ON_NETWORK))
            elif moid in inventory.networks:
                needed.append((vim.Network, moid, inventory.networks[moid].name, ON_NETWORK))
    return needed
