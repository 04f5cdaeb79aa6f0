"""A GPU server daemon as a process: the real control end and lease table over a configured inventory, no data plane.

    python daemon_process.py IDENTITY INVENTORY     # INVENTORY: JSON, GPU → MiB

It prints a line for every grant it takes in and lets go, so a test can see what happened to it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path

from gpuserver.control import Inventory, ServerControl
from gpuserver.leases import LeaseTable
from gpuserver.protocol.control.curve import load_identity
from gpuserver.protocol.control.messages import GpuRecord, HeldLease, LeaseUse, Observation, Prepare


class ConfiguredHost:
    def __init__(self, name: str, gpus: dict[str, int]) -> None:
        self.name = name
        self.gpus = gpus
        self.table = LeaseTable(
            gpus, lambda order: self.say("begin", order.lease), lambda lease: self.say("end", lease)
        )

    @staticmethod
    def say(what: str, lease: str) -> None:
        sys.stdout.write(f"{what} {lease}\n")
        sys.stdout.flush()

    def inventory(self) -> Inventory:
        records = [GpuRecord(id_, i, "Software A100", size, 108) for i, (id_, size) in enumerate(self.gpus.items())]
        return Inventory(f"{self.name}:4751", tuple(records), self.name, "", False, "13.5", "580.65", "0.1.0")

    def held(self) -> tuple[HeldLease, ...]:
        return self.table.held()

    def prepare(self, order: Prepare) -> None:
        self.table.prepare(order)

    def release(self, lease: str, fence: int, reason: str) -> None:
        self.table.release(lease, fence)

    def use(self) -> tuple[LeaseUse, ...]:
        return tuple(LeaseUse(each.lease, 1, 0.0) for each in self.held())

    def observe(self) -> tuple[Observation, ...]:
        return (Observation("gpu.temperature", "95", next(iter(self.gpus))), Observation("disk.free", "5000"))

    def drain(self, active: bool, deadline_s: float) -> None:
        self.say("drain", str(active))

    def upgrade(self, version: str) -> str:
        return f"{version} will be installed"


if __name__ == "__main__":
    identity = load_identity(Path(sys.argv[1]))
    host = ConfiguredHost(identity.name, json.loads(Path(sys.argv[2]).read_text()))
    control = ServerControl(identity, host, path_port=int(sys.argv[3]) if len(sys.argv) > 3 else None)
    control.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    control.stop()
