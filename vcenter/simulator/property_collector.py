"""PropertyCollector: how every client reads and watches the inventory.

Retrieval walks object, traversal and selection specifications; a filter remembers what it last told its client and
reports what differs, looking only at objects that changed since.
"""

import functools
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from . import property_path
from .api import fields, support, vim, vmodl
from .managed_object import Call, Managed, invalid_argument, method
from .values import build, equal
from .view_manager import STRUCTURE
from .world import World

if TYPE_CHECKING:
    from .session_manager import Session

query: Any = vmodl.query.PropertyCollector
_CANCELED = "The operation was canceled by the user."


@functools.cache
def _all_names(kind: Any, version: str) -> tuple[str, ...]:
    return tuple(info.name for info in fields(kind).values() if support.IsChildVersion(version, info.version))


class Selection:
    """One FilterSpec, ready to be walked: which objects, and which paths of each kind."""

    def __init__(self, spec: Any, version: str) -> None:
        self.spec = spec
        self.version = version
        self._paths: dict[Any, tuple[str, ...] | None] = {}
        self._named: dict[str, Any] = {}
        self.walked: set[str] = {""}
        if not spec.propSet or not spec.objectSet:
            raise invalid_argument("specSet", "A filter needs property and object specifications.")
        for prop in spec.propSet:
            if not prop.all:
                for path in prop.pathSet:
                    property_path.check(prop.type, str(path))
        for found in itertools.chain.from_iterable(_selections(each.selectSet) for each in spec.objectSet):
            if isinstance(found, query.TraversalSpec):
                property_path.check(found.type, str(found.path))
                if found.name:
                    self._named[found.name] = found
                top = property_path.parse(str(found.path))[0][0]
                self.walked.update(STRUCTURE if top == "view" else (top,))
        for found in itertools.chain.from_iterable(_selections(each.selectSet) for each in spec.objectSet):
            if not isinstance(found, query.TraversalSpec) and found.name not in self._named:
                raise invalid_argument("specSet.objectSet.selectSet", f"There is no traversal named {found.name}.")

    def paths(self, kind: Any) -> tuple[str, ...] | None:
        """The paths to read of an object of ``kind``; None when the selection does not ask for such objects."""
        if kind not in self._paths:
            found: dict[str, None] = {}
            matched = False
            for prop in self.spec.propSet:
                if issubclass(kind, prop.type):
                    matched = True
                    found.update(dict.fromkeys(_all_names(kind, self.version) if prop.all else map(str, prop.pathSet)))
            self._paths[kind] = tuple(found) if matched else None
        return self._paths[kind]

    def objects(self, world: World, strict: bool = True) -> Iterator[Managed]:
        """The selected objects in the order of the walk, each once. Raises ManagedObjectNotFound when ``strict``."""
        reported: set[str] = set()
        walked: set[tuple[str, int]] = set()
        everything = world.objects
        stack: list[tuple[Managed, bool, Any]] = []
        for spec in reversed(self.spec.objectSet):
            if strict or spec.obj._moId in everything:
                stack.append((world.find(spec.obj), bool(spec.skip), spec.selectSet))
        while stack:
            managed, skip, selections = stack.pop()
            if not skip and managed.moid not in reported and self.paths(managed.kind) is not None:
                reported.add(managed.moid)
                yield managed
            following: list[tuple[Managed, bool, Any]] = []
            for selection in selections:
                step = selection if isinstance(selection, query.TraversalSpec) else self._named[selection.name]
                if not issubclass(managed.kind, step.type) or (managed.moid, id(step)) in walked:
                    continue
                walked.add((managed.moid, id(step)))
                for reference in _references(property_path.follow(managed, str(step.path))):
                    found = everything.get(reference._moId)
                    if found is not None:
                        following.append((found, bool(step.skip), step.selectSet))
            stack.extend(reversed(following))


def _selections(selections: Iterable[Any]) -> Iterator[Any]:
    for selection in selections:
        yield selection
        if isinstance(selection, query.TraversalSpec):
            yield from _selections(selection.selectSet)


def _references(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    if isinstance(value, list):
        return [each for each in value if isinstance(each, support.ManagedObject)]
    return (value,) if isinstance(value, support.ManagedObject) else ()


class Reader:
    """Reads objects as one session may: what it may not read is reported as missing."""

    def __init__(self, world: World, session: "Session | None") -> None:
        self._session = session
        self._rights: Any = world.objects["AuthorizationManager"]
        self._open = session is not None and session.unrestricted

    def visible(self, managed: Managed) -> bool:
        """Whether the session may know of the object at all."""
        if self._session is None:
            if managed.kind not in (vim.ServiceInstance, vim.SessionManager):
                raise vim.fault.NotAuthenticated(
                    object=managed.ref, privilegeId="System.View", msg="The session is not authenticated."
                )
            return True
        return self._open or self._rights.allows(self._session, managed.ref, "System.View")

    def read(self, managed: Managed, paths: Iterable[str]) -> tuple[dict[str, Any], list[Any]]:
        """Path to value of what is set, and what could not be read."""
        values: dict[str, Any] = {}
        missing: list[Any] = []
        for path in paths:
            try:
                if not self._open:
                    self._demand(managed, path)
                if path == "currentSession" and self._session is not None:
                    value = self._session.described()
                else:
                    value = property_path.follow(managed, path)
            except vmodl.MethodFault as fault:
                missing.append(build(query.MissingProperty, path=path, fault=fault))
                continue
            if value is not None:
                values[path] = value
        return values, missing

    def _demand(self, managed: Managed, path: str) -> None:
        info = fields(managed.kind).get(property_path.parse(path)[0][0])
        needed = (info.privId if info is not None else None) or "System.Read"
        if needed != "System.Anonymous":
            self._rights.demand(self._session, managed.ref, needed)


class CollectorState:
    """What one session has going in one collector: its filters, and what was sent last."""

    def __init__(self) -> None:
        self.filters: dict[str, PropertyFilter] = {}
        self.version = 0
        self.pending: list[tuple[PropertyFilter, Any]] = []
        self.last_sent: Any = None
        self.cancellations = 0


class PropertyFilter(Managed):
    """A filter: what its client watches and what it was told last."""

    kind = vmodl.query.PropertyCollector.Filter

    def __init__(self, world: World, state: CollectorState, selection: Selection, partial: bool) -> None:
        super().__init__(world, f"session-filter-{next(_numbers)}", spec=selection.spec, partialUpdates=partial)
        self._state = state
        self._selection = selection
        self._members: dict[str, Managed] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._looked_at = -1

    def forget(self) -> None:
        """Starts over: the next update reports every object as new."""
        self._members, self._told, self._looked_at = {}, {}, -1

    def updates(self, reader: Reader) -> list[Any]:
        """ObjectUpdates since the last call, empty when nothing the filter watches has changed."""
        world = self.world
        since, self._looked_at = self._looked_at, world.version
        if since == world.version:
            return []
        made: list[Any] = []
        fresh: set[str] = set()
        if since < 0 or any(world.path_versions[name] > since for name in self._selection.walked):
            members = {
                managed.moid: managed
                for managed in self._selection.objects(world, strict=False)
                if reader.visible(managed)
            }
            for moid, managed in self._members.items():
                if moid not in members:
                    made.append(build(query.ObjectUpdate, kind="leave", obj=managed.ref))
                    del self._told[moid]
            fresh = members.keys() - self._members.keys()
            self._members = members
            made.extend(self._entered(reader, managed) for moid, managed in members.items() if moid in fresh)
        changed = world.changed_since(since)
        for managed in self._members.values() if changed is None else changed:
            if managed.version > since and managed.moid in self._members and managed.moid not in fresh:
                update = self._modified(reader, managed, since)
                if update is not None:
                    made.append(update)
        return made

    def _entered(self, reader: Reader, managed: Managed) -> Any:
        values, missing = reader.read(managed, self._selection.paths(managed.kind) or ())
        self._told[managed.moid] = values
        changes = [build(query.Change, name=path, op="assign", val=value) for path, value in values.items()]
        return build(query.ObjectUpdate, kind="enter", obj=managed.ref, changeSet=changes, missingSet=missing)

    def _modified(self, reader: Reader, managed: Managed, since: int) -> Any:
        stamps = managed.stamps
        paths = [
            path
            for path in self._selection.paths(managed.kind) or ()
            if stamps.get(property_path.parse(path)[0][0], 0) > since
        ]
        if not paths:
            return None
        values, missing = reader.read(managed, paths)
        told = self._told[managed.moid]
        changes = []
        for path in paths:
            before, after = told.get(path), values.get(path)
            if equal(before, after):
                continue
            changes.append(build(query.Change, name=path, op="assign", val=after))
            told[path] = after
        if not changes and not missing:
            return None
        return build(query.ObjectUpdate, kind="modify", obj=managed.ref, changeSet=changes, missingSet=missing)

    @method
    def DestroyPropertyFilter(self, call: Call) -> None:
        """Ends the filter."""
        self.end()

    def end(self) -> None:
        """Takes the filter out of its collector and out of the world."""
        self._state.filters.pop(self.moid, None)
        self._state.pending = [each for each in self._state.pending if each[0] is not self]
        self.world.remove(self)


_numbers = itertools.count(1)


class PropertyCollector(Managed):
    """The collector every session shares by name, and those that sessions create; state is kept per session."""

    kind = vmodl.query.PropertyCollector

    def __init__(self, world: World, moid: str, page_size: int | None = None) -> None:
        super().__init__(world, moid)
        self.page_size = page_size

    def _state(self, call: Call) -> CollectorState:
        session = call.session
        assert session is not None  # noqa: S101 - the dispatcher lets nobody in without one
        return session.collectors.setdefault(self.moid, CollectorState())

    @method
    def RetrieveProperties(self, call: Call, specSet: Any) -> Any:
        """All selected objects at once."""
        return self._contents(call, specSet)

    @method
    def RetrievePropertiesEx(self, call: Call, specSet: Any, options: Any) -> Any:
        """The first page of the selected objects, with a token when there are more; None when there are none."""
        contents = self._contents(call, specSet)
        limits = [limit for limit in (options.maxObjects if options else None, self.page_size) if limit]
        if any(limit < 0 for limit in limits):
            raise invalid_argument("options.maxObjects", "It must be positive.")
        return self._page(call, contents, min(limits, default=0)) if contents else None

    @method
    def ContinueRetrievePropertiesEx(self, call: Call, token: str) -> Any:
        """The next page."""
        pages = call.session.pages if call.session else {}
        if token not in pages:
            raise invalid_argument("token", "It is not known.")
        contents, limit = pages.pop(token)
        return self._page(call, contents, limit)

    @method
    def CancelRetrievePropertiesEx(self, call: Call, token: str) -> None:
        """Forgets the pages not read yet."""
        if call.session is None or call.session.pages.pop(token, None) is None:
            raise invalid_argument("token", "It is not known.")

    def _page(self, call: Call, contents: list[Any], limit: int) -> Any:
        token = None
        if limit and len(contents) > limit and call.session is not None:
            token = f"{call.session.key}-{next(_numbers)}"
            call.session.pages[token] = (contents[limit:], limit)
            contents = contents[:limit]
        return build(query.RetrieveResult, token=token, objects=contents)

    def _contents(self, call: Call, spec_set: Any) -> list[Any]:
        reader = Reader(self.world, call.session)
        merged: dict[str, Any] = {}
        for spec in spec_set:
            selection = Selection(spec, call.version)
            for managed in selection.objects(self.world, strict=not spec.reportMissingObjectsInResults):
                if not reader.visible(managed):
                    continue
                values, missing = reader.read(managed, selection.paths(managed.kind) or ())
                properties = [build(vmodl.DynamicProperty, name=path, val=value) for path, value in values.items()]
                held = merged.get(managed.moid)
                if held is None:
                    merged[managed.moid] = build(
                        query.ObjectContent, obj=managed.ref, propSet=properties, missingSet=missing
                    )
                else:
                    known = {each.name for each in held.propSet}
                    held.propSet.extend(each for each in properties if each.name not in known)
                    held.missingSet.extend(missing)
        return list(merged.values())

    @method
    def CreateFilter(self, call: Call, spec: Any, partialUpdates: bool) -> Any:
        """Starts watching; the filter lives until destroyed or until its session ends."""
        selection = Selection(spec, call.version)
        for each in spec.objectSet:
            self.world.find(each.obj)
        state = self._state(call)
        made = PropertyFilter(self.world, state, selection, partialUpdates)
        state.filters[made.moid] = made
        return made.ref

    @method
    def CreatePropertyCollector(self, call: Call) -> Any:
        """A collector of its own for a part of the client that waits by itself."""
        assert call.session is not None  # noqa: S101
        made = PropertyCollector(self.world, f"{call.session.key}-collector-{next(_numbers)}", self.page_size)
        call.session.owned.append(made)
        return made.ref

    @method
    def DestroyPropertyCollector(self, call: Call) -> None:
        """Ends a created collector and its filters."""
        if self.moid == "propertyCollector":
            raise vmodl.fault.NotSupported(msg="The default property collector stays")
        for each in list(self._state(call).filters.values()):
            each.end()
        self.world.remove(self)

    @method
    def CheckForUpdates(self, call: Call, version: str | None) -> Any:
        """What changed since ``version``, None if nothing did; never waits."""
        return self._wait(call, version, 0.0, 0)

    @method
    def WaitForUpdates(self, call: Call, version: str | None) -> Any:
        """What changed since ``version``; waits until something does."""
        return self._wait(call, version, None, 0)

    @method
    def WaitForUpdatesEx(self, call: Call, version: str | None, options: Any) -> Any:
        """What changed since ``version``; waits at most ``maxWaitSeconds``, then answers None."""
        seconds = options.maxWaitSeconds if options is not None else None
        limit = (options.maxObjectUpdates if options is not None else None) or 0
        if (seconds or 0) < 0 or limit < 0:
            raise invalid_argument("options", "Times and counts are not negative.")
        return self._wait(call, version, None if seconds is None else float(seconds), limit)

    @method
    def CancelWaitForUpdates(self, call: Call) -> None:
        """Ends the waits of this session in this collector."""
        self._state(call).cancellations += 1
        self.world.changed.notify_all()

    def _wait(self, call: Call, version: str | None, seconds: float | None, limit: int) -> Any:
        state = self._state(call)
        if version and version != str(state.version):
            if state.last_sent is not None and version == str(state.version - 1):
                return state.last_sent
            raise vmodl.query.InvalidCollectorVersion(msg=f"The version {version} was not given by this collector")
        if not version:
            state.pending.clear()
            for each in state.filters.values():
                each.forget()
        cancellations = state.cancellations
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            if call.session is None or call.session.ended:
                raise vim.fault.NotAuthenticated(
                    object=self.ref, privilegeId="System.View", msg="The session is not authenticated."
                )
            if self.gone or state.cancellations != cancellations:
                raise vmodl.fault.RequestCanceled(msg=_CANCELED)
            if not state.pending:
                reader = Reader(self.world, call.session)
                for each in list(state.filters.values()):
                    state.pending.extend((each, update) for update in each.updates(reader))
            if state.pending:
                return self._send(state, limit)
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return None
            self.world.changed.wait(min(remaining, 5.0) if remaining is not None else 5.0)

    def _send(self, state: CollectorState, limit: int) -> Any:
        taken, state.pending = (state.pending[:limit], state.pending[limit:]) if limit else (state.pending, [])
        by_filter: dict[str, Any] = {}
        for source, update in taken:
            filter_update = by_filter.get(source.moid)
            if filter_update is None:
                filter_update = by_filter[source.moid] = build(query.FilterUpdate, filter=source.ref, objectSet=[])
            filter_update.objectSet.append(update)
        state.version += 1
        state.last_sent = build(
            query.UpdateSet,
            version=str(state.version),
            filterSet=list(by_filter.values()),
            truncated=True if state.pending else None,
        )
        return state.last_sent
