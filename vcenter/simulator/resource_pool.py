"""ResourcePool: what virtual machines take processor time and memory from."""

from typing import Any

from .api import vim, vmodl
from .managed_entity import ManagedEntity, check_name, duplicate_name
from .managed_object import Call, derived, method
from .task import Operation, Step
from .values import build
from .world import World


def allocation(limit: int = -1, reservation: int = 0, expandable: bool = True, shares: int = 4000) -> Any:
    """ResourceAllocationInfo with normal shares."""
    return build(
        vim.ResourceAllocationInfo,
        reservation=reservation,
        expandableReservation=expandable,
        limit=limit,
        shares=build(vim.SharesInfo, shares=shares, level="normal"),
    )


class ResourcePool(ManagedEntity):
    """A pool; the root pool of a cluster or host has that as its parent."""

    kind = vim.ResourcePool

    def __init__(self, world: World, name: str, parent: ManagedEntity, compute: Any) -> None:
        super().__init__(world, name, parent)
        self.compute = compute
        self.values.update(
            owner=compute.ref,
            resourcePool=[],
            vm=[],
            config=build(
                vim.ResourceConfigSpec,
                entity=self.ref,
                changeVersion="1",
                cpuAllocation=allocation(),
                memoryAllocation=allocation(shares=163840),
            ),
        )

    @derived("config", "name")
    def summary(self) -> Any:
        """What lists show."""
        return build(
            vim.ResourcePool.Summary,
            name=self.name,
            config=self.values["config"],
            runtime=self.get("runtime"),
            configuredMemoryMB=0,
        )

    @derived("config", "vm")
    def runtime(self) -> Any:
        """Usage in bytes and MHz; only memory reservations of running machines are counted."""
        total = self.compute.memory_bytes()
        used = sum(self.world.objects[each._moId].reserved_mib() << 20 for each in self.values["vm"])  # type: ignore[attr-defined]

        def usage(limit: int, reserved: int) -> Any:
            return build(
                vim.ResourcePool.ResourceUsage,
                reservationUsed=reserved,
                reservationUsedForVm=reserved,
                unreservedForPool=limit - reserved,
                unreservedForVm=limit - reserved,
                overallUsage=reserved,
                maxUsage=limit,
            )

        return build(
            vim.ResourcePool.RuntimeInfo,
            memory=usage(total, used),
            cpu=usage(self.compute.total_mhz(), 0),
            overallStatus="green",
        )

    @method
    def CreateResourcePool(self, call: Call, name: str, spec: Any) -> Any:
        """A pool below this one."""
        check_name(name)
        if any(self.world.objects[each._moId].values["name"] == name for each in self.values["resourcePool"]):
            raise duplicate_name(self, name)
        made = ResourcePool(self.world, name, self, self.compute)
        self.set("resourcePool", [*self.values["resourcePool"], made.ref])
        return made.ref

    @method
    def ImportVApp(self, call: Call, spec: Any, folder: Any, host: Any) -> Any:
        """Starts the import of an OVF; the answer is the lease to upload the disks with."""
        from .http_nfc_lease import import_machine

        return import_machine(call, self, spec, folder, host).ref

    def _destroy(self) -> Operation:
        yield Step("destroy", 50)
        above = self.parent
        if not isinstance(above, ResourcePool):
            raise vmodl.fault.NotSupported(msg="The root pool stays")
        for each in self.values["vm"]:
            machine: Any = self.world.objects[each._moId]
            machine.set("resourcePool", above.ref)
        above.set("vm", [*above.values["vm"], *self.values["vm"]])
        above.set("resourcePool", [each for each in above.values["resourcePool"] if each._moId != self.moid])
        self.world.remove(self)
