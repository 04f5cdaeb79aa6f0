"""HttpNfcLease: the permission to upload the disks of an imported machine, and the door they come in by."""

import hashlib
import secrets
from typing import Any

from .api import vim, vmodl
from .events import machine_event
from .managed_object import Call, Managed, invalid_argument, method
from .resource_pool import ResourcePool
from .task import Task
from .values import build
from .virtual_machine_create import create
from .world import World

# Seconds a lease lives without a sign of its client.
LEASE_SECONDS = 300


class HttpNfcLease(Managed):
    """One import under way."""

    kind = vim.HttpNfcLease

    def __init__(self, world: World, call: Call) -> None:
        super().__init__(world, f"session[{call.session.key if call.session else ''}]lease-{secrets.token_hex(4)}")
        self.key = secrets.token_hex(16)
        self.base_url = call.base_url
        self.user = call.user
        self.machine: Any = None
        self.received: dict[str, tuple[int, str]] = {}
        self.expected: dict[str, int] = {}
        self._signs = 0
        self.values.update(
            state="initializing",
            initializeProgress=0,
            transferProgress=0,
            mode="pushOrGet",
            capabilities=build(vim.HttpNfcLease.Capabilities, pullModeSupported=False, corsSupported=False),
        )

    def ready(self, machine: Any) -> None:
        """The machine is there: its disks may come."""
        self.machine = machine
        disks = [each for each in machine.config.hardware.device if isinstance(each, vim.vm.device.VirtualDisk)]
        urls = []
        for number, each in enumerate(disks):
            name = f"disk-{number}.vmdk"
            self.expected[name] = each.capacityInBytes
            urls.append(
                build(
                    vim.HttpNfcLease.DeviceUrl,
                    key=f"/{machine.moid}/ParaVirtualSCSIController0:{number}",
                    importKey=f"/{machine.name}/ParaVirtualSCSIController0:{number}",
                    url=f"{self.base_url}/nfc/{self.key}/{name}",
                    sslThumbprint=self.world.thumbprint_sha1,
                    disk=True,
                    targetId=name,
                    datastoreKey=machine.store.url,
                )
            )
        self.set(
            "info",
            build(
                vim.HttpNfcLease.Info,
                lease=self.ref,
                entity=machine.ref,
                deviceUrl=urls,
                totalDiskCapacityInKB=sum(each.capacityInKB for each in disks),
                leaseTimeout=LEASE_SECONDS,
            ),
        )
        self.set("initializeProgress", 100)
        self.set("state", "ready")
        self._watch()

    def _watch(self) -> None:
        self._signs += 1
        signs = self._signs

        def look() -> None:
            if self.get("state") == "ready" and self._signs == signs:
                self.fail(vim.fault.Timedout(msg="The lease has timed out."))

        self.world.clock.later(LEASE_SECONDS, look)

    def fail(self, fault: Any) -> None:
        """Ends the lease and takes the half-made machine away."""
        if self.machine is not None and not self.machine.gone:
            for _ in self.machine._destroy():
                pass
        fault.__traceback__ = None
        self.set("error", fault)
        self.set("state", "error")

    def receive(self, name: str, size: int, digest: str) -> None:
        """A file has come. Raises KeyError for one nobody asked for."""
        if name not in self.expected or self.get("state") != "ready":
            raise KeyError(name)
        self.received[name] = (size, digest)
        self._watch()

    def _demand_ready(self) -> None:
        if self.get("state") != "ready":
            raise vim.fault.InvalidState(msg=f"The lease is {self.get('state')}.")

    @method
    def HttpNfcLeaseProgress(self, call: Call, percent: int) -> None:
        """A sign of life, and how far the upload is."""
        if self.get("state") != "ready":
            raise vim.fault.Timedout(msg="The lease has ended.")
        if not 0 <= percent <= 100:
            raise invalid_argument("percent", "It is 0 to 100.")
        self.set("transferProgress", percent)
        self._watch()

    @method
    def HttpNfcLeaseComplete(self, call: Call) -> None:
        """All disks are there: the machine is ready."""
        self._demand_ready()
        missing = sorted(set(self.expected) - set(self.received))
        if missing:
            raise vim.fault.InvalidState(msg=f"These disks have not been uploaded: {', '.join(missing)}.")
        self.set("state", "done")
        self.world.post(machine_event("VmCreatedEvent", self.machine), call.user, self.machine)

    @method
    def HttpNfcLeaseAbort(self, call: Call, fault: Any) -> None:
        """The client gives up: the machine goes."""
        if self.get("state") in {"done", "error"}:
            raise vim.fault.InvalidState(msg="The lease has ended.")
        self.fail(fault or vmodl.fault.RequestCanceled(msg="The import was aborted."))

    @method
    def HttpNfcLeaseGetManifest(self, call: Call) -> Any:
        """Checksums of what has come."""
        return [
            build(
                vim.HttpNfcLease.ManifestEntry,
                key=name,
                sha1="",
                checksum=digest,
                checksumType="sha256",
                size=size,
                disk=True,
                capacity=self.expected[name],
            )
            for name, (size, digest) in self.received.items()
        ]


def import_machine(call: Call, pool: ResourcePool, spec: Any, folder: Any, host: Any) -> HttpNfcLease:
    """ImportVApp: a lease that becomes ready when the machine is there."""
    world = pool.world
    if not isinstance(spec, vim.vm.VmImportSpec):
        raise vmodl.fault.NotSupported(msg="Only single virtual machines can be imported here.")
    held = world.find(folder) if folder is not None else pool.datacenter.vm_folder
    lease = HttpNfcLease(world, call)
    task = Task(world, pool, "ImportVApp", call.user)

    def then(done: Task) -> None:
        info = done.values["info"]
        if info.state == "success":
            lease.ready(world.find(info.result))
        else:
            lease.fail(info.error)

    task.begin(create(call, held, spec.configSpec, pool.ref, host), then)
    return lease


class Upload:
    """Counts and digests one file as it comes."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        """The next piece."""
        self.size += len(chunk)
        self._digest.update(chunk)

    @property
    def digest(self) -> str:
        """SHA-256 of all pieces, hex."""
        return self._digest.hexdigest()


def lease_with(world: World, key: str) -> HttpNfcLease | None:
    """The lease of an upload address."""
    for each in world.of_kind(HttpNfcLease):
        if secrets.compare_digest(each.key, key):
            found: HttpNfcLease = each
            return found
    return None
