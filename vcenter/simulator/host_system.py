"""HostSystem: an ESXi host with its cards, its maintenance mode, its reboots and its connection to vCenter."""

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from . import host_processors
from .api import vim, vmodl
from .cards import BOARD, pci_device
from .host_firewall_system import HostFirewallSystem
from .host_graphics_manager import HostGraphicsManager
from .host_network_system import HostNetworkSystem, HostVirtualNicManager
from .host_pci_passthru_system import HostPciPassthruSystem
from .host_service_system import HostServiceSystem
from .managed_entity import ManagedEntity
from .managed_object import Call, derived, method
from .option_manager import HostOptionManager
from .service_instance import about
from .task import Operation, Step, start_task
from .values import build, now, vary
from .world import World

if TYPE_CHECKING:
    from .compute_resource import ComputeResource

# How many paces a reboot takes between the host's leaving and its return.
REBOOT_PACES = 10.0


class HostSystem(ManagedEntity):
    """A host. Memory in bytes, processor speed in MHz."""

    kind = vim.HostSystem

    def __init__(
        self,
        world: World,
        name: str,
        compute: "ComputeResource",
        *,
        cpu_cores: int = 32,
        cpu_mhz: int = 2600,
        memory_gib: int = 512,
        rebind_without_reboot: bool = True,
    ) -> None:
        super().__init__(world, name, compute)
        self.compute = compute
        self.cpu_cores = cpu_cores
        self.cpu_mhz = cpu_mhz
        self.memory_bytes = memory_gib << 30
        self.uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{world.instance_uuid}/{self.moid}"))
        self.values.update(
            vm=[],
            datastore=[],
            network=[],
            _devices=[pci_device(0, number, 0, each) for number, each in enumerate(BOARD)],
            _entering_maintenance=False,
            runtime=build(
                vim.host.RuntimeInfo,
                connectionState="connected",
                powerState="poweredOn",
                standbyMode="none",
                inMaintenanceMode=False,
                inQuarantineMode=False,
                bootTime=now() - timedelta(days=30),
            ),
            capability=build(
                vim.host.Capability,
                rebootSupported=True,
                shutdownSupported=True,
                vmotionSupported=True,
                maintenanceModeSupported=True,
                assignableHardwareSupported=True,
                deviceRebindWithoutRebootSupported=rebind_without_reboot,
                nestedHVSupported=True,
                maxSupportedVmMemory=25_149_440,
            ),
        )
        self.passthrough = HostPciPassthruSystem(world, self)
        self.graphics = HostGraphicsManager(world, self)
        self.network_system = HostNetworkSystem(world, self)
        self.nic_manager = HostVirtualNicManager(world, self)
        self.firewall = HostFirewallSystem(world, self)
        self.options = HostOptionManager(world, self)
        self.services = HostServiceSystem(world, self)
        self.values["configManager"] = build(
            vim.host.ConfigManager,
            pciPassthruSystem=self.passthrough.ref,
            graphicsManager=self.graphics.ref,
            networkSystem=self.network_system.ref,
            virtualNicManager=self.nic_manager.ref,
            firewallSystem=self.firewall.ref,
            advancedOption=self.options.ref,
            serviceSystem=self.services.ref,
        )

    # What others ask a host.

    @property
    def connected(self) -> bool:
        """Whether vCenter reaches it."""
        return bool(self.values["runtime"].connectionState == "connected")

    @property
    def in_maintenance(self) -> bool:
        """Whether it is in maintenance mode."""
        return bool(self.values["runtime"].inMaintenanceMode)

    @property
    def usable(self) -> bool:
        """Whether virtual machines may be placed on it."""
        return self.connected and not self.in_maintenance and not self.values["_entering_maintenance"]

    def demand_connected(self) -> None:
        """Raises vmodl.fault.HostNotConnected."""
        if not self.connected:
            raise vmodl.fault.HostNotConnected(
                msg=f"Unable to communicate with the remote host {self.name}, since it is disconnected."
            )

    @property
    def machines(self) -> list[Any]:
        """The virtual machines registered on it."""
        return [self.world.objects[each._moId] for each in self.values["vm"]]

    def running_machines(self) -> list[Any]:
        """Those that are not powered off."""
        return [each for each in self.machines if each.power_state != "poweredOff"]

    def free_memory_mib(self) -> int:
        """Memory not reserved by running virtual machines; some is the hypervisor's own."""
        reserved = sum(each.reserved_mib() for each in self.running_machines())
        return int(int(self.memory_bytes * 0.97) // (1 << 20) - reserved)

    def passthrough_targets(self) -> list[Any]:
        """PciPassthroughInfo of the devices that are active."""
        return self.passthrough.targets()

    def dynamic_targets(self) -> list[Any]:
        """DynamicPassthroughInfo of the devices that are active."""
        return self.passthrough.dynamic_targets()

    def note(self, **changes: Any) -> None:
        """Changes runtime fields; the cluster's totals follow."""
        self.set("runtime", vary(self.values["runtime"], **changes))
        self.compute.changed("summary")

    def machines_changed(self) -> None:
        """Says that a virtual machine here started, stopped, or was given other devices."""
        self.changed("_bindings")
        self.passthrough.changed("pciPassthruInfo")
        self.graphics.changed("graphicsInfo")

    # Properties.

    @derived("_devices")
    def hardware(self) -> Any:
        """Processors, memory and PCI devices."""
        return build(
            vim.host.HardwareInfo,
            systemInfo=build(
                vim.host.SystemInfo,
                vendor="Dell Inc.",
                model="PowerEdge R750xa",
                uuid=self.uuid,
                serialNumber=self.uuid[:7].upper(),
            ),
            cpuInfo=build(
                vim.host.CpuInfo,
                numCpuPackages=host_processors.PACKAGES,
                numCpuCores=self.cpu_cores,
                numCpuThreads=self.cpu_cores * 2,
                hz=self.cpu_mhz * 1_000_000,
            ),
            cpuPkg=host_processors.packages(self.cpu_cores, self.cpu_mhz),
            cpuFeature=host_processors.features(),
            memorySize=self.memory_bytes,
            numaInfo=host_processors.numa(self.cpu_cores, self.memory_bytes),
            smcPresent=False,
            pciDevice=self.values["_devices"],
            biosInfo=build(vim.host.BIOSInfo, biosVersion="1.14.1", vendor="Dell Inc.", firmwareType="EFI"),
        )

    @derived("_passthru", "_graphics", "_bindings", "_network", "_options", "_firewall", "_nics", "_services", "name")
    def config(self) -> Any:
        """The host's configuration, as its subsystems have it."""
        return build(
            vim.host.ConfigInfo,
            host=self.ref,
            product=about(self.world, "embeddedEsx"),
            network=self.network_system.get("networkInfo"),
            virtualNicManagerInfo=self.nic_manager.get("info"),
            firewall=self.firewall.get("firewallInfo"),
            service=self.services.get("serviceInfo"),
            option=self.options.get("setting"),
            pciPassthruInfo=self.passthrough.get("pciPassthruInfo"),
            graphicsInfo=self.graphics.get("graphicsInfo"),
            graphicsConfig=self.graphics.get("graphicsConfig"),
            assignableHardwareBinding=self.passthrough.bindings(),
            assignableHardwareConfig=self.passthrough.labels(),
            lockdownMode="lockdownDisabled",
            adminDisabled=False,
        )

    @derived("runtime", "_passthru", "_devices", "name", "value", "overallStatus")
    def summary(self) -> Any:
        """What lists show."""
        pending = self.passthrough.pending()
        return build(
            vim.host.Summary,
            host=self.ref,
            hardware=build(
                vim.host.Summary.HardwareSummary,
                vendor="Dell Inc.",
                model="PowerEdge R750xa",
                uuid=self.uuid,
                memorySize=self.memory_bytes,
                cpuModel=host_processors.MODEL,
                cpuMhz=self.cpu_mhz,
                numCpuPkgs=host_processors.PACKAGES,
                numCpuCores=self.cpu_cores,
                numCpuThreads=self.cpu_cores * 2,
                numNics=len(self.network_system.get("networkInfo").pnic),
                numHBAs=2,
            ),
            runtime=self.values["runtime"],
            config=build(
                vim.host.Summary.ConfigSummary,
                name=self.name,
                port=443,
                product=about(self.world, "embeddedEsx"),
                vmotionEnabled=True,
                faultToleranceEnabled=False,
            ),
            quickStats=build(vim.host.Summary.QuickStats, overallCpuUsage=0, overallMemoryUsage=0),
            overallStatus=self.values["overallStatus"],
            rebootRequired=bool(pending),
            maintenanceModeRequired=False,
            customValue=self.values.get("value") or [],
        )

    # Maintenance mode.

    @method
    def EnterMaintenanceMode_Task(
        self, call: Call, timeout: int, evacuatePoweredOffVms: bool | None, maintenanceSpec: Any
    ) -> Any:
        """Evacuates the host and keeps virtual machines off it. ``timeout`` in seconds, 0 or less: for ever."""
        return start_task(
            call,
            self,
            "EnterMaintenanceMode_Task",
            self._enter_maintenance(timeout, bool(evacuatePoweredOffVms)),
            cancelable=True,
        )

    def _enter_maintenance(self, timeout: int, evacuate_all: bool) -> Operation:
        self.demand_connected()
        if self.in_maintenance or self.values["_entering_maintenance"]:
            raise self._invalid("The host is in maintenance mode already, or about to enter it.")
        deadline = time.monotonic() + timeout if timeout > 0 else None
        self.set("_entering_maintenance", True)
        try:
            yield Step("enter", 2)
            while self.running_machines():
                for machine in self.running_machines():
                    if machine.may_move() and self.compute.drs_moves(machine):
                        other = next(
                            (each for each in self.compute.hosts if each is not self and machine.fits(each)), None
                        )
                        if other is not None:
                            machine.move_to(other)
                if self.running_machines():
                    if deadline is not None and time.monotonic() > deadline:
                        names = ", ".join(each.name for each in self.running_machines())
                        raise vim.fault.Timedout(
                            msg=f"Operation timed out: {names} on {self.name} could not be evacuated."
                        )
                    yield Step("evacuate", 15, weight=2.0)
            if evacuate_all:
                for machine in list(self.machines):
                    other = next((each for each in self.compute.hosts if each is not self and each.usable), None)
                    if other is not None and machine.may_move():
                        machine.move_to(other)
            yield Step("maintain", 90)
            self.demand_connected()
            self.note(inMaintenanceMode=True)
        finally:
            self.set("_entering_maintenance", False)

    @method
    def ExitMaintenanceMode_Task(self, call: Call, timeout: int) -> Any:
        """Lets virtual machines on the host again."""
        return start_task(call, self, "ExitMaintenanceMode_Task", self._exit_maintenance())

    def _exit_maintenance(self) -> Operation:
        self.demand_connected()
        if not self.in_maintenance:
            raise self._invalid("The host is not in maintenance mode.")
        yield Step("exit", 50)
        self.demand_connected()
        self.note(inMaintenanceMode=False)

    # Power and connection.

    @method
    def RebootHost_Task(self, call: Call, force: bool) -> Any:
        """Restarts the host; the task ends when the host goes, not when it is back."""
        return start_task(call, self, "RebootHost_Task", self._reboot(force))

    def _reboot(self, force: bool) -> Operation:
        self.demand_connected()
        if not self.in_maintenance and not force:
            raise self._invalid("The host is not in maintenance mode.")
        yield Step("reboot", 50)
        self.demand_connected()
        self.world.clock.later(self.world.pace, self._go_down)

    def _go_down(self) -> None:
        for machine in self.running_machines():
            machine.lose_power()
        self.note(connectionState="notResponding", powerState="unknown")
        self.world.clock.later(self.world.pace * REBOOT_PACES, self._come_up)

    def _come_up(self) -> None:
        self.passthrough.boot()
        booted = max(now(), self.values["runtime"].bootTime + timedelta(seconds=1))
        self.note(bootTime=booted)
        # The host runs before vCenter has it back: clients that look only at one of the two are found out.
        self.world.clock.later(self.world.pace, lambda: self.note(connectionState="connected", powerState="poweredOn"))

    @method
    def ShutdownHost_Task(self, call: Call, force: bool) -> Any:
        """Switches the host off; nothing in the API switches it on again."""
        return start_task(call, self, "ShutdownHost_Task", self._shut_down(force))

    def _shut_down(self, force: bool) -> Operation:
        self.demand_connected()
        if not self.in_maintenance and not force:
            raise self._invalid("The host is not in maintenance mode.")
        yield Step("shut down", 50)
        for machine in self.running_machines():
            machine.lose_power()
        self.note(connectionState="notResponding", powerState="poweredOff")

    @method
    def DisconnectHost_Task(self, call: Call) -> Any:
        """vCenter lets go of the host; its virtual machines run on."""
        return start_task(call, self, "DisconnectHost_Task", self._disconnect())

    def _disconnect(self) -> Operation:
        yield Step("disconnect", 50)
        self.note(connectionState="disconnected")

    @method
    def ReconnectHost_Task(self, call: Call, cnxSpec: Any, reconnectSpec: Any) -> Any:
        """vCenter takes the host back."""
        return start_task(call, self, "ReconnectHost_Task", self._reconnect())

    def _reconnect(self) -> Operation:
        if self.connected:
            raise self._invalid("The host is connected already.")
        yield Step("reconnect", 50)
        self.note(connectionState="connected")

    @method
    def RetrieveHardwareUptime(self, call: Call) -> int:
        """Seconds since boot."""
        return int((now() - self.values["runtime"].bootTime).total_seconds())

    def _destroy(self) -> Operation:
        yield Step("remove", 50)
        if self.connected and not self.in_maintenance and isinstance(self.compute.ref, vim.ClusterComputeResource):
            raise self._invalid("The host is neither in maintenance mode nor disconnected.")
        for machine in list(self.machines):
            machine.unregister()
        self.compute.set("host", [each for each in self.compute.values["host"] if each._moId != self.moid])
        self.world.remove(self)

    def _invalid(self, message: str) -> Any:
        return vim.fault.InvalidState(
            msg=f"The operation is not allowed in the current state of {self.name}. {message}"
        )
