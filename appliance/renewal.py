"""Renewal of the CURVE keys of daemons and agents over the control bus, without a break in what they hold.

    RenewKey -> NextKey: the peer's next key is written down; from that commit on both its keys are let in
    KeyTaken -> Hello with the next key: it is the key now, the one before is let in for `former_key_s` more
    KeyRenewed -> the peer's other processes read the machine's identity again

Each half can die between any two of these: what the peer has on its disk is always a key that is let in. What comes
later is tried again by the next renewal. Everything here happens inside a batch of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update

from appliance.bus import Peer
from appliance.ledger import Ledger
from appliance.live import KeyChanged, RenewKeyOrder
from appliance.state.models import Client, Server, ServerState, SpareKey, now
from gpuserver.protocol.control import messages

LOOK_S = 10.0
"""How often it is looked for keys that are old."""
AT_ONCE = 50
"""So many keys are renewed in one go at most."""
AGAIN = timedelta(hours=6)
"""A peer that did not renew its key is asked again after so long."""


class Renewals:
    """The thread that decides has one. `asked`: when a peer was last told to renew its key."""

    def __init__(self) -> None:
        self._asked: dict[str, Any] = {}
        self._look_at = 0.0

    def look(self, ledger: Ledger, at: float, connected: Callable[[str], object]) -> None:
        """Order new keys from those that are connected and whose keys are older than the site wants.

        `at`: monotonic seconds.
        """
        days = ledger.settings.renew_keys_days
        if at < self._look_at or not days:
            return
        self._look_at = at + LOOK_S
        moment = now()
        before = moment - timedelta(days=days)
        due: list[str] = []
        for table, there in ((Server, Server.state != ServerState.REVOKED), (Client, Client.revoked_at.is_(None))):
            age = func.coalesce(table.key_since, table.created_at)
            due += ledger.connection.scalars(select(table.id).where(there, table.public_key.is_not(None), age < before))
        self._asked = {peer: when for peer, when in self._asked.items() if moment - when < AGAIN}
        for peer in [each for each in due if each not in self._asked and connected(each)][:AT_ONCE]:
            self._asked[peer] = moment
            ledger.say(RenewKeyOrder(peer))


def next_key(ledger: Ledger, peer: Peer, content: messages.NextKey) -> Any:
    """The peer has made a key: it is let in from the commit on, and the peer is told then."""
    if content.problem or len(content.key) != 40:
        reason = content.problem or "its new key is not one"
        ledger.now_deciding.books.event(f"{peer.role}.key-not-renewed", peer.id, reason[:500])
        return None
    connection = ledger.connection
    if peer.is_next:
        # Not yet said Hello with: that comes first.
        return messages.Refused("key", "say Hello with this key before the next one")
    for column in (Server.public_key, Client.public_key, SpareKey.key):
        if connection.scalar(select(column).where(column == content.key)) is not None:
            return messages.Refused("key", "this key is known already")
    past = or_(SpareKey.valid_until.is_(None), SpareKey.valid_until < now())
    connection.execute(delete(SpareKey).where(SpareKey.peer_id == peer.id, past))
    connection.execute(insert(SpareKey).values(key=content.key, peer_id=peer.id, valid_until=None))
    return messages.KeyTaken(content.key)


def confirm(ledger: Ledger, peer: Peer) -> bool:
    """A peer speaks with its next key for the first time: it is its key now. False when it was already."""
    table = Server if peer.role == messages.SERVER else Client
    connection = ledger.connection
    former = connection.scalar(select(table.public_key).where(table.id == peer.id))
    if former == peer.key:
        return False
    moment = now()
    connection.execute(delete(SpareKey).where(SpareKey.key == peer.key))
    changed = update(table).where(table.id == peer.id)
    connection.execute(changed.values(public_key=peer.key, key_since=moment, revision=table.revision + 1))
    if former is not None:
        until = moment + timedelta(seconds=ledger.settings.former_key_s)
        connection.execute(insert(SpareKey).values(key=former, peer_id=peer.id, valid_until=until))
    ledger.now_deciding.books.event(f"{peer.role}.key-renewed", peer.id, "it has a new key")
    ledger.say(KeyChanged(peer.id))
    return True
