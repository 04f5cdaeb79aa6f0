"""HostNetworkSystem and HostVirtualNicManager: network cards, RDMA devices, switches, VMkernel adapters."""

import itertools
from typing import Any

from .api import vim
from .cards import ETHERNET, Function, NicModel, pci_device
from .managed_object import Call, Managed, derived, invalid_argument, method
from .values import build, overlay, vary
from .world import World

_TYPES = ("management", "vmotion", "vsan", "faultToleranceLogging", "vSphereReplication", "vSphereProvisioning")
_macs = itertools.count(1)


def _mac() -> str:
    number = next(_macs)
    return f"b4:45:06:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


class HostNetworkSystem(Managed):
    """The network part of a host."""

    kind = vim.host.NetworkSystem

    def __init__(self, world: World, host: Any) -> None:
        super().__init__(world, f"networkSystem-{host.moid}")
        self.owner = self.host = host
        self.pnics: list[Any] = []
        self.rdma: list[Any] = []
        self.vnics: list[Any] = []
        self.portgroups: list[str] = []
        self.proxies: dict[str, tuple[Any, list[str]]] = {}

    def insert_nic(self, bus: int, model: NicModel) -> str:
        """Puts a network card in; answers its name (``vmnic0``)."""
        function = Function(model.device_id, ETHERNET, f"MT [{model.name}]", model.vendor_id, 0x0016)
        device = pci_device(bus, 0, 0, function)
        self.host.passthrough.insert(device, capable=True)
        name = f"vmnic{len(self.pnics)}"
        rdma = f"vmrdma{len(self.rdma)}" if model.rdma_driver else None
        self.pnics.append(
            build(
                vim.host.PhysicalNic,
                key=f"key-vim.host.PhysicalNic-{name}",
                device=name,
                pci=device.id,
                driver=model.driver,
                linkSpeed=build(vim.host.PhysicalNic.LinkSpeedDuplex, speedMb=model.speed, duplex=True),
                spec=build(vim.host.PhysicalNic.Specification),
                wakeOnLanSupported=False,
                mac=_mac(),
                autoNegotiateSupported=True,
                rdmaDevice=f"key-vim.host.RdmaDevice-{rdma}" if rdma else None,
            )
        )
        if rdma:
            self.rdma.append(
                build(
                    vim.host.RdmaDevice,
                    key=f"key-vim.host.RdmaDevice-{rdma}",
                    device=rdma,
                    driver=model.rdma_driver,
                    description=f"MT [{model.name}]",
                    backing=build(vim.host.RdmaDevice.PnicBacking, pairedUplink=f"key-vim.host.PhysicalNic-{name}"),
                    connectionInfo=build(
                        vim.host.RdmaDevice.ConnectionInfo, state="active", mtu=4096, speedInMbps=model.speed
                    ),
                    capability=build(
                        vim.host.RdmaDevice.Capability,
                        roceV1Capable=model.roce_v1,
                        roceV2Capable=model.roce_v2,
                        iWarpCapable=False,
                    ),
                )
            )
        return name

    def join(self, switch: Any, uplinks: list[str]) -> None:
        """Makes the host a member of a distributed switch with some of its cards as uplinks."""
        self.proxies[switch.uuid] = (switch, uplinks)
        self.tell()

    def leave(self, switch: Any) -> None:
        """Takes the host out of a distributed switch."""
        self.proxies.pop(switch.uuid, None)
        self.tell()

    @derived()
    def networkInfo(self) -> Any:
        """Everything at once."""
        return build(
            vim.host.NetworkInfo,
            vswitch=[
                build(
                    vim.host.VirtualSwitch,
                    name="vSwitch0",
                    key="key-vim.host.VirtualSwitch-vSwitch0",
                    numPorts=2560,
                    numPortsAvailable=2500,
                    mtu=1500,
                    portgroup=[f"key-vim.host.PortGroup-{name}" for name in self.portgroups],
                    pnic=["key-vim.host.PhysicalNic-vmnic0"] if self.pnics else [],
                    spec=build(vim.host.VirtualSwitch.Specification, numPorts=128),
                )
            ],
            portgroup=[
                build(
                    vim.host.PortGroup,
                    key=f"key-vim.host.PortGroup-{name}",
                    vswitch="key-vim.host.VirtualSwitch-vSwitch0",
                    computedPolicy=build(vim.host.NetworkPolicy),
                    spec=build(
                        vim.host.PortGroup.Specification,
                        name=name,
                        vlanId=0,
                        vswitchName="vSwitch0",
                        policy=build(vim.host.NetworkPolicy),
                    ),
                )
                for name in self.portgroups
            ],
            proxySwitch=[self._proxy(switch, uplinks) for switch, uplinks in self.proxies.values()],
            pnic=list(self.pnics),
            rdmaDevice=list(self.rdma),
            vnic=list(self.vnics),
            dnsConfig=build(
                vim.host.DnsConfig,
                dhcp=False,
                hostName=self.host.name.partition(".")[0],
                domainName=self.host.name.partition(".")[2],
                address=["192.0.2.53"],
            ),
            ipRouteConfig=build(vim.host.IpRouteConfig, defaultGateway="192.0.2.1"),
            ipV6Enabled=False,
        )

    @derived()
    def networkConfig(self) -> Any:
        """The same as a configuration that could be applied."""
        return build(
            vim.host.NetworkConfig,
            proxySwitch=[
                build(vim.host.HostProxySwitch.Config, uuid=each.dvsUuid, spec=each.spec)
                for each in self.get("networkInfo").proxySwitch
            ],
            pnic=[build(vim.host.PhysicalNic.Config, device=each.device, spec=each.spec) for each in self.pnics],
            vnic=[
                build(vim.host.VirtualNic.Config, device=each.device, portgroup=each.portgroup, spec=each.spec)
                for each in self.vnics
            ],
        )

    @staticmethod
    def _proxy(switch: Any, uplinks: list[str]) -> Any:
        return build(
            vim.host.HostProxySwitch,
            dvsUuid=switch.uuid,
            dvsName=switch.name,
            key=f"key-vim.host.HostProxySwitch-{switch.name}",
            numPorts=2560,
            numPortsAvailable=2500,
            uplinkPort=[
                build(vim.KeyValue, key=str(number), value=f"Uplink {number + 1}") for number in range(len(uplinks))
            ],
            mtu=switch.mtu,
            pnic=[f"key-vim.host.PhysicalNic-{each}" for each in uplinks],
            spec=build(
                vim.host.HostProxySwitch.Specification,
                backing=build(
                    vim.dvs.HostMember.PnicBacking,
                    pnicSpec=[build(vim.dvs.HostMember.PnicSpec, pnicDevice=each) for each in uplinks],
                ),
            ),
        )

    def tell(self) -> None:
        """Says that the network has changed."""
        self.changed("networkInfo")
        self.changed("networkConfig")
        self.host.changed("_network")
        self.host.nic_manager.tell()

    def add_vnic(self, portgroup: str, spec: Any) -> str:
        """A new VMkernel adapter; answers its name."""
        taken = {each.device for each in self.vnics}
        name = next(each for each in (f"vmk{number}" for number in itertools.count()) if each not in taken)
        self.vnics.append(
            build(
                vim.host.VirtualNic,
                device=name,
                key=f"key-vim.host.VirtualNic-{name}",
                portgroup=portgroup,
                spec=vary(
                    spec,
                    mac=spec.mac or _mac(),
                    mtu=spec.mtu or 1500,
                    ip=spec.ip or build(vim.host.IpConfig, dhcp=True),
                ),
            )
        )
        self.tell()
        return name

    @method
    def QueryNetworkHint(self, call: Call, device: list[str] | None) -> Any:
        """What cards have seen of their networks: nothing, nobody speaks here."""
        wanted = set(device or ())
        return [
            build(vim.host.PhysicalNic.NetworkHint, device=each.device)
            for each in self.pnics
            if not wanted or each.device in wanted
        ]

    @method
    def AddVirtualNic(self, call: Call, portgroup: str, nic: Any) -> str:
        """Adds a VMkernel adapter on a standard port group (named) or a distributed one (in the specification)."""
        self.host.demand_connected()
        if nic.distributedVirtualPort is not None:
            if nic.distributedVirtualPort.switchUuid not in self.proxies:
                raise vim.fault.NotFound(msg=f"{self.host.name} is not in the distributed switch")
        elif portgroup not in self.portgroups:
            raise vim.fault.NotFound(msg=f"There is no port group {portgroup} on {self.host.name}")
        return self.add_vnic(portgroup or "", nic)

    @method
    def UpdateVirtualNic(self, call: Call, device: str, nic: Any) -> None:
        """Changes a VMkernel adapter."""
        at = self._vnic(device)
        held = self.vnics[at]
        fields = ("ip", "mac", "distributedVirtualPort", "portgroup", "mtu", "tsoEnabled")
        self.vnics[at] = vary(held, spec=overlay(held.spec, nic, fields))
        self.tell()

    @method
    def RemoveVirtualNic(self, call: Call, device: str) -> None:
        """Removes a VMkernel adapter."""
        del self.vnics[self._vnic(device)]
        self.tell()

    def _vnic(self, device: str) -> int:
        self.host.demand_connected()
        for at, each in enumerate(self.vnics):
            if each.device == device:
                return at
        raise vim.fault.NotFound(msg=f"There is no VMkernel adapter {device} on {self.host.name}")

    @method
    def AddPortGroup(self, call: Call, portgrp: Any) -> None:
        """Adds a standard port group on vSwitch0."""
        if portgrp.name in self.portgroups:
            raise vim.fault.AlreadyExists(name=portgrp.name, msg=f"The port group {portgrp.name} exists already")
        if portgrp.vswitchName != "vSwitch0":
            raise vim.fault.NotFound(msg=f"There is no switch {portgrp.vswitchName} on {self.host.name}")
        self.portgroups.append(portgrp.name)
        self.tell()

    @method
    def RemovePortGroup(self, call: Call, pgName: str) -> None:
        """Removes a standard port group."""
        if pgName not in self.portgroups:
            raise vim.fault.NotFound(msg=f"There is no port group {pgName} on {self.host.name}")
        self.portgroups.remove(pgName)
        self.tell()

    @method
    def RefreshNetworkSystem(self, call: Call) -> None:
        """Everything is always up to date here."""


class HostVirtualNicManager(Managed):
    """Which VMkernel adapter does what."""

    kind = vim.host.VirtualNicManager

    def __init__(self, world: World, host: Any) -> None:
        super().__init__(world, f"virtualNicManager-{host.moid}")
        self.owner = self.host = host
        self.selected: dict[str, list[str]] = {name: [] for name in _TYPES}

    @derived()
    def info(self) -> Any:
        """Selection for every type of traffic."""
        return build(vim.host.VirtualNicManagerInfo, netConfig=[self._config(name) for name in self.selected])

    def _config(self, name: str) -> Any:
        return build(
            vim.host.VirtualNicManager.NetConfig,
            nicType=name,
            multiSelectAllowed=True,
            candidateVnic=list(self.host.network_system.vnics),
            selectedVnic=[f"{name}.key-vim.host.VirtualNic-{device}" for device in self.selected[name]],
        )

    def _known(self, kind: str, device: str) -> None:
        self.host.demand_connected()
        if kind not in self.selected:
            raise invalid_argument("nicType", f"There is no type {kind}.")
        if all(each.device != device for each in self.host.network_system.vnics):
            raise invalid_argument("device", f"There is no VMkernel adapter {device} on {self.host.name}.")

    def tell(self) -> None:
        """Says that the selection or the candidates have changed."""
        self.changed("info")
        self.host.changed("_nics")

    @method
    def QueryNetConfig(self, call: Call, nicType: str) -> Any:
        """Selection for one type of traffic."""
        if nicType not in self.selected:
            raise invalid_argument("nicType", f"There is no type {nicType}.")
        return self._config(nicType)

    @method
    def SelectVnicForNicType(self, call: Call, nicType: str, device: str) -> None:
        """Uses an adapter for a type of traffic."""
        self._known(nicType, device)
        if device not in self.selected[nicType]:
            self.selected[nicType].append(device)
        self.tell()

    @method
    def DeselectVnicForNicType(self, call: Call, nicType: str, device: str) -> None:
        """No longer uses it."""
        self._known(nicType, device)
        if device in self.selected[nicType]:
            self.selected[nicType].remove(device)
        self.tell()
