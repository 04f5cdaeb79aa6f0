"""Who is enrolled: from CURVE keys to peers, and from one-time tokens to enrolled keys."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine, delete, select
from sqlalchemy.orm import Session

from appliance.books import note_changes
from appliance.bus import Peer
from appliance.ids import new_id
from appliance.state.database import reading, writing
from appliance.state.models import Audit, Client, EnrolmentToken, Event, Group, Server, ServerState, SpareKey, now
from gpuserver.protocol.control.messages import CLIENT, SERVER, Enrol, Refused

DEFAULT_GROUP = "default"


def digest(token: str) -> str:
    """What is kept of a token. They carry 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


class Directory:
    """Keys and their peers, remembered; what was revoked is read again by `refresh`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._known: dict[str, Peer] = {}
        self._revoked: frozenset[str] = frozenset()
        self.stale_at: datetime | None = None
        """When the next former key stops being let in."""

    def find(self, key: str) -> Peer | None:
        """The enrolled peer of a key; asks the database the first time."""
        if key in self._revoked:
            return None
        peer = self._known.get(key)
        if peer is None and len(key) == 40:
            peer = self._look_up(key)
            if peer is not None:
                self._known[key] = peer
        return peer

    def _look_up(self, key: str) -> Peer | None:
        with reading(self.engine) as session:
            server = session.scalars(
                select(Server).where(Server.public_key == key, Server.state != ServerState.REVOKED)
            ).one_or_none()
            if server is not None:
                return Peer(server.id, SERVER, key)
            client = session.scalars(
                select(Client).where(Client.public_key == key, Client.revoked_at.is_(None))
            ).one_or_none()
            return Peer(client.id, CLIENT, key) if client is not None else _spare(session, key)

    @property
    def stale(self) -> bool:
        """Whether a former key that was let in must not be any more: `refresh` then."""
        return self.stale_at is not None and self.stale_at <= now()

    def refresh(self) -> None:
        """Read which keys are revoked now, and forget those that were replaced."""
        moment = now()
        with reading(self.engine) as session:
            spare = session.execute(select(SpareKey.key, SpareKey.peer_id, SpareKey.valid_until)).all()
            servers = session.execute(select(Server.public_key, Server.id, Server.state)).all()
            clients = session.execute(select(Client.public_key, Client.id, Client.revoked_at)).all()
        valid = {row.public_key for row in servers if row.state != ServerState.REVOKED}
        valid |= {row.public_key for row in clients if row.revoked_at is None}
        gone = frozenset(key for key, peer in self._known.items() if key not in valid or peer.is_next)
        self._revoked = frozenset(row.public_key for row in servers if row.state == ServerState.REVOKED) | frozenset(
            row.public_key for row in clients if row.revoked_at is not None
        )
        untils = [row.valid_until for row in spare if row.valid_until is not None]
        self.stale_at = min((until for until in untils if until > moment), default=None)
        self._revoked |= {row.key for row in spare if row.valid_until is not None and row.valid_until <= moment}
        # A spare key is looked up again when it is next used: what it is may have changed.
        for key in gone:
            del self._known[key]


def _spare(session: Session, key: str) -> Peer | None:
    """The peer whose next or former key this is."""
    spare = session.get(SpareKey, key)
    if spare is None or (spare.valid_until is not None and spare.valid_until <= now()):
        return None
    is_next = spare.valid_until is None
    server = session.get(Server, spare.peer_id)
    if server is not None:
        return Peer(server.id, SERVER, key, is_next) if server.state != ServerState.REVOKED else None
    client = session.get(Client, spare.peer_id)
    return Peer(client.id, CLIENT, key, is_next) if client is not None and client.revoked_at is None else None


def new_enrolment_token(
    engine: Engine,
    role: str,
    *,
    name: str = "",
    group: str = "",
    begins: ServerState = ServerState.ACTIVE,
    valid_s: float = 3600.0,
) -> str:
    """A one-time token for a daemon (`server`) or an agent (`client`). Raises ValueError for an unknown group."""
    token = secrets.token_urlsafe(32)
    with writing(engine) as session:
        group_id = None
        if role == CLIENT:
            found = session.scalars(select(Group).where(Group.name == (group or DEFAULT_GROUP))).one_or_none()
            if found is None:
                raise ValueError(f"there is no group {group or DEFAULT_GROUP!r}")
            group_id = found.id
        session.add(
            EnrolmentToken(
                id=new_id("ticket"),
                digest=digest(token),
                role=role,
                name=name,
                group_id=group_id,
                begins=begins,
                expires_at=now() + timedelta(seconds=valid_s),
            )
        )
    return token


def enrol(engine: Engine, key: str, wanted: Enrol) -> Peer | Refused:
    """Use up a token and enrol `key`. A machine that had a key gets the new one; its old key is worth nothing."""
    return enrol_together(engine, [(key, wanted)])[0]


def enrol_together(engine: Engine, knocks: Sequence[tuple[str, Enrol]]) -> list[Peer | Refused]:
    """The same for all that knock at a time: a disk that is overrun makes each commit slow, so they share one."""
    with writing(engine) as session:
        return [_enrol(session, key, wanted) for key, wanted in knocks]


def _enrol(session: Session, key: str, wanted: Enrol) -> Peer | Refused:
    token = session.scalars(
        select(EnrolmentToken).where(EnrolmentToken.digest == digest(wanted.token)).with_for_update()
    ).one_or_none()
    if token is not None and token.used_at is not None and (made := _made_with(session, token, key)):
        # The answer was lost, or slow: whoever has the key and the ticket is who asked before.
        return made
    problem = _token_problem(token, wanted)
    if problem or token is None:
        session.add(Audit(actor=f"key {key[:12]}…", action="enrol", subject=wanted.name[:200], status=403))
        return Refused("token", problem)
    name = (token.name or wanted.name)[:200]
    if key_in_use(session, key):
        return Refused("key", "this key is enrolled already")
    row: Server | Client | None
    if token.role == SERVER:
        row = session.scalars(select(Server).where(Server.name == name)).one_or_none()
    else:
        row = session.scalars(select(Client).where(Client.name == name)).one_or_none()
    if row is not None and not token.name and not _revoked(row):
        return Refused(
            "name",
            f"{name!r} is enrolled already: to replace its key, make the ticket for that name "
            f"(`gpuferry appliance token --enrol {token.role} --name {name}`)",
        )
    if row is None:
        row = (
            Server(id=new_id("server"), name=name, state=ServerState(token.begins))
            if token.role == SERVER
            else Client(id=new_id("client"), name=name, group_id=token.group_id or "")
        )
        session.add(row)
    row.public_key, row.key_since = key, now()
    session.execute(delete(SpareKey).where(SpareKey.peer_id == row.id))
    row.hostname = wanted.hostname[:200]
    if isinstance(row, Server):
        if row.state == ServerState.REVOKED:
            row.state = ServerState(token.begins)
    else:
        row.revoked_at = None
        row.group_id = token.group_id or row.group_id
    token.used_at, token.used_by = now(), row.id
    session.add(Event(kind=f"{token.role}.enrolled", subject=row.id, text=f"{name} was enrolled"))
    session.add(Audit(actor=token.id, action="enrol", subject=row.id, status=200))
    session.flush()
    note_changes(session.connection(), [(token.role, row.id)])
    return Peer(row.id, token.role, key)


def key_in_use(session: Session, key: str) -> bool:
    """Whether a peer has this key, had it a moment ago or will have it."""
    return session.get(SpareKey, key) is not None or any(
        session.scalars(select(table.id).where(table.public_key == key)).first() is not None
        for table in (Server, Client)
    )


def _made_with(session: Session, token: EnrolmentToken, key: str) -> Peer | None:
    """The peer that was enrolled with this token, if it was with this very key and has it still."""
    row: Server | Client | None = session.get(Server, token.used_by) or session.get(Client, token.used_by)
    if row is None or row.public_key != key or _revoked(row):
        return None
    return Peer(row.id, token.role, key)


def _revoked(row: Server | Client) -> bool:
    return row.state == ServerState.REVOKED if isinstance(row, Server) else row.revoked_at is not None


def _token_problem(token: EnrolmentToken | None, wanted: Enrol) -> str:
    if token is None:
        return "this enrolment token does not exist: make a new ticket with `gpuferry appliance token --enrol`"
    if token.used_at is not None:
        return f"this enrolment token was used at {token.used_at:%Y-%m-%d %H:%M} UTC; each works once: make a new one"
    if token.expires_at < now():
        return f"this enrolment token expired at {token.expires_at:%Y-%m-%d %H:%M:%S} UTC: make a new one"
    if token.role != wanted.role:
        return f"this enrolment token is for a {token.role}, not for a {wanted.role}"
    if not (token.name or wanted.name).strip():
        return "a name is needed"
    return ""
