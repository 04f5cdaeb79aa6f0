"""com.vmware.vcenter: the short lists that tools ask for instead of walking the inventory by SOAP."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from com.vmware import vcenter_client

from .api import vim
from .automation import Caller, Service, failed
from .machine_info import machine_info

if TYPE_CHECKING:
    from .world import World

_POWER = {"poweredOn": "POWERED_ON", "poweredOff": "POWERED_OFF", "suspended": "SUSPENDED"}


def inventory_services(world: "World") -> list[Service]:
    """All services of this file."""
    return [
        each(world)
        for each in (
            MachineService,
            HostService,
            ClusterService,
            DatacenterService,
            FolderService,
            NetworkService,
            DatastoreService,
            ResourcePoolService,
        )
    ]


class _Lists(Service):
    kind: Any = None
    identity = ""

    def found(self, caller: Caller, wanted: Any, **ways: Any) -> Iterator[Any]:
        """Visible entities of this kind that pass a filter; ``ways`` say how a filter's other fields are met."""
        rights: Any = self.world.objects["AuthorizationManager"]
        for managed in list(self.world.objects.values()):
            if not isinstance(managed.ref, self.kind) or not rights.allows(caller.session, managed.ref, "System.View"):
                continue
            entity: Any = managed
            tests = {"names": lambda each: {each.name}, self.identity: lambda each: {each.moid}, **ways}
            if wanted is None or all(
                not getattr(wanted, field, None) or getattr(wanted, field) & test(entity)
                for field, test in tests.items()
            ):
                yield entity

    def one(self, moid: str) -> Any:
        """An entity of this kind. Raises NotFound."""
        managed = self.world.objects.get(moid)
        if managed is None or not isinstance(managed.ref, self.kind):
            raise failed("NotFound", f"There is no {self.kind._wsdlName} {moid}.")
        return managed


def _datacenter(entity: Any) -> set[str]:
    return {entity.datacenter.moid}


def _parent(entity: Any) -> set[str]:
    return {entity.parent.moid}


class MachineService(_Lists):
    """Virtual machines; templates are not among them."""

    stub = vcenter_client._VMStub
    kind = vim.VirtualMachine
    identity = "vms"

    def list(self, caller: Caller, filter: Any) -> Any:
        """Name, power and size."""
        return [
            vcenter_client.VM.Summary(
                vm=each.moid,
                name=each.name,
                power_state=_POWER[each.power_state],
                cpu_count=each.config.hardware.numCPU,
                memory_size_mib=each.config.hardware.memoryMB,
            )
            for each in self.found(
                caller,
                filter,
                folders=_parent,
                datacenters=_datacenter,
                hosts=lambda each: {each.host.moid},
                clusters=lambda each: {each.host.compute.moid},
                resource_pools=lambda each: {getattr(each.values["resourcePool"], "_moId", "")},
                power_states=lambda each: {_POWER[each.power_state]},
            )
            if not each.is_template
        ]

    def get(self, caller: Caller, vm: str) -> Any:
        """Everything about one."""
        machine = self.one(vm)
        caller.demand("System.Read", machine.ref)
        return machine_info(machine)

    def delete(self, caller: Caller, vm: str) -> None:
        """Removes a machine that is off."""
        machine = self.one(vm)
        caller.demand("VirtualMachine.Inventory.Delete", machine.ref)
        for _ in machine._destroy():
            pass


class HostService(_Lists):
    """Hosts."""

    stub = vcenter_client._HostStub
    kind = vim.HostSystem
    identity = "hosts"

    def list(self, caller: Caller, filter: Any) -> Any:
        """Name, connection and power."""
        states = {"connected": "CONNECTED", "disconnected": "DISCONNECTED", "notResponding": "NOT_RESPONDING"}
        return [
            vcenter_client.Host.Summary(
                host=each.moid,
                name=each.name,
                connection_state=states[str(each.values["runtime"].connectionState)],
                power_state="POWERED_ON" if each.connected else None,
            )
            for each in self.found(
                caller,
                filter,
                datacenters=_datacenter,
                clusters=lambda each: {each.compute.moid},
                connection_states=lambda each: {states[str(each.values["runtime"].connectionState)]},
            )
        ]


class ClusterService(_Lists):
    """Clusters."""

    stub = vcenter_client._ClusterStub
    kind = vim.ClusterComputeResource
    identity = "clusters"

    def list(self, caller: Caller, filter: Any) -> Any:
        """Name and whether DRS and HA are on."""
        return [
            vcenter_client.Cluster.Summary(
                cluster=each.moid,
                name=each.name,
                ha_enabled=bool(each.values["configurationEx"].dasConfig.enabled),
                drs_enabled=bool(each.values["configurationEx"].drsConfig.enabled),
            )
            for each in self.found(caller, filter, folders=_parent, datacenters=_datacenter)
        ]

    def get(self, caller: Caller, cluster: str) -> Any:
        """Name and root resource pool."""
        found = self.one(cluster)
        return vcenter_client.Cluster.Info(name=found.name, resource_pool=found.pool.moid)


class DatacenterService(_Lists):
    """Datacenters."""

    stub = vcenter_client._DatacenterStub
    kind = vim.Datacenter
    identity = "datacenters"

    def list(self, caller: Caller, filter: Any) -> Any:
        """Names."""
        return [
            vcenter_client.Datacenter.Summary(datacenter=each.moid, name=each.name)
            for each in self.found(caller, filter, folders=_parent)
        ]

    def get(self, caller: Caller, datacenter: str) -> Any:
        """Name and folders."""
        found = self.one(datacenter)
        return vcenter_client.Datacenter.Info(
            name=found.name,
            datastore_folder=found.datastore_folder.moid,
            host_folder=found.host_folder.moid,
            network_folder=found.network_folder.moid,
            vm_folder=found.vm_folder.moid,
        )


class FolderService(_Lists):
    """Folders."""

    stub = vcenter_client._FolderStub
    kind = vim.Folder
    identity = "folders"

    def list(self, caller: Caller, filter: Any) -> Any:
        """Names and purposes."""
        kinds = {
            "vm": "VIRTUAL_MACHINE",
            "host": "HOST",
            "datastore": "DATASTORE",
            "network": "NETWORK",
            "datacenter": "DATACENTER",
        }
        found = [
            vcenter_client.Folder.Summary(folder=each.moid, name=each.name, type=kinds[each.purpose])
            for each in self.found(caller, filter)
        ]
        wanted = getattr(filter, "type", None)
        return [each for each in found if wanted is None or each.type == wanted]


class NetworkService(_Lists):
    """Networks and distributed port groups."""

    stub = vcenter_client._NetworkStub
    kind = vim.Network
    identity = "networks"

    def list(self, caller: Caller, filter: Any) -> Any:
        """Names and kinds."""

        def kind(each: Any) -> str:
            distributed = isinstance(each.ref, vim.dvs.DistributedVirtualPortgroup)
            return "DISTRIBUTED_PORTGROUP" if distributed else "STANDARD_PORTGROUP"

        return [
            vcenter_client.Network.Summary(network=each.moid, name=each.name, type=kind(each))
            for each in self.found(
                caller, filter, folders=_parent, datacenters=_datacenter, types=lambda each: {kind(each)}
            )
        ]


class DatastoreService(_Lists):
    """Datastores."""

    stub = vcenter_client._DatastoreStub
    kind = vim.Datastore
    identity = "datastores"

    def list(self, caller: Caller, filter: Any) -> Any:
        """Names, kinds and room."""
        return [
            vcenter_client.Datastore.Summary(
                datastore=each.moid, name=each.name, type=each.volume, free_space=each.free, capacity=each.capacity
            )
            for each in self.found(
                caller, filter, folders=_parent, datacenters=_datacenter, types=lambda each: {each.volume}
            )
        ]

    def get(self, caller: Caller, datastore: str) -> Any:
        """A datastore."""
        found = self.one(datastore)
        return vcenter_client.Datastore.Info(
            name=found.name,
            type=found.volume,
            accessible=True,
            free_space=found.free,
            multiple_host_access=len(found.values["host"]) > 1,
            thin_provisioning_supported=True,
        )


class ResourcePoolService(_Lists):
    """Resource pools."""

    stub = vcenter_client._ResourcePoolStub
    kind = vim.ResourcePool
    identity = "resource_pools"

    def list(self, caller: Caller, filter: Any) -> Any:
        """Names."""
        return [
            vcenter_client.ResourcePool.Summary(resource_pool=each.moid, name=each.name)
            for each in self.found(
                caller,
                filter,
                datacenters=_datacenter,
                clusters=lambda each: {each.compute.moid},
                hosts=lambda each: {host.moid for host in each.compute.hosts},
                parent_resource_pools=_parent,
            )
        ]
