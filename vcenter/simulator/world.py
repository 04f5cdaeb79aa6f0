"""The simulated data centre as a whole: every managed object by its id, one lock, one version counter, one clock.

Every handler runs under ``lock``; every change of a property raises ``version`` and wakes who waits for updates. The
clock runs what is due later (steps of tasks, boots, expiries) one after the other under the same lock, so a simulation
has no races of its own however many clients it serves.
"""

import heapq
import itertools
import logging
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .api import version_named, vmodl

if TYPE_CHECKING:
    from .control import Control
    from .managed_object import Managed

_log = logging.getLogger(__name__)

_PREFIX = {
    "VirtualMachine": "vm",
    "HostSystem": "host",
    "Folder": "group",
    "Datacenter": "datacenter",
    "ClusterComputeResource": "domain-c",
    "ComputeResource": "domain-s",
    "ResourcePool": "resgroup",
    "Datastore": "datastore",
    "Network": "network",
    "DistributedVirtualPortgroup": "dvportgroup",
    "VmwareDistributedVirtualSwitch": "dvs",
    "Task": "task",
    "EnvironmentBrowser": "envbrowser",
    "VirtualApp": "resgroup-v",
}


class World:
    """All that a simulated vCenter holds.

    ``pace`` is how many seconds one step of a task takes (0: as fast as it can); reboots and boots of guests are
    counted in such steps.
    """

    def __init__(self, api_version: str = "8.0.3.0", pace: float = 0.01, seed: str = "gpuferry") -> None:
        self.api_version = api_version
        self.version_name = version_named(api_version)
        self.pace = pace
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 1
        self.instance_uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, seed))
        self.objects: dict[str, Managed] = {}
        self.path_versions: dict[str, int] = defaultdict(int)
        self._journal: deque[tuple[int, Managed]] = deque(maxlen=20_000)
        self._numbers: dict[str, Iterator[int]] = {}
        self._event_keys = itertools.count(1)
        self.control: Control
        self.clock = Clock(self.lock)

    def new_id(self, kind: str) -> str:
        """A managed object id as vCenter spells it for this kind: ``vm-1001``, ``host-12``, ``domain-c7``."""
        prefix = _PREFIX.get(kind, kind[0].lower() + kind[1:])
        number = next(self._numbers.setdefault(prefix, itertools.count(1001)))
        return f"{prefix}{number}" if prefix.startswith(("domain", "resgroup-v", "group")) else f"{prefix}-{number}"

    def add(self, managed: "Managed") -> None:
        """Takes a new object in; its id must be free."""
        if managed.moid in self.objects:
            raise ValueError(f"{managed.moid} exists already")
        self.objects[managed.moid] = managed
        self.version += 1

    def remove(self, managed: "Managed") -> None:
        """Forgets an object: whoever calls it from now on gets ManagedObjectNotFound."""
        if self.objects.pop(managed.moid, None) is not None:
            managed.gone = True
            self.touch(managed, "")

    def find(self, reference: Any) -> Any:
        """The object behind a reference. Raises vmodl.fault.ManagedObjectNotFound."""
        found = self.objects.get(reference._moId)
        if found is None or not isinstance(found.ref, reference.__class__):
            raise vmodl.fault.ManagedObjectNotFound(
                obj=reference,
                msg=f"The object '{reference._wsdlName}:{reference._moId}' has already been deleted or has not been "
                "completely created",
            )
        return found

    def of_kind(self, cls: type) -> list[Any]:
        """All objects of one simulator class, in the order they came."""
        return [managed for managed in self.objects.values() if isinstance(managed, cls)]

    def touch(self, managed: "Managed", name: str) -> None:
        """Notes that a property of an object changed and wakes those who wait for updates."""
        self.version += 1
        managed.version = self.version
        managed.stamps[name] = self.version
        self.path_versions[name] = self.version
        self._journal.append((self.version, managed))
        self.changed.notify_all()

    def changed_since(self, version: int) -> "set[Managed] | None":
        """The objects changed after ``version``, or None when the journal does not reach back that far."""
        if not self._journal:
            return set()
        if len(self._journal) == self._journal.maxlen and self._journal[0][0] > version:
            return None
        found = set()
        for changed_at, managed in reversed(self._journal):
            if changed_at <= version:
                break
            found.add(managed)
        return found

    def next_event_key(self) -> int:
        """The key of the next event: they count upwards over the life of the server."""
        return next(self._event_keys)

    def close(self) -> None:
        """Stops the clock; nothing that was due later happens any more."""
        self.clock.stop()
        with self.lock:
            self.changed.notify_all()


class Clock:
    """Runs functions at their time, one after the other, in one thread, under the world's lock."""

    def __init__(self, lock: threading.RLock) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wake = threading.Condition(lock)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="simulator-clock", daemon=True)
        self._thread.start()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Runs ``action`` under the world's lock ``seconds`` from now; the caller holds the lock or does not."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action))
            self._wake.notify()

    def stop(self) -> None:
        """Ends the thread; the caller must not hold the lock."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=10)

    def _run(self) -> None:
        with self._wake:
            while not self._stopped:
                if not self._due:
                    self._wake.wait()
                    continue
                wait = self._due[0][0] - time.monotonic()
                if wait > 0:
                    self._wake.wait(wait)
                    continue
                action = heapq.heappop(self._due)[2]
                try:
                    action()
                except Exception:
                    _log.exception("an action of the simulated data centre failed")
