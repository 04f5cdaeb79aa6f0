"""A GPU server daemon of which a test decides everything it measures: the real control end, no data plane.

    python console_daemon.py IDENTITY INVENTORY     # INVENTORY: JSON {"gpus": [...], "use": {...}, "observe": [...]}

The file is read again whenever the daemon is asked, so a test changes what it says by writing the file.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from gpuserver.control import Inventory, ServerControl
from gpuserver.leases import LeaseTable
from gpuserver.protocol.control.curve import load_identity
from gpuserver.protocol.control.messages import GpuRecord, HeldLease, LeaseUse, Observation, Prepare


class ToldHost:
    """A LeaseHost that says what its file says."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        memory = {each["id"]: each["memory_mib"] for each in self.told()["gpus"]}
        self.table = LeaseTable(memory, lambda order: None, lambda lease: None)

    def told(self) -> Any:
        return json.loads(self.path.read_text())

    def inventory(self) -> Inventory:
        told = self.told()
        records = tuple(
            GpuRecord(each["id"], i, each["name"], each["memory_mib"], 108) for i, each in enumerate(told["gpus"])
        )
        return Inventory(f"{self.name}:4751", records, self.name, told["host"], False, "13.5", "580.65", "0.1.0")

    def held(self) -> tuple[HeldLease, ...]:
        return self.table.held()

    def prepare(self, order: Prepare) -> None:
        self.table.prepare(order)

    def release(self, lease: str, fence: int, reason: str) -> None:
        self.table.release(lease, fence)

    def use(self) -> tuple[LeaseUse, ...]:
        use = self.told()["use"]
        return tuple(
            LeaseUse(each.lease, **(use.get(each.lease) or use.get("*") or {"sessions": 1, "idle_s": 0.0}))
            for each in self.held()
        )

    def observe(self) -> tuple[Observation, ...]:
        return tuple(Observation(*each) for each in self.told()["observe"])

    def drain(self, active: bool, deadline_s: float) -> None:
        pass

    def upgrade(self, version: str) -> str:
        return f"{version} will be installed"


if __name__ == "__main__":
    identity = load_identity(Path(sys.argv[1]))
    control = ServerControl(identity, ToldHost(identity.name, Path(sys.argv[2])), path_port=None)
    control.start()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()
    control.stop()
