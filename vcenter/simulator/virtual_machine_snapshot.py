"""Snapshots of virtual machines: configuration and power are kept; a machine that runs with cards can have none."""

from typing import Any

from .api import vim
from .managed_entity import ManagedEntity
from .managed_object import Call, Managed, derived, method
from .task import Operation, Step, start_task
from .values import build, now, vary
from .virtual_machine_power import switch_off, switch_on


class Snapshot(Managed):
    """One snapshot."""

    kind = vim.vm.Snapshot

    def __init__(self, machine: Any, name: str, description: str, number: int, above: "Snapshot | None") -> None:
        super().__init__(
            machine.world, f"snapshot-{machine.moid}-{number}", config=machine.config, vm=machine.ref, childSnapshot=[]
        )
        self.owner = self.machine = machine
        self.title = name
        self.description = description
        self.number = number
        self.above = above
        self.below: list[Snapshot] = []
        self.made = now()
        self.power = machine.power_state

    def tree(self) -> Any:
        """The snapshot with those below it, as lists show it."""
        return build(
            vim.vm.SnapshotTree,
            snapshot=self.ref,
            vm=self.machine.ref,
            name=self.title,
            description=self.description,
            id=self.number,
            createTime=self.made,
            state=self.power,
            quiesced=False,
            childSnapshotList=[each.tree() for each in self.below],
        )

    @method
    def RevertToSnapshot_Task(self, call: Call, host: Any, suppressPowerOn: bool | None) -> Any:
        """Goes back to this state."""
        return start_task(call, self.machine, "RevertToCurrentSnapshot_Task", self.machine._revert(self))

    @method
    def RemoveSnapshot_Task(self, call: Call, removeChildren: bool, consolidate: bool | None) -> Any:
        """Removes this snapshot, and those below it when asked."""
        return start_task(call, self.machine, "RemoveAllSnapshots_Task", self.machine._drop(self, removeChildren))

    @method
    def RenameSnapshot(self, call: Call, name: str | None, description: str | None) -> None:
        """Gives another name or description."""
        self.title = name or self.title
        self.description = self.description if description is None else description
        self.machine.changed("snapshot")


class WithSnapshots(ManagedEntity):
    """The part of a virtual machine that keeps its snapshots."""

    snapshots: "list[Snapshot]"
    current_snapshot: "Snapshot | None"
    snapshot_count: int

    @derived()
    def snapshot(self) -> Any:
        """The tree of snapshots, unset when there is none."""
        roots = [each for each in self.snapshots if each.above is None]
        if not roots:
            return None
        return build(
            vim.vm.SnapshotInfo,
            currentSnapshot=self.current_snapshot.ref if self.current_snapshot is not None else None,
            rootSnapshotList=[each.tree() for each in roots],
        )

    @derived("snapshot")
    def rootSnapshot(self) -> Any:
        """The snapshots nobody is above of."""
        return [each.ref for each in self.snapshots if each.above is None]

    @method
    def CreateSnapshot_Task(self, call: Call, name: str, description: str | None, memory: bool, quiesce: bool) -> Any:
        """Keeps the state of now."""
        return start_task(call, self, "CreateSnapshot_Task", self._keep(name, description or "", memory=memory))

    @method
    def CreateSnapshotEx_Task(
        self, call: Call, name: str, description: str | None, memory: bool, quiesceSpec: Any
    ) -> Any:
        """The same, with more to say about the guest's file systems."""
        return start_task(call, self, "CreateSnapshotEx_Task", self._keep(name, description or "", memory=memory))

    def _keep(self, name: str, description: str, *, memory: bool) -> Operation:
        machine: Any = self
        with machine.exclusive():
            if machine.power_state == "poweredOn" and not machine.may_move():
                raise vim.fault.InvalidState(
                    msg=f"{self.name} runs with PCI passthrough devices: it cannot have snapshots."
                )
            yield Step("snapshot", 50)
            self.snapshot_count += 1
            made = Snapshot(self, name, description, self.snapshot_count, self.current_snapshot)
            if made.above is not None:
                made.above.below.append(made)
            self.snapshots.append(made)
            self.current_snapshot = made
            self._told()
            return made.ref

    def _told(self) -> None:
        for each in self.snapshots:
            each.set("childSnapshot", [one.ref for one in each.below])
        self.changed("snapshot")

    @method
    def RevertToCurrentSnapshot_Task(self, call: Call, host: Any, suppressPowerOn: bool | None) -> Any:
        """Goes back to the last snapshot."""
        if self.current_snapshot is None:
            raise vim.fault.NotFound(msg=f"{self.name} has no snapshot.")
        return start_task(call, self, "RevertToCurrentSnapshot_Task", self._revert(self.current_snapshot))

    def _revert(self, to: Snapshot) -> Operation:
        machine: Any = self
        with machine.exclusive():
            yield Step("revert", 50)
            if machine.power_state != "poweredOff":
                switch_off(machine)
            machine.set_config(vary(to.get("config"), changeVersion=now().isoformat(), modified=now()))
            self.current_snapshot = to
            self._told()
            if to.power == "poweredOn":
                switch_on(machine)

    @method
    def RemoveAllSnapshots_Task(self, call: Call, consolidate: bool | None, spec: Any) -> Any:
        """Forgets all snapshots; the state of now stays."""
        return start_task(call, self, "RemoveAllSnapshots_Task", self._drop(None, True))

    def _drop(self, which: Snapshot | None, with_below: bool) -> Operation:
        yield Step("remove", 50)
        gone = list(self.snapshots) if which is None else [which]
        for each in gone:
            if with_below:
                gone.extend(one for one in each.below if one not in gone)
        for each in gone:
            for one in each.below:
                one.above = each.above
            if each.above is not None:
                each.above.below = [one for one in each.above.below if one is not each] + each.below
            if self.current_snapshot is each:
                self.current_snapshot = each.above
            self.snapshots.remove(each)
            self.world.remove(each)
        self._told()
