"""DistributedVirtualSwitch: one switch over many hosts, with uplinks on each."""

import uuid
from typing import Any

from .api import vim
from .distributed_virtual_portgroup import DistributedVirtualPortgroup
from .managed_entity import ManagedEntity
from .managed_object import Call, derived, invalid_argument, method
from .port_policy import default_port_config
from .task import Operation, Step, start_task
from .values import build, now
from .world import World


class DistributedVirtualSwitch(ManagedEntity):
    """A VMware distributed switch."""

    kind = vim.dvs.VmwareDistributedVirtualSwitch

    def __init__(self, world: World, name: str, parent: ManagedEntity, mtu: int = 1500) -> None:
        super().__init__(world, name, parent)
        raw = uuid.uuid5(uuid.NAMESPACE_DNS, f"{world.instance_uuid}/{self.moid}").hex
        halves = [" ".join(part[at : at + 2] for at in range(0, 16, 2)) for part in (raw[:16], raw[16:])]
        self.uuid = "-".join(halves)
        self.mtu = mtu
        self.created = now()
        self.members: dict[str, tuple[Any, list[str]]] = {}
        self.revision = 1
        self.values.update(uuid=self.uuid, portgroup=[])

    @property
    def portgroups(self) -> list[DistributedVirtualPortgroup]:
        """Its port groups."""
        return [self.world.objects[each._moId] for each in self.values["portgroup"]]  # type: ignore[misc]

    def add_portgroup(self, name: str, *, vlan: int = 0, uplink: bool = False, ports: int = 8) -> Any:
        """A new port group beside the switch; its hosts reach it at once. Raises vim.fault.DuplicateName."""
        folder: Any = self.parent
        folder.claim(name)
        made = DistributedVirtualPortgroup(self.world, name, folder, self, vlan=vlan, uplink=uplink, ports=ports)
        folder.adopt(made)
        self.set("portgroup", [*self.values["portgroup"], made.ref])
        made.reach([host for host, _ in self.members.values()])
        for host, _ in self.members.values():
            host.set("network", [*host.values["network"], made.ref])
            host.compute.note("network", [made.ref])
        datacenter = self.datacenter
        datacenter.set("network", [*datacenter.values["network"], made.ref])
        self._tell()
        return made

    def add_host(self, host: Any, uplinks: list[str]) -> None:
        """Makes a host a member, with some of its network cards as uplinks."""
        fresh = host.moid not in self.members
        self.members[host.moid] = (host, uplinks)
        host.network_system.join(self, uplinks)
        if fresh:
            references = [each.ref for each in self.portgroups]
            for each in self.portgroups:
                each.reach([host])
            host.set("network", [*host.values["network"], *references])
            host.compute.note("network", references)
        self._tell()

    def remove_host(self, host: Any) -> None:
        """Takes a host out."""
        del self.members[host.moid]
        host.network_system.leave(self)
        gone = {each.moid for each in self.portgroups}
        for each in self.portgroups:
            each.set("host", [held for held in each.values["host"] if held._moId != host.moid])
        host.set("network", [held for held in host.values["network"] if held._moId not in gone])
        self._tell()

    def _tell(self) -> None:
        self.revision += 1
        self.changed("config")
        self.changed("summary")

    @derived("name")
    def config(self) -> Any:
        """The whole configuration."""
        return build(
            vim.dvs.VmwareDistributedVirtualSwitch.ConfigInfo,
            uuid=self.uuid,
            name=self.name,
            numStandalonePorts=0,
            numPorts=sum(each.ports for each in self.portgroups),
            maxPorts=60_000,
            uplinkPortPolicy=build(vim.DistributedVirtualSwitch.NameArrayUplinkPortPolicy, uplinkPortName=["Uplink 1"]),
            uplinkPortgroup=[each.ref for each in self.portgroups if each.uplink],
            defaultPortConfig=default_port_config(0, ["Uplink 1"]),
            linkDiscoveryProtocolConfig=build(
                vim.host.LinkDiscoveryProtocolConfig, protocol="lldp", operation="listen"
            ),
            ipfixConfig=build(
                vim.dvs.VmwareDistributedVirtualSwitch.IpfixConfig,
                activeFlowTimeout=60,
                idleFlowTimeout=15,
                samplingRate=4096,
                internalFlowsOnly=False,
            ),
            multicastFilteringMode="legacyFiltering",
            lacpApiVersion="multipleLag",
            host=[
                build(
                    vim.dvs.HostMember,
                    config=build(
                        vim.dvs.HostMember.ConfigInfo,
                        host=host.ref,
                        maxProxySwitchPorts=2560,
                        backing=build(
                            vim.dvs.HostMember.PnicBacking,
                            pnicSpec=[build(vim.dvs.HostMember.PnicSpec, pnicDevice=each) for each in uplinks],
                        ),
                    ),
                    status="up",
                    productInfo=self._product(),
                )
                for host, uplinks in self.members.values()
            ],
            productInfo=self._product(),
            configVersion=str(self.revision),
            contact=build(vim.DistributedVirtualSwitch.ContactInfo),
            createTime=self.created,
            networkResourceManagementEnabled=True,
            maxMtu=self.mtu,
        )

    @staticmethod
    def _product() -> Any:
        return build(vim.dvs.ProductSpec, name="DVS", vendor="VMware, Inc.", version="8.0.0")

    @derived("name")
    def summary(self) -> Any:
        """What lists show."""
        return build(
            vim.DistributedVirtualSwitch.Summary,
            name=self.name,
            uuid=self.uuid,
            numPorts=sum(each.ports for each in self.portgroups),
            productInfo=self._product(),
            hostMember=[host.ref for host, _ in self.members.values()],
            host=[host.ref for host, _ in self.members.values()],
            portgroupName=[each.name for each in self.portgroups],
            numHosts=len(self.members),
        )

    @method
    def AddDVPortgroup_Task(self, call: Call, spec: Any) -> Any:
        """New port groups."""
        return start_task(call, self, "AddDVPortgroup_Task", self._add_portgroups(spec))

    @method
    def CreateDVPortgroup_Task(self, call: Call, spec: Any) -> Any:
        """A new port group; the result names it."""
        return start_task(call, self, "CreateDVPortgroup_Task", self._add_portgroups([spec]))

    def _add_portgroups(self, specs: Any) -> Operation:
        yield Step("create", 50)
        made = None
        for spec in specs:
            policy = spec.defaultPortConfig
            vlan = getattr(getattr(policy, "vlan", None), "vlanId", 0) if policy is not None else 0
            made = self.add_portgroup(
                spec.name,
                vlan=vlan if isinstance(vlan, int) else 0,
                ports=spec.numPorts or 8,
            )
        return made.ref if made is not None and len(specs) == 1 else None

    @method
    def ReconfigureDvs_Task(self, call: Call, spec: Any) -> Any:
        """Changes the switch: its name, MTU and member hosts."""
        return start_task(call, self, "ReconfigureDvs_Task", self._reconfigure(spec))

    def _reconfigure(self, spec: Any) -> Operation:
        yield Step("reconfigure", 50)
        if spec.configVersion and spec.configVersion != str(self.revision):
            raise vim.fault.ConcurrentAccess(msg="The switch has been changed by someone else.")
        apply_members(self, spec.host)
        if spec.name:
            self.rename(spec.name)
        if getattr(spec, "maxMtu", None):
            self.mtu = spec.maxMtu
        self._tell()

    @method
    def LookupDvPortGroup(self, call: Call, portgroupKey: str) -> Any:
        """A port group by its key."""
        for each in self.portgroups:
            if each.moid == portgroupKey:
                return each.ref
        raise vim.fault.NotFound(msg=f"There is no port group {portgroupKey} in {self.name}")

    def _destroy(self) -> Operation:
        yield Step("destroy", 50)
        for each in self.portgroups:
            if each.values["vm"]:
                raise vim.fault.ResourceInUse(
                    type=self.kind, name=each.name, msg=f"The resource '{each.name}' is in use."
                )
        for host, _ in list(self.members.values()):
            self.remove_host(host)
        for each in self.portgroups:
            each.take_out()
        self.remove_from_inventory()


def apply_members(switch: DistributedVirtualSwitch, members: Any) -> None:
    """Adds, edits and removes member hosts as a specification says."""
    for member in members:
        host = switch.world.find(member.host)
        uplinks = [each.pnicDevice for each in getattr(member.backing, "pnicSpec", ())]
        if member.operation == "remove":
            if host.moid not in switch.members:
                raise vim.fault.NotFound(msg=f"{host.name} is not in {switch.name}")
            switch.remove_host(host)
            continue
        known = {each.device for each in host.network_system.pnics}
        for each in uplinks:
            if each not in known:
                raise invalid_argument("spec.host.backing", f"There is no network card {each} on {host.name}.")
        if member.operation == "add" and host.moid in switch.members:
            raise vim.fault.AlreadyExists(name=host.name, msg=f"{host.name} is in {switch.name} already")
        switch.add_host(host, uplinks)


def create_switch(folder: Any, spec: Any) -> Operation:
    """CreateDVS_Task: the switch with its uplink port group and its first hosts."""
    config = spec.configSpec
    folder.claim(config.name)
    yield Step("create", 30)
    made = DistributedVirtualSwitch(folder.world, config.name, folder, getattr(config, "maxMtu", None) or 1500)
    folder.adopt(made)
    made.add_portgroup(f"{config.name}-DVUplinks-{made.moid.rpartition('-')[2]}", uplink=True)
    yield Step("add hosts", 70)
    apply_members(made, config.host)
    return made.ref
