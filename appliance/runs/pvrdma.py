"""Steps that give a GPU server a PVRDMA adapter: it is drained and off for a moment, for that is no hot plug."""

from __future__ import annotations

from pyVmomi import vim

from appliance.runs import server
from appliance.runs.decommission import DrainServer
from appliance.runs.step import Look, Step
from appliance.runs.work import Work
from appliance.state.models import ServerState
from vcenter import vm_power
from vcenter.errors import InvalidRequest
from vcenter.pvrdma import AdapterPlan, apply_adapter, plan_adapter


def _plan(work: Work, *, present: bool = True) -> AdapterPlan:
    wanted = work.parameters
    return plan_adapter(
        work.session(), work.inventory(), wanted.name, wanted.network, protocol=wanted.protocol, present=present
    )


def _plan_looks_empty(work: Work) -> bool:
    """Whether the adapter is there already."""
    try:
        return _plan(work).empty
    except InvalidRequest:
        # The machine runs, and the plan has something to change.
        return False


class DrainForPvrdma(DrainServer):
    """No lease is on the server while it is off; one that has its adapter already is left alone."""

    name = "drain-for-pvrdma"

    def look(self, work: Work) -> Look:
        if _plan_looks_empty(work):
            return Look(True, "the adapter is there already")
        return super().look(work)


class PowerOff(Step):
    """The server's VM is off while its hardware changes."""

    name = "power-off"
    title = "Power off"

    def look(self, work: Work) -> Look:
        vm = server.vm_named(work.inventory(), work.parameters.name)
        if _plan_looks_empty(work):
            return Look(True, "the adapter is there already, so the machine stays as it is")
        if vm is None or not vm.running:
            return Look(True, "it is off")
        return Look(False, "it runs, and a PVRDMA adapter is no hot plug", "shut it down")

    def act(self, work: Work) -> str:
        session, name = work.session(), work.parameters.name
        vm_power.power_off(
            session, session.object(vim.VirtualMachine, work.facts["vm"]), name, work.following(stoppable=False)
        )
        return f"{name} is off"

    def undo(self, work: Work) -> str:
        session, name = work.session(), work.parameters.name
        vm_power.power_on(
            session, session.object(vim.VirtualMachine, work.facts["vm"]), name, work.following(stoppable=False)
        )
        return f"{name} is on again"


class AttachPvrdma(Step):
    """The VM has a PVRDMA adapter on the network."""

    name = "attach-pvrdma"
    title = "Attach the PVRDMA adapter"

    def look(self, work: Work) -> Look:
        if work.dry and not _plan_looks_empty(work):
            return Look(False, "there is none on this network", f"attach one on {work.parameters.network}")
        plan = _plan(work)
        if plan.empty:
            return Look(True, f"there is one on {work.parameters.network}")
        return Look(False, "there is none on this network", "; ".join(map(str, plan.changes)))

    def act(self, work: Work) -> str:
        plan = _plan(work)
        apply_adapter(work.session(), plan, work.following(stoppable=False))
        return "; ".join(map(str, plan.changes))

    def undo(self, work: Work) -> str:
        plan = _plan(work, present=False)
        apply_adapter(work.session(), plan, work.following(stoppable=False))
        return "; ".join(map(str, plan.changes)) or "there was none"


class Reopen(Step):
    """The server takes leases again, if it did before."""

    name = "reopen"
    title = "Open it for leases again"

    def look(self, work: Work) -> Look:
        row = server.server_row(work, work.parameters.name)
        if row is None or row.state == ServerState.ACTIVE or work.facts.get("state_before") != ServerState.ACTIVE:
            return Look(True, "it is as it was before")
        return Look(False, f"it is {row.state}", "open it")

    def act(self, work: Work) -> str:
        server.set_state(work, work.facts["server"], ServerState.ACTIVE)
        return "it takes leases again"
