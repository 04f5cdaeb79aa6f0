"""What runs inside virtual machines. Here: guests on paper, which boot after a while and have an address.

``guest_sandbox`` has guests one can log in to. Both are told when a machine starts, stops and goes.
"""

import itertools
from typing import Any, Protocol

from .api import vim
from .values import build

# How many paces a guest takes from power-on until its tools run.
BOOT_PACES = 5.0


class Guests(Protocol):
    """What the simulator asks of whoever runs the guests. All are called under the world's lock; none may block."""

    def start(self, machine: Any) -> None:
        """The machine has power; ``machine.guest_is_up`` is to be called, under the lock, when it has an address."""

    def stop(self, machine: Any) -> None:
        """The machine lost power."""

    def discard(self, machine: Any) -> None:
        """The machine and its disks are gone."""

    def close(self) -> None:
        """The simulation ends."""


class PaperGuests:
    """Guests that exist on paper only."""

    def __init__(self) -> None:
        self._numbers = itertools.count(10)
        self._addresses: dict[str, str] = {}

    def start(self, machine: Any) -> None:
        """Boots after some paces."""
        boot = machine.boots
        world = machine.world

        def up() -> None:
            if machine.power_state == "poweredOn" and machine.boots == boot:
                machine.guest_is_up(self.address(machine))

        world.clock.later(world.pace * BOOT_PACES, up)

    def address(self, machine: Any) -> str:
        """The machine's address, the same at every boot."""
        known = self._addresses.get(machine.moid)
        if known is None:
            number = next(self._numbers)
            known = self._addresses[machine.moid] = f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        return known

    def stop(self, machine: Any) -> None:
        """Nothing to stop."""

    def discard(self, machine: Any) -> None:
        """Forgets the address."""
        self._addresses.pop(machine.moid, None)

    def close(self) -> None:
        """Nothing to end."""


def guest_info(machine: Any, address: str, host_name: str) -> Any:
    """GuestInfo of a guest whose tools run: the first adapter has the address."""
    config = machine.values["config"]
    adapters = [each for each in config.hardware.device if isinstance(each, vim.vm.device.VirtualEthernetCard)]
    nics = []
    for number, each in enumerate(adapters):
        addresses = [address] if number == 0 else []
        nics.append(
            build(
                vim.vm.GuestInfo.NicInfo,
                network=machine.network_name(each),
                ipAddress=addresses,
                macAddress=each.macAddress,
                connected=True,
                deviceConfigId=each.key,
                ipConfig=build(
                    vim.net.IpConfigInfo,
                    ipAddress=[
                        build(vim.net.IpConfigInfo.IpAddress, ipAddress=one, prefixLength=24, state="preferred")
                        for one in addresses
                    ],
                ),
            )
        )
    return build(
        vim.vm.GuestInfo,
        toolsStatus="toolsOk",
        toolsVersionStatus="guestToolsUnmanaged",
        toolsVersionStatus2="guestToolsUnmanaged",
        toolsRunningStatus="guestToolsRunning",
        toolsVersion="12352",
        guestId=config.guestId,
        guestFamily="linuxGuest",
        guestFullName=config.guestFullName,
        hostName=host_name,
        ipAddress=address if adapters else None,
        net=nics,
        guestState="running",
        guestOperationsReady=True,
        interactiveGuestOperationsReady=False,
        guestStateChangeSupported=True,
        hwVersion=config.version,
    )
