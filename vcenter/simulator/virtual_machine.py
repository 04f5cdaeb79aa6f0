"""VirtualMachine: its configuration, its power, its place; the long operations are in files beside this one."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import virtual_machine_power as power
from .api import vim
from .environment_browser import EnvironmentBrowser, guest_full_name
from .events import machine_event
from .guest import guest_info
from .managed_entity import ManagedEntity, duplicate_name
from .managed_object import Call, derived, invalid_argument, method
from .task import Operation, Step, start_task
from .values import build, is_set, vary
from .virtual_machine_rules import passthrough_devices
from .virtual_machine_snapshot import WithSnapshots
from .virtual_machine_spec import apply_spec, hardware_version, needed_privileges
from .world import World

if TYPE_CHECKING:
    from .folder import Folder

_device: Any = vim.vm.device


class VirtualMachine(WithSnapshots):
    """A virtual machine or template."""

    kind = vim.VirtualMachine

    def __init__(self, world: World, name: str, parent: ManagedEntity, host: Any, pool: Any, config: Any) -> None:
        super().__init__(world, name, parent)
        self.host = host
        self.boots = 0
        self.snapshots, self.current_snapshot, self.snapshot_count = [], None, 0
        self.assigned: dict[int, str] = {}
        self.nvram: dict[str, Any] = {}
        self._busy = False
        self.values.update(
            config=config,
            resourcePool=pool.ref if pool is not None else None,
            datastore=[],
            network=[],
            guestHeartbeatStatus="gray",
            runtime=vary(blank_runtime(), host=host.ref),
            guest=blank_guest(config.guestId),
        )
        self._browser: EnvironmentBrowser | None = None

    # What others ask a machine.

    @property
    def config(self) -> Any:
        """Its ConfigInfo."""
        return self.values["config"]

    @property
    def power_state(self) -> str:
        """poweredOff, poweredOn or suspended."""
        return str(self.values["runtime"].powerState)

    @property
    def is_template(self) -> bool:
        """Whether it is a template."""
        return bool(self.config.template)

    @property
    def store(self) -> Any:
        """The datastore of its configuration file."""
        name = self.config.files.vmPathName.partition("]")[0][1:]
        for reference in self.host.values["datastore"]:
            found: Any = self.world.objects[reference._moId]
            if found.name == name:
                return found
        return self.world.objects[self.values["datastore"][0]._moId]

    @property
    def directory(self) -> str:
        """The directory of its files on that datastore."""
        path = str(self.config.files.vmPathName)
        return path.partition("] ")[2].partition("/")[0]

    def reserved_mib(self) -> int:
        """Memory a running machine takes from its host for good."""
        if self.power_state == "poweredOff":
            return 0
        memory = self.config.memoryAllocation
        return int(memory.reservation or 0) if memory is not None else 0

    def held_devices(self) -> dict[str, int]:
        """Address to device key of the PCI devices it holds while it runs."""
        return {address: key for key, address in self.assigned.items()}

    def may_move(self) -> bool:
        """Whether it can be moved while it runs: one with DirectPath devices cannot."""
        return not passthrough_devices(self.config)

    def fits(self, host: Any) -> bool:
        """Whether another host could run it."""
        memory = self.config.memoryAllocation.reservation or 0
        return (
            bool(host.usable)
            and host.free_memory_mib() >= memory
            and all(self.world.objects[each._moId].reachable_from(host) for each in self.values["datastore"])  # type: ignore[attr-defined]
            and all(self.world.objects[each._moId].reachable_from(host) for each in self.values["network"])  # type: ignore[attr-defined]
        )

    def network_name(self, adapter: Any) -> str:
        """The name of the network an adapter is on."""
        network = self._network_of(adapter)
        return network.name if network is not None else ""

    def _network_of(self, adapter: Any) -> Any:
        backing = adapter.backing
        if isinstance(backing, _device.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
            return self.world.objects.get(backing.port.portgroupKey or "")
        reference = getattr(backing, "network", None)
        return self.world.objects.get(reference._moId) if reference is not None else None

    # Changes others make to it.

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One operation at a time. Raises vim.fault.TaskInProgress."""
        if self._busy:
            task = self.values["recentTask"][-1]
            raise vim.fault.TaskInProgress(task=task, msg=f"Another task is already in progress on {self.name}.")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def demand_power(self, state: str, wanted: str) -> None:
        """Raises vim.fault.InvalidPowerState unless the machine is in ``state``."""
        if self.power_state != state:
            words = {"poweredOn": "Powered on", "poweredOff": "Powered off", "suspended": "Suspended"}
            raise vim.fault.InvalidPowerState(
                requestedState=wanted,
                existingState=self.power_state,
                msg=f"The attempted operation cannot be performed in the current state ({words[self.power_state]}).",
            )

    def note(self, **changes: Any) -> None:
        """Changes runtime fields."""
        self.set("runtime", vary(self.values["runtime"], **changes))

    def set_config(self, config: Any) -> None:
        """Takes a new configuration; name, networks and datastores follow."""
        self.set("config", config)
        if config.name != self.values["name"]:
            self.set("name", config.name)
        self.follow_devices()

    def follow_devices(self) -> None:
        """Makes ``network`` and ``datastore``, and the lists on the other side, say what the devices say."""
        networks: dict[str, Any] = {}
        stores: dict[str, Any] = {self.store.moid: self.store} if self.values["datastore"] else {}
        for each in self.config.hardware.device:
            if isinstance(each, _device.VirtualEthernetCard):
                network = self._network_of(each)
                if network is not None:
                    networks[network.moid] = network
            elif isinstance(each, _device.VirtualDisk) and each.backing.datastore is not None:
                stores[each.backing.datastore._moId] = self.world.find(each.backing.datastore)
        self._join("network", networks)
        self._join("datastore", stores)

    def _join(self, name: str, wanted: dict[str, Any]) -> None:
        held = {each._moId for each in self.values[name]}
        for moid in held - set(wanted):
            other = self.world.objects.get(moid)
            if other is not None:
                other.set("vm", [each for each in other.values["vm"] if each._moId != self.moid])
        for moid, other in wanted.items():
            if moid not in held:
                other.set("vm", [*other.values["vm"], self.ref])
        if held != set(wanted):
            self.set(name, [other.ref for other in wanted.values()])

    def register(self, folder: "Folder", stores: list[Any]) -> None:
        """Puts a new machine into all lists that name it."""
        folder.adopt(self)
        self.host.set("vm", [*self.host.values["vm"], self.ref])
        self._enter_pool(self.values["resourcePool"])
        self._join("datastore", {each.moid: each for each in stores})
        self.follow_devices()

    def _enter_pool(self, pool: Any) -> None:
        held = self.values["resourcePool"]
        if held is not None and held._moId in self.world.objects:
            before = self.world.objects[held._moId]
            before.set("vm", [each for each in before.values["vm"] if each._moId != self.moid])
        if pool is not None:
            after = self.world.objects[pool._moId]
            after.set("vm", [*after.values["vm"], self.ref])
        self.set("resourcePool", pool)

    def set_running(self) -> None:
        """Powers a machine of the inventory on, without a task and without asking anyone."""
        power.switch_on(self)

    def move_to(self, host: Any) -> None:
        """Puts the machine on another host of the same cluster."""
        before = self.host
        before.set("vm", [each for each in before.values["vm"] if each._moId != self.moid])
        host.set("vm", [*host.values["vm"], self.ref])
        self.host = host
        self.note(host=host.ref)
        before.machines_changed()
        host.machines_changed()

    def lose_power(self) -> None:
        """The host is gone: so is the machine's power."""
        power.switch_off(self, clean=False)

    def unregister(self) -> None:
        """Takes the machine out of all lists; its files stay."""
        self.host.set("vm", [each for each in self.host.values["vm"] if each._moId != self.moid])
        self._enter_pool(None)
        self._join("network", {})
        self._join("datastore", {})
        compute = self.host.compute
        forget = getattr(compute, "forget_machine", None)
        if forget is not None:
            forget(self)
        self.remove_from_inventory()
        self.world.guests.discard(self)

    def guest_is_up(self, address: str, host_name: str | None = None) -> None:
        """The guest's tools run; it has an address."""
        self.set("guest", guest_info(self, address, host_name or self.name))
        self.set("guestHeartbeatStatus", "green")

    def guest_is_down(self) -> None:
        """The guest's tools no longer run."""
        self.set("guest", blank_guest(self.config.guestId))
        self.set("guestHeartbeatStatus", "gray")

    # Properties that follow from others.

    @derived("name", "config", "runtime", "guest", "overallStatus", "value")
    def summary(self) -> Any:
        """What lists show."""
        config, guest = self.config, self.values["guest"]
        devices = config.hardware.device
        return build(
            vim.vm.Summary,
            vm=self.ref,
            runtime=self.values["runtime"],
            guest=build(
                vim.vm.Summary.GuestSummary,
                guestId=guest.guestId,
                guestFullName=guest.guestFullName,
                toolsStatus=guest.toolsStatus,
                toolsVersionStatus=guest.toolsVersionStatus,
                toolsVersionStatus2=guest.toolsVersionStatus2,
                toolsRunningStatus=guest.toolsRunningStatus,
                hostName=guest.hostName,
                ipAddress=guest.ipAddress,
            ),
            config=build(
                vim.vm.Summary.ConfigSummary,
                name=self.name,
                template=config.template,
                vmPathName=config.files.vmPathName,
                memorySizeMB=config.hardware.memoryMB,
                cpuReservation=int(config.cpuAllocation.reservation or 0),
                memoryReservation=int(config.memoryAllocation.reservation or 0),
                numCpu=config.hardware.numCPU,
                numEthernetCards=sum(isinstance(each, _device.VirtualEthernetCard) for each in devices),
                numVirtualDisks=sum(isinstance(each, _device.VirtualDisk) for each in devices),
                uuid=config.uuid,
                instanceUuid=config.instanceUuid,
                guestId=config.guestId,
                guestFullName=config.guestFullName,
                annotation=config.annotation,
                hwVersion=config.version,
            ),
            storage=self._storage_summary(),
            quickStats=build(vim.vm.Summary.QuickStats, guestHeartbeatStatus=self.values["guestHeartbeatStatus"]),
            overallStatus=self.values["overallStatus"],
            customValue=self.values.get("value") or [],
        )

    def _disk_bytes(self) -> int:
        return sum(
            each.capacityInBytes or 0 for each in self.config.hardware.device if isinstance(each, _device.VirtualDisk)
        )

    def _storage_summary(self) -> Any:
        size = self._disk_bytes()
        return build(
            vim.vm.Summary.StorageSummary, committed=size, uncommitted=0, unshared=size, timestamp=self.config.modified
        )

    @derived("config", "datastore")
    def storage(self) -> Any:
        """How much it takes of its datastores."""
        return build(
            vim.vm.StorageInfo,
            perDatastoreUsage=[
                build(
                    vim.vm.StorageInfo.UsageOnDatastore,
                    datastore=each,
                    committed=self._disk_bytes(),
                    uncommitted=0,
                    unshared=self._disk_bytes(),
                )
                for each in self.values["datastore"]
            ],
            timestamp=self.config.modified,
        )

    @derived("config")
    def layoutEx(self) -> Any:
        """Its files."""
        files = [(self.config.files.vmPathName, "config", 4096)]
        files += [
            (each.backing.fileName, "diskDescriptor", each.capacityInBytes or 0)
            for each in self.config.hardware.device
            if isinstance(each, _device.VirtualDisk)
        ]
        return build(
            vim.vm.FileLayoutEx,
            file=[
                build(vim.vm.FileLayoutEx.FileInfo, key=key, name=name, type=kind, size=size)
                for key, (name, kind, size) in enumerate(files)
            ],
            timestamp=self.config.modified,
        )

    @derived("config")
    def resourceConfig(self) -> Any:
        """Its share of the pool."""
        return build(
            vim.ResourceConfigSpec,
            entity=self.ref,
            cpuAllocation=self.config.cpuAllocation,
            memoryAllocation=self.config.memoryAllocation,
        )

    @derived("_browser")
    def environmentBrowser(self) -> Any:
        """What it could be given; made when first asked for."""
        if self._browser is None:
            self._browser = EnvironmentBrowser(self.world, self)
        return self._browser.ref

    @derived("config")
    def capability(self) -> Any:
        """What can be done with it."""
        return build(
            vim.vm.Capability,
            snapshotOperationsSupported=self.may_move(),
            multipleSnapshotsSupported=True,
            poweredOffSnapshotsSupported=True,
            memorySnapshotsSupported=self.may_move(),
            bootOptionsSupported=True,
            memoryReservationLockSupported=True,
            nestedHVSupported=not passthrough_devices(self.config),
            secureBootSupported=self.config.firmware == "efi",
        )

    # Methods: configuration.

    @method
    def ReconfigVM_Task(self, call: Call, spec: Any) -> Any:
        """Changes the configuration, all of the specification or nothing."""
        if call.session is not None and not call.session.unrestricted:
            rights: Any = self.world.objects["AuthorizationManager"]
            for privilege in needed_privileges(spec):
                rights.demand(call.session, self.ref, privilege)
            for change in spec.deviceChange:
                network = self._network_of(change.device) if change.operation != "remove" else None
                if network is not None:
                    rights.demand(call.session, network.ref, "Network.Assign")
        return start_task(call, self, "ReconfigVM_Task", self._reconfigure(call, spec))

    def _reconfigure(self, call: Call, spec: Any) -> Operation:
        with self.exclusive():
            yield Step("validate", 10)
            if is_set(spec.name) and spec.name != self.name and self.named_siblings(spec.name):
                raise duplicate_name(self.parent, spec.name)
            applied = self.applied(spec)
            yield Step("prepare", 50)
            applied.take_files()
            try:
                yield Step("apply", 80)
            except Exception:
                applied.drop_new_files()
                raise
            applied.drop_gone_files()
            self.set_config(applied.config)
            self.world.post(machine_event("VmReconfiguredEvent", self, configSpec=spec), call.user, self)

    def applied(self, spec: Any) -> Any:
        """What a specification would make of the configuration. Raises vSphere's faults."""
        return apply_spec(
            self.world,
            self.config,
            spec,
            host=self.host,
            power_state=self.power_state,
            directory=self.directory,
            store=self.store,
        )

    @method
    def UpgradeVM_Task(self, call: Call, version: str | None) -> Any:
        """A newer hardware version."""
        return start_task(call, self, "UpgradeVM_Task", self._upgrade(version))

    def _upgrade(self, version: str | None) -> Operation:
        with self.exclusive():
            self.demand_power("poweredOff", "poweredOff")
            newest = self.host.compute.browser._versions()[-1]
            number = int(version.removeprefix("vmx-")) if version else newest
            if number <= hardware_version(self.config):
                raise vim.fault.AlreadyUpgraded(msg=f"{self.name} has {self.config.version} already.")
            if number > newest:
                raise invalid_argument("version", f"{self.host.name} runs hardware up to vmx-{newest:02d}.")
            yield Step("upgrade", 50)
            self.set_config(vary(self.config, version=f"vmx-{number:02d}"))

    def rename(self, name: str) -> None:
        """The configuration carries the name, too."""
        super().rename(name)
        self.set("config", vary(self.config, name=name))

    @method
    def CustomizeVM_Task(self, call: Call, spec: Any) -> Any:
        """Notes a customization for the next boot."""
        return start_task(call, self, "CustomizeVM_Task", self._customize(spec))

    def _customize(self, spec: Any) -> Operation:
        self.demand_power("poweredOff", "poweredOff")
        yield Step("customize", 50)
        self.set_config(vary(self.config, tools=vary(self.config.tools, pendingCustomization=spec.identity._wsdlName)))

    # Methods: power.

    @method
    def PowerOnVM_Task(self, call: Call, host: Any) -> Any:
        """Powers the machine on."""
        return start_task(call, self, "PowerOnVM_Task", power.power_on(call, self, host))

    @method
    def PowerOffVM_Task(self, call: Call) -> Any:
        """Takes the power away."""
        return start_task(call, self, "PowerOffVM_Task", power.power_off(call, self))

    @method
    def ResetVM_Task(self, call: Call) -> Any:
        """Power off and on at once."""
        return start_task(call, self, "ResetVM_Task", power.reset(call, self))

    @method
    def SuspendVM_Task(self, call: Call) -> Any:
        """Writes memory to disk and stops; not with DirectPath devices."""
        return start_task(call, self, "SuspendVM_Task", power.suspend(call, self))

    @method
    def ShutdownGuest(self, call: Call) -> None:
        """Asks the guest to shut down; it does, some paces later."""
        power.ask_guest(self, lambda: power.switch_off(self), call)

    @method
    def RebootGuest(self, call: Call) -> None:
        """Asks the guest to restart."""
        power.ask_guest(self, lambda: power.restart_guest(self), call)

    @method
    def TerminateVM(self, call: Call) -> None:
        """Ends the machine's process, whatever state it is in."""
        self.demand_power("poweredOn", "poweredOff")
        power.switch_off(self, clean=False)

    # Methods: existence and place.

    @method
    def CloneVM_Task(self, call: Call, folder: Any, name: str, spec: Any) -> Any:
        """A copy."""
        from .virtual_machine_clone import clone

        if call.session is not None and not call.session.unrestricted:
            rights: Any = self.world.objects["AuthorizationManager"]
            needed = "DeployTemplate" if self.is_template else "Clone"
            rights.demand(call.session, self.ref, f"VirtualMachine.Provisioning.{needed}")
            rights.demand(call.session, folder, "VirtualMachine.Inventory.CreateFromExisting")
            if spec.location.pool is not None:
                rights.demand(call.session, spec.location.pool, "Resource.AssignVMToPool")
            if spec.location.datastore is not None:
                rights.demand(call.session, spec.location.datastore, "Datastore.AllocateSpace")
        return start_task(call, self, "CloneVM_Task", clone(call, self, folder, name, spec), cancelable=True)

    @method
    def RelocateVM_Task(self, call: Call, spec: Any, priority: str | None) -> Any:
        """Moves to another host, pool or datastore."""
        from .virtual_machine_clone import relocate

        return start_task(call, self, "RelocateVM_Task", relocate(call, self, spec))

    @method
    def MigrateVM_Task(self, call: Call, pool: Any, host: Any, priority: str, state: str | None) -> Any:
        """Moves to another host or pool."""
        from .virtual_machine_clone import relocate

        spec = build(vim.vm.RelocateSpec, pool=pool, host=host)
        return start_task(call, self, "MigrateVM_Task", relocate(call, self, spec))

    @method
    def MarkAsTemplate(self, call: Call) -> None:
        """Makes a template of a machine that is off."""
        self.demand_power("poweredOff", "poweredOff")
        self._enter_pool(None)
        self.set_config(vary(self.config, template=True))

    @method
    def MarkAsVirtualMachine(self, call: Call, pool: Any, host: Any) -> None:
        """Makes a machine of a template."""
        if not self.is_template:
            raise vim.fault.InvalidState(msg=f"{self.name} is not a template.")
        self.world.find(pool)
        if host is not None and host._moId != self.host.moid:
            self.move_to(self.world.find(host))
        self.set_config(vary(self.config, template=False))
        self._enter_pool(pool)

    @method
    def UnregisterVM(self, call: Call) -> None:
        """Takes the machine out of the inventory; its files stay."""
        self.demand_power("poweredOff", "poweredOff")
        self.unregister()

    @method
    def Destroy_Task(self, call: Call) -> Any:
        """Removes the machine and its files."""
        if call.session is not None and not call.session.unrestricted:
            rights: Any = self.world.objects["AuthorizationManager"]
            rights.demand(call.session, self.ref, "VirtualMachine.Inventory.Delete")
        return start_task(call, self, "Destroy_Task", self._destroy(call))

    def _destroy(self, call: Call | None = None) -> Operation:
        with self.exclusive():
            self.demand_power("poweredOff", "poweredOff")
            yield Step("destroy", 30)
            for each in self.config.hardware.device:
                if isinstance(each, _device.VirtualDisk) and each.backing.datastore is not None:
                    self.world.find(each.backing.datastore).release(each.backing.fileName)
            yield Step("unregister", 80)
            event = machine_event("VmRemovedEvent", self, template=self.is_template)
            self.world.post(event, call.user if call else "", self)
            self.unregister()


@functools.cache
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


@functools.cache
def blank_runtime() -> Any:
    """RuntimeInfo of a machine that is off, its host not yet said."""
    return build(
        vim.vm.RuntimeInfo,
        connectionState="connected",
        powerState="poweredOff",
        toolsInstallerMounted=False,
        numMksConnections=0,
        faultToleranceState="notConfigured",
        recordReplayState="inactive",
        onlineStandby=False,
        consolidationNeeded=False,
        cleanPowerOff=True,
    )
