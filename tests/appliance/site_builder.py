"""Fills a test's database with groups, clients and servers, and plays the daemons for a ledger without a bus."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Engine

from appliance.changes import ReportedGpu, server_reported
from appliance.ledger import Ledger
from appliance.live import ClientNews, Effect, PrepareOrder, ReleaseOrder
from appliance.state.database import Office, writing
from appliance.state.models import Client, Group, Server


class Clock:
    """Wall-clock seconds that only move when told."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def add_client(engine: Engine, name: str, group: str = "default", **values: object) -> str:
    with writing(engine) as session:
        if session.get(Group, f"group-{group}") is None:
            session.add(Group(id=f"group-{group}", name=group))
            session.flush()
        session.add(Client(id=f"client-{name}", name=name, group_id=f"group-{group}", **values))
    return f"client-{name}"


def add_server(engine: Engine, name: str, **values: object) -> str:
    with writing(engine) as session:
        session.add(Server(id=f"server-{name}", name=name, address=f"{name}:4751", hostname=name, **values))
    return f"server-{name}"


def gpus_of(server: str, count: int, memory_mib: int = 16384, name: str = "Software A100") -> list[ReportedGpu]:
    return [ReportedGpu(f"GPU-{server}-{i}", i, name, memory_mib, 108) for i in range(count)]


@dataclass
class Desk:
    """A ledger with daemons that do as they are told at once, and a record of what clients were told."""

    engine: Engine
    clock: Clock = field(default_factory=Clock)
    news: list[ClientNews] = field(default_factory=list)
    held: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    """Servers that answer nothing."""

    def __post_init__(self) -> None:
        self.office = Office(self.engine, "desk", "inproc://desk")
        assert self.office.campaign()
        self.ledger = Ledger(self.engine, self.office, self.clock)
        self.ledger.load()

    def report(self, server: str, gpus: list[ReportedGpu], **facts: object) -> list[str]:
        held = self.held.setdefault(server, set())
        with self.ledger.batch() as batch:
            wrong = server_reported(self.ledger, server, dict(facts), gpus=gpus, held=held, restarted=False)
            self.ledger.serve_queue()
        self.deliver(batch.effects)
        return wrong

    def decide(self, *actions: object) -> None:
        """Run callables in one batch, serve the queue, let the daemons answer."""
        with self.ledger.batch() as batch:
            for action in actions:
                action()  # type: ignore[operator]
            self.ledger.serve_queue()
            self.ledger.publish_queue()
        self.deliver(batch.effects)

    def deliver(self, effects: list[Effect]) -> None:
        answers = []
        for effect in effects:
            if isinstance(effect, ClientNews):
                self.news.append(effect)
            elif isinstance(effect, PrepareOrder) and effect.server not in self.silent:
                self.held.setdefault(effect.server, set()).add((effect.lease.id, effect.fence))
                answers.append((self.ledger.prepared, (effect.server, effect.lease.id, effect.fence)))
            elif isinstance(effect, ReleaseOrder) and effect.server not in self.silent:
                self.held.setdefault(effect.server, set()).discard((effect.lease, effect.fence))
                answers.append((self.ledger.released, (effect.server, effect.lease, effect.fence)))
        if answers:
            with self.ledger.batch() as batch:
                for method, arguments in answers:
                    method(*arguments)
                self.ledger.serve_queue()
            self.deliver(batch.effects)
