"""EnvironmentBrowser: what a virtual machine could be given on the hosts of a cluster."""

from typing import Any

from .api import vim
from .managed_object import Call, Managed, invalid_argument, method
from .values import build
from .world import World

# Newest hardware version an API version's hosts run.
NEWEST_HARDWARE = {"6": 15, "7": 19, "8": 21, "9": 22}
_GUESTS = (
    ("ubuntu64Guest", "Ubuntu Linux (64-bit)", True),
    ("debian12_64Guest", "Debian GNU/Linux 12 (64-bit)", True),
    ("rhel9_64Guest", "Red Hat Enterprise Linux 9 (64-bit)", True),
    ("otherLinux64Guest", "Other Linux (64-bit)", True),
    ("otherGuest64", "Other (64-bit)", False),
    ("vmwarePhoton64Guest", "VMware Photon OS (64-bit)", False),
)


def guest_full_name(guest_id: str) -> str:
    """The name of an operating system that the client shows."""
    return next((name for key, name, _ in _GUESTS if key == guest_id), guest_id)


class EnvironmentBrowser(Managed):
    """One for each cluster or host, one for each virtual machine."""

    kind = vim.EnvironmentBrowser

    def __init__(self, world: World, compute: Any) -> None:
        super().__init__(world)
        self.owner = compute

    def _hosts(self, host: Any) -> list[Any]:
        owner: Any = self.owner
        compute = owner if isinstance(owner.ref, vim.ComputeResource) else owner.host.compute
        if host is None:
            return list(compute.hosts) if compute is owner else [owner.host]
        found = self.world.find(host)
        if found.compute is not compute:
            raise invalid_argument("host", f"{found.name} is not in {compute.name}.")
        return [found]

    @method
    def QueryConfigTarget(self, call: Call, host: Any) -> Any:
        """Devices a virtual machine could get: of one host, or of all in the cluster."""
        hosts = [each for each in self._hosts(host) if each.usable or host is not None]
        fixed = [item for each in hosts for item in each.passthrough_targets()] if len(hosts) == 1 else []
        dynamic: dict[Any, Any] = {}
        for each in hosts:
            for item in each.dynamic_targets():
                dynamic.setdefault((item.vendorId, item.deviceId, item.customLabel), item)
        return build(
            vim.vm.ConfigTarget,
            numCpus=max((each.cpu_cores * 2 for each in hosts), default=0),
            numCpuCores=max((each.cpu_cores for each in hosts), default=0),
            numNumaNodes=2,
            maxCpusPerHost=max((each.cpu_cores * 2 for each in hosts), default=0),
            smcPresent=False,
            maxMemMBOptimalPerf=max((each.memory_bytes >> 20 for each in hosts), default=0),
            supportedMaxMemMB=25_149_440,
            autoVmotion=False,
            pciPassthrough=fixed,
            dynamicPassthrough=list(dynamic.values()),
            **self._networks(hosts),
        )

    def _networks(self, hosts: list[Any]) -> dict[str, Any]:
        datastores, networks, groups, switches = {}, {}, {}, {}
        for host in hosts:
            for reference in host.values["datastore"]:
                store: Any = self.world.objects[reference._moId]
                datastores[store.moid] = build(
                    vim.vm.DatastoreInfo,
                    name=store.name,
                    datastore=store.get("summary"),
                    capability=store.values["capability"],
                    maxFileSize=64 << 40,
                    mode="readWrite",
                )
            for reference in host.values["network"]:
                network: Any = self.world.objects[reference._moId]
                if not isinstance(network.ref, vim.dvs.DistributedVirtualPortgroup):
                    networks[network.moid] = build(
                        vim.vm.NetworkInfo, name=network.name, network=network.get("summary")
                    )
                    continue
                switch = network.switch
                switches[switch.moid] = build(
                    vim.dvs.DistributedVirtualSwitchInfo,
                    switchName=switch.name,
                    switchUuid=switch.uuid,
                    distributedVirtualSwitch=switch.ref,
                )
                groups[network.moid] = build(
                    vim.dvs.DistributedVirtualPortgroupInfo,
                    switchName=switch.name,
                    switchUuid=switch.uuid,
                    portgroupName=network.name,
                    portgroupKey=network.moid,
                    portgroupType="earlyBinding",
                    uplinkPortgroup=network.uplink,
                    portgroup=network.ref,
                )
        return {
            "datastore": list(datastores.values()),
            "network": list(networks.values()),
            "distributedVirtualPortgroup": list(groups.values()),
            "distributedVirtualSwitch": list(switches.values()),
        }

    def _versions(self) -> list[int]:
        newest = NEWEST_HARDWARE[self.world.api_version[0]]
        return [each for each in (10, 11, 13, 14, 15, 17, 18, 19, 20, 21, 22) if each <= newest]

    @method
    def QueryConfigOptionDescriptor(self, call: Call) -> Any:
        """The hardware versions there are."""
        newest = self._versions()[-1]
        return [
            build(
                vim.vm.ConfigOptionDescriptor,
                key=f"vmx-{each:02d}",
                description=f"ESXi virtual machine, hardware version {each}",
                host=[host.ref for host in self._hosts(None)],
                createSupported=True,
                defaultConfigOption=each == newest,
                runSupported=True,
                upgradeSupported=True,
            )
            for each in self._versions()
        ]

    @method
    def QueryConfigOption(self, call: Call, key: str | None, host: Any) -> Any:
        """What a hardware version offers."""
        return self._option(key)

    @method
    def QueryConfigOptionEx(self, call: Call, spec: Any) -> Any:
        """The same, for some guest operating systems only."""
        return self._option(spec.key if spec else None, list(spec.guestId) if spec else [])

    def _option(self, key: str | None, guests: list[str] | None = None) -> Any:
        newest = self._versions()[-1]
        number = int(key.removeprefix("vmx-")) if key else newest
        if number not in self._versions():
            raise invalid_argument("key", f"There is no hardware version {key}.")
        return build(
            vim.vm.ConfigOption,
            version=f"vmx-{number:02d}",
            description=f"ESXi virtual machine, hardware version {number}",
            guestOSDescriptor=[self._guest(number, *each) for each in _GUESTS if not guests or each[0] in guests],
            guestOSDefaultIndex=0,
        )

    @staticmethod
    def _guest(number: int, key: str, name: str, pvrdma: bool) -> Any:
        cards = [vim.vm.device.VirtualE1000, vim.vm.device.VirtualVmxnet3]
        if pvrdma and number >= 13:
            cards.append(vim.vm.device.VirtualVmxnet3Vrdma)
        return build(
            vim.vm.GuestOsDescriptor,
            id=key,
            family="linuxGuest" if "inux" in name or "Photon" in name else "otherGuestFamily",
            fullName=name,
            supportedMaxCPUs=768,
            numSupportedPhysicalSockets=128,
            numSupportedCoresPerSocket=128,
            supportedMinMemMB=32,
            supportedMaxMemMB=25_149_440,
            recommendedMemMB=2048,
            recommendedEthernetCard=vim.vm.device.VirtualVmxnet3,
            supportedEthernetCard=cards,
            recommendedFirmware="efi",
            supportedFirmware=["bios", "efi"],
        )
