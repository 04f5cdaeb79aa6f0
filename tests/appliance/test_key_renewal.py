"""CURVE keys of daemons and agents renewed over the real bus: leases go on, the old key is refused, a crash anywhere
leaves a key that is let in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import zmq
from bus_site import BusSite, FakeHost
from sqlalchemy import Engine, select, update
from test_control_bus import eventually, wanted

from appliance.books import note_changes
from appliance.state.database import reading, writing
from appliance.state.models import Client, Event, Lease, Server, Setting, SpareKey, now
from clientagent.control import ApplianceAwayError, ClientControl
from gpuserver.control import ServerControl
from gpuserver.protocol.control import messages
from gpuserver.protocol.control.codec import decode, encode
from gpuserver.protocol.control.curve import Identity, load_identity, open_dealer, renewed_key_file
from gpuserver.protocol.control.enrolment import enrol
from gpuserver.protocol.control.renewal import KeyRenewal


@pytest.fixture
def site(engine: Engine, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusSite]:
    monkeypatch.delenv("GPUFERRY_STATE", raising=False)
    made = BusSite(tmp_path / "site", engine, database_url)
    with writing(engine) as session:
        session.add(Setting(key="former_key_s", value={"value": 1.0}))
    made.start()
    yield made
    made.close()


def on_disk(site: BusSite, folder: Path, role: str, name: str) -> Identity:
    """Enrolled, and kept in a file as machines have it."""
    path = folder / f"{name}.identity.json"
    enrol(site.ticket(role, name), role, name).save(path)
    return load_identity(path)


def renew(site: BusSite, *peers: str) -> None:
    with writing(site.engine) as session:
        note_changes(session.connection(), [("renew-key", peer) for peer in peers])
    site.loop.wake()


def renewed(site: BusSite, peer: str) -> int:
    with reading(site.engine) as session:
        query = select(Event.id).where(
            Event.subject == peer, Event.kind.in_(("server.key-renewed", "client.key-renewed"))
        )
        return len(session.scalars(query).all())


def key_of(site: BusSite, table: Any, peer: str) -> str:
    with reading(site.engine) as session:
        return str(session.get_one(table, peer).public_key)


def assert_refused(identity: Identity) -> None:
    control = ClientControl(Identity(**{**vars(identity), "file": None}), "thief")
    control.link.start()
    try:
        eventually(lambda: control.link.refused is not None)
        with pytest.raises(ApplianceAwayError, match="does not take this machine's key"):
            control.await_appliance(0.0)
    finally:
        control.link.die()


def test_leases_go_on_over_a_renewal_at_both_ends(site: BusSite, tmp_path: Path) -> None:
    daemon = on_disk(site, tmp_path, "server", "s0")
    machine = on_disk(site, tmp_path, "client", "ada")
    host = FakeHost("s0:4751", {"GPU-s0-0": 16384, "GPU-s0-1": 16384})
    control = site.controls["s0"] = ServerControl(daemon, host, path_port=None)
    control.start()
    with ClientControl(machine, messages.AGENT) as agent, ClientControl(machine, "program") as program:
        agent.await_appliance(60)
        program.await_appliance(60)
        held = program.acquire(wanted("r1", program))
        kept = program.acquire(wanted("r2", program, keeper=messages.AGENT))
        renew(site, daemon.id, machine.id)
        eventually(lambda: renewed(site, daemon.id) == 1 and renewed(site, machine.id) == 1)
        new, new_daemon = load_identity(tmp_path / "ada.identity.json"), load_identity(tmp_path / "s0.identity.json")
        assert (key_of(site, Client, machine.id), key_of(site, Server, daemon.id)) == (
            new.public_key,
            new_daemon.public_key,
        )
        assert new.public_key != machine.public_key
        # The program, which did not renew anything, takes the machine's new key as well.
        eventually(lambda: program.link.identity.public_key == agent.link.identity.public_key == new.public_key)
        assert_refused(machine)
        # All three speak with their new keys now, past the time in which silence would have ended the leases.
        silence = site.loop.ledger.settings.lost_after_s
        began = now()
        eventually(lambda: now() - began > timedelta(seconds=silence + 1))
        assert {row["lease"] for row in agent.ask("leases")} == {held.lease, kept.lease}
        assert sorted(host.begun) == sorted([held.lease, kept.lease]), "no lease was placed again"
        with reading(site.engine) as session:
            assert set(session.scalars(select(Lease.state))) == {"active"}
        program.release(held.lease)
        eventually(lambda: [each.lease for each in host.held()] == [kept.lease])
        # A file of before, copied away, is worth nothing; one renewal more works from where the first one ended.
        renew(site, machine.id)
        eventually(lambda: renewed(site, machine.id) == 2)
        assert_refused(new)
    assert oct(os.stat(renewed_key_file(tmp_path / "ada.identity.json")).st_mode & 0o777) == "0o600"


def test_old_keys_are_renewed_by_themselves(site: BusSite, tmp_path: Path) -> None:
    machine = on_disk(site, tmp_path, "client", "ada")
    with ClientControl(machine, messages.AGENT) as agent:
        agent.await_appliance(60)
        with writing(site.engine) as session:
            session.execute(update(Client).values(key_since=now() - timedelta(days=31)))
        site.restart()
        eventually(lambda: renewed(site, machine.id) == 1)
    with reading(site.engine) as session:
        row = session.get_one(Client, machine.id)
        assert row.key_since is not None
        assert row.key_since > now() - timedelta(days=1)


def test_a_peer_without_a_file_says_that_it_cannot(site: BusSite) -> None:
    machine = site.enrol_client("ada")
    with ClientControl(machine, messages.AGENT) as agent:
        agent.await_appliance(60)
        renew(site, machine.id)

        def told() -> bool:
            with reading(site.engine) as session:
                kinds = session.scalars(select(Event.kind).where(Event.subject == machine.id)).all()
            return "client.key-not-renewed" in kinds

        eventually(told)
        assert key_of(site, Client, machine.id) == machine.public_key


class Machine:
    """An agent that can be stopped after any step of a renewal: what it has then is what lies on its disk."""

    def __init__(self, site: BusSite, path: Path) -> None:
        self.site = site
        self.path = path
        self.renewal = KeyRenewal(load_identity(path), path)
        self.context: zmq.Context[Any] = zmq.Context()

    def say(self, *contents: Any, wait_for: type) -> Any:
        """Connect as whoever the disk says, say these, and wait for an answer of a kind."""
        who = load_identity(self.path)
        socket = open_dealer(
            self.context, self.site.site.config.control_endpoint, who.public_key, who.secret_key, who.appliance_key
        )
        socket.setsockopt(zmq.SNDTIMEO, 60_000)
        try:
            for content in contents:
                socket.send(encode(content))
            while True:
                assert socket.poll(60_000), f"no {wait_for.__name__} came"
                answer = decode(socket.recv())
                if isinstance(answer, wait_for | messages.Refused):
                    return answer
        finally:
            socket.close(linger=0)

    def close(self) -> None:
        self.context.term()


HELLO = messages.Hello(role="client", instance="agent")


@pytest.mark.parametrize("steps", range(5))
def test_a_crash_after_any_step_leaves_a_key_that_is_let_in(site: BusSite, tmp_path: Path, steps: int) -> None:
    """0: nothing; 1: a pair lies there; 2: the appliance knows it; 3: it is in use on the disk; 4: it was confirmed."""
    before = on_disk(site, tmp_path, "client", "ada")
    machine = Machine(site, tmp_path / "ada.identity.json")
    try:
        public = machine.renewal.prepare() if steps >= 1 else ""
        if steps >= 2:
            assert machine.say(HELLO, messages.NextKey(public), wait_for=messages.KeyTaken).key == public
        if steps >= 3:
            assert machine.renewal.take(before, public) is not None
        if steps >= 4:
            assert isinstance(machine.say(HELLO, wait_for=messages.Welcome), messages.Welcome)
        # The machine dies here, and so does the appliance.
        site.restart()
        assert load_identity(machine.path).public_key == (public if steps >= 3 else before.public_key)
        assert isinstance(machine.say(HELLO, wait_for=messages.Welcome), messages.Welcome)
        # A renewal from there on works, and leaves one key.
        again = KeyRenewal(load_identity(machine.path), machine.path)
        fresh = again.prepare()
        assert machine.say(HELLO, messages.NextKey(fresh), wait_for=messages.KeyTaken) == messages.KeyTaken(fresh)
        again.take(load_identity(machine.path), fresh)
        assert isinstance(machine.say(HELLO, wait_for=messages.Welcome), messages.Welcome)
        eventually(lambda: key_of(site, Client, before.id) == fresh)
    finally:
        machine.close()
    assert_refused(before)


def test_what_is_not_taken_for_a_key(site: BusSite, tmp_path: Path) -> None:
    ada, bob = (on_disk(site, tmp_path, "client", name) for name in ("ada", "bob"))
    machine = Machine(site, tmp_path / "ada.identity.json")
    try:
        refused = machine.say(HELLO, messages.NextKey(bob.public_key), wait_for=messages.KeyTaken)
        assert isinstance(refused, messages.Refused)
        assert machine.say(
            HELLO, messages.NextKey("short"), messages.NextKey(ada.public_key), wait_for=messages.KeyTaken
        )
    finally:
        machine.close()
    with reading(site.engine) as session:
        assert session.scalars(select(SpareKey.key)).all() == []
    # A key that lies beside another enrolment than the one it was made for counts for nothing.
    KeyRenewal(ada, tmp_path / "ada.identity.json").prepare()
    os.replace(
        renewed_key_file(tmp_path / "ada.identity.json", "next"), renewed_key_file(tmp_path / "bob.identity.json")
    )
    assert load_identity(tmp_path / "bob.identity.json").public_key == bob.public_key
