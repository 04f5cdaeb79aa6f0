"""What clients may ask over the bus: their leases and how those are used, the pool's GPUs, the servers, health.

Answered aside of the control loop, from the database; `stats` alone comes from what the loop has heard of daemons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from appliance.bus import Incoming
from appliance.ledger import Ledger
from appliance.state.database import DatabaseGoneError, reading
from appliance.state.models import Gpu, Lease, LeaseState, Reading, Server, Slice, SliceState
from gpuserver.protocol.control.codec import encode, printable
from gpuserver.protocol.control.messages import Answer, Ask, LeaseUse, Refused

log = structlog.get_logger(__name__)
Row = dict[str, str]
ROWS = 10_000
USED = ("sessions", "memory_mib", "calls", "round_trips", "bytes")


class Questions:
    """Answers from the database in threads of its own; `later` runs the sending in the loop's thread."""

    def __init__(self, engine: Engine, later: Callable[[Callable[[], None]], None]) -> None:
        self.engine = engine
        self._later = later
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="question")

    @staticmethod
    def stats(ledger: Ledger, use: Mapping[str, Mapping[str, LeaseUse]], peer: str) -> list[Row]:
        """How the leases of a client are used on each server. In the control loop's thread."""
        rows = []
        for lease in [each for each in ledger.leases.values() if each.member.id == peer]:
            for server in lease.servers:
                known = use.get(server, {}).get(lease.id) or LeaseUse(lease.id, 0, 0.0)
                facts = {name: str(getattr(known, name)) for name in USED}
                rows.append(
                    {
                        "lease": lease.id,
                        "server": ledger.pool.servers[server].name,
                        "idle_s": f"{known.idle_s:.0f}",
                        "program": printable(lease.program),
                        **facts,
                    }
                )
        return rows

    def ask(self, source: Incoming, question: Ask, send: Callable[[bytes, bytes], bool]) -> None:
        self._threads.submit(self._answer, source, question, send)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _answer(self, source: Incoming, question: Ask, send: Callable[[bytes, bytes], bool]) -> None:
        content: Any
        try:
            content = self.answer(source.peer.id, question)
        except DatabaseGoneError as gone:
            content = Refused("unavailable", printable(str(gone)))
        except Exception:
            log.exception("question-failed", question=question.question)
            content = Refused("failed", "the appliance failed to answer; its log says why")
        self._later(lambda: _discard(send(source.route, encode(content))))

    def answer(self, peer: str, question: Ask) -> Answer | Refused:
        ask = ANSWERS.get(question.question)
        if ask is None:
            return Refused("question", f"{question.question!r} cannot be asked; {', '.join(ANSWERS)} can")
        with reading(self.engine) as session:
            rows = ask(session, peer)
        fit = tuple({name: printable(value) for name, value in row.items()} for row in rows)
        return Answer(question.number, fit)


def _discard(sent: bool) -> None:
    """A client that is gone needs no answer."""


def _leases(session: Session, peer: str) -> list[Row]:
    rows = session.scalars(
        select(Lease).where(Lease.client_id == peer, Lease.state != LeaseState.ENDED).order_by(Lease.id).limit(ROWS)
    ).all()
    slices: dict[str, list[str]] = {}
    query = select(Slice.lease_id, Slice.ordinal, Slice.memory_mib, Server.name, Gpu.name.label("card"))
    query = query.join(Server, Server.id == Slice.server_id).join(Gpu, Gpu.id == Slice.gpu_id)
    live = query.where(Slice.lease_id.in_([row.id for row in rows]), Slice.state != SliceState.FREED)
    for row in session.execute(live.order_by(Slice.ordinal)):
        slices.setdefault(row.lease_id, []).append(f"{row.ordinal}: {row.memory_mib} MiB of {row.card} on {row.name}")
    return [
        {
            "lease": row.id,
            "state": row.state,
            "gpus": str(row.gpus),
            "slices": "; ".join(slices.get(row.id, [])),
            "position": str(row.position) if row.position else "",
            "reason": row.reason,
            "program": row.program,
            "since": row.queued_at.isoformat(timespec="seconds"),
        }
        for row in rows
    ]


def _gpus(session: Session, peer: str) -> list[Row]:
    query = select(Gpu, Server).join(Server, Server.id == Gpu.server_id).order_by(Server.name, Gpu.ordinal).limit(ROWS)
    measured = select(Reading.subject, Reading.value).where(Reading.check == "gpu.temperature")
    heat = {row.subject: row.value for row in session.execute(measured)}
    return [
        {
            "server": server.name,
            "gpu": str(gpu.ordinal),
            "name": gpu.name,
            "memory_mib": str(gpu.memory_mib),
            "free_mib": str(gpu.memory_mib - gpu.reserved_mib),
            "state": gpu.state if server.state == "active" else server.state,
            "id": gpu.id,
            "temperature": heat.get(gpu.id, ""),
        }
        for gpu, server in session.execute(query)
    ]


def _servers(session: Session, peer: str) -> list[Row]:
    return [
        {
            "id": server.id,
            "server": server.name,
            "address": server.address,
            "state": server.state,
            "rdma": "yes" if server.has_rdma else "no",
            "cuda": server.cuda_version,
            "driver": server.driver_version,
        }
        for server in session.scalars(select(Server).order_by(Server.name).limit(ROWS))
    ]


def _health(session: Session, peer: str) -> list[Row]:
    """The client's own readings, and whatever is not well on the servers."""
    query = select(Reading).where((Reading.subject == peer) | (Reading.state != "ok")).order_by(Reading.subject)
    names = ("subject", "check", "state", "value", "threshold", "meaning", "remedy")
    return [
        {name: str(getattr(row, name)) for name in names}
        for row in session.scalars(query.limit(ROWS))
        if row.subject == peer or not row.subject.startswith("client-")
    ]


ANSWERS: dict[str, Callable[[Session, str], list[Row]]] = {
    "leases": _leases,
    "gpus": _gpus,
    "servers": _servers,
    "health": _health,
}
