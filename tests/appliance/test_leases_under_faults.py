"""The promise of the appliance, under random faults: a lease is never granted twice, capacity is never exceeded, the
queue survives.

Hypothesis drives clients, daemons and two appliance processes on one database. Messages between them are delivered,
held back, overtaken by those of the next process, or lost; processes are killed between any two steps, inside a
transaction or after its commit and before anybody was told, and started again; daemons are cut off and come back with
what they still hold. The daemons here check fences and epochs as the real ones do, but not capacity: it must be the
appliance that never promises twice.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from site_builder import Clock, add_client, add_server, gpus_of
from sqlalchemy import Engine, func, select, update

from appliance.changes import server_reported
from appliance.deadlines import tick
from appliance.feasibility import RequestRefusedError
from appliance.ledger import Ledger
from appliance.live import Effect, PrepareOrder, ReleaseOrder
from appliance.placement import Shape
from appliance.state.database import DeposedError, Office, open_database, reading, writing
from appliance.state.models import Gpu, Lease, LeaseState, Scheduler, Slice, SliceState

SERVERS, CLIENTS, GPUS, MEMORY = 3, 3, 2, 16384
EXAMPLES = int(os.environ.get("GPUFERRY_FAULT_EXAMPLES", "25"))


class Killed(BaseException):
    """The process stops where it is."""


class Process:
    """An appliance process: an office, a ledger, and orders it has sent that nobody has received yet."""

    def __init__(self, name: str, engine: Engine, clock: Clock) -> None:
        self.office = Office(engine, name, f"inproc://{name}")
        self.ledger = Ledger(engine, self.office, clock)
        self.leading = False


class Daemon:
    """A daemon's lease table without its capacity check; `inbox` is the wire to it, `outbox` the wire back."""

    def __init__(self) -> None:
        self.grants: dict[str, tuple[int, dict[str, int]]] = {}
        self.released: dict[str, int] = {}
        self.epoch = 0
        self.inbox: list[tuple[int, Effect]] = []
        self.outbox: list[tuple[str, str, int]] = []
        self.cut_off = False

    def receive(self, epoch: int, order: Effect) -> None:
        if epoch < self.epoch:
            return
        self.epoch = epoch
        if isinstance(order, PrepareOrder):
            lease, fence = order.lease.id, order.fence
            if fence <= self.released.get(lease, 0) or self.grants.get(lease, (0, {}))[0] > fence:
                return
            self.grants[lease] = fence, dict(ORDERED[lease, fence, order.server])
            self.outbox.append(("prepared", lease, fence))
        elif isinstance(order, ReleaseOrder):
            self.released[order.lease] = max(order.fence, self.released.get(order.lease, 0))
            if self.grants.get(order.lease, (0, {}))[0] <= order.fence:
                self.grants.pop(order.lease, None)
            self.outbox.append(("released", order.lease, order.fence))


ORDERED: dict[tuple[str, int, str], dict[str, int]] = {}
"""(lease, fence, server) → GPU → MiB, as it was when the order was made."""


class Site(RuleBasedStateMachine):
    url_maker: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        ORDERED.clear()
        self.engine = open_database(type(self).url_maker())
        self.clock = Clock()
        self.daemons = {f"server-s{i}": Daemon() for i in range(SERVERS)}
        self.asked: dict[str, str] = {}
        self.refused: set[str] = set()
        self.given_up: set[str] = set()
        self.granted_once: dict[str, set[int]] = defaultdict(set)
        self.number = 0

    @initialize()
    def start(self) -> None:
        for i in range(CLIENTS):
            add_client(self.engine, f"c{i}", f"g{i % 2}")
        for i in range(SERVERS):
            add_server(self.engine, f"s{i}")
        self.processes = [Process(f"p{i}", self.engine, self.clock) for i in range(2)]
        self.lead(0)
        for server in self.daemons:
            self.report(server)

    def teardown(self) -> None:
        self.engine.dispose()

    # The appliance processes

    def lead(self, index: int) -> None:
        process = self.processes[index]
        if process.office.campaign():
            process.ledger.load()
            process.leading = True

    def decide(
        self, *actions: Callable[[Ledger], object], crash: str = "", asked: Sequence[tuple[str, str]] = ()
    ) -> None:
        """One turn of the deciding process; `crash`: killed before the commit, or after it and before telling."""
        if not any(each.leading for each in self.processes) and self.number % 2:
            # Mostly somebody decides; but not always, so that daemons and clients also act while nobody does.
            self.take_over(self.number // 2 % 2, True)
        # The former holder of the office may not know yet that it is over: it goes first.
        for process in sorted((each for each in self.processes if each.leading), key=lambda each: each.office.epoch):
            self.decide_by(process, *actions, crash=crash, asked=asked)

    def decide_by(
        self,
        process: Process,
        *actions: Callable[[Ledger], object],
        crash: str,
        asked: Sequence[tuple[str, str]] = (),
    ) -> None:
        if not process.ledger.loaded:
            return
        try:
            with process.ledger.batch(asked) as batch:
                for action in actions:
                    action(process.ledger)
                process.ledger.serve_queue()
                if crash == "before":
                    batch.books.write(process.ledger.connection)
                    raise Killed
        except (Killed, DeposedError):
            process.leading = False
            return
        if crash == "after":
            process.leading = False
            return
        for effect in batch.effects:
            if isinstance(effect, PrepareOrder):
                slices = {each.gpu: each.memory_mib for each in effect.lease.on(effect.server)}
                ORDERED.setdefault((effect.lease.id, effect.fence, effect.server), slices)
            if isinstance(effect, PrepareOrder | ReleaseOrder) and not self.daemons[effect.server].cut_off:
                self.daemons[effect.server].inbox.append((process.office.epoch, effect))

    @rule(
        crash=st.sampled_from(["", "", "", "before", "after"]),
        client=st.integers(0, CLIENTS - 1),
        gpus=st.integers(1, 3),
        memory=st.sampled_from([None, 3000, 8000, 9000, 16384]),
    )
    def request(self, crash: str, client: int, gpus: int, memory: int | None) -> None:
        self.number += 1
        name = f"r{self.number}"
        self.asked[name] = f"client-c{client}"
        self.shapes = getattr(self, "shapes", {})
        self.shapes[name] = Shape(gpus, memory)
        self.ask(name, crash)

    def ask(self, name: str, crash: str = "") -> None:
        def action(ledger: Ledger) -> None:
            if (self.asked[name], name) in ledger.now_deciding.over:
                return
            try:
                ledger.request(self.asked[name], name, self.shapes[name], keeper=name)
            except RequestRefusedError:
                self.refused.add(name)

        self.decide(action, crash=crash, asked=[(self.asked[name], name)])

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """A client that got no answer repeats itself."""
        self.ask(data.draw(st.sampled_from(sorted(self.asked))))

    @precondition(lambda self: self.asked)
    @rule(data=st.data(), crash=st.sampled_from(["", "", "before", "after"]))
    def release(self, data: st.DataObject, crash: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.asked)))

        def action(ledger: Ledger) -> None:
            lease = ledger.by_request.get((self.asked[name], name))
            if lease:
                self.given_up.add(name)
                ledger.end(ledger.leases[lease], "released")

        self.decide(action, crash=crash)

    @rule(index=st.integers(0, 1))
    def kill_process(self, index: int) -> None:
        self.processes[index].office.close()  # as the end of a process closes its connections
        self.processes[index] = Process(f"p{index}-{self.number}-{self.clock.now}", self.engine, self.clock)

    def expire_office(self) -> None:
        with writing(self.engine) as session:
            session.execute(update(Scheduler).values(renewed_at=datetime(2000, 1, 1, tzinfo=UTC)))

    @rule(index=st.integers(0, 1))
    def campaign(self, index: int) -> None:
        """A process tries for the office while the holder may have renewed it in time."""
        self.lead(index)

    @rule(index=st.integers(0, 1))
    def usurp(self, index: int) -> None:
        """The holder was paused for so long that another takes over; it wakes up and does not know."""
        if not self.processes[index].leading:
            self.expire_office()
            self.lead(index)

    @precondition(lambda self: not any(each.leading for each in self.processes))
    @rule(index=st.integers(0, 1), everybody_reports=st.booleans())
    def take_over(self, index: int, everybody_reports: bool) -> None:
        self.expire_office()
        self.lead(index)
        for server in self.daemons if everybody_reports else ():
            self.report(server)

    @rule(seconds=st.sampled_from([1, 6, 20]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds
        self.decide(tick)

    # The daemons

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        daemon = self.daemons[data.draw(st.sampled_from(sorted(self.daemons)))]
        if daemon.inbox:
            # Every appliance process has a connection of its own; only on one connection is there an order.
            epoch = data.draw(st.sampled_from(sorted({each[0] for each in daemon.inbox})))
            first = next(i for i, each in enumerate(daemon.inbox) if each[0] == epoch)
            daemon.receive(*daemon.inbox.pop(first))

    @rule(data=st.data(), crash=st.sampled_from(["", "", "before", "after"]), later=st.booleans())
    def answer(self, data: st.DataObject, crash: str, later: bool) -> None:
        server = data.draw(st.sampled_from(sorted(self.daemons)))
        daemon = self.daemons[server]
        if daemon.outbox and not daemon.cut_off:
            kind, lease, fence = daemon.outbox.pop(0)
            if later:
                self.confirm(lambda ledger: getattr(ledger, kind)(server, lease, fence))
            else:
                self.decide(lambda ledger: getattr(ledger, kind)(server, lease, fence), crash=crash)

    def confirm(self, action: Callable[[Ledger], object]) -> None:
        """As the control loop takes in confirmations while nobody waits: written with the next transaction."""
        for process in self.processes:
            if process.leading and process.ledger.loaded and not process.ledger.waiting:
                with process.ledger.confirmations():
                    action(process.ledger)

    @rule(data=st.data())
    def cut_off(self, data: st.DataObject) -> None:
        """The network to a server breaks: what is on the wire is lost, and its silence is noticed."""
        server = data.draw(st.sampled_from(sorted(self.daemons)))
        daemon = self.daemons[server]
        daemon.cut_off = True
        daemon.inbox.clear()
        daemon.outbox.clear()
        self.decide(lambda ledger: ledger.server_lost(server, "silent"))

    @rule(data=st.data())
    def lose_messages(self, data: st.DataObject) -> None:
        """A connection breaks and is made again: what is on the wire is lost, the daemon reports."""
        server = data.draw(st.sampled_from(sorted(self.daemons)))
        self.daemons[server].inbox.clear()
        self.daemons[server].outbox.clear()
        self.report(server)

    @rule(data=st.data(), restarted=st.booleans())
    def come_back(self, data: st.DataObject, restarted: bool) -> None:
        server = data.draw(st.sampled_from(sorted(self.daemons)))
        self.daemons[server].cut_off = False
        if restarted:
            self.daemons[server].grants.clear()
            self.daemons[server].inbox.clear()
            self.daemons[server].outbox.clear()
        self.report(server)

    def report(self, server: str) -> None:
        daemon = self.daemons[server]
        if daemon.cut_off:
            return
        held = [(lease, fence) for lease, (fence, _) in daemon.grants.items()]
        gpus = gpus_of(server, GPUS, MEMORY)
        self.decide(lambda ledger: server_reported(ledger, server, {}, gpus=gpus, held=held, restarted=False))

    # What must hold whatever happens

    @invariant()
    def no_gpu_is_promised_twice_in_the_database(self) -> None:
        with reading(self.engine) as session:
            live = dict(
                session.execute(
                    select(Slice.gpu_id, func.sum(Slice.memory_mib))
                    .where(Slice.state != SliceState.FREED)
                    .group_by(Slice.gpu_id)
                ).all()
            )
            for gpu in session.scalars(select(Gpu)):
                assert gpu.reserved_mib == live.get(gpu.id, 0) <= gpu.memory_mib

    @invariant()
    def no_daemon_holds_more_than_it_has(self) -> None:
        for server, daemon in self.daemons.items():
            used: dict[str, int] = defaultdict(int)
            for _, slices in daemon.grants.values():
                for gpu, memory in slices.items():
                    used[gpu] += memory
            assert all(memory <= MEMORY for memory in used.values()), (server, used)

    @invariant()
    def a_request_has_one_lease_and_one_live_grant(self) -> None:
        with reading(self.engine) as session:
            leases = session.scalars(select(Lease)).all()
            assert len({(row.client_id, row.request) for row in leases}) == len(leases)
            for row in leases:
                current = session.scalars(
                    select(Slice).where(
                        Slice.lease_id == row.id,
                        Slice.state.in_([SliceState.RESERVED, SliceState.PREPARED]),
                    )
                ).all()
                if row.state in (LeaseState.GRANTED, LeaseState.ACTIVE):
                    assert len(current) == row.gpus
                    assert {each.fence for each in current} == {row.fence}
                    assert len({each.gpu_id for each in current}) == row.gpus
                else:
                    assert current == []

    @invariant()
    def what_was_taken_in_is_not_forgotten(self) -> None:
        """A request that the database has taken in waits, is held, or ended for a reason."""
        with reading(self.engine) as session:
            for row in session.scalars(select(Lease)):
                assert row.state != LeaseState.ENDED or row.reason


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_fault_grants_a_lease_twice(kind: str, new_database: Callable[[str], str], tmp_path: Path) -> None:
    class SiteOfKind(Site):
        url_maker = staticmethod(lambda: new_database(kind))

    examples = EXAMPLES if kind == "sqlite" else max(5, EXAMPLES // 3)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        SiteOfKind,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
