"""Daemons, clients and the appliance over the real bus: enrolment, leases, silence, revocation, restarts."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from bus_site import BusSite, FakeHost
from sqlalchemy import Engine, event, select, update

from appliance.books import note_changes
from appliance.peers import enrol as enrol_directly
from appliance.state.database import DatabaseGoneError, migrate, open_database, patiently, reading, writing
from appliance.state.models import Client, EnrolmentToken, Gpu, Group, Lease, Server, ServerState, Slice, now
from clientagent.control import ClientControl, LeaseDeniedError
from gpuserver.leases import LeaseRefusedError
from gpuserver.protocol.control import messages
from gpuserver.protocol.control.codec import decode, encode
from gpuserver.protocol.control.curve import Ticket, new_keys, open_dealer, parse_ticket
from gpuserver.protocol.control.enrolment import EnrolmentError, enrol


def eventually(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for a condition; the deadline is only there to end a hopeless wait."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture
def site(engine: Engine, database_url: str, tmp_path: Path) -> Iterator[BusSite]:
    site = BusSite(tmp_path / "site", engine, database_url)
    site.start()
    yield site
    site.close()


def wanted(request: str, control: ClientControl, **more: object) -> messages.RequestLease:
    values: dict[str, object] = {"gpus": 1, "memory_mib": 4096, "timeout_s": 20.0, **more}
    return messages.RequestLease(request=request, instance=control.instance, **values)  # type: ignore[arg-type]


def test_a_lease_from_request_to_release(site: BusSite) -> None:
    hosts = [site.add_server(f"s{i}", gpus=2) for i in range(2)]
    with ClientControl(site.enrol_client("ada")) as control:
        control.await_appliance()
        granted = control.acquire(wanted("r1", control, gpus=4, memory_mib=1000, compute=100))
        assert sorted(each.ordinal for grant in granted.grants for each in grant.slices) == [0, 1, 2, 3]
        for grant, host in zip(sorted(granted.grants, key=lambda each: each.name), hosts, strict=True):
            order = host.table.grant(granted.lease)
            assert order is not None
            assert (order.secret, order.slices, order.fence) == (grant.secret, grant.slices, granted.fence)
            assert grant.address == host.inventory().address
        assert granted.grants[0].secret != granted.grants[1].secret
        told = [(granted.lease, "active")]
        eventually(lambda: [(row["lease"], row["state"]) for row in control.ask("leases")] == told)
        control.release(granted.lease)
        eventually(lambda: not any(host.held() for host in hosts))
        assert control.ask("leases") == []

    def all_is_free() -> bool:
        with reading(site.engine) as session:
            freed = set(session.scalars(select(Slice.state))) == {"freed"}
            return freed and set(session.scalars(select(Gpu.reserved_mib))) == {0}

    eventually(all_is_free)


def test_queue_notices_and_the_end_of_a_program(site: BusSite) -> None:
    site.add_server("s0", gpus=1)
    ada, bob = site.enrol_client("ada"), site.enrol_client("bob")
    told: list[messages.Queued] = []
    with ClientControl(bob) as waiting:
        with ClientControl(ada) as holding:
            holding.await_appliance()
            first = holding.acquire(wanted("r1", holding, memory_mib=None))
            result: list[messages.Granted] = []
            thread = threading.Thread(
                target=lambda: result.append(waiting.acquire(wanted("r2", waiting, memory_mib=None), told.append))
            )
            thread.start()
            eventually(lambda: bool(told))
            assert told[0].position == 1
            assert "are taken" in told[0].reason
        thread.join(20)
    assert result
    assert result[0].lease != first.lease


def test_a_silent_client_loses_its_leases_in_seconds(site: BusSite) -> None:
    host = site.add_server("s0", gpus=1)
    control = ClientControl(site.enrol_client("ada"))
    control.link.start()
    control.await_appliance()
    granted = control.acquire(wanted("r1", control))
    assert host.held() == (messages.HeldLease(granted.lease, granted.fence),)
    control.link.die()
    eventually(lambda: not host.held())
    with reading(site.engine) as session:
        assert "silent" in session.scalars(select(Lease.reason)).one()


def test_a_silent_server_loses_its_leases_and_comes_back(site: BusSite) -> None:
    host = site.add_server("s0", gpus=1)
    with ClientControl(site.enrol_client("ada")) as control:
        control.await_appliance()
        granted = control.acquire(wanted("r1", control))
        site.controls["s0"].link.die()
        ended = control.events.get(timeout=20)
        assert isinstance(ended, messages.LeaseEnded)
        assert (ended.lease, "silent" in ended.reason) == (granted.lease, True)
        assert host.held(), "the daemon was cut off and knows nothing of it"
        site.connect("s0", host)
        again = control.acquire(wanted("r2", control, memory_mib=None))
        assert [each.lease for each in host.held()] == [again.lease]


def test_the_appliance_restarts_and_nobody_notices(site: BusSite) -> None:
    host = site.add_server("s0", gpus=2)
    with ClientControl(site.enrol_client("ada")) as control, ClientControl(site.enrol_client("bob")) as other:
        control.await_appliance()
        granted = control.acquire(wanted("r1", control, gpus=2, memory_mib=None))
        result: list[messages.Granted] = []
        thread = threading.Thread(target=lambda: result.append(other.acquire(wanted("r2", other, timeout_s=60.0))))
        thread.start()
        with reading(site.engine) as session:
            eventually(lambda: len(session.scalars(select(Lease.id)).all()) == 2)
        site.restart()
        control.link.connected.clear()
        control.await_appliance(20)
        assert host.held() == (messages.HeldLease(granted.lease, granted.fence),)
        assert control.events.empty()
        assert host.begun == [granted.lease]
        control.release(granted.lease)
        thread.join(30)
    assert result
    assert host.begun == [granted.lease, result[0].lease]


def test_a_daemon_that_lies_about_its_memory(site: BusSite) -> None:
    liar = site.add_server("liar", gpus=1, memory_mib=16384, really_mib=1024)
    with ClientControl(site.enrol_client("ada")) as control:
        control.await_appliance()
        with pytest.raises(LeaseDeniedError, match="timed out") as denied:
            control.acquire(wanted("r1", control, timeout_s=3.0))
        assert "no server that is up" in denied.value.reason
        assert liar.held() == ()
        honest = site.add_server("honest", gpus=1)
        granted = control.acquire(wanted("r2", control))
        assert [each.lease for each in honest.held()] == [granted.lease]
    with reading(site.engine) as session:
        suspect = session.scalars(select(Gpu).where(Gpu.state == "suspect")).one()
        assert "4096 MiB wanted, 1024 MiB free" in suspect.state_reason
        assert suspect.reserved_mib == 0


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"gpus": 3}, "impossible", "the nearest that would: 1 GPU with 4096 MiB each"),
        ({"filters": ("device.colour=red",)}, "wrong", "no filter key 'device.colour'"),
        ({"memory_mib": 1, "fraction": 0.5}, "wrong", "not both"),
        ({"gpus": 0}, "wrong", "1 to 4096"),
        ({"keeper": "agent"}, "no_keeper", "start the client agent"),
    ],
)
def test_requests_refused_at_once(site: BusSite, more: dict[str, object], code: str, said: str) -> None:
    site.add_server("s0", gpus=1)
    with ClientControl(site.enrol_client("ada")) as control:
        control.await_appliance()
        with pytest.raises(LeaseDeniedError, match=said) as denied:
            control.acquire(wanted("r1", control, **more))
        assert denied.value.code == code
    with reading(site.engine) as session:
        assert session.scalars(select(Lease.id)).all() == []


def test_an_enrolment_whose_answer_was_lost_is_answered_again(site: BusSite) -> None:
    """The same key with the same ticket gets the same answer; with another key the ticket is used up."""
    ticket = site.ticket("client")
    (key, secret), context = new_keys(), zmq.Context()
    asked = encode(messages.Enrol(ticket.token, "client", "ada"))
    answers = []
    for _ in range(2):
        socket = open_dealer(context, ticket.endpoint, key, secret, ticket.appliance_key)
        socket.setsockopt(zmq.SNDTIMEO, 60_000)
        socket.send(asked)
        assert socket.poll(60_000)
        answers.append(decode(socket.recv()))
        socket.close(linger=0)
    context.term()
    assert isinstance(answers[0], messages.Enrolled)
    assert answers[0] == answers[1]
    with pytest.raises(EnrolmentError, match="was used at"):
        enrol(ticket, "client", "ada")
    with writing(site.engine) as session:
        session.execute(update(Client).values(revoked_at=now()))
    key_again = enrol_directly(site.engine, key, messages.Enrol(ticket.token, "client", "ada"))
    assert isinstance(key_again, messages.Refused), "a revoked machine does not come back with its old ticket"


def test_enrolment_tokens_work_once_for_one_role_and_not_for_ever(site: BusSite) -> None:
    ticket = parse_ticket(str(site.ticket("client")))
    assert enrol(ticket, "client", "ada").name == "ada"
    with pytest.raises(EnrolmentError, match="was used at"):
        enrol(ticket, "client", "bob")
    with pytest.raises(EnrolmentError, match="is for a client, not for a server"):
        enrol(site.ticket("client"), "server", "s1")
    with pytest.raises(EnrolmentError, match="'ada' is enrolled already"):
        enrol(site.ticket("client"), "client", "ada")
    late = site.ticket("client")
    with writing(site.engine) as session:
        session.execute(update(EnrolmentToken).values(expires_at=EnrolmentToken.created_at))
    with pytest.raises(EnrolmentError, match="expired at"):
        enrol(late, "client", "bob")
    with pytest.raises(EnrolmentError, match="does not exist"):
        enrol(Ticket(late.endpoint, late.appliance_key, "guess"), "client", "bob")
    with reading(site.engine) as session:
        assert session.scalars(select(Client.name)).all() == ["ada"]


def test_unknown_and_revoked_keys_get_nowhere(site: BusSite) -> None:
    site.add_server("s0", gpus=1)
    identity = site.enrol_client("ada")
    context = zmq.Context()
    hello = encode(messages.Hello(role="client", instance="x"))
    try:
        for public, secret in (new_keys(), (identity.public_key, new_keys()[1])):
            stranger = open_dealer(context, site.site.config.control_endpoint, public, secret, site.site.curve_public)
            stranger.setsockopt(zmq.SNDTIMEO, 1500)
            with pytest.raises(zmq.Again):
                stranger.send(hello)
            stranger.close(linger=0)
        known = open_dealer(
            context, site.site.config.control_endpoint, identity.public_key, identity.secret_key, site.site.curve_public
        )
        known.send(hello)
        assert known.poll(10_000)
        assert isinstance(decode(known.recv()), messages.Welcome)
        with writing(site.engine) as session:
            session.execute(update(Client).values(revoked_at=Client.created_at))
            note_changes(session.connection(), [("client", identity.id)])
        site.loop.wake(keys=True)
        refused = site.loop.bus.refused
        eventually(lambda: known.send(hello) is None and site.loop.bus.refused > refused)
        while known.poll(300):
            # Answers that were on their way before the revocation was read.
            known.recv()
        known.send(hello)
        assert not known.poll(1000)
        known.close(linger=0)
    finally:
        context.destroy(linger=0)


def test_malformed_messages_are_refused_and_harm_nobody(site: BusSite) -> None:
    site.add_server("s0", gpus=1)
    identity = site.enrol_client("ada")
    context = zmq.Context()
    socket = open_dealer(
        context, site.site.config.control_endpoint, identity.public_key, identity.secret_key, site.site.curve_public
    )
    try:
        for frame, said in [
            (b"\xff\xfe", "not JSON"),
            (b"[]", "not a JSON object"),
            (b'{"v":2,"t":"hello"}', "version 2 was spoken, version 1 is understood"),
            (b'{"v":1,"t":"no-such"}', "there is no message"),
            (b'{"v":1,"t":"hello","role":"client"}', "Hello.instance is missing"),
            (b'{"v":1,"t":"hello","role":"server","instance":"x"}', "enrolled as a client"),
            (b'{"v":1,"t":"heartbeat","instance":"x","clock":NaN}', "not JSON"),
            (b'{"v":1,"t":"request","request":"a\\u0000b","gpus":1,"instance":"x"}', "not printable"),
            (encode(messages.Prepared("lease-x", 1)), "is for a server to say"),
            (encode(messages.Beat(1, True, 0.0)), "is not for me"),
        ]:
            socket.send(frame)
            assert socket.poll(10_000), frame
            answer = decode(socket.recv())
            assert isinstance(answer, messages.Refused)
            assert said in answer.reason
        with ClientControl(identity) as control:
            control.await_appliance()
            assert control.acquire(wanted("r1", control)).grants
    finally:
        socket.close(linger=0)
        context.term()


def test_a_drained_daemon_is_told_and_gets_nothing_new(site: BusSite) -> None:
    host = site.add_server("s0", gpus=1)
    with ClientControl(site.enrol_client("ada")) as control:
        control.await_appliance()
        granted = control.acquire(wanted("r1", control))
        with writing(site.engine) as session:
            session.execute(update(Server).values(state=ServerState.DRAINING))
            note_changes(session.connection(), [("server", site.controls["s0"].link.identity.id)])
        site.loop.wake()
        notice = control.events.get(timeout=10)
        assert isinstance(notice, messages.Notice)
        eventually(lambda: host.drained == [True])
        control.release(granted.lease)
        with reading(site.engine) as session:
            eventually(lambda: session.execute(select(Server.state)).scalar_one() == ServerState.MAINTENANCE)


def test_a_database_that_is_gone_is_said_and_nothing_is_lost(
    postgres: object, new_database: Callable[[str], str], tmp_path: Path
) -> None:
    from appliance.state.database import open_database

    url = new_database("postgresql")
    engine = open_database(url)
    site = BusSite(tmp_path / "site", engine, url)
    site.start()
    try:
        host = site.add_server("s0", gpus=1)
        with ClientControl(site.enrol_client("ada")) as control:
            control.await_appliance()
            granted = control.acquire(wanted("r1", control))
            postgres.stop()  # type: ignore[attr-defined]
            told: list[str] = []
            result: list[messages.Granted] = []
            ask = wanted("r2", control, timeout_s=60.0)
            thread = threading.Thread(target=lambda: result.append(control.acquire(ask, on_trouble=told.append)))
            thread.start()
            eventually(lambda: bool(told), 30)
            assert "does not answer" in told[0]
            assert [each.lease for each in host.held()] == [granted.lease]
            postgres.start()  # type: ignore[attr-defined]
            thread.join(60)
            assert result
            assert {each.lease for each in host.held()} == {granted.lease, result[0].lease}
            assert control.events.empty()
    finally:
        site.close()
        engine.dispose()


def test_leases_of_the_table_are_refused_twice_stale_and_too_large() -> None:
    host = FakeHost("x:1", {"GPU-0": 1000})
    order = messages.Prepare("l1", 5, 1, (messages.SliceOrder("GPU-0", 0, 600),), "00")
    host.table.prepare(order)
    host.table.prepare(order)
    assert host.begun == ["l1"]
    for lease, fence, gpu, size, code in [
        ("l2", 6, "GPU-0", 401, "no_memory"),
        ("l3", 7, "GPU-9", 1, "unknown_gpu"),
        ("l1", 4, "GPU-0", 1, "stale"),
    ]:
        with pytest.raises(LeaseRefusedError) as refused:
            host.table.prepare(messages.Prepare(lease, fence, 1, (messages.SliceOrder(gpu, 0, size),), "00"))
        assert refused.value.code == code
    host.table.release("l1", 5)
    with pytest.raises(LeaseRefusedError, match="is over"):
        host.table.prepare(order)
    assert host.held() == ()


def test_a_process_that_starts_waits_for_the_database(tmp_path: Path) -> None:
    """The lock is somebody else's, first for longer than a writer waits, then not any more."""
    url = f"sqlite:///{tmp_path}/appliance.db"
    migrate(url)
    engine = open_database(url)
    event.listen(engine, "connect", lambda connection, record: connection.execute("PRAGMA busy_timeout=50"))
    holder = sqlite3.connect(tmp_path / "appliance.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    tries = 0

    def write() -> int:
        nonlocal tries
        tries += 1
        if tries == 3:
            holder.execute("COMMIT")
        with writing(engine) as session:
            session.add(Group(id="group-x", name="x"))
        return tries

    with pytest.raises(DatabaseGoneError, match="locked"):
        patiently(write, 0.0)
    assert patiently(write) == 3
    with reading(engine) as session:
        assert session.scalars(select(Group.name)).all() == ["x"]
    holder.close()
    engine.dispose()
