"""Waiting for vCenter tasks, on leaf paths and with a time-out.

pyVim's own waiter reads the whole `info` object and breaks on a running task whose method it does not know; this one
asks for `info.state`, `info.progress`, `info.error` and `info.result` only. Every wait has a property collector of its
own, so waits in several threads never disturb each other.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pyVmomi import vmodl

from vcenter.collector import objects_filter
from vcenter.errors import Cancelled, NotFound, TaskTimeout, from_fault
from vcenter.session import Session

_PATHS = ("info.state", "info.progress", "info.error", "info.result")
_WAIT_SECONDS = 5


@dataclass(frozen=True)
class ProgressEvent:
    """One line of progress: the step, the object it works on, percent (0-100) where known, and words."""

    step: str
    object_name: str
    percent: int | None = None
    message: str = ""


Progress = Callable[[ProgressEvent], None]


def silent(_event: ProgressEvent) -> None:
    """Progress that goes nowhere."""


@contextlib.contextmanager
def own_collector(session: Session) -> Iterator[Any]:
    """A property collector for one waiter alone, destroyed at the end."""
    collector = session.content.propertyCollector.CreatePropertyCollector()
    try:
        yield collector
    finally:
        with contextlib.suppress(vmodl.MethodFault, vmodl.RuntimeFault, OSError):
            collector.DestroyPropertyCollector()


def watch(session: Session, ref: Any, paths: tuple[str, ...], timeout: float) -> Iterator[dict[str, Any]]:
    """Yields all known values of `paths` of one object, first at once and then whenever one changes, until `timeout`
    seconds.

    Ends when the time is up (the caller decides what that means). Raises NotFound when the object disappears.
    """
    deadline = time.monotonic() + timeout
    values: dict[str, Any] = {}
    with own_collector(session) as collector:
        collector.CreateFilter(objects_filter([ref], {type(ref): paths}), False)
        version = ""
        while (left := deadline - time.monotonic()) > 0:
            options = vmodl.query.PropertyCollector.WaitOptions(maxWaitSeconds=max(1, min(_WAIT_SECONDS, int(left))))
            update = collector.WaitForUpdatesEx(version, options)
            if update is None:
                continue
            version = update.version
            for object_update in (o for f in update.filterSet or [] for o in f.objectSet or []):
                if object_update.kind == "leave":
                    raise NotFound("The object was removed while it was being watched.", object_name=str(ref._moId))
                for change in object_update.changeSet or []:
                    if change.op in ("remove", "indirectRemove"):
                        values.pop(change.name, None)
                    else:
                        values[change.name] = change.val
            yield dict(values)


def wait_for_task(
    session: Session,
    task: Any,
    what: str,
    object_name: str,
    *,
    timeout: float = 600.0,
    progress: Progress = silent,
    step: str = "",
) -> Any:
    """Waits for a task and gives its result. Raises our error for the task's fault, or TaskTimeout after `timeout`
    seconds.
    """
    step = step or what
    said: int | None = -1
    with session.doing(what, object_name):
        for values in watch(session, task, _PATHS, timeout):
            state = str(values.get("info.state", ""))
            percent = values.get("info.progress")
            if state == "success":
                progress(ProgressEvent(step, object_name, 100))
                return values.get("info.result")
            if state == "error":
                fault = values.get("info.error")
                if isinstance(fault, vmodl.fault.RequestCanceled):
                    raise Cancelled(f"{what} was cancelled in vCenter.", object_name=object_name)
                raise from_fault(fault, f"{what} failed.", object_name)
            if percent != said:
                said = percent
                progress(ProgressEvent(step, object_name, percent))
    raise TaskTimeout(f"{what} did not end within {timeout:g} s.", object_name=object_name)
