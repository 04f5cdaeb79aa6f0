"""Forgets what is older than the site wants to keep: ended leases with their slices, runs, events, audit rows."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine, delete, select

from appliance.runs.record import older_than
from appliance.settings import read_settings
from appliance.state.database import reading, writing
from appliance.state.models import (
    Audit,
    EnrolmentToken,
    Event,
    Lease,
    LeaseState,
    Run,
    RunStep,
    Slice,
    SliceState,
    now,
)

AT_ONCE = 500
"""Rows of one transaction: decisions must not wait long for it."""


def forget_old(engine: Engine) -> int:
    """Delete what is too old; returns how many rows of leases, runs, events and audit went."""
    with reading(engine) as session:
        before = now() - timedelta(days=read_settings(session).retention_days)
    gone = 0
    while True:
        with writing(engine) as session:
            holding = select(Slice.lease_id).where(Slice.state != SliceState.FREED)
            old = select(Lease.id).where(
                Lease.state == LeaseState.ENDED, Lease.ended_at < before, Lease.id.not_in(holding)
            )
            leases = session.scalars(old.limit(AT_ONCE)).all()
            session.execute(delete(Slice).where(Slice.lease_id.in_(leases)))
            session.execute(delete(Lease).where(Lease.id.in_(leases)))
            rows = len(leases)
            runs = older_than(session, before, AT_ONCE)
            session.execute(delete(RunStep).where(RunStep.run_id.in_(runs)))
            session.execute(delete(Run).where(Run.id.in_(runs)))
            rows += len(runs)
            for table in (Event, Audit):
                ids = session.scalars(select(table.id).where(table.at < before).limit(AT_ONCE)).all()
                session.execute(delete(table).where(table.id.in_(ids)))
                rows += len(ids)
            session.execute(delete(EnrolmentToken).where(EnrolmentToken.expires_at < before))
        gone += rows
        if not rows:
            return gone
