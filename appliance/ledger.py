"""Leases from request to end: every decision about the pool, made in memory and written as one fenced transaction.

    with ledger.batch() as batch:          # a transaction that only the holder of the office can commit
        ledger.request(...); ledger.released(...)
    for effect in batch.effects: ...       # only now is anybody told

A batch that fails changes nothing: the database keeps what it had, and memory is thrown away and loaded again.

Memory of a GPU is offered again only when its daemon has said that it is free (`released`), or reports, after having
been lost, that it does not hold the lease any more. So an order that got lost on its way can leave memory unused for a
while, never used twice.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, select, update
from sqlalchemy.orm import Session

from appliance import books, waiting
from appliance.books import Books
from appliance.feasibility import Feasibility, RequestRefusedError
from appliance.ids import new_id
from appliance.live import ClientNews, DrainChanged, Effect, LiveLease, LiveSlice, PrepareOrder, ReleaseOrder
from appliance.placement import Shape, fits_open, place
from appliance.pool import Gpu, Pool, Share
from appliance.settings import Settings, read_settings
from appliance.state import models
from appliance.state.database import Office
from appliance.state.models import GpuState, LeaseState, ServerState, SliceState
from appliance.waiting import Member, Waiting


@dataclass(slots=True)
class Batch:
    """One transaction under way: its connection, what it will write, and what is to be said once it is written."""

    connection: Connection | None
    books: Books = field(default_factory=Books)
    effects: list[Effect] = field(default_factory=list)
    over: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """Requests (client, name) that were made before and are over: the lease each had, and why it ended."""


class Ledger:
    """All that is decided about leases. One thread uses it."""

    def __init__(self, engine: Engine, office: Office, clock: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self.office = office
        self.clock = clock
        self.settings = Settings()
        self.pool = Pool()
        self.wanted: dict[str, ServerState] = {}
        self.drain_by: dict[str, float] = {}
        self.members: dict[str, Member] = {}
        self.client_facts: dict[str, tuple[tuple[str, ...] | None, float]] = {}
        """What clients last said of themselves, and when that was written."""
        self.near: dict[str, dict[str, int]] = {}
        self.by_host: dict[str, list[str]] = {}
        self.leases: dict[str, LiveLease] = {}
        self.leaving: dict[tuple[str, str, int], list[LiveSlice]] = {}
        """(server, lease, fence) → slices whose release the daemon has not confirmed."""
        self.strays: dict[str, set[tuple[str, int]]] = {}
        """Connected server → (lease, fence) that it holds and must not; it stays closed until they are gone."""
        self.by_request: dict[tuple[str, str], str] = {}
        self.by_keeper: dict[tuple[str, str], set[str]] = defaultdict(set)
        self.by_server: dict[str, set[str]] = defaultdict(set)
        self.waiting: dict[str, Waiting] = {}
        self.fresh: list[str] = []
        """Waiting requests not tried yet."""
        self.freed = False
        """Whether something came free since the queue was last gone through."""
        self.blocker: int | None = None
        """The priority of a request that has waited so long that nobody may overtake it."""
        self.timers: list[tuple[float, str, str]] = []
        self.fence = 0
        self.loaded = False
        self.loaded_at = 0.0
        self.grants = 0
        self._batch: Batch | None = None
        self._carried = Books()
        self._feasibility = Feasibility()

    # Transactions

    def load(self) -> None:
        """Read everything from the database. No server takes leases before it has reported."""
        with self.office.deciding() as (connection, _):
            with Session(connection) as session:
                self.settings = read_settings(session)
            self.pool, self.wanted = books.load_pool(connection, self.settings)
            self.members = books.load_members(connection)
            self.near = books.load_near(connection)
            live, leaving = books.load_leases(connection, self.members)
            self.fence = connection.execute(select(models.Scheduler.fence).where(models.Scheduler.id == 1)).scalar_one()
            rows = connection.execute(select(models.Server.id, models.Server.drain_deadline)).all()
        self.drain_by = {row.id: row.drain_deadline.timestamp() for row in rows if row.drain_deadline}
        self.by_host = defaultdict(list)
        for server in self.pool.servers.values():
            if server.host:
                self.by_host[server.host].append(server.id)
        held = (self.leases, self.leaving, self.strays, self.by_request, self.by_keeper, self.by_server, self.waiting)
        for container in held:
            container.clear()
        self._carried = Books()
        self._feasibility = Feasibility()
        self.fresh.clear()
        self.timers.clear()
        self.freed = True
        self.blocker = None
        now = self.clock()
        for lease in live:
            lease.last_used = now
            self._remember(lease)
            if lease.state is LeaseState.QUEUED:
                self._enqueue(lease)
            else:
                self._hold(lease, lease.slices)
                if lease.state is LeaseState.GRANTED:
                    # Its daemons say at their next report how far they got.
                    self.set_timer(now, "prepare", lease)
        for each in leaving:
            self.pool.take([each.share])
            self.leaving.setdefault((each.server, each.lease, each.fence), []).append(each)
        self.loaded = True
        self.loaded_at = now

    @contextmanager
    def batch(self, asked: Iterable[tuple[str, str]] = ()) -> Iterator[Batch]:
        """A transaction of decisions. On any error nothing is kept, and `loaded` turns False until `load()`.

        `asked`: the requests (client, name) in it; the batch's `over` names those that were made before and are over.
        """
        if not self.loaded:
            raise RuntimeError("the ledger must be loaded before it can decide")
        try:
            unknown = [pair for pair in asked if pair not in self.by_request]
            with self.office.deciding(unknown) as (connection, known):
                over = {(each.client_id, each.request): (each.lease, each.reason) for each in known}
                self._batch = Batch(connection, self._carried, over=over)
                self._carried = Books()
                yield self._batch
                self._batch.books.write(connection, commit=True)
        except BaseException:
            self.loaded = False
            raise
        finally:
            self._batch = None

    @contextmanager
    def confirmations(self) -> Iterator[Batch]:
        """Take in what daemons confirm (`prepared`, `released`) without a transaction of its own.

        It is written with the next transaction, and before that no memory it set free is given out. A process that is
        killed in between finds the lease as it was, and its daemon says the same again when it reports.
        """
        if not self.loaded:
            raise RuntimeError("the ledger must be loaded before it can decide")
        try:
            self._batch = Batch(None, self._carried)
            yield self._batch
        except BaseException:
            self.loaded = False
            raise
        finally:
            self._batch = None

    @property
    def connection(self) -> Connection:
        """The connection of the transaction under way."""
        connection = self.now_deciding.connection
        if connection is None:
            raise RuntimeError("confirmations have no transaction")
        return connection

    @property
    def now_deciding(self) -> Batch:
        if self._batch is None:
            raise RuntimeError("a decision outside a transaction")
        return self._batch

    @property
    def _books(self) -> Books:
        return self.now_deciding.books

    def say(self, effect: Effect) -> None:
        self.now_deciding.effects.append(effect)

    # Requests

    def request(
        self,
        client: str,
        request: str,
        shape: Shape,
        *,
        timeout_s: float | None = None,
        duration_s: float | None = None,
        priority: int = 0,
        keeper: str = "",
        program: str = "",
        trace: str = "",
    ) -> LiveLease:
        """Take in a request; the same client and request name again gives the same lease.

        It is granted or left waiting by the next `serve_queue`. A client may lower its priority, not raise it. Raises
        RequestRefusedError for what can never be granted.
        """
        known = self.by_request.get((client, request))
        if known:
            lease = self.leases[known]
            if lease.keeper != keeper:
                self._change_keeper(lease, keeper)
            if lease.state is LeaseState.ACTIVE:
                self.say(ClientNews("granted", lease))
            elif lease.state is LeaseState.QUEUED:
                self.say(ClientNews("queued", lease))
            return lease
        member = self.member(client)
        self.check_possible(member, shape)
        now = self.clock()
        lease = LiveLease(
            id=new_id("lease"),
            member=member,
            request=request,
            shape=shape,
            state=LeaseState.QUEUED,
            queued_at=now,
            priority=member.priority + min(priority, 0),
            keeper=keeper,
            program=program,
            trace=trace,
            timeout_s=timeout_s or self.settings.default_timeout_s or None,
            last_used=now,
        )
        longest = [limit for limit in (duration_s, member.max_lease_s, self.settings.max_lease_s) if limit]
        lease.duration_s = min(longest) if longest else None
        if lease.timeout_s:
            lease.deadline = now + lease.timeout_s
        self._books.new_leases[lease.id] = lease
        self._remember(lease)
        self._enqueue(lease)
        return lease

    def adopt(self, lease: LiveLease) -> None:
        """Take in a queued lease whose row another thread or process has written."""
        self._remember(lease)
        self._enqueue(lease)

    def member(self, client: str) -> Member:
        """The client with its quota. Raises RequestRefusedError when it is unknown or revoked."""
        member = self.members.get(client)
        if member is None or member.revoked:
            raise RequestRefusedError(
                "unknown_client", f"client {client} is not enrolled, or its enrolment was revoked"
            )
        return member

    def check_possible(self, member: Member, shape: Shape) -> None:
        """Raises RequestRefusedError when the empty pool, or the client's quota, is smaller than the request."""
        self._feasibility.check(self.pool, member, shape)

    def _remember(self, lease: LiveLease) -> None:
        self.leases[lease.id] = lease
        self.by_request[lease.member.id, lease.request] = lease.id
        if lease.keeper:
            self.by_keeper[lease.member.id, lease.keeper].add(lease.id)

    def _change_keeper(self, lease: LiveLease, keeper: str) -> None:
        self.by_keeper[lease.member.id, lease.keeper].discard(lease.id)
        lease.keeper = keeper
        if keeper:
            self.by_keeper[lease.member.id, keeper].add(lease.id)
        self._books.lease(lease)

    def _enqueue(self, lease: LiveLease) -> None:
        self.waiting[lease.id] = Waiting(
            lease.id, lease.member, lease.shape, lease.priority, lease.queued_at, lease.deadline
        )
        self.fresh.append(lease.id)
        if lease.deadline:
            self.set_timer(lease.deadline, "queue", lease)

    def set_timer(self, at: float, kind: str, lease: LiveLease) -> None:
        heapq.heappush(self.timers, (at, kind, lease.id))

    # The queue

    def serve_queue(self) -> None:
        """Grant whatever can be granted now, in fair order."""
        if not self.waiting:
            self.fresh.clear()
            self.blocker = None
            return
        if self.freed:
            ordered = waiting.fair_order(self.waiting.values())
            self.blocker = None
            self.freed = False
        elif self.fresh:
            ordered = waiting.fair_order(self.waiting[id_] for id_ in self.fresh if id_ in self.waiting)
        else:
            return
        self.fresh.clear()
        hopeless: set[tuple[str, Shape]] = set()
        now = self.clock()
        for each in ordered:
            each.reason = self._try(each, hopeless, now)

    def _try(self, each: Waiting, hopeless: set[tuple[str, Shape]], now: float) -> str:
        """Grant the request, or say why it waits."""
        member, shape = each.member, each.shape
        reason = waiting.quota_reason(member, shape.gpus, 0, held=True)
        if reason:
            return reason
        if self.blocker is not None and each.priority <= self.blocker:
            return "waits behind a request that has waited too long to be overtaken"
        if ("", shape) in hopeless:
            return self._no_place(shape)
        near = books.near_of(member, self.near.get(member.id, {}), self.pool, self.by_host)
        shares = place(self.pool, shape, near, self.settings.prefer)
        if shares is None:
            hopeless.add(("", shape))
            if now - each.since >= self.settings.patience_s and fits_open(self.pool, shape):
                self.blocker = each.priority
            return self._no_place(shape)
        reason = waiting.quota_reason(member, shape.gpus, sum(share.memory_mib for share in shares), held=True)
        if reason:
            return reason
        self._grant(self.leases[each.lease], shares)
        return ""

    def _no_place(self, shape: Shape) -> str:
        if not fits_open(self.pool, shape):
            return f"no server that is up and takes leases can hold {shape}"
        return f"all places for {shape} are taken"

    def publish_queue(self) -> None:
        """Tell waiting clients their place and reason where either changed, and write both down."""
        for each in waiting.fair_order(self.waiting.values()):
            lease = self.leases[each.lease]
            if (lease.position, lease.reason) != (each.position, each.reason):
                if not lease.position:
                    self._books.event("lease.queued", lease.id, f"{lease.shape}: {each.reason}"[:500], lease.trace)
                lease.position, lease.reason = each.position, each.reason
                self._books.lease(lease)
                self.say(ClientNews("queued", lease))

    def _grant(self, lease: LiveLease, shares: tuple[Share, ...]) -> None:
        now = self.clock()
        self.fence += 1
        self._books.fence = self.fence
        self.grants += 1
        self.waiting.pop(lease.id, None)
        lease.state, lease.fence, lease.reason, lease.position = LeaseState.GRANTED, self.fence, "", 0
        lease.granted_at = lease.last_used = now
        if lease.duration_s:
            lease.expires_at = now + lease.duration_s
        made = [
            LiveSlice(
                id=f"{lease.id}-{self.fence}-{ordinal}",
                lease=lease.id,
                gpu=share.gpu,
                server=self.pool.gpus[share.gpu].server.id,
                ordinal=ordinal,
                memory_mib=share.memory_mib,
                compute=share.compute,
                fence=self.fence,
            )
            for ordinal, share in enumerate(shares)
        ]
        lease.slices = made
        self._hold(lease, made)
        for each in made:
            self._books.new_slices[each.id] = each
            self._books.reserve(each, 1)
        self._books.lease(lease)
        self.set_timer(now + self.settings.prepare_timeout_s, "prepare", lease)
        for server in lease.servers:
            self.say(PrepareOrder(server, lease, lease.fence))

    def _hold(self, lease: LiveLease, slices: list[LiveSlice]) -> None:
        shares = [each.share for each in slices]
        self.pool.take(shares)
        lease.member.quota.add(shares, 1)
        lease.member.group_quota.add(shares, 1)
        for each in slices:
            self.by_server[each.server].add(lease.id)
        if lease.expires_at:
            self.set_timer(lease.expires_at, "expiry", lease)

    # What daemons answer

    def prepared(self, server: str, lease_id: str, fence: int) -> None:
        """A daemon is ready for a lease; when all are, the client is told."""
        lease = self.leases.get(lease_id)
        if lease is None or lease.fence != fence:
            # Decided otherwise meanwhile: the release order for that grant is on its way already.
            return
        for each in lease.on(server):
            if each.state is SliceState.RESERVED:
                each.state = SliceState.PREPARED
                self._books.slice(each)
        if lease.state is LeaseState.GRANTED and all(each.state is SliceState.PREPARED for each in lease.slices):
            lease.state = LeaseState.ACTIVE
            self._books.lease(lease)
            self._books.event("lease.granted", lease.id, f"{lease.shape} for {lease.member.id}", lease.trace)
            self.say(ClientNews("granted", lease))

    def prepare_refused(self, server: str, lease_id: str, fence: int, *, code: str, reason: str, gpu: str = "") -> None:
        """A daemon cannot hold what was placed on it: its GPU is suspect, and the lease is placed elsewhere.

        With the code `stopping` the daemon is only on its way down: then the whole server is closed.
        """
        lease = self.leases.get(lease_id)
        if lease is None or lease.fence != fence or lease.state is not LeaseState.GRANTED:
            return
        if code == "stopping":
            self.close(server)
        for each in [each for each in lease.on(server) if not gpu or each.gpu == gpu] if code != "stopping" else ():
            self.suspect(self.pool.gpus[each.gpu], f"prepare refused: {reason}")
        self.place_again(lease, f"server {server} refused it: {reason}", confirmed=server)

    def suspect(self, gpu: Gpu, reason: str) -> None:
        """Stop using a GPU whose daemon's word proved wrong."""
        self.pool.set_ready(gpu, False)
        query = update(models.Gpu).where(models.Gpu.id == gpu.id)
        self.connection.execute(
            query.values(state=GpuState.SUSPECT, state_reason=reason[:500], revision=models.Gpu.revision + 1)
        )
        self._books.event("gpu.suspect", gpu.id, reason)

    def place_again(self, lease: LiveLease, reason: str, confirmed: str = "") -> None:
        """Back into the queue at its old place; `confirmed` is the server known not to hold it."""
        self._let_go(lease, f"placed again: {reason}", confirmed)
        lease.state, lease.granted_at, lease.expires_at, lease.reason = LeaseState.QUEUED, None, None, reason
        self._books.lease(lease)
        self._books.event("lease.placed-again", lease.id, reason, lease.trace)
        self._enqueue(lease)

    def _let_go(self, lease: LiveLease, reason: str, confirmed: str = "") -> None:
        """Order every server of the lease to release it; memory stays reserved until each has."""
        lease.member.quota.add((each.share for each in lease.slices), -1)
        lease.member.group_quota.add((each.share for each in lease.slices), -1)
        for server in lease.servers:
            slices = lease.on(server)
            self.by_server[server].discard(lease.id)
            if server == confirmed:
                self._free(slices)
                continue
            for each in slices:
                each.state = SliceState.RELEASING
                self._books.slice(each)
            self.leaving[server, lease.id, lease.fence] = slices
            self.say(ReleaseOrder(server, lease.id, lease.fence, reason))
        lease.slices = []

    def _free(self, slices: list[LiveSlice]) -> None:
        for each in slices:
            each.state = SliceState.FREED
            self._books.slice(each)
            self._books.reserve(each, -1)
        self.pool.give_back(each.share for each in slices)
        self.freed = True

    def released(self, server: str, lease_id: str, fence: int) -> None:
        """A daemon says that nothing of this grant is left on it."""
        slices = self.leaving.pop((server, lease_id, fence), None)
        if slices:
            self._free(slices)
            self.check_drained(server)
        strays = self.strays.get(server)
        if strays and (lease_id, fence) in strays:
            strays.discard((lease_id, fence))
            self.open_if_ready(server)

    # Ends

    def end(self, lease: LiveLease, reason: str, confirmed: str = "") -> None:
        """End a lease in whatever state it is. `confirmed` is a server known not to hold it any more."""
        if lease.state is LeaseState.QUEUED:
            self.waiting.pop(lease.id, None)
            self.freed = self.freed or self.blocker is not None
        else:
            self._let_go(lease, reason, confirmed)
            # A quota may have become free although no memory has.
            self.freed = True
        lease.state, lease.reason, lease.position, lease.ended_at = LeaseState.ENDED, reason, 0, self.clock()
        self._books.lease(lease)
        self._books.event("lease.ended", lease.id, reason, lease.trace)
        del self.leases[lease.id]
        self.by_request.pop((lease.member.id, lease.request), None)
        kept = self.by_keeper.get((lease.member.id, lease.keeper))
        if kept is not None:
            kept.discard(lease.id)
            if not kept:
                del self.by_keeper[lease.member.id, lease.keeper]
        self.say(ClientNews("ended", lease, reason))

    def keeper_lost(self, client: str, keeper: str, reason: str) -> None:
        """The process that kept leases is gone: they end."""
        for id_ in sorted(self.by_keeper.get((client, keeper), ())):
            self.end(self.leases[id_], reason)

    def server_lost(self, server: str, reason: str) -> None:
        """A server is silent: its leases end; it is offered again only after it has reported what it still holds."""
        held = sorted(self.by_server.get(server, ()))
        if held or (server in self.pool.servers and self.pool.servers[server].open):
            self._books.event("server.lost", server, reason)
        self.close(server)
        for id_ in held:
            self.end(self.leases[id_], reason, confirmed=server)
        for key in [key for key in self.leaving if key[0] == server]:
            self._free(self.leaving.pop(key))
        self.check_drained(server)

    # Servers

    def close(self, server: str) -> None:
        self.strays.pop(server, None)
        if server in self.pool.servers:
            self.pool.set_open(self.pool.servers[server], False)

    def reconcile(self, server: str, held: Iterable[tuple[str, int]]) -> None:
        """Compare what a daemon says it holds with what it should, and order the difference."""
        holds = set(held)
        should = {(id_, self.leases[id_].fence) for id_ in self.by_server.get(server, ())}
        strays = holds - should
        for id_, fence in sorted(should):
            lease = self.leases[id_]
            if (id_, fence) in holds:
                self.prepared(server, id_, fence)
            else:
                self.say(PrepareOrder(server, lease, fence))
        for key in [key for key in self.leaving if key[0] == server and (key[1], key[2]) not in holds]:
            self._free(self.leaving.pop(key))
        for id_, fence in sorted(strays):
            self.say(ReleaseOrder(server, id_, fence, "the appliance does not know this grant any more"))
        self.strays[server] = strays
        self.open_if_ready(server)
        self.check_drained(server)

    def open_if_ready(self, server: str) -> None:
        """Offer a server that is wanted, has reported, and holds nothing it must not."""
        known = self.pool.servers[server]
        ready = self.wanted.get(server) is ServerState.ACTIVE and self.strays.get(server) == set()
        if ready and not known.open:
            self.freed = True
            self._books.event("server.ready", server, f"{known.name} offers its GPUs")
        self.pool.set_open(known, ready)

    def set_wanted(self, server: str, state: ServerState, deadline: float | None) -> None:
        """The operator wants a server active, draining, in maintenance or gone (already written)."""
        before = self.wanted.get(server)
        self.wanted[server] = state
        self.drain_by.pop(server, None)
        if state is ServerState.DRAINING:
            self.drain_by[server] = deadline or self.clock() + self.settings.drain_deadline_s
        if before is not state:
            self._books.event(f"server.{state}", server, f"{server} is {state}")
            self.say(DrainChanged(server))
            for id_ in sorted(self.by_server.get(server, ())) if state is ServerState.DRAINING else ():
                left = max(0.0, self.drain_by[server] - self.clock())
                self.say(ClientNews("notice", self.leases[id_], f"server {server} is being drained", left))
        if state in (ServerState.MAINTENANCE, ServerState.REVOKED):
            for id_ in sorted(self.by_server.get(server, ())):
                self.end(self.leases[id_], f"server {server} was taken out of the pool")
        if server in self.strays:
            self.open_if_ready(server)
        self.check_drained(server)

    def check_drained(self, server: str) -> None:
        """A draining server on which nothing is left goes into maintenance."""
        if self.wanted.get(server) is not ServerState.DRAINING or self.by_server.get(server):
            return
        if any(key[0] == server for key in self.leaving):
            return
        self.wanted[server] = ServerState.MAINTENANCE
        self.drain_by.pop(server, None)
        query = update(models.Server).where(models.Server.id == server)
        self.connection.execute(
            query.values(state=ServerState.MAINTENANCE, drain_deadline=None, revision=models.Server.revision + 1)
        )
        self._books.event("server.drained", server, f"{server} holds no lease any more")

    def used(self, lease_id: str, idle_s: float) -> None:
        """A daemon saw a program of the lease use its GPU `idle_s` seconds ago."""
        lease = self.leases.get(lease_id)
        if lease is not None:
            lease.last_used = max(lease.last_used, self.clock() - idle_s)
