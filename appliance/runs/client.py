"""Steps that let a machine's programs use the pool, and the way back."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from pyVmomi import vim
from sqlalchemy import select

from appliance.books import note_changes
from appliance.deploy.errors import UnreachableError
from appliance.runs import guest
from appliance.runs.deploying import AwaitAddress, Deploy, Uninstall
from appliance.runs.step import Look, RunError, Step
from appliance.runs.work import Work
from appliance.state.database import reading, writing
from appliance.state.models import Client, Lease, LeaseState, Server, ServerState, now
from vcenter.attributes import Attribute, apply_attributes, plan_attributes, values_of
from vcenter.tags import Tag, Tagged, apply_tags, plan_tags, tagged

LOOK_S = 0.3
READY_S = 60.0
REACHED_SERVERS = 16
CLIENT_ROLE = "GPU client"


def client_name(parameters: Any) -> str:
    """What the appliance calls the client of a run."""
    return str(getattr(parameters, "name", "") or parameters.vm or parameters.address)


def client_row(work: Work, name_or_id: str) -> Client | None:
    with reading(work.ground.engine) as session:
        found = session.scalars(select(Client).where((Client.name == name_or_id) | (Client.id == name_or_id))).first()
        session.expunge_all()
    return found


class FindMachine(Step):
    """The machine is there: its VM in vCenter, or its address."""

    name = "find-machine"
    title = "Find the machine"
    check = True

    def look(self, work: Work) -> Look:
        wanted = work.parameters
        if wanted.vm:
            inventory = work.inventory()
            vm = inventory.vm(wanted.vm)
            host = inventory.hosts.get(vm.host)
            work.keep(vm=vm.id, vm_name=vm.name, host_name=host.name if host else "")
            return Look(True, f"{vm.name} is {vm.power} on {host.name if host else 'an unknown host'}")
        work.keep(address=wanted.address, port=wanted.ssh.port or 22)
        return Look(True, f"{wanted.address}, a machine of no vCenter")


class AwaitMachine(AwaitAddress):
    """The VM runs and has an address; a machine that was named by its address has one."""

    name = "await-machine"

    def look(self, work: Work) -> Look:
        if not work.parameters.vm:
            return Look(True, f"{work.parameters.address} was named")
        if work.parameters.address:
            facts = guest.guest_facts(work, work.facts["vm"])
            port = work.parameters.ssh.port or facts["port"]
            guest.vouch(work, work.parameters.address, port, facts["host_key"])
            work.keep(address=work.parameters.address, port=port)
            return Look(True, f"{work.parameters.address} was named")
        return super().look(work)


class DeployClient(Deploy):
    """The client agent, by SSH."""

    name = "deploy-client"
    title = "Install the client agent over SSH"
    role = "client"

    def peer_name(self, work: Work) -> str:
        return client_name(work.parameters)

    def group(self, work: Work) -> str:
        return str(work.parameters.group)

    def settings(self, work: Work) -> Any:
        settings = guest.settings_for(
            work.ground,
            name=self.peer_name(work),
            esxi_host=work.facts.get("host_name", ""),
            environment=dict(work.parameters.environment),
        )
        return replace(settings, reach=(*settings.reach, *server_addresses(work)))

    def enrolled(self, work: Work, peer: str) -> None:
        work.keep(client=peer)

    def undo(self, work: Work) -> str:
        done = super().undo(work)
        if work.facts.get("client") and not work.facts.get("client_before"):
            revoke(work, work.facts["client"])
            done += "; its enrolment is revoked"
        return done


def server_addresses(work: Work) -> list[str]:
    """Where the servers of the pool are that serve now: a client that does not reach them has nothing from its leases.
    The first of a large pool stand for all."""
    with reading(work.ground.engine) as session:
        query = select(Server.id, Server.address).where(Server.state == ServerState.ACTIVE, Server.address != "")
        rows = session.execute(query.order_by(Server.name)).all()
    connected = work.ground.loop.presence.route_to_server
    return [row.address for row in rows if connected(row.id) is not None][:REACHED_SERVERS]


def revoke(work: Work, client: str) -> None:
    """The client's key is worth nothing any more."""
    with writing(work.ground.engine) as session:
        row = session.get(Client, client)
        if row is not None:
            row.revoked_at = row.revoked_at or now()
            note_changes(session.connection(), [("client", client)])
    work.ground.loop.wake(keys=True)


class AwaitClient(Step):
    """The agent is in touch with the appliance."""

    name = "await-client"
    title = "Wait for the agent"
    check = True

    def look(self, work: Work) -> Look:
        deadline = time.monotonic() + READY_S
        while True:
            row = client_row(work, work.facts.get("client") or client_name(work.parameters))
            if row is not None and row.seen_at is not None and row.revoked_at is None:
                return Look(True, f"{row.name} ({row.id}) reports, version {row.agent_version or 'unknown'}")
            if work.dry:
                return Look(False, "the agent is not there yet", "wait for it")
            if time.monotonic() > deadline:
                raise RunError(
                    f"the agent of {client_name(work.parameters)} does not report",
                    "Look at the log of gpuferry-agent there: can it reach the appliance's ports? Then retry.",
                )
            work.check()
            time.sleep(LOOK_S)


class MarkClient(Step):
    """vCenter shows the VM as a client; a machine of no vCenter has nothing to show."""

    name = "mark-client"
    title = "Show it in vCenter"

    def look(self, work: Work) -> Look:
        if not work.parameters.vm:
            return Look(True, "it is in no vCenter")
        if shown(work) and role_of(work) == CLIENT_ROLE:
            work.keep(marked=True)
            return Look(True, "vCenter shows it")
        return Look(False, "vCenter may not show it yet", "put the tag client and the role on it")

    def act(self, work: Work) -> str:
        session, vm = work.session(), work.facts["vm"]
        apply_tags(session, plan_tags(session, [Tagged("VirtualMachine", vm, Tag.CLIENT)]))
        shown = {Attribute.ROLE: CLIENT_ROLE, Attribute.POOL_STATE: "ready", Attribute.LAST_RUN: work.run}
        ref = session.object(vim.VirtualMachine, vm)
        apply_attributes(session, plan_attributes(session, ref, work.facts["vm_name"], shown))
        work.keep(marked=True)
        return f"{work.facts['vm_name']} bears the tag client"

    def undo(self, work: Work) -> str:
        return unmark(work)


def shown(work: Work) -> bool:
    """Whether the VM bears the tag client."""
    return Tagged("VirtualMachine", work.facts["vm"], Tag.CLIENT) in tagged(work.session())


def role_of(work: Work) -> str:
    """The role that vCenter shows of the VM."""
    session = work.session()
    return values_of(session, session.object(vim.VirtualMachine, work.facts["vm"])).get(Attribute.ROLE, "")


def unmark(work: Work) -> str:
    """Take tag and role off the VM."""
    session, vm = work.session(), work.facts["vm"]
    apply_tags(session, plan_tags(session, [], unwanted=[Tagged("VirtualMachine", vm, Tag.CLIENT)]))
    shown = {Attribute.ROLE: "", Attribute.POOL_STATE: "", Attribute.LAST_RUN: work.run}
    ref = session.object(vim.VirtualMachine, vm)
    apply_attributes(session, plan_attributes(session, ref, work.facts["vm_name"], shown))
    return "vCenter shows it no more"


class FindClient(FindMachine):
    """The client, and its machine as far as it is still there."""

    name = "find-client"
    title = "Find the client and its machine"

    def look(self, work: Work) -> Look:
        wanted = work.parameters
        row = client_row(work, wanted.client or client_name(wanted))
        if row is not None:
            work.keep(client=row.id)
        who = f"{row.name} ({row.id})" if row is not None else "no client"
        if wanted.vm:
            found = super().look(work)
            facts = guest.guest_facts(work, work.facts["vm"])
            if facts["running"] and facts["address"]:
                guest.vouch(work, facts["address"], facts["port"], facts["host_key"])
                work.keep(address=wanted.address or facts["address"], port=facts["port"])
            else:
                work.keep(no_address="its machine is off or without an address; what is installed there stays")
            return Look(True, f"{who}; {found.found}")
        work.keep(address=wanted.address, port=wanted.ssh.port or 22)
        return Look(True, f"{who}; {wanted.address}")


class EndLeases(Step):
    """The client holds no lease."""

    name = "end-leases"
    title = "End its leases"

    def _open(self, work: Work) -> list[str]:
        with reading(work.ground.engine) as session:
            query = select(Lease.id).where(
                Lease.client_id == work.facts.get("client", ""), Lease.state != LeaseState.ENDED
            )
            return list(session.scalars(query))

    def look(self, work: Work) -> Look:
        held = self._open(work)
        if not held:
            return Look(True, "it holds none")
        return Look(False, f"it holds {len(held)}", "release them")

    def act(self, work: Work) -> str:
        held = self._open(work)
        with writing(work.ground.engine) as session:
            for id_ in held:
                lease = session.get_one(Lease, id_)
                lease.release_requested, lease.reason = True, "its client is disabled"
            note_changes(session.connection(), [("lease", id_) for id_ in held])
        work.ground.loop.wake()
        deadline = time.monotonic() + READY_S
        while self._open(work):
            if time.monotonic() > deadline:
                raise RunError("its leases do not end", "Is an appliance process deciding? See GET /v1/appliance.")
            work.check()
            time.sleep(LOOK_S)
        return f"released {len(held)}"


class UninstallClient(Uninstall):
    """The agent off the machine."""

    name = "uninstall-client"
    title = "Stop and remove the agent"
    role = "client"

    def look(self, work: Work) -> Look:
        try:
            return super().look(work)
        except UnreachableError as away:
            raise RunError(str(away), "Make the machine reachable and retry, or power the VM off and retry.") from None


class RevokeClient(Step):
    """The client's key is worth nothing any more."""

    name = "revoke-client"
    title = "Revoke its enrolment"
    final = True

    def look(self, work: Work) -> Look:
        row = client_row(work, work.facts.get("client", ""))
        if row is None or row.revoked_at is not None:
            return Look(True, "it has no enrolment")
        return Look(False, f"{row.name} is enrolled", "revoke its key")

    def act(self, work: Work) -> str:
        revoke(work, work.facts["client"])
        return "revoked"


class UnmarkClient(Step):
    """vCenter shows the VM as what it is now."""

    name = "unmark-client"
    title = "Take it off vCenter's display"

    def look(self, work: Work) -> Look:
        if not work.parameters.vm:
            return Look(True, "it is in no vCenter")
        if not role_of(work) and not shown(work):
            return Look(True, "vCenter does not show it")
        return Look(False, "vCenter may still show it", "take tag and role off")

    def act(self, work: Work) -> str:
        return unmark(work)
