"""A GPU server in the appliance's pool: what it has and holds, how it is, and what it does with orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from gpuserver.control import Inventory
from gpuserver.inventory import InventoryError, observe_server, read_inventory
from gpuserver.pool_leases import OfferedGpu, PoolLeases
from gpuserver.protocol.control.codec import printable
from gpuserver.protocol.control.messages import GpuRecord, HeldLease, LeaseUse, Observation, Prepare
from gpuserver.protocol.control.upgrading import UpgradeRefusedError
from gpuserver.xid import KERNEL_LOG, XidReader

log = structlog.get_logger()


class PoolHost:
    """The daemon's LeaseHost (gpuserver/control.py).

    `address`: where clients reach its sessions, host:port. `gpus`: what its workers can use, by UUID. `folder`: where
    it keeps files. `host`: the ESXi host it runs on, where known. `kernel_log`: where Xid errors are looked for.
    """

    def __init__(
        self,
        *,
        address: str,
        host: str,
        version: str,
        gpus: Mapping[str, OfferedGpu],
        end_sessions: Callable[[bytes], None],
        folder: Path,
        kernel_log: Path = KERNEL_LOG,
    ) -> None:
        self.address = address
        self.host = host
        self.version = version
        self.folder = folder
        self.xids = XidReader(kernel_log)
        self.leases = PoolLeases(gpus, end_sessions)

    def inventory(self) -> Inventory:
        """What workers can use, with what NVML adds to it. A GPU that CUDA does not show is not offered."""
        found = {}
        try:
            what = read_inventory(self.address, self.version, self.host)
            found = {gpu.id: gpu for gpu in what.gpus}
        except InventoryError as unusable:
            log.warning("NVML is not usable", reason=str(unusable))
            what = Inventory(self.address, (), host=self.host, version=self.version)
        records = tuple(
            GpuRecord(
                id=gpu.uuid,
                ordinal=gpu.ordinal,
                name=printable(gpu.name),
                memory_mib=gpu.memory_mib,
                multiprocessors=gpu.multiprocessors,
                pci=found[gpu.uuid].pci if gpu.uuid in found else "",
            )
            for gpu in self.leases.gpus.values()
        )
        return replace(what, gpus=records)

    def held(self) -> tuple[HeldLease, ...]:
        return self.leases.table.held()

    def prepare(self, order: Prepare) -> None:
        self.leases.table.prepare(order)

    def release(self, lease: str, fence: int, reason: str) -> None:
        self.leases.table.release(lease, fence)

    def use(self) -> tuple[LeaseUse, ...]:
        return self.leases.use()

    def observe(self) -> tuple[Observation, ...]:
        return observe_server(self.folder, self.leases.leased_mib(), self.xids.last())

    def drain(self, active: bool, deadline_s: float) -> None:
        # The appliance places nothing here and ends what is left at the deadline; programs may go on until then.
        log.info("taken out of service" if active else "back in service", deadline_s=deadline_s)

    def upgrade(self, version: str) -> str:
        raise UpgradeRefusedError(
            f"version {self.version} is installed; a daemon does not replace itself: the appliance installs another "
            "over SSH (a run of kind upgrade-servers)"
        )
