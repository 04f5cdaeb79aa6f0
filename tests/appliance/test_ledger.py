"""Leases from request to end, on both databases: what is granted, what waits and why, what is written."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from site_builder import Desk, add_client, add_server, gpus_of
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import IntegrityError

from appliance.books import note_changes
from appliance.changes import ReportedGpu, apply_changes
from appliance.deadlines import tick
from appliance.feasibility import RequestRefusedError
from appliance.filters import parse_filters
from appliance.placement import Shape
from appliance.state.database import DeposedError, Office, reading, writing
from appliance.state.models import Base, Event, Gpu, Group, Lease, LeaseState, Server, ServerState, Setting, Slice


def stored(engine: Engine, lease: str) -> Lease:
    with reading(engine) as session:
        row = session.get(Lease, lease)
        assert row is not None
        return row


def check_books(desk: Desk) -> None:
    """What the database says is reserved is what its live slices add up to, and what memory holds."""
    with reading(desk.engine) as session:
        live = dict(
            session.execute(
                select(Slice.gpu_id, func.sum(Slice.memory_mib)).where(Slice.state != "freed").group_by(Slice.gpu_id)
            ).all()
        )
        for gpu in session.scalars(select(Gpu)):
            assert gpu.reserved_mib == live.get(gpu.id, 0)
            assert gpu.memory_mib - gpu.reserved_mib == desk.ledger.pool.gpus[gpu.id].free_mib
            assert 1000 - gpu.reserved_compute == desk.ledger.pool.gpus[gpu.id].free_compute


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """Two clients of two groups, and one server with two GPUs of 16 GiB."""
    add_client(engine, "ada", "red")
    add_client(engine, "bob", "blue")
    add_server(engine, "s0")
    desk = Desk(engine)
    assert desk.report("server-s0", gpus_of("s0", 2)) == []
    return desk


def ask(desk: Desk, client: str, request: str, shape: Shape, **more: object) -> str:
    made: list[str] = []
    desk.decide(lambda: made.append(desk.ledger.request(client, request, shape, **more).id))  # type: ignore[arg-type]
    return made[0]


def test_migrations_make_exactly_the_models(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_database_itself_refuses_to_promise_a_gpu_twice(desk: Desk) -> None:
    for values in ({"reserved_mib": 16385}, {"reserved_mib": -1}, {"reserved_compute": 1001}):
        with pytest.raises(IntegrityError), writing(desk.engine) as session:
            session.execute(update(Gpu).values(**values))


def test_grant_release_and_the_same_request_again(desk: Desk) -> None:
    lease = ask(desk, "client-ada", "r1", Shape(2, 4096, compute=250), keeper="run-1", program="train.py")
    assert [each.kind for each in desk.news] == ["granted"]
    assert stored(desk.engine, lease).state == LeaseState.ACTIVE
    assert ask(desk, "client-ada", "r1", Shape(2, 4096, compute=250), keeper="run-1") == lease
    assert [each.kind for each in desk.news] == ["granted", "granted"]
    check_books(desk)
    desk.decide(lambda: desk.ledger.end(desk.ledger.leases[lease], "done"))
    assert stored(desk.engine, lease).state == LeaseState.ENDED
    assert desk.ledger.leases == {}
    assert desk.ledger.leaving == {}
    check_books(desk)
    with desk.ledger.batch([("client-ada", "r1"), ("client-bob", "r1")]) as batch:
        assert batch.over == {("client-ada", "r1"): (lease, "done")}


def test_impossible_requests_are_refused_at_once_with_the_nearest(desk: Desk) -> None:
    cases = [
        (Shape(3, 1024), "impossible", Shape(2, 1024)),
        (Shape(1, 20000), "impossible", Shape(1, 16384)),
        (Shape(1, 1, filters=parse_filters(["device.name~=H100"])), "impossible", Shape(1, 1)),
    ]
    for shape, code, nearest in cases:
        with pytest.raises(RequestRefusedError) as refused:
            ask(desk, "client-ada", "r", shape)
        assert (refused.value.code, refused.value.nearest) == (code, nearest)
        desk.ledger.load()
    with pytest.raises(RequestRefusedError, match="not enrolled"):
        ask(desk, "client-eve", "r", Shape(1))


def test_waiting_requests_know_their_place_and_why(desk: Desk) -> None:
    first = ask(desk, "client-ada", "r1", Shape(2))
    waiting = [ask(desk, "client-bob", f"r{i}", Shape(1, 9000)) for i in (2, 3)]
    rows = [stored(desk.engine, each) for each in waiting]
    assert [(row.state, row.position) for row in rows] == [("queued", 1), ("queued", 2)]
    assert all("are taken" in row.reason for row in rows)
    desk.decide(lambda: desk.ledger.end(desk.ledger.leases[first], "done"))
    assert [stored(desk.engine, each).state for each in waiting] == ["active", "active"]
    check_books(desk)


def test_clients_take_turns_and_priority_goes_first(desk: Desk) -> None:
    add_client(desk.engine, "vip", "red", priority=5)
    desk.decide(lambda: note_changes(desk.ledger.connection, [("client", "client-vip")]))
    desk.decide(lambda: apply_changes(desk.ledger))
    everything = ask(desk, "client-ada", "all", Shape(2))
    names = [("ada", i) for i in range(3)] + [("bob", i) for i in range(3)] + [("vip", 0)]
    leases = {ask(desk, f"client-{name}", f"r{i}", Shape(1)): f"{name}{i}" for name, i in names}
    running = everything
    order = []
    for _ in range(3):
        desk.news.clear()
        desk.decide(lambda lease=running: desk.ledger.end(desk.ledger.leases[lease], "done"))
        granted = [each.lease.id for each in desk.news if each.kind == "granted"]
        order += [leases[each] for each in granted]
        running = granted[0]
    assert order[0] == "vip0"
    assert order[1] == "bob0", "the red group holds one GPU already"
    assert len(order) == 4
    check_books(desk)


def test_quotas_hold_and_refuse_what_exceeds_them_alone(desk: Desk) -> None:
    with writing(desk.engine) as session:
        session.execute(update(Group).where(Group.id == "group-red").values(max_gpus=1, max_memory_mib=8192))
        note_changes(session.connection(), [("group", "group-red")])
    desk.decide(lambda: apply_changes(desk.ledger))
    with pytest.raises(RequestRefusedError, match="quota of group red is 1 GPUs"):
        ask(desk, "client-ada", "r0", Shape(2, 1))
    desk.ledger.load()
    desk.report("server-s0", gpus_of("s0", 2))
    first = ask(desk, "client-ada", "r1", Shape(1, 4096))
    second = ask(desk, "client-ada", "r2", Shape(1, 4096))
    assert stored(desk.engine, first).state == "active"
    assert "the quota of group red is 1 GPUs and holds 1" in stored(desk.engine, second).reason
    other = ask(desk, "client-bob", "r3", Shape(1, 16384))
    assert stored(desk.engine, other).state == "active", "a request held up by its own quota holds up nobody"
    desk.decide(lambda: desk.ledger.end(desk.ledger.leases[first], "done"))
    assert stored(desk.engine, second).state == "active"


def test_patience_ends_overtaking(desk: Desk) -> None:
    small = ask(desk, "client-ada", "r1", Shape(1, 1000))
    big = ask(desk, "client-bob", "r2", Shape(2))
    assert stored(desk.engine, ask(desk, "client-ada", "r3", Shape(1, 1000))).state == "active"
    desk.clock.now += 121
    desk.decide(lambda: tick(desk.ledger))
    late = ask(desk, "client-ada", "r4", Shape(1, 1000))
    assert "waited too long to be overtaken" in stored(desk.engine, late).reason
    desk.decide(
        *(
            lambda each=each: desk.ledger.end(each, "done")
            for each in list(desk.ledger.leases.values())
            if each.id not in (big, late)
        )
    )
    assert small not in desk.ledger.leases
    assert stored(desk.engine, big).state == "active"


def test_a_request_times_out_with_its_reason(desk: Desk) -> None:
    ask(desk, "client-ada", "r1", Shape(2))
    late = ask(desk, "client-bob", "r2", Shape(1), timeout_s=30)
    desk.clock.now += 29
    desk.decide(lambda: tick(desk.ledger))
    assert stored(desk.engine, late).state == "queued"
    desk.clock.now += 2
    desk.decide(lambda: tick(desk.ledger))
    row = stored(desk.engine, late)
    assert row.state == "ended"
    assert row.reason.startswith("timed out after 30 s in the queue; all places")


def test_leases_expire(desk: Desk) -> None:
    lease = ask(desk, "client-ada", "r1", Shape(1), duration_s=60)
    desk.clock.now += 61
    desk.decide(lambda: tick(desk.ledger))
    assert stored(desk.engine, lease).reason == "the lease reached its longest duration"


def test_idle_leases_are_warned_and_then_reclaimed(desk: Desk) -> None:
    with writing(desk.engine) as session:
        session.add(Setting(key="idle_after_s", value={"value": 600.0}))
        note_changes(session.connection(), [("setting", "idle_after_s")])
    desk.decide(lambda: apply_changes(desk.ledger))
    idle = ask(desk, "client-ada", "r1", Shape(1))
    busy = ask(desk, "client-bob", "r2", Shape(1))
    for minutes in range(14):
        desk.clock.now += 60
        desk.decide(lambda: desk.ledger.used(busy, 1.0), lambda: tick(desk.ledger))
        if minutes == 4:
            notices = [each for each in desk.news if each.kind == "notice"]
            assert [(each.lease.id, each.seconds) for each in notices] == [(idle, 300.0)]
            assert stored(desk.engine, idle).state == "active"
    assert stored(desk.engine, idle).reason.startswith("reclaimed")
    assert stored(desk.engine, busy).state == "active"


def test_a_lost_server_ends_its_leases_and_comes_back_only_clean(desk: Desk) -> None:
    lease = ask(desk, "client-ada", "r1", Shape(1))
    fence = desk.ledger.leases[lease].fence
    desk.decide(lambda: desk.ledger.server_lost("server-s0", "silent for 8 s"))
    assert stored(desk.engine, lease).reason == "silent for 8 s"
    check_books(desk)
    waiting = ask(desk, "client-ada", "r2", Shape(2))
    assert "no server that is up" in stored(desk.engine, waiting).reason
    # The daemon still holds the lease; its release is ordered, and not confirmed while the server is silent.
    desk.silent.add("server-s0")
    desk.report("server-s0", gpus_of("s0", 2))
    assert stored(desk.engine, waiting).state == "queued"
    desk.silent.clear()
    desk.decide(lambda: desk.ledger.released("server-s0", lease, fence))
    assert stored(desk.engine, waiting).state == "active"


def test_memory_stays_reserved_until_the_daemon_confirms(desk: Desk) -> None:
    lease = ask(desk, "client-ada", "r1", Shape(2))
    fence = desk.ledger.leases[lease].fence
    desk.silent.add("server-s0")
    desk.decide(lambda: desk.ledger.end(desk.ledger.leases[lease], "done"))
    waiting = ask(desk, "client-bob", "r2", Shape(1))
    assert stored(desk.engine, waiting).state == "queued"
    desk.ledger.load()
    check_books(desk)
    desk.silent.clear()
    desk.report("server-s0", gpus_of("s0", 2))
    assert (lease, fence) not in desk.held["server-s0"]
    assert stored(desk.engine, waiting).state == "active"
    check_books(desk)


def test_a_daemon_that_cannot_hold_what_it_promised(desk: Desk) -> None:
    add_server(desk.engine, "s1")
    desk.report("server-s1", gpus_of("s1", 1))
    desk.silent.update(["server-s0", "server-s1"])
    lease = ask(desk, "client-ada", "r1", Shape(1, 4096))
    live = desk.ledger.leases[lease]
    (liar,) = live.servers
    gpu = live.slices[0].gpu
    desk.silent.clear()
    desk.decide(
        lambda: desk.ledger.prepare_refused(liar, lease, live.fence, code="no_memory", reason="2048 MiB free", gpu=gpu)
    )
    assert stored(desk.engine, lease).state == "active"
    assert live.slices[0].gpu != gpu
    with reading(desk.engine) as session:
        row = session.get(Gpu, gpu)
        assert row is not None
        assert (row.state, row.reserved_mib) == ("suspect", 0)
        assert "2048 MiB free" in row.state_reason
    check_books(desk)


def test_a_daemon_that_does_not_answer_is_passed_over(desk: Desk) -> None:
    add_server(desk.engine, "s1")
    desk.report("server-s1", gpus_of("s1", 1))
    desk.silent.add("server-s1")
    lease = ask(desk, "client-ada", "r1", Shape(1))
    assert desk.ledger.leases[lease].servers == ["server-s1"], "the server with the fewest whole GPUs"
    desk.clock.now += 10
    desk.decide(lambda: tick(desk.ledger))
    assert stored(desk.engine, lease).state == "active"
    assert desk.ledger.leases[lease].servers == ["server-s0"]
    assert not desk.ledger.pool.servers["server-s1"].open
    check_books(desk)


@pytest.mark.parametrize("memory_mib", [0, -5, 1 << 40])
def test_absurd_inventories_are_rejected(desk: Desk, memory_mib: int) -> None:
    add_server(desk.engine, "s1")
    wrong = desk.report("server-s1", [ReportedGpu("GPU-x", 0, "Liar", memory_mib)])
    assert len(wrong) == 1
    assert "GPU-x" not in desk.ledger.pool.gpus


def test_a_gpu_belongs_to_one_server(desk: Desk) -> None:
    add_server(desk.engine, "s1")
    stolen = gpus_of("s0", 1)
    assert "already belongs to s0" in desk.report("server-s1", stolen)[0]
    desk.decide(lambda: desk.ledger.server_lost("server-s0", "silent"))
    assert desk.report("server-s1", stolen) == []
    assert desk.ledger.pool.gpus[stolen[0].id].server.id == "server-s1"
    assert stored(desk.engine, ask(desk, "client-ada", "r", Shape(1))).state == "active"


def test_memory_that_shrinks_under_a_slice_makes_the_gpu_suspect(desk: Desk) -> None:
    ask(desk, "client-ada", "r", Shape(1, 10000))
    (used,) = [gpu.id for gpu in desk.ledger.pool.gpus.values() if gpu.slices]
    shrunk = [ReportedGpu(gpu.id, gpu.ordinal, gpu.name, 8192, 108) for gpu in gpus_of("s0", 2)]
    assert [each.split(":")[0] for each in desk.report("server-s0", shrunk)] == [used]
    with reading(desk.engine) as session:
        sizes = {row.id: (row.memory_mib, row.state) for row in session.scalars(select(Gpu))}
    assert sizes.pop(used) == (16384, "suspect")
    assert list(sizes.values()) == [(8192, "ready")]


def test_drain_waits_for_leases_and_then_for_its_deadline(desk: Desk) -> None:
    lease = ask(desk, "client-ada", "r1", Shape(1))
    with writing(desk.engine) as session:
        session.execute(update(Server).values(state=ServerState.DRAINING))
        note_changes(session.connection(), [("server", "server-s0")])
    desk.decide(lambda: apply_changes(desk.ledger))
    assert [(each.kind, each.seconds) for each in desk.news[1:]] == [("notice", 3600.0)]
    waiting = ask(desk, "client-bob", "r2", Shape(1))
    assert stored(desk.engine, waiting).state == "queued"
    desk.clock.now += 3601
    desk.decide(lambda: tick(desk.ledger))
    assert "drained and its deadline" in stored(desk.engine, lease).reason
    with reading(desk.engine) as session:
        server = session.get(Server, "server-s0")
        assert server is not None
        assert server.state == ServerState.MAINTENANCE
    assert stored(desk.engine, waiting).state == "queued"


def test_only_the_holder_of_the_office_decides(desk: Desk) -> None:
    rival = Office(desk.engine, "rival", "inproc://rival")
    assert not rival.campaign()
    desk.office.resign()
    desk.office.epoch = 1
    assert rival.campaign()
    assert rival.epoch == 2
    with pytest.raises(DeposedError):
        ask(desk, "client-ada", "r1", Shape(1))
    assert not desk.ledger.loaded
    with reading(desk.engine) as session:
        assert session.scalars(select(Lease)).all() == []


def test_a_batch_that_fails_keeps_nothing(desk: Desk) -> None:
    def fail_after_writing() -> None:
        desk.ledger.request("client-ada", "r1", Shape(1))
        desk.ledger.serve_queue()
        desk.ledger.now_deciding.books.write(desk.ledger.connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        desk.decide(fail_after_writing)
    with reading(desk.engine) as session:
        assert session.scalars(select(Lease)).all() == []
        assert session.execute(text("SELECT sum(reserved_mib) FROM gpu")).scalar_one() == 0
    desk.ledger.load()
    desk.report("server-s0", gpus_of("s0", 2))
    assert stored(desk.engine, ask(desk, "client-ada", "r1", Shape(1))).state == "active"


def test_the_queue_and_leases_survive_a_restart(desk: Desk) -> None:
    running = ask(desk, "client-ada", "r1", Shape(2, 16000))
    waiting = [ask(desk, "client-bob", f"r{i}", Shape(1, 8000), timeout_s=100) for i in range(3)]
    again = Desk.__new__(Desk)
    again.__dict__.update(desk.__dict__, news=[])
    desk.office.resign()
    again.__post_init__()
    assert set(again.ledger.leases) == {running, *waiting}
    again.report("server-s0", gpus_of("s0", 2))
    check_books(again)
    again.decide(lambda: again.ledger.end(again.ledger.leases[running], "done"))
    assert [stored(again.engine, each).state for each in waiting] == ["active"] * 3
    with reading(again.engine) as session:
        kinds = list(session.scalars(select(Event.kind).order_by(Event.id)))
    assert kinds.count("lease.granted") == 4
