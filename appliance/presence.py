"""Who is connected where, since when nothing was heard of it, and which appliance processes there are."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from datetime import timedelta

from sqlalchemy import Engine, delete, insert, select, update

from appliance import metrics
from appliance.books import distance_class
from appliance.bus import Incoming
from appliance.ledger import Ledger
from appliance.state.database import writing
from appliance.state.models import Client, Distance, Instance, LeaseState, now
from appliance.telemetry import Telemetry
from gpuserver.protocol.control import messages

PEERS_PER_SECOND = 2500
"""So many heartbeats a second are taken at most; above, every peer is asked for fewer."""
FORGET_AFTER_S = 120.0
RENEW_S = 5.0
GONE_AFTER = timedelta(seconds=20)

Key = tuple[str, str]
"""A process of a peer: (peer, instance)."""


class Presence:
    """Routes and last signs of life, in monotonic seconds. Belongs to the control loop's thread."""

    def __init__(self) -> None:
        self._routes: dict[Key, bytes] = {}
        self._seen: dict[Key, float] = {}
        self._skew: dict[str, float] = {}
        self._server_process: dict[str, str] = {}
        self._restarted: set[str] = set()
        self._expected: dict[str, float] = {}
        """Servers whose silence has not been acted upon, and since when they were expected."""
        self._since = 0.0
        """Silence before this moment proves nothing."""
        self.use: dict[str, dict[str, messages.LeaseUse]] = {}
        """Server → lease → how it was used when last heard of."""

    def expect(self, servers: Iterable[str], keepers: Iterable[Key], now_: float) -> None:
        """This process begins to decide: everybody has the full time to be heard from."""
        self._since = now_
        self._expected = dict.fromkeys(servers, now_)

    def forgive(self, now_: float) -> None:
        self._since = now_

    def greet(self, source: Incoming, hello: messages.Hello, now_: float) -> None:
        key = source.peer.id, hello.instance
        self._routes[key] = source.route
        self._seen[key] = now_
        if source.peer.role == messages.SERVER:
            before = self._server_process.get(source.peer.id)
            if before is not None and before != hello.instance:
                self._restarted.add(source.peer.id)
                self.leave(source.peer.id, before)
            self._server_process[source.peer.id] = hello.instance
            self._expected[source.peer.id] = now_

    def is_new_process(self, server: str, instance: str) -> bool:
        """Whether the daemon that said Hello is another process than before; answers True once."""
        restarted = server in self._restarted
        self._restarted.discard(server)
        return restarted

    def beat(self, source: Incoming, content: messages.Heartbeat, now_: float) -> bool:
        """Take a heartbeat; False when this connection has not said Hello."""
        key = source.peer.id, content.instance
        if self._routes.get(key) != source.route:
            return False
        self._seen[key] = now_
        self._skew[source.peer.id] = content.clock - time.time()
        return True

    def used(self, server: str, use: Iterable[messages.LeaseUse]) -> None:
        """Count what sessions did since the last word about their lease."""
        known = self.use.setdefault(server, {})
        for each in use:
            before = known.get(each.lease)
            calls, bytes_, trips = (before.calls, before.bytes, before.round_trips) if before else (0, 0, 0)
            metrics.CALLS.inc(max(0, each.calls - calls))
            metrics.BYTES.inc(max(0, each.bytes - bytes_))
            metrics.ROUND_TRIPS.inc(max(0, each.round_trips - trips))
            known[each.lease] = each

    def leave(self, peer: str, instance: str) -> None:
        self._routes.pop((peer, instance), None)
        self._seen.pop((peer, instance), None)

    def is_here(self, peer: str, instance: str) -> bool:
        return (peer, instance) in self._routes

    def route_to(self, peer: str, instance: str) -> bytes | None:
        return self._routes.get((peer, instance))

    def route_to_server(self, server: str) -> bytes | None:
        return self._routes.get((server, self._server_process.get(server, "")))

    def routes_of(self, peer: str | None) -> list[bytes]:
        """The connections of a server's daemon or of a client's agent; None: of all of them."""
        agents = [(each, messages.AGENT) for each in ([peer] if peer else {key[0] for key in list(self._seen)})]
        daemons = [(peer, self._server_process.get(peer, ""))] if peer else list(self._server_process.items())
        return [route for key in [*daemons, *agents] if (route := self._routes.get(key)) is not None]

    def every_route(self, peer: str | None = None) -> list[bytes]:
        """The connections of all processes: of a peer's, or of everybody's."""
        return [route for key, route in self._routes.items() if peer is None or key[0] == peer]

    def clock_skew(self, peer: str) -> float | None:
        return self._skew.get(peer)

    def heartbeat_s(self, wanted: float) -> float:
        """How often peers shall report: as the site wants, or as often as this process can listen."""
        return max(wanted, len(self._routes) / PEERS_PER_SECOND)

    def silent_servers(self, now_: float, after_s: float) -> list[str]:
        """Servers not heard of for so long; each is named once."""
        silent = []
        for server, expected in list(self._expected.items()):
            seen = self._seen.get((server, self._server_process.get(server, "")), 0.0)
            if now_ - max(seen, expected, self._since) > after_s:
                silent.append(server)
                del self._expected[server]
                self.leave(server, self._server_process.get(server, ""))
        return silent

    def silent_keepers(self, now_: float, after_s: float, keepers: Iterable[Key]) -> list[Key]:
        """Of the processes that keep leases, those not heard of for so long."""
        if now_ - self._since <= after_s:
            return []
        seen = self._seen
        return [key for key in keepers if now_ - seen.get(key, 0.0) > after_s]

    def forget(self, now_: float) -> None:
        """Drop the routes of processes long gone."""
        for key in [key for key, seen in self._seen.items() if now_ - seen > FORGET_AFTER_S]:
            self.leave(*key)

    @property
    def sessions(self) -> int:
        return sum(each.sessions for server in self.use.values() for each in server.values())

    def forget_use(self, live: Container[str]) -> None:
        """Drop what is known of leases that are over."""
        for known in self.use.values():
            for lease in [each for each in known if each not in live]:
                del known[lease]


class Instances:
    """The appliance processes of the site, as the database knows them."""

    def __init__(self, engine: Engine, holder: str, control_endpoint: str, api_url: str) -> None:
        self.engine = engine
        self.holder = holder
        self.endpoints: tuple[str, ...] = (control_endpoint,)
        self._row = {"control_endpoint": control_endpoint, "api_url": api_url}
        self._renew_at = 0.0
        self._started_at = now()

    @property
    def several(self) -> bool:
        return len(self.endpoints) > 1

    def renew(self) -> None:
        """Say that this process lives, and read which others do; every few seconds."""
        if time.monotonic() < self._renew_at:
            return
        with writing(self.engine) as session:
            session.merge(Instance(id=self.holder, started_at=self._started_at, seen_at=now(), **self._row))
            session.execute(delete(Instance).where(Instance.seen_at < now() - GONE_AFTER))
            session.flush()
            others = session.scalars(select(Instance.control_endpoint).where(Instance.id != self.holder)).all()
        self.endpoints = tuple(dict.fromkeys([self._row["control_endpoint"], *sorted(others)]))
        self._renew_at = time.monotonic() + RENEW_S

    def leave(self) -> None:
        with writing(self.engine) as session:
            session.execute(delete(Instance).where(Instance.id == self.holder))


def note_client(ledger: Ledger, client: str, hello: messages.Hello) -> None:
    """Write what a client's Hello says of it, when that is new or the row is a minute old."""
    facts = (hello.hostname[:200], hello.host[:200], hello.version[:200])
    known, written_at = ledger.client_facts.get(client, (None, 0.0))
    if facts == known and ledger.clock() - written_at < 60:
        return
    ledger.client_facts[client] = facts, ledger.clock()
    query = update(Client).where(Client.id == client)
    ledger.connection.execute(query.values(hostname=facts[0], host=facts[1], agent_version=facts[2], seen_at=now()))
    if client in ledger.members:
        ledger.members[client].host = facts[1]


def note_distance(ledger: Ledger, client: str, measured: messages.Measured) -> None:
    """Keep what a client measured; it counts from its next request on."""
    if measured.server not in ledger.pool.servers or not 0 < measured.round_trip_us < 1e8:
        return
    connection, table = ledger.connection, Distance
    key = (table.client_id == client) & (table.server_id == measured.server)
    values = {
        "round_trip_us": measured.round_trip_us,
        "bandwidth_mbps": measured.bandwidth_mbps,
        "mtu": measured.mtu if measured.mtu is None else measured.mtu % 65536,
        "rdma": measured.rdma,
        "measured_at": now(),
    }
    if not connection.execute(update(table).where(key).values(**values)).rowcount:
        connection.execute(insert(table).values(client_id=client, server_id=measured.server, **values))
    ledger.near.setdefault(client, {})[measured.server] = distance_class(measured.round_trip_us, measured.rdma)


def measure(ledger: Ledger, presence: Presence, telemetry: Telemetry) -> None:
    """Set the gauges of the pool, and remember how it is."""
    presence.forget_use(ledger.leases)
    telemetry.forget(ledger.leases)
    pool = ledger.pool
    total = free = slices = 0
    ready = 0
    for gpu in pool.gpus.values():
        total += gpu.memory_mib
        free += gpu.free_mib
        slices += gpu.slices
        ready += gpu.usable
    metrics.GPUS.labels("usable").set(ready)
    metrics.GPUS.labels("unusable").set(len(pool.gpus) - ready)
    metrics.MEMORY.labels("total").set(total << 20)
    metrics.MEMORY.labels("reserved").set((total - free) << 20)
    metrics.SLICES.set(slices)
    opened = sum(server.open for server in pool.servers.values())
    metrics.SERVERS.labels("open").set(opened)
    metrics.SERVERS.labels("closed").set(len(pool.servers) - opened)
    waiting = len(ledger.waiting)
    metrics.LEASES.labels(LeaseState.QUEUED).set(waiting)
    metrics.LEASES.labels("held").set(len(ledger.leases) - waiting)
    oldest = min((each.since for each in ledger.waiting.values()), default=None)
    metrics.QUEUE_OLDEST.set(0 if oldest is None else ledger.clock() - oldest)
    metrics.SESSIONS.set(presence.sessions)
    telemetry.sample(total, total - free, len(ledger.leases) - waiting, waiting)
