"""Steps that make a GPU server: its GPUs, its VM, its daemon, its acceptance, its place in the pool."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyVmomi import vim
from sqlalchemy import func, select

from appliance.books import note_changes
from appliance.deploy.bundle import Bundle
from appliance.deploy.deployment import DeploySettings
from appliance.deploy.wheels import CUPY_PART
from appliance.ids import new_id
from appliance.runs import guest
from appliance.runs.deploying import Deploy
from appliance.runs.passthrough import connected_host, described
from appliance.runs.step import Look, RunError, Step
from appliance.runs.work import Ground, Work
from appliance.settings import read_settings
from appliance.state.database import reading, writing
from appliance.state.models import Event, Server, ServerState, now
from appliance.state.models import Gpu as PoolGpu
from vcenter import vm_power
from vcenter.attributes import Attribute, apply_attributes, plan_attributes
from vcenter.cloud_init import CloudInit
from vcenter.errors import InvalidRequest, NoCapacity
from vcenter.inventory import Gpu, GpuState, Host, Inventory, Vm
from vcenter.marking import SERVER_ROLE, mark_server
from vcenter.server_plan import LibraryItem, OvaFile, ServerPlan, ServerRequest, Template, plan_server
from vcenter.server_vm import apply_removal, apply_server, plan_removal
from vcenter.tags import Tag, Tagged, apply_tags, plan_tags, tagged

LOOK_S = 0.3
JOIN_S = 120.0
DATA_PORT = 9797
USABLE = (GpuState.READY, GpuState.OFF, GpuState.REBOOT_TO_TURN_ON)


def vm_named(inventory: Inventory, name: str) -> Vm | None:
    found = [vm for vm in inventory.vms.values() if vm.name == name and not vm.template]
    return found[0] if found else None


def server_row(work: Work, name: str) -> Server | None:
    with reading(work.ground.engine) as session:
        row = session.scalars(select(Server).where(Server.name == name)).one_or_none()
        session.expunge_all()
    return row


def set_state(work: Work, server: str, state: ServerState, **more: Any) -> None:
    """What is wanted of a server, written and told to whoever decides."""
    with writing(work.ground.engine) as session:
        row = session.get_one(Server, server)
        row.state, row.drain_deadline = state, more.get("drain_deadline")
        note_changes(session.connection(), [("server", server)])
    work.ground.loop.wake(keys=state is ServerState.REVOKED)


class ChooseGpus(Step):
    """The host is there and connected, and has the GPUs; which ones is remembered."""

    name = "choose-gpus"
    title = "Find the host and choose its GPUs"
    check = True

    def look(self, work: Work) -> Look:
        inventory = work.inventory()
        host = connected_host(inventory, work.parameters.host)
        gpus = self._chosen(work, inventory, host)
        work.keep(gpus=[gpu.address for gpu in gpus], host=host.id, host_name=host.name)
        return Look(True, described(host, gpus))

    def _chosen(self, work: Work, inventory: Inventory, host: Host) -> list[Gpu]:
        named = work.parameters.gpus or work.facts.get("gpus")
        if named:
            return [inventory.gpu(host.id, address) for address in named]
        own = vm_named(inventory, work.parameters.name)
        held = [gpu for gpu in host.gpus if own is not None and any(user.vm == own.id for user in gpu.users)]
        free = [gpu for state in USABLE for gpu in host.gpus if gpu.state is state and not gpu.users]
        chosen = (held + [gpu for gpu in free if gpu not in held])[: work.parameters.gpu_count]
        if len(chosen) < work.parameters.gpu_count:
            raise NoCapacity(
                f"The host has {len(chosen)} free GPUs of the {work.parameters.gpu_count} wanted "
                f"({described(host, list(host.gpus))}).",
                object_name=host.name,
            )
        return chosen


class CreateVm(Step):
    """The server's VM is there with its devices, powered off or on."""

    name = "create-vm"
    title = "Create the server's virtual machine"

    def _plan(self, work: Work) -> ServerPlan:
        return plan_server(work.session(), work.inventory(), self._request(work))

    def _request(self, work: Work) -> ServerRequest:
        wanted = work.parameters
        with reading(work.ground.engine) as session:
            user = wanted.ssh.user or read_settings(session).ssh_user
        source: Any
        if wanted.source.template:
            source = Template(wanted.source.template)
        elif wanted.source.library_item:
            source = LibraryItem(*wanted.source.library_item.split("/", 1))
        else:
            source = OvaFile(Path(wanted.source.ova or ""))
        return ServerRequest(
            name=wanted.name,
            source=source,
            network=wanted.network,
            host=work.facts.get("host") or wanted.host,
            gpus=tuple(work.facts.get("gpus") or wanted.gpus),
            count=len(work.facts.get("gpus") or wanted.gpus) or wanted.gpu_count,
            cpus=wanted.cpus,
            memory_mib=wanted.memory_mib,
            rdma_network=wanted.rdma_network,
            datastore=wanted.datastore,
            cloud_init=CloudInit(
                host_name=wanted.name,
                instance_id=work.run,
                user_data={"runcmd": [guest.TELL_HOST_KEY]},
                ssh_keys=(guest.ensure_key(work.ground),) if not work.dry else ("ssh-ed25519 AAAA",),
                user=user,
            ),
            power_on=False,
        )

    def look(self, work: Work) -> Look:
        if work.dry:
            ready = [
                gpu.state is GpuState.READY or bool(gpu.users)
                for address in work.facts.get("gpus") or []
                for gpu in [work.inventory().gpu(work.facts["host"], address)]
            ]
            if not all(ready):
                return Look(False, "its GPUs are not passed through yet", f"create {work.parameters.name} with them")
        plan = self._plan(work)
        keep = {"vm_before": bool(plan.vm)}
        if plan.empty:
            work.keep(vm=plan.vm)
            return Look(True, f"{plan.object_name} is there as wanted", keep=keep)
        found = f"{plan.object_name} is there, and differs" if plan.vm else f"there is no {plan.object_name}"
        if plan.leftover:
            found = f"a half-made {plan.object_name} of an earlier run is there"
        return Look(False, found, "; ".join([*plan.steps, *map(str, plan.changes)])[:1500], keep=keep)

    def act(self, work: Work) -> str:
        plan = self._plan(work)
        made = apply_server(work.session(), plan, work.following())
        work.keep(vm=made.id, tells_host_key=True)
        what = "changed" if plan.vm else "created"
        return f"{what} {made.name}: {', '.join(str(change) for change in plan.changes)}"[:1500]

    def undo(self, work: Work) -> str:
        if work.facts.get("vm_before"):
            return "it was there before this run, so it stays"
        try:
            plan = plan_removal(work.session(), work.inventory(), work.parameters.name)
        except InvalidRequest as foreign:
            return f"left alone: {foreign.what}"
        if plan.empty:
            return "it is gone already"
        apply_removal(work.session(), plan, work.following())
        if work.facts.get("address"):
            guest.forget_key(work.ground, work.facts["address"], int(work.facts["port"]))
        return f"deleted {plan.object_name}; its GPUs are free"


class PowerOn(Step):
    """The server's VM runs."""

    name = "power-on"
    title = "Power on"

    def look(self, work: Work) -> Look:
        if work.dry and not work.facts.get("vm"):
            return Look(False, "the machine does not exist yet", "power it on")
        facts = guest.guest_facts(work, work.facts["vm"])
        if facts["running"]:
            return Look(True, f"{facts['name']} is on")
        return Look(False, f"{facts['name']} is off", "power it on")

    def act(self, work: Work) -> str:
        session = work.session()
        vm_power.power_on(
            session, session.object(vim.VirtualMachine, work.facts["vm"]), work.parameters.name, work.following()
        )
        return f"powered on {work.parameters.name}"

    def undo(self, work: Work) -> str:
        found = vm_named(work.inventory(), work.parameters.name)
        if found is None:
            return "it is gone already"
        session = work.session()
        off = vm_power.power_off(
            session, session.object(vim.VirtualMachine, found.id), found.name, work.following(stoppable=False)
        )
        return "powered off" if off else "it was off"


def daemon_settings(ground: Ground, wanted: dict[str, Any], facts: dict[str, Any]) -> DeploySettings:
    """How the daemon of a server is set up that was asked for like this."""
    return guest.settings_for(
        ground,
        name=wanted["name"],
        esxi_host=facts.get("host_name", ""),
        listen=f"0.0.0.0:{DATA_PORT}",
        address=f"{facts['address']}:{DATA_PORT}",
        driver="softgpu" if wanted["driver"] == "softgpu" else "libcuda.so.1",
        environment=dict(wanted["environment"]),
        python_path=tuple(wanted["python_path"]),
        parts=parts_for(guest.bundle_of(ground), wanted["python_path"]),
    )


def parts_for(bundle: Bundle, python_path: Sequence[str]) -> tuple[str, ...]:
    """The optional parts of the bundle that a server gets: its CuPy, unless the machine's image has one."""
    has_cupy = any(each.part == CUPY_PART for each in bundle.manifest.files)
    return (CUPY_PART,) if has_cupy and not python_path else ()


class DeployServer(Deploy):
    """The GPU server daemon, by SSH. The server is in the books before it enrols, and gets no lease yet."""

    name = "deploy-server"
    title = "Install the GPU server daemon over SSH"
    role = "server"

    def peer_name(self, work: Work) -> str:
        return str(work.parameters.name)

    def settings(self, work: Work) -> Any:
        return daemon_settings(work.ground, work.parameters.model_dump(mode="json"), work.facts)

    def prepare(self, work: Work) -> None:
        with writing(work.ground.engine) as session:
            row = session.scalars(select(Server).where(Server.name == work.parameters.name)).one_or_none()
            if row is None:
                row = Server(id=new_id("server"), name=work.parameters.name, state=ServerState.MAINTENANCE)
                session.add(row)
                session.flush()
            elif row.state == ServerState.REVOKED:
                row.state = ServerState.MAINTENANCE
            note_changes(session.connection(), [("server", row.id)])
            id_ = row.id
        work.keep(server=id_)

    def undo(self, work: Work) -> str:
        done = super().undo(work)
        if work.facts.get("server") and not work.facts.get("server_before"):
            set_state(work, work.facts["server"], ServerState.REVOKED)
            done += "; its enrolment is revoked"
        return done


class AwaitServer(Step):
    """The daemon is in touch with the appliance and has reported the GPUs of its VM."""

    name = "await-server"
    title = "Wait for the daemon and its GPUs"
    check = True

    def look(self, work: Work) -> Look:
        wanted, deadline = len(work.facts.get("gpus") or []), time.monotonic() + JOIN_S
        since = 0 if work.dry else self._have_it_report(work)
        while True:
            row = server_row(work, work.parameters.name)
            connected = row is not None and work.ground.loop.presence.route_to_server(row.id) is not None
            with reading(work.ground.engine) as session:
                query = select(PoolGpu).where(PoolGpu.server_id == (row.id if row else ""), PoolGpu.state != "missing")
                gpus = list(session.scalars(query))
            if row is not None and connected and len(gpus) == wanted:
                work.keep(server=row.id)
                return Look(True, f"{row.name} is connected with {', '.join(gpu.name for gpu in gpus)}")
            if work.dry:
                return Look(False, "the daemon is not there yet", "wait for it to report its GPUs")
            self._check_rejected(work, since)
            if time.monotonic() > deadline:
                raise RunError(
                    f"{work.parameters.name} is {'' if connected else 'not '}connected and reports {len(gpus)} GPUs; "
                    f"its VM has {wanted}",
                    "Look at the log of gpuferry-gpuserver on the server and at `nvidia-smi` there, then retry.",
                )
            work.check()
            time.sleep(LOOK_S)

    def _have_it_report(self, work: Work) -> int:
        """Have the daemon say its inventory again, so that what is wrong with it is told after the event returned."""
        row = server_row(work, work.parameters.name)
        with writing(work.ground.engine) as session:
            since = session.scalar(select(func.max(Event.id))) or 0
            if row is not None:
                note_changes(session.connection(), [("report", row.id)])
        work.ground.loop.wake()
        return int(since)

    def _check_rejected(self, work: Work, since: int) -> None:
        """Raises RunError for GPUs that the pool does not take: waiting does not make them better."""
        name = work.parameters.name
        with reading(work.ground.engine) as session:
            query = select(Event.subject, Event.text).where(Event.id > since, Event.kind == "gpu.rejected")
            told = {gpu: text for gpu, text in session.execute(query) if text.startswith(f"{name}: ")}
        if told:
            why = "; ".join(f"{gpu} {text.removeprefix(f'{name}: ')}" for gpu, text in sorted(told.items()))
            raise RunError(
                f"the pool does not take GPUs of {name}: {why}",
                "A GPU belongs to one server. Decommission the server that has it; GPUs in software need UUIDs of "
                "their own (environment: GPUFERRY_SOFTGPU_UUID). Then retry.",
            )


class JoinPool(Step):
    """Leases may be placed on it; vCenter shows what it is."""

    name = "join-pool"
    title = "Join the pool"

    def look(self, work: Work) -> Look:
        row = server_row(work, work.parameters.name)
        if row is None and work.dry:
            return Look(False, "it is not in the pool yet", "open it for leases, and show that in vCenter")
        if row is None:
            raise RunError(f"{work.parameters.name} is not enrolled")
        before = {"state_before": str(row.state)}
        if row.state == ServerState.ACTIVE and work.facts.get("vm"):
            shown = set(tagged(work.session()))
            wanted = {Tagged("VirtualMachine", work.facts["vm"], Tag.GPU_SERVER)}
            wanted.add(Tagged("HostSystem", work.facts["host"], Tag.GPU_SERVER))
            if wanted <= shown:
                work.keep(marked=True, server=row.id)
                return Look(True, f"{row.name} is in the pool, and vCenter shows it", keep=before)
        return Look(False, f"{row.name} is in {row.state}", "open it for leases, and show that in vCenter", keep=before)

    def act(self, work: Work) -> str:
        session, name = work.session(), work.parameters.name
        set_state(work, work.facts["server"], ServerState.ACTIVE)
        mark_server(session, work.facts["vm"], name, pool_state="in the pool")
        apply_tags(session, plan_tags(session, [Tagged("HostSystem", work.facts["host"], Tag.GPU_SERVER)]))
        host = session.object(vim.HostSystem, work.facts["host"])
        shown = {Attribute.LAST_RUN: work.run, Attribute.POOL_STATE: f"serves through {name}"}
        apply_attributes(session, plan_attributes(session, host, work.facts["host_name"], shown))
        work.keep(marked=True)
        return f"{name} takes leases; vCenter shows its role ({SERVER_ROLE})"

    def undo(self, work: Work) -> str:
        if work.facts.get("state_before") == ServerState.ACTIVE:
            return "it was in the pool before this run"
        drain(work, work.facts["server"], deadline_s=0)
        unmark_host(work)
        return "it takes no leases any more"


def unmark_host(work: Work) -> None:
    """Take our tag and state off the host, unless another GPU server of ours is on it."""
    session = work.session()
    inventory = work.inventory()
    host = work.facts.get("host") or ""
    if host not in inventory.hosts:
        return
    others = [
        vm for vm in inventory.vms_on(host) if vm.id != work.facts.get("vm") and vm.annotation.startswith("gpuferry")
    ]
    if not others:
        apply_tags(session, plan_tags(session, [], unwanted=[Tagged("HostSystem", host, Tag.GPU_SERVER)]))
        shown = {Attribute.LAST_RUN: work.run, Attribute.POOL_STATE: ""}
        ref = session.object(vim.HostSystem, host)
        apply_attributes(session, plan_attributes(session, ref, inventory.hosts[host].name, shown))


def drain(work: Work, server: str, *, deadline_s: float) -> str:
    """Take a server out of service and wait until nothing is left on it. Leases have `deadline_s` to end."""
    with reading(work.ground.engine) as session:
        state = session.get_one(Server, server).state
    if state == ServerState.ACTIVE:
        set_state(work, server, ServerState.DRAINING, drain_deadline=now() + timedelta(seconds=deadline_s))
    until = time.monotonic() + deadline_s + JOIN_S
    while True:
        with reading(work.ground.engine) as session:
            state = session.get_one(Server, server).state
        if state in (ServerState.MAINTENANCE, ServerState.REVOKED):
            return "no lease is left on it"
        if time.monotonic() > until:
            raise RunError(
                "leases are still on the server after its deadline",
                "See GET /v1/slices?server=ID: does the daemon answer? Retry when it does.",
            )
        work.progress(None, "waiting for its leases to end")
        work.check()
        time.sleep(LOOK_S)
