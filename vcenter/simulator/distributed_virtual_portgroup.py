"""DistributedVirtualPortgroup: what virtual machines of a distributed switch connect to."""

from typing import TYPE_CHECKING, Any

from .api import vim
from .managed_entity import ManagedEntity
from .managed_object import Call, derived, method
from .network import Network
from .port_policy import default_port_config, default_portgroup_policy
from .task import Operation, Step, start_task
from .values import build
from .world import World

if TYPE_CHECKING:
    from .distributed_virtual_switch import DistributedVirtualSwitch


class DistributedVirtualPortgroup(Network):
    """A port group; its key is its managed object id."""

    kind = vim.dvs.DistributedVirtualPortgroup

    def __init__(
        self,
        world: World,
        name: str,
        parent: ManagedEntity,
        switch: "DistributedVirtualSwitch",
        *,
        vlan: int = 0,
        uplink: bool = False,
        ports: int = 8,
    ) -> None:
        super().__init__(world, name, parent)
        self.switch = switch
        self.vlan = vlan
        self.uplink = uplink
        self.ports = ports
        self.revision = 1
        self.values.update(key=self.moid, portKeys=[])

    @derived("name")
    def config(self) -> Any:
        """The whole configuration."""
        return build(
            vim.dvs.DistributedVirtualPortgroup.ConfigInfo,
            key=self.moid,
            name=self.name,
            numPorts=self.ports,
            distributedVirtualSwitch=self.switch.ref,
            defaultPortConfig=default_port_config(self.vlan, ["Uplink 1"]),
            type="earlyBinding",
            backingType="standard",
            policy=default_portgroup_policy(),
            configVersion=str(self.revision),
            autoExpand=True,
            uplink=self.uplink,
        )

    def take_out(self) -> None:
        """Removes the port group everywhere."""
        for reference in self.values["host"]:
            host: Any = self.world.objects[reference._moId]
            host.set("network", [each for each in host.values["network"] if each._moId != self.moid])
            compute = host.compute
            compute.set("network", [each for each in compute.values["network"] if each._moId != self.moid])
        switch = self.switch
        switch.set("portgroup", [each for each in switch.values["portgroup"] if each._moId != self.moid])
        datacenter = self.datacenter
        datacenter.set("network", [each for each in datacenter.values["network"] if each._moId != self.moid])
        self.remove_from_inventory()

    @method
    def ReconfigureDVPortgroup_Task(self, call: Call, spec: Any) -> Any:
        """Changes name, number of ports and VLAN."""
        return start_task(call, self, "ReconfigureDVPortgroup_Task", self._reconfigure(spec))

    def _reconfigure(self, spec: Any) -> Operation:
        yield Step("reconfigure", 50)
        if spec.configVersion and spec.configVersion != str(self.revision):
            raise vim.fault.ConcurrentAccess(msg="The port group has been changed by someone else.")
        if spec.name:
            self.rename(spec.name)
        if spec.numPorts is not None:
            self.ports = spec.numPorts
        vlan = getattr(getattr(spec.defaultPortConfig, "vlan", None), "vlanId", None)
        if isinstance(vlan, int):
            self.vlan = vlan
        self.revision += 1
        self.changed("config")

    def _destroy(self) -> Operation:
        yield Step("destroy", 50)
        if self.values["vm"]:
            raise vim.fault.ResourceInUse(type=self.kind, name=self.name, msg=f"The resource '{self.name}' is in use.")
        self.take_out()
