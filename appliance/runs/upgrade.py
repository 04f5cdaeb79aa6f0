"""Rolling upgrades: servers in batches, each drained first; clients so many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import select

from appliance.deploy.deployment import Deployed, DeploySettings, deploy, inspect
from appliance.deploy.errors import HostKeyUnknownError
from appliance.deploy.ssh import Target
from appliance.runs import guest, server
from appliance.runs.acceptance import made_by
from appliance.runs.orders import AwaitIdleClients, OrderClients, OrderServers
from appliance.runs.step import Look, RunError, Step
from appliance.runs.work import Ground, Work
from appliance.state.database import reading
from appliance.state.models import Client, Server, ServerState


def subject_of_servers(wanted: Any) -> str:
    return ", ".join(wanted.servers)[:200] or "all servers"


def subject_of_clients(wanted: Any) -> str:
    return ", ".join(wanted.clients)[:200] or "all clients"


def _batches(names: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(names), size):
        yield tuple(names[start : start + size])


def _known(ground: Ground, table: Any, wanted: list[str], alive: Any) -> list[str]:
    with reading(ground.engine) as session:
        rows = session.scalars(select(table).where(alive).order_by(table.name)).all()
        names = [row.name for row in rows if not wanted or row.name in wanted or row.id in wanted]
        ids = {row.id: row.name for row in rows}
    missing = [each for each in wanted if each not in names and each not in ids]
    if missing:
        raise RunError(f"there is no {table.__tablename__} {', '.join(missing)}", "Name those that are enrolled.")
    return names


def server_steps(wanted: Any, ground: Ground) -> Iterable[Step]:
    """Three steps for each batch of servers."""
    for batch in _batches(_known(ground, Server, wanted.servers, Server.state != ServerState.REVOKED), wanted.at_once):
        yield DrainBatch(batch)
        yield OrderServers(batch) if wanted.by == "order" else UpgradeServers(batch)
        yield ResumeBatch(batch)


def client_steps(wanted: Any, ground: Ground) -> Iterable[Step]:
    """One or two steps for each batch of clients."""
    for batch in _batches(_known(ground, Client, wanted.clients, Client.revoked_at.is_(None)), wanted.at_once):
        if wanted.deadline_s:
            yield AwaitIdleClients(batch)
        yield OrderClients(batch) if wanted.by == "order" else UpgradeClients(batch)


class DrainBatch(Step):
    """No lease is on these servers."""

    name = "drain-batch"

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        super().__init__(targets)
        self.title = f"Drain {', '.join(targets)}"[:200]

    def look(self, work: Work) -> Look:
        rows = [(name, server.server_row(work, name)) for name in self.targets]
        busy = [name for name, row in rows if row is not None and row.state == ServerState.ACTIVE]
        before = {f"active {name}": name in busy for name in self.targets}
        if not busy and all(row is None or row.state != ServerState.DRAINING for _, row in rows):
            return Look(True, "they take no leases", keep=before)
        return Look(
            False, f"{', '.join(busy)} take leases", f"drain within {work.parameters.deadline_s} s", keep=before
        )

    def act(self, work: Work) -> str:
        for name in self.targets:
            row = server.server_row(work, name)
            if row is not None:
                server.drain(work, row.id, deadline_s=work.parameters.deadline_s)
        return "no lease is left on them"

    def undo(self, work: Work) -> str:
        return resume(work, self.targets)


class ResumeBatch(Step):
    """The servers that took leases before take them again."""

    name = "resume-batch"

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        super().__init__(targets)
        self.title = f"Open {', '.join(targets)} for leases again"[:200]

    def look(self, work: Work) -> Look:
        waiting = [name for name in self.targets if self._waits(work, name)]
        if not waiting:
            return Look(True, "they are as they were before")
        return Look(False, f"{', '.join(waiting)} take no leases", "open them again")

    def _waits(self, work: Work, name: str) -> bool:
        row = server.server_row(work, name)
        return bool(work.facts.get(f"active {name}")) and row is not None and row.state != ServerState.ACTIVE

    def act(self, work: Work) -> str:
        return resume(work, self.targets)


def resume(work: Work, names: Iterable[str]) -> str:
    """Open those servers again that were open before the run."""
    opened = []
    for name in names:
        row = server.server_row(work, name)
        if row is not None and work.facts.get(f"active {name}") and row.state != ServerState.REVOKED:
            server.set_state(work, row.id, ServerState.ACTIVE)
            opened.append(name)
    return f"{', '.join(opened) or 'none'} take leases again"


class _Upgrade(Step):
    role = ""
    made_by = ""

    def look(self, work: Work) -> Look:
        bundle = guest.bundle_of(work.ground)
        versions = []
        for name in self.targets:
            there = inspect(self._target(work, name)[0], self.role)
            versions.append((name, there.build if there else "", there.version if there else "nothing"))
        found = ", ".join(f"{name}: {version}" for name, _, version in versions)
        if all(build == bundle.manifest.name for _, build, _ in versions):
            return Look(True, found)
        return Look(False, found, f"bring them to {bundle.version}")

    def act(self, work: Work) -> str:
        bundle = guest.bundle_of(work.ground)

        def one(name: str) -> tuple[str, Deployed | Exception]:
            try:
                there, settings = self._target(work, name)
                return name, deploy(there, bundle, self.role, settings)
            except Exception as failure:
                return name, failure

        with ThreadPoolExecutor(len(self.targets), thread_name_prefix="upgrade") as threads:
            results = []
            for at, (name, result) in enumerate(threads.map(one, self.targets)):
                failed = isinstance(result, Exception)
                work.say(f"{name}: {result if failed else 'done'}", (at + 1) / len(self.targets))
                results.append((name, result))
        wrong = [f"{name}: {result}" for name, result in results if isinstance(result, Exception)]
        if wrong:
            # The former version runs on those that failed: deploy puts it back.
            raise RunError("; ".join(wrong))
        changed = [name for name, result in results if isinstance(result, Deployed) and result.changed]
        return f"{bundle.version} on {', '.join(changed)}" if changed else "all had it already"

    def undo(self, work: Work) -> str:
        raise RunError(
            "an upgrade is not taken back by itself",
            "Put the former bundle into the site's folder as the newest one, and start the upgrade again.",
        )

    def _target(self, work: Work, name: str) -> tuple[Target, DeploySettings]:
        """Where the machine is and how it is set up, as the run that made it knows."""
        with reading(work.ground.engine) as session:
            made = made_by(session, name, self.made_by)
        if made is None:
            raise RunError(f"{name} was not set up by a run here", f"Start a {self.made_by} run for it.")
        facts, parameters = made
        there = guest.target_of(work, facts["address"], int(facts["port"]))
        if there.host_key is None:
            raise HostKeyUnknownError(there.shown, "", "none that is confirmed")
        return there, self.settings(work, facts, parameters)

    def settings(self, work: Work, facts: dict[str, Any], parameters: dict[str, Any]) -> DeploySettings:
        raise NotImplementedError


class UpgradeServers(_Upgrade):
    """The daemons of a batch are of this appliance's version; where one fails, its former one runs."""

    name = "upgrade-batch"
    role = "server"
    made_by = "provision-server"
    final = True

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        super().__init__(targets)
        self.title = f"Upgrade the daemon of {', '.join(targets)}"[:200]

    def settings(self, work: Work, facts: dict[str, Any], parameters: dict[str, Any]) -> DeploySettings:
        return server.daemon_settings(work.ground, parameters, facts)


class UpgradeClients(_Upgrade):
    """The agents of a batch are of this appliance's version; programs that run go on with what they have loaded."""

    name = "upgrade-clients-batch"
    role = "client"
    made_by = "enable-client"
    final = True

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        super().__init__(targets)
        self.title = f"Upgrade the agent of {', '.join(targets)}"[:200]

    def settings(self, work: Work, facts: dict[str, Any], parameters: dict[str, Any]) -> DeploySettings:
        return guest.settings_for(
            work.ground, esxi_host=facts.get("host_name", ""), environment=dict(parameters.get("environment", {}))
        )
