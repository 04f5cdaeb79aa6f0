"""A site for tests of the bus: a control loop on free ports, daemons with real lease tables, enrolled clients."""

from __future__ import annotations

import socket
from pathlib import Path

from sqlalchemy import Engine

from appliance.control import ControlLoop
from appliance.peers import new_enrolment_token
from appliance.site import Site, SiteConfig, make_site
from appliance.state.database import writing
from appliance.state.models import Group, Setting
from gpuserver.control import Inventory, ServerControl
from gpuserver.leases import LeaseTable
from gpuserver.protocol.control.curve import Identity, Ticket
from gpuserver.protocol.control.enrolment import enrol
from gpuserver.protocol.control.messages import GpuRecord, HeldLease, LeaseUse, Observation, Prepare


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class FakeHost:
    """A LeaseHost with a real lease table and no data plane. `really_mib`: what it has, whatever it says."""

    def __init__(self, address: str, gpus: dict[str, int], really_mib: int | None = None) -> None:
        self._address = address
        self._gpus = gpus
        self.begun: list[str] = []
        self.drained: list[bool] = []
        self.idle: dict[str, float] = {}
        capacity = {gpu: really_mib or size for gpu, size in gpus.items()}
        self.table = LeaseTable(capacity, begin=lambda order: self.begun.append(order.lease))

    def inventory(self) -> Inventory:
        gpus = tuple(GpuRecord(id_, i, "Software A100", size, 108) for i, (id_, size) in enumerate(self._gpus.items()))
        return Inventory(self._address, gpus, "host", "", False, "13.5", "580.65", "0.1.0")

    def held(self) -> tuple[HeldLease, ...]:
        return self.table.held()

    def prepare(self, order: Prepare) -> None:
        self.table.prepare(order)

    def release(self, lease: str, fence: int, reason: str) -> None:
        self.table.release(lease, fence)

    def use(self) -> tuple[LeaseUse, ...]:
        return tuple(LeaseUse(each.lease, 1, self.idle.get(each.lease, 0.0)) for each in self.held())

    def observe(self) -> tuple[Observation, ...]:
        return ()

    def drain(self, active: bool, deadline_s: float) -> None:
        self.drained.append(active)

    def upgrade(self, version: str) -> str:
        return f"{version} will be installed"


class BusSite:
    def __init__(self, folder: Path, engine: Engine, url: str) -> None:
        config = SiteConfig(
            "127.0.0.1", url, control_port=free_port(), enrol_port=free_port(), api_port=free_port(), listen="127.0.0.1"
        )
        self.site: Site = make_site(folder, config)
        self.engine = engine
        self.controls: dict[str, ServerControl] = {}
        with writing(engine) as session:
            session.add(Group(id="group-default", name="default"))
            for key, value in {"heartbeat_s": 0.2, "lost_after_s": 5.0, "prepare_timeout_s": 5.0}.items():
                session.add(Setting(key=key, value={"value": value}))

    def start(self) -> None:
        self.loop = ControlLoop(self.site, self.engine, f"process-{free_port()}")
        self.loop.start()

    def restart(self) -> None:
        self.loop.stop()
        self.start()

    def close(self) -> None:
        for control in self.controls.values():
            control.stop()
        self.loop.stop()

    def ticket(self, role: str, name: str = "") -> Ticket:
        token = new_enrolment_token(self.engine, role, name=name)
        return Ticket(self.site.config.enrol_endpoint, self.site.curve_public, token)

    def enrol_client(self, name: str) -> Identity:
        return enrol(self.ticket("client", name), "client", name)

    def add_server(self, name: str, gpus: int, memory_mib: int = 16384, really_mib: int | None = None) -> FakeHost:
        host = FakeHost(f"{name}:4751", {f"GPU-{name}-{i}": memory_mib for i in range(gpus)}, really_mib)
        self.connect(name, host)
        return host

    def connect(self, name: str, host: FakeHost) -> None:
        """Enrol and connect a daemon, and wait until the appliance has welcomed it."""
        control = ServerControl(enrol(self.ticket("server", name), "server", name), host, path_port=None)
        control.start()
        assert control.link.connected.wait(15)
        self.controls[name] = control
