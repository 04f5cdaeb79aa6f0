"""Network: a port group of standard switches, the same name on several hosts."""

from typing import Any

from .api import vim
from .managed_entity import ManagedEntity
from .managed_object import Call, derived, method
from .values import build
from .world import World


class Network(ManagedEntity):
    """A standard network."""

    kind = vim.Network

    def __init__(self, world: World, name: str, parent: ManagedEntity, moid: str | None = None) -> None:
        super().__init__(world, name, parent, moid)
        self.values.update(host=[], vm=[])

    def reach(self, hosts: list[Any]) -> None:
        """Makes the network available on hosts."""
        self.set("host", [*self.values["host"], *(host.ref for host in hosts)])

    def reachable_from(self, host: Any) -> bool:
        """Whether a host has this network."""
        return any(each._moId == host.moid for each in self.values["host"])

    @derived("name")
    def summary(self) -> Any:
        """What lists show."""
        return build(vim.Network.Summary, network=self.ref, name=self.name, accessible=True, ipPoolName="")

    @method
    def DestroyNetwork(self, call: Call) -> None:
        """Removes a network no virtual machine uses."""
        if self.values["vm"]:
            raise vim.fault.ResourceInUse(type=self.kind, name=self.name, msg=f"The resource '{self.name}' is in use.")
        self.remove_from_inventory()
