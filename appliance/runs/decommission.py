"""Steps of the way back: a GPU server out of the pool, its VM gone, its GPUs with their host again."""

from __future__ import annotations

from pyVmomi import vim

from appliance.deploy.errors import DeployError
from appliance.runs import guest, server
from appliance.runs.deploying import Uninstall
from appliance.runs.passthrough import described
from appliance.runs.step import Look, RunError, Step
from appliance.runs.work import Work
from appliance.state.models import ServerState
from vcenter.attributes import Attribute, values_of
from vcenter.passthrough import apply_passthrough, plan_passthrough
from vcenter.server_plan import servers
from vcenter.server_vm import apply_removal, plan_removal
from vcenter.tags import Tag, Tagged, tagged


class FindServer(Step):
    """What there is of the server: its VM, its host and GPUs, its place in the pool."""

    name = "find-server"
    title = "Find the server and its virtual machine"
    check = True

    def look(self, work: Work) -> Look:
        inventory, name = work.inventory(), work.parameters.name
        vm, row = server.vm_named(inventory, name), server.server_row(work, name)
        if row is not None:
            work.keep(server=row.id)
        if vm is None:
            if row is None:
                raise RunError(f"there is neither a GPU server nor a virtual machine {name}", "Name one that exists.")
            work.keep(no_address="its virtual machine is gone")
            return Look(True, f"its virtual machine is gone; in the pool it is {row.state}")
        if vm.id not in {each.id for each in servers(inventory)}:
            raise RunError(f"the virtual machine {name} is no GPU server of gpuferry", "Name a GPU server.")
        host = inventory.hosts[vm.host]
        gpus = [gpu for gpu in host.gpus if any(user.vm == vm.id for user in gpu.users)]
        work.keep(vm=vm.id, host=host.id, host_name=host.name, gpus=[gpu.address for gpu in gpus])
        facts = guest.guest_facts(work, vm.id)
        if facts["running"] and facts["address"]:
            guest.vouch(work, facts["address"], facts["port"], facts["host_key"])
            work.keep(address=facts["address"], port=facts["port"])
        else:
            work.keep(no_address=f"{name} is {'without an address' if facts['running'] else 'powered off'}")
        state = row.state if row is not None else "not in the pool"
        return Look(True, f"{name} is {state}, {'on' if facts['running'] else 'off'}; {described(host, gpus)}")


class DrainServer(Step):
    """No lease is on the server, and none is placed there any more."""

    name = "drain"
    title = "Drain its leases"

    def look(self, work: Work) -> Look:
        row = server.server_row(work, work.parameters.name)
        if row is None or row.state in (ServerState.MAINTENANCE, ServerState.REVOKED):
            return Look(True, f"it takes no leases ({row.state if row else 'it is not in the pool'})")
        before = {"state_before": str(row.state)}
        return Look(False, f"it is {row.state}", f"end its leases within {work.parameters.deadline_s} s", keep=before)

    def act(self, work: Work) -> str:
        return server.drain(work, work.facts["server"], deadline_s=work.parameters.deadline_s)

    def undo(self, work: Work) -> str:
        row = server.server_row(work, work.parameters.name)
        if row is None or row.state == ServerState.REVOKED or work.facts.get("state_before") != ServerState.ACTIVE:
            return "it was not in the pool"
        server.set_state(work, row.id, ServerState.ACTIVE)
        return "it takes leases again"


class UninstallServer(Uninstall):
    """The daemon off the machine. When the VM is deleted next, a machine that does not answer is no hindrance."""

    name = "uninstall-server"
    title = "Stop and remove the daemon"
    role = "server"

    def look(self, work: Work) -> Look:
        try:
            return super().look(work)
        except (DeployError, RunError) as failure:
            if work.parameters.delete_vm:
                return Look(True, f"left alone, for its disk is deleted next: {failure}")
            raise


class Revoke(Step):
    """The server's key is worth nothing any more."""

    name = "revoke"
    title = "Revoke its enrolment"

    def look(self, work: Work) -> Look:
        row = server.server_row(work, work.parameters.name)
        if row is None or row.state == ServerState.REVOKED:
            return Look(True, "it has no enrolment")
        return Look(False, f"it is enrolled as {row.id}", "revoke its key")

    def act(self, work: Work) -> str:
        server.set_state(work, work.facts["server"], ServerState.REVOKED)
        return "revoked"


class RemoveVm(Step):
    """The VM is off and its GPUs are free; it is deleted, or kept without them."""

    name = "remove-vm"
    title = "Give the GPUs back and remove the virtual machine"
    final = True

    def look(self, work: Work) -> Look:
        plan = plan_removal(work.session(), work.inventory(), work.parameters.name, delete=work.parameters.delete_vm)
        if plan.empty:
            return Look(True, "it is gone, and its GPUs are free")
        return Look(False, f"{plan.object_name} is there", "; ".join(map(str, plan.changes)))

    def act(self, work: Work) -> str:
        plan = plan_removal(work.session(), work.inventory(), work.parameters.name, delete=work.parameters.delete_vm)
        apply_removal(work.session(), plan, work.following(stoppable=False))
        if work.facts.get("address") and work.parameters.delete_vm:
            guest.forget_key(work.ground, work.facts["address"], int(work.facts["port"]))
        return "; ".join(map(str, plan.changes)) or "it was gone already"


class Unmark(Step):
    """vCenter shows the host as what it is now."""

    name = "unmark"
    title = "Take the host's tag off"

    def look(self, work: Work) -> Look:
        if not work.facts.get("host"):
            return Look(True, "its host is not known any more")
        session, host = work.session(), work.facts["host"]
        ref = session.object(vim.HostSystem, host)
        shown = values_of(session, ref).get(Attribute.POOL_STATE)
        if not shown and Tagged("HostSystem", host, Tag.GPU_SERVER) not in tagged(session):
            return Look(True, "vCenter shows the host without a GPU server")
        return Look(
            False, f"{work.facts['host_name']} may still bear it", "take it off, unless another server is there"
        )

    def act(self, work: Work) -> str:
        server.unmark_host(work)
        return "vCenter shows the host without a GPU server"


class PassthroughOff(Step):
    """The GPUs are the host's own again."""

    name = "passthrough-off"
    title = "Turn passthrough off"

    def look(self, work: Work) -> Look:
        if not work.facts.get("gpus"):
            return Look(True, "which GPUs it had is not known any more")
        host = work.facts["host"]
        plan = plan_passthrough(work.session(), work.inventory(), host, work.facts["gpus"], enable=False)
        if plan.empty:
            return Look(True, "it is off")
        return Look(False, "it is on", "; ".join(plan.steps))

    def act(self, work: Work) -> str:
        session = work.session()
        plan = plan_passthrough(session, work.inventory(), work.facts["host"], work.facts["gpus"], enable=False)
        rebooted = apply_passthrough(session, plan, work.following(stoppable=False))
        return "passthrough off" + (f"; {plan.object_name} was rebooted" if rebooted else "")

    def undo(self, work: Work) -> str:
        session = work.session()
        plan = plan_passthrough(session, work.inventory(), work.facts["host"], work.facts["gpus"], enable=True)
        apply_passthrough(session, plan, work.following(stoppable=False))
        return "passthrough is on again"
