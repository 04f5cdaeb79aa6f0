"""The site's confirmed SSH host keys, for the command line: read, and written once a person has confirmed them."""

from __future__ import annotations

import getpass
from dataclasses import replace

from sqlalchemy import Engine, select

from appliance.deploy.ssh import Target
from appliance.ids import new_id
from appliance.state.database import reading, writing
from appliance.state.models import HostKey, now


def place(target: Target) -> str:
    """`address:port`, under which a key is kept."""
    return f"{target.address}:{target.port}"


def with_known_key(engine: Engine, target: Target) -> Target:
    """The target with the key it is known by, and its jump host likewise."""
    with reading(engine) as session:
        row = session.scalars(select(HostKey).where(HostKey.target == place(target))).one_or_none()
        known = row.public_key if row is not None and row.confirmed_at is not None else None
    jump = with_known_key(engine, target.jump) if target.jump else None
    return replace(target, host_key=known, jump=jump)


def confirm(engine: Engine, target: Target, host_key: str, fingerprint: str) -> None:
    """Keep a key that a person has compared."""
    with writing(engine) as session:
        row = session.scalars(select(HostKey).where(HostKey.target == place(target))).one_or_none()
        if row is None:
            row = HostKey(id=new_id("hostkey"), target=place(target), public_key=host_key, fingerprint=fingerprint)
            session.add(row)
        row.public_key, row.fingerprint = host_key, fingerprint
        row.seen_at = row.confirmed_at = now()
        row.confirmed_by = f"{getpass.getuser()} (command line)"
