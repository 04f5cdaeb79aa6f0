"""What time alone brings: requests time out, leases expire or lie idle, daemons do not answer, drains end."""

from __future__ import annotations

import heapq

from appliance.ledger import Ledger
from appliance.live import ClientNews, LiveLease, ReportWanted
from appliance.state.models import LeaseState, SliceState


def tick(ledger: Ledger) -> None:
    """Do what is due; inside a batch, about once a second."""
    now = ledger.clock()
    while ledger.timers and ledger.timers[0][0] <= now:
        _, kind, id_ = heapq.heappop(ledger.timers)
        lease = ledger.leases.get(id_)
        if lease is None:
            continue
        if kind == "queue" and lease.state is LeaseState.QUEUED and lease.deadline and lease.deadline <= now:
            waited = ledger.waiting[id_].reason if id_ in ledger.waiting else ""
            ledger.end(lease, f"timed out after {lease.timeout_s:g} s in the queue; {waited or 'not placed yet'}")
        elif kind == "expiry" and lease.expires_at and lease.expires_at <= now:
            ledger.end(lease, "the lease reached its longest duration")
        elif kind == "prepare" and lease.state is LeaseState.GRANTED:
            _prepare_overdue(ledger, lease, now)
    for server, deadline in list(ledger.drain_by.items()):
        if deadline <= now:
            ledger.drain_by[server] = now + 3600
            for id_ in sorted(ledger.by_server.get(server, ())):
                ledger.end(ledger.leases[id_], f"server {server} was drained and its deadline has passed")
            ledger.check_drained(server)
    _reclaim_idle(ledger, now)
    # The queue is gone through once a second whatever happened, for patience runs out by time alone.
    ledger.freed = ledger.freed or bool(ledger.waiting)


def _prepare_overdue(ledger: Ledger, lease: LiveLease, now: float) -> None:
    """A daemon has not answered in time: the lease is placed elsewhere, the daemon asked what it has."""
    allowed, grace = ledger.settings.prepare_timeout_s, ledger.settings.lost_after_s
    # After a restart the daemons must find their way back first.
    due = max((lease.granted_at or 0.0) + allowed, ledger.loaded_at + max(allowed, grace))
    if due > now:
        ledger.set_timer(due, "prepare", lease)
        return
    late = sorted({each.server for each in lease.slices if each.state is SliceState.RESERVED})
    ledger.place_again(lease, f"no answer from {', '.join(late)}")
    for server in late:
        ledger.close(server)
        ledger.say(ReportWanted(server))


def _reclaim_idle(ledger: Ledger, now: float) -> None:
    """Announce, then end, leases whose programs leave their GPUs idle; off unless the site or a group asks for it."""
    default = ledger.settings.idle_after_s
    if not default and not any(member.idle_after_s for member in ledger.members.values()):
        return
    for lease in [lease for lease in ledger.leases.values() if lease.state is LeaseState.ACTIVE]:
        after = lease.member.idle_after_s if lease.member.idle_after_s is not None else default
        if not after:
            continue
        idle = now - lease.last_used
        notice = min(ledger.settings.idle_notice_s, after)
        if idle < after - notice:
            lease.warned_at = None
        elif lease.warned_at is None:
            lease.warned_at = now
            left = max(notice, after - idle)
            text = f"idle for {idle:.0f} s: reclaimed in {left:.0f} s unless a program uses it"
            ledger.now_deciding.books.event("lease.idle", lease.id, text, lease.trace)
            ledger.say(ClientNews("notice", lease, text, left))
        elif idle >= after and now - lease.warned_at >= notice:
            ledger.end(lease, f"reclaimed: no program used its GPUs for {idle:.0f} s")
