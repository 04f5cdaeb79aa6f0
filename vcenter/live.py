"""The inventory kept up to date by vCenter itself: a background follower on WaitForUpdatesEx.

One property collector of its own with two filters: everything in one container view, and the devices of those VMs
that can hold a passed-through one. When the connection or the session is lost, the follower goes on showing the last
inventory, marks it stale, and starts over as soon as vCenter answers again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import structlog
from pyVmomi import vmodl

from vcenter.collector import Row, container_view, objects_filter, view_filter
from vcenter.errors import TaskTimeout, VcenterError
from vcenter.inventory import Inventory
from vcenter.reading import DEVICES, inventory_of, may_hold_devices, paths
from vcenter.session import Session
from vcenter.tasks import own_collector

_WAIT_SECONDS = 30
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0

_log = structlog.get_logger(__name__)


class LiveInventory:
    """Follows one vCenter in a thread of its own. Start it, or use it as a context manager.

    `on_change` is called in that thread with the ids of the objects that changed, after every consistent update.
    """

    def __init__(self, session: Session, on_change: Callable[[frozenset[str]], None] | None = None) -> None:
        self._session = session
        self._on_change = on_change
        self._rows: dict[str, Row] = {}
        self._inventory: Inventory | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._collector: Any = None
        self._thread = threading.Thread(target=self._follow, name="vcenter-live", daemon=True)
        self.stale = True
        self.restarts = 0
        self.last_error: VcenterError | None = None

    # -- for everybody
    # ----------------------------------------------------------------------------------------------------

    def start(self, timeout: float = 300.0) -> Self:
        """Starts following and waits for the first whole inventory. Raises the error that keeps it from coming, or
        TaskTimeout.
        """
        self._thread.start()
        deadline = time.monotonic() + timeout
        with self._changed:
            while self.stale and self.last_error is None and time.monotonic() < deadline:
                self._changed.wait(timeout=deadline - time.monotonic())
        if self.stale:
            error = self.last_error or TaskTimeout(f"No inventory within {timeout:g} s.")
            self.stop()
            raise error
        return self

    def snapshot(self) -> Inventory:
        """The inventory as of the last update. Cheap when nothing has changed since the last call."""
        with self._changed:
            if self._inventory is None:
                server = self._session.endpoint.server
                self._inventory = inventory_of(server, self._session.api_version, self._rows.values())
            return self._inventory

    def wait_until(self, condition: Callable[[Inventory], bool], timeout: float = 60.0) -> Inventory:
        """Waits until an inventory fulfils the condition, and gives it. Raises TaskTimeout after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                seen = self.snapshot()
                if condition(seen):
                    return seen
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TaskTimeout(f"The inventory did not become as expected within {timeout:g} s.")
                self._changed.wait(timeout=left)

    def stop(self) -> None:
        """Ends the follower. Safe to repeat."""
        self._stop.set()
        collector = self._collector
        if collector is not None:
            with contextlib.suppress(Exception):
                collector.CancelWaitForUpdates()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=_WAIT_SECONDS + 10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- the follower
    # -----------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            try:
                with self._session.doing("Following the inventory"):
                    self._follow_once()
                pause = _FIRST_PAUSE
            except VcenterError as error:
                if self._stop.is_set():
                    return
                if not self.stale:
                    pause = _FIRST_PAUSE
                with self._changed:
                    self.stale, self.last_error = True, error
                    self.restarts += 1
                    self._changed.notify_all()
                _log.warning("inventory follower starts over", vcenter=self._session.endpoint.server, error=error.what)
                self._stop.wait(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)

    def _follow_once(self) -> None:
        """Follows until the connection, the session or the program ends."""
        wanted = paths(self._session)
        rows: dict[str, Row] = {}
        whole = False
        with container_view(self._session, list(wanted)) as view, own_collector(self._session) as collector:
            self._collector = collector
            collector.CreateFilter(view_filter(view, wanted), False)
            holders = _Holders(collector)
            version = ""
            touched: set[str] = set()
            while not self._stop.is_set():
                options = vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=_WAIT_SECONDS)
                update = collector.WaitForUpdatesEx(version, options)
                if update is None:
                    continue
                version = update.version
                with self._changed:
                    for filter_update in update.filterSet or []:
                        touched |= _apply(rows, filter_update, devices=holders.owns(filter_update.filter))
                if update.truncated or holders.follow(rows):
                    continue  # more of the same moment is on its way
                with self._changed:
                    self._rows, self._inventory, whole = rows, None, True
                    self.stale, self.last_error = False, None
                    self._changed.notify_all()
                if whole and self._on_change is not None and touched:
                    self._on_change(frozenset(touched))
                touched = set()


class _Holders:
    """The filter on the devices of those VMs that can hold a passed-through one; made anew when their set changes."""

    def __init__(self, collector: Any) -> None:
        self._collector = collector
        self._filter: Any = None
        self._followed: frozenset[str] = frozenset()

    def owns(self, filter_: Any) -> bool:
        return self._filter is not None and filter_ is not None and filter_._moId == self._filter._moId

    def follow(self, rows: dict[str, Row]) -> bool:
        """Follows the right VMs; True when that has changed, so that their devices come with the next update."""
        right = frozenset(moid for moid, row in rows.items() if row.kind == "VirtualMachine" and may_hold_devices(row))
        if right == self._followed:
            return False
        if self._filter is not None:
            with contextlib.suppress(vmodl.fault.ManagedObjectNotFound):
                self._filter.DestroyPropertyFilter()
            self._filter = None
        for moid in self._followed - right:
            if moid in rows:
                rows[moid].set("config.hardware.device", None)
        self._followed = right
        if right:
            refs = [rows[moid].ref for moid in sorted(right)]
            self._filter = self._collector.CreateFilter(objects_filter(refs, DEVICES), False)
        return bool(right)


def _apply(rows: dict[str, Row], filter_update: Any, *, devices: bool) -> set[str]:
    """Applies one filter's updates to the rows; the ids of the objects that it touched."""
    touched = set()
    for update in filter_update.objectSet or []:
        moid = str(update.obj._moId)
        touched.add(moid)
        if update.kind == "leave":
            if devices:
                if moid in rows:
                    rows[moid].set("config.hardware.device", None)
            else:
                rows.pop(moid, None)
            continue
        row = rows.get(moid)
        if row is None:
            if devices:
                continue  # it has left the view already
            row = rows[moid] = Row(update.obj)
        for change in update.changeSet or []:
            row.set(change.name, None if change.op in ("remove", "indirectRemove") else change.val)
            row.unreadable.pop(change.name, None)
        for missing in update.missingSet or []:
            row.unreadable[missing.path] = type(missing.fault).__name__
    return touched
