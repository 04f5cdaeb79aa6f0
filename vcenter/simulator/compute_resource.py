"""ComputeResource and ClusterComputeResource: hosts that work together, with DRS and HA settings."""

from typing import Any

from .api import vim
from .environment_browser import EnvironmentBrowser
from .managed_entity import ManagedEntity
from .managed_object import Call, derived, invalid_argument, method
from .resource_pool import ResourcePool
from .task import Operation, Step, start_task
from .values import build, is_set, overlay, vary
from .world import World


class ComputeResource(ManagedEntity):
    """A host on its own, or the common part of a cluster."""

    kind = vim.ComputeResource

    def __init__(self, world: World, name: str, parent: ManagedEntity) -> None:
        super().__init__(world, name, parent)
        self.values.update(host=[], datastore=[], network=[])
        pool = ResourcePool(world, "Resources", self, self)
        self.values["resourcePool"] = pool.ref
        self.browser = EnvironmentBrowser(world, self)
        self.values["environmentBrowser"] = self.browser.ref

    @property
    def hosts(self) -> list[Any]:
        """Its hosts."""
        return [self.world.objects[each._moId] for each in self.values["host"]]

    @property
    def pool(self) -> ResourcePool:
        """Its root resource pool."""
        found = self.world.objects[self.values["resourcePool"]._moId]
        assert isinstance(found, ResourcePool)  # noqa: S101
        return found

    def memory_bytes(self) -> int:
        """Memory of all hosts."""
        return sum(host.memory_bytes for host in self.hosts)

    def total_mhz(self) -> int:
        """Processor power of all hosts."""
        return sum(host.cpu_cores * host.cpu_mhz for host in self.hosts)

    def add_host(self, host: Any) -> None:
        """Takes a host in; its datastores and networks become the cluster's."""
        self.set("host", [*self.values["host"], host.ref])
        for name in ("datastore", "network"):
            self.note(name, host.values[name])

    def note(self, name: str, references: list[Any]) -> None:
        """Adds datastores or networks that are not known yet."""
        known = {each._moId for each in self.values[name]}
        fresh = [each for each in references if each._moId not in known]
        if fresh:
            self.set(name, [*self.values[name], *fresh])

    def _totals(self, cls: Any, **more: Any) -> Any:
        hosts = self.hosts
        usable = [host for host in hosts if host.usable]
        return build(
            cls,
            totalCpu=self.total_mhz(),
            totalMemory=self.memory_bytes(),
            numCpuCores=sum(host.cpu_cores for host in hosts) & 0x7FFF,
            numCpuThreads=sum(host.cpu_cores * 2 for host in hosts) & 0x7FFF,
            effectiveCpu=sum(host.cpu_cores * host.cpu_mhz for host in usable),
            effectiveMemory=sum(host.memory_bytes for host in usable) >> 20,
            numHosts=len(hosts),
            numEffectiveHosts=len(usable),
            overallStatus="green",
            **more,
        )

    @derived("host")
    def summary(self) -> Any:
        """What lists show."""
        return self._totals(vim.ComputeResource.Summary)

    def drs_moves(self, machine: Any) -> bool:
        """Whether DRS may move a running virtual machine away by itself."""
        return False

    def places_machines(self) -> bool:
        """Whether DRS chooses the host of a machine that starts."""
        return False


class ClusterComputeResource(ComputeResource):
    """A cluster."""

    kind = vim.ClusterComputeResource

    def __init__(self, world: World, name: str, parent: ManagedEntity, drs: bool = True, ha: bool = False) -> None:
        super().__init__(world, name, parent)
        self.values["configurationEx"] = build(
            vim.cluster.ConfigInfoEx,
            vmSwapPlacement="vmDirectory",
            dasConfig=build(
                vim.cluster.DasConfigInfo,
                enabled=ha,
                vmMonitoring="vmMonitoringDisabled",
                hostMonitoring="enabled",
                admissionControlEnabled=ha,
                defaultVmSettings=build(
                    vim.cluster.DasVmSettings,
                    restartPriority="medium",
                    restartPriorityTimeout=-1,
                    isolationResponse="none",
                    vmToolsMonitoringSettings=build(
                        vim.cluster.VmToolsMonitoringSettings,
                        enabled=False,
                        vmMonitoring="vmMonitoringDisabled",
                        clusterSettings=True,
                        failureInterval=30,
                        minUpTime=120,
                        maxFailures=3,
                        maxFailureWindow=3600,
                    ),
                ),
            ),
            drsConfig=build(
                vim.cluster.DrsConfigInfo,
                enabled=drs,
                enableVmBehaviorOverrides=True,
                defaultVmBehavior="fullyAutomated",
                vmotionRate=3,
            ),
            dpmConfigInfo=build(
                vim.cluster.DpmConfigInfo,
                enabled=False,
                defaultDpmBehavior="automated",
                hostPowerActionRate=3,
            ),
            vsanConfigInfo=build(
                vim.vsan.cluster.ConfigInfo,
                enabled=False,
                defaultConfig=build(vim.vsan.cluster.ConfigInfo.HostDefaultInfo, autoClaimStorage=False),
            ),
            dasVmConfig=[],
            drsVmConfig=[],
            rule=[],
            group=[],
        )

    @derived("host")
    def summary(self) -> Any:
        """What lists show."""
        return self._totals(vim.ClusterComputeResource.Summary, currentFailoverLevel=0, numVmotions=0)

    @derived("configurationEx")
    def configuration(self) -> Any:
        """The older form of the settings."""
        extended = self.values["configurationEx"]
        return build(
            vim.cluster.ConfigInfo,
            **{
                name: getattr(extended, name)
                for name in ("dasConfig", "dasVmConfig", "drsConfig", "drsVmConfig", "rule")
            },
        )

    @method
    def GetResourceUsage(self, call: Call) -> Any:
        """Processor (MHz) and memory and storage (MB) of the whole cluster."""
        stores: list[Any] = [self.world.objects[each._moId] for each in self.values["datastore"]]
        reserved = sum(host.memory_bytes // 2**20 - host.free_memory_mib() for host in self.hosts)
        return build(
            vim.cluster.ResourceUsageSummary,
            cpuUsedMHz=0,
            cpuCapacityMHz=self.total_mhz(),
            memUsedMB=reserved,
            memCapacityMB=self.memory_bytes() // 2**20,
            storageUsedMB=sum(each.capacity - each.free for each in stores) // 2**20,
            storageCapacityMB=sum(each.capacity for each in stores) // 2**20,
        )

    def drs_moves(self, machine: Any) -> bool:
        """Fully automated unless the cluster or an override says otherwise."""
        config = self.values["configurationEx"]
        if not config.drsConfig.enabled:
            return False
        for override in config.drsVmConfig:
            if override.key._moId == machine.moid:
                return override.enabled is not False and override.behavior == "fullyAutomated"
        return bool(config.drsConfig.defaultVmBehavior == "fullyAutomated")

    def places_machines(self) -> bool:
        """Whether DRS is on."""
        return bool(self.values["configurationEx"].drsConfig.enabled)

    def forget_machine(self, machine: Any) -> None:
        """Drops the overrides of a machine that is gone."""
        config = self.values["configurationEx"]
        kept = {
            name: [each for each in getattr(config, name) if each.key._moId != machine.moid]
            for name in ("dasVmConfig", "drsVmConfig")
        }
        if any(len(kept[name]) != len(getattr(config, name)) for name in kept):
            self.set("configurationEx", vary(config, **kept))

    @method
    def ReconfigureComputeResource_Task(self, call: Call, spec: Any, modify: bool) -> Any:
        """Changes DRS and HA settings, overrides of virtual machines, rules and groups."""
        return start_task(call, self, "ReconfigureComputeResource_Task", self._reconfigure(spec))

    @method
    def ReconfigureCluster_Task(self, call: Call, spec: Any, modify: bool) -> Any:
        """The older form of the same."""
        return start_task(call, self, "ReconfigureCluster_Task", self._reconfigure(spec))

    def _reconfigure(self, spec: Any) -> Operation:
        yield Step("reconfigure", 50)
        self.apply(spec)

    def apply(self, spec: Any) -> None:
        """Merges a ConfigSpecEx. Raises vmodl.fault.InvalidArgument for edits of what is not there."""
        config = self.values["configurationEx"]
        changes: dict[str, Any] = {}
        for name in ("dasConfig", "drsConfig"):
            given = getattr(spec, name, None)
            if given is not None:
                known = getattr(config, name)
                changes[name] = overlay(known, given, tuple(_config_fields(given)))
        for name, key in (
            ("dasVmConfigSpec", "key"),
            ("drsVmConfigSpec", "key"),
            ("rulesSpec", "key"),
            ("groupSpec", "name"),
        ):
            given = getattr(spec, name, None)
            if given:
                held = {"rulesSpec": "rule", "groupSpec": "group"}.get(name, name.removesuffix("Spec"))
                changes[held] = _merge(getattr(config, held), given, key, name)
        self.set("configurationEx", vary(config, **changes))

    @method
    def AddHost_Task(self, call: Call, spec: Any, asConnected: bool, resourcePool: Any, license: str | None) -> Any:
        """Adds a host to the cluster by its name."""
        return start_task(call, self, "AddHost_Task", self._add_host(spec))

    def _add_host(self, spec: Any) -> Operation:
        from .host_system import HostSystem

        yield Step("connect", 30)
        if any(host.name == spec.hostName for host in self.world.of_kind(HostSystem)):
            raise vim.fault.AlreadyConnected(name=spec.hostName, msg=f"{spec.hostName} is already managed")
        host = HostSystem(self.world, spec.hostName, self)
        self.add_host(host)
        return host.ref

    @method
    def RecommendHostsForVm(self, call: Call, vm: Any, pool: Any) -> Any:
        """The hosts a virtual machine could run on."""
        return [build(vim.cluster.HostRecommendation, host=host.ref, rating=5) for host in self.hosts if host.usable]


def _config_fields(value: Any) -> list[str]:
    return [name for name in value.__dict__ if is_set(value.__dict__[name])]


def _merge(held: list[Any], specs: Any, key: str, what: str) -> list[Any]:
    def identity(value: Any) -> Any:
        found = getattr(value, key)
        return getattr(found, "_moId", found)

    merged = {identity(each): each for each in held}
    numbers = [each for each in merged if isinstance(each, int)]
    for spec in specs:
        if spec.operation == "remove":
            gone = getattr(spec.removeKey, "_moId", spec.removeKey)
            if merged.pop(gone, None) is None:
                raise invalid_argument(what, "What is to be removed is not there.")
            continue
        info = spec.info
        name = identity(info)
        if spec.operation == "add" and what == "rulesSpec" and not name:
            numbers.append(max(numbers, default=0) + 1)
            info = vary(info, key=numbers[-1])
            name = numbers[-1]
        if spec.operation == "edit" and name not in merged:
            raise invalid_argument(what, "What is to be edited is not there.")
        if spec.operation == "add" and name in merged:
            raise invalid_argument(what, "It is there already.")
        merged[name] = info
    return list(merged.values())
