"""Upgrades without SSH: the daemon or agent gets an order over the control bus, and its machine's installer fetches the
bundle from the appliance, verifies it, and installs it or puts the former version back (docs/deployment.md)."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import func, select

from appliance.books import note_changes
from appliance.runs import guest
from appliance.runs.step import Look, RunError, Step
from appliance.runs.work import Work
from appliance.state.database import reading, writing
from appliance.state.models import Client, Event, Lease, LeaseState, Server

INSTALL_S = 300.0
"""The time of the batch's machines to fetch, install and come back."""
LOOK_S = 0.5


class AwaitIdleClients(Step):
    """These clients hold no lease, or their time for that is over: an upgrade leaves leases alone, but not everybody
    likes it while a program runs."""

    name = "await-idle-clients"
    check = True

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        super().__init__(targets)
        self.title = f"Wait for the leases of {', '.join(targets)}"[:200]

    def look(self, work: Work) -> Look:
        deadline = time.monotonic() + (0 if work.dry else work.parameters.deadline_s)
        while True:
            busy = self._busy(work)
            if not busy:
                return Look(True, "they hold no lease")
            if time.monotonic() >= deadline:
                return Look(True, f"{', '.join(busy)} hold leases, which go on over the upgrade")
            work.progress(None, f"{', '.join(busy)} hold leases")
            work.check()
            time.sleep(LOOK_S)

    def _busy(self, work: Work) -> list[str]:
        with reading(work.ground.engine) as session:
            query = select(Client.name).join(Lease, Lease.client_id == Client.id)
            held = query.where(Client.name.in_(self.targets), Lease.state != LeaseState.ENDED)
            return list(session.scalars(held.distinct().order_by(Client.name)))


class _Order(Step):
    table: type[Server | Client]
    final = True

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        super().__init__(targets)
        self.title = f"Order the upgrade of {', '.join(targets)}"[:200]

    def _rows(self, work: Work) -> dict[str, tuple[str, str, bool]]:
        """Name → id, version it says it is, whether it is connected."""
        table: Any = self.table
        version = table.agent_version if self.table is Client else table.daemon_version
        with reading(work.ground.engine) as session:
            rows = session.execute(select(table.name, table.id, version).where(table.name.in_(self.targets))).all()
        connected = work.ground.loop.presence.routes_of
        return {name: (id_, said, bool(connected(id_))) for name, id_, said in rows}

    def look(self, work: Work) -> Look:
        wanted = guest.bundle_of(work.ground).version
        rows = self._rows(work)
        found = ", ".join(f"{name}: {version or 'unknown'}" for name, (_, version, _) in sorted(rows.items()))
        if all(version == wanted and here for _, version, here in rows.values()):
            return Look(True, found)
        return Look(False, found, f"order {wanted}")

    def act(self, work: Work) -> str:
        wanted = guest.bundle_of(work.ground).version
        behind = {name: id_ for name, (id_, version, _) in self._rows(work).items() if version != wanted}
        away = sorted(name for name, (_, _, here) in self._rows(work).items() if not here)
        if away:
            raise RunError(
                f"{', '.join(away)} cannot be ordered anything: not connected",
                "Make the machines reachable and retry, or upgrade them over SSH (by: ssh).",
            )
        with writing(work.ground.engine) as session:
            since = session.scalar(select(func.max(Event.id))) or 0
            note_changes(session.connection(), [("upgrade", f"{id_} {wanted}") for id_ in behind.values()])
        work.ground.loop.wake()
        work.say(f"ordered {wanted} from {', '.join(sorted(behind))}")
        self._await(work, wanted, behind, since)
        return f"{wanted} on {', '.join(sorted(behind))}"

    def _await(self, work: Work, wanted: str, behind: dict[str, str], since: int) -> None:
        deadline = time.monotonic() + INSTALL_S
        while True:
            rows = self._rows(work)
            left = [name for name in behind if rows[name][1:] != (wanted, True)]
            if not left:
                return
            refused = self._refused(work, {behind[name]: name for name in left}, since)
            if refused:
                raise RunError("; ".join(refused), "The former version runs there. See the bundle, then retry.")
            if time.monotonic() > deadline:
                raise RunError(
                    f"{', '.join(sorted(left))} did not come back with {wanted} within {INSTALL_S:g} s",
                    "See the events of the machine and the log of its service; then retry.",
                )
            work.progress(1 - len(left) / len(behind), f"waiting for {', '.join(sorted(left))}")
            work.check()
            time.sleep(LOOK_S)

    def _refused(self, work: Work, names: dict[str, str], since: int) -> list[str]:
        with reading(work.ground.engine) as session:
            query = select(Event.subject, Event.text).where(
                Event.id > since, Event.kind.in_(("server.upgrade", "client.upgrade")), Event.subject.in_(names)
            )
            return [f"{names[peer]} {text}" for peer, text in session.execute(query) if text.startswith("refused")]


class OrderServers(_Order):
    """The daemons of a batch are of this appliance's version; they were drained, so that they begin at once."""

    name = "order-servers"
    table = Server


class OrderClients(_Order):
    """The agents of a batch are of this appliance's version."""

    name = "order-clients"
    table = Client
