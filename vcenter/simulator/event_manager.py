"""EventManager: what happened, in order; clients may add their own."""

from collections import deque
from typing import Any

from .api import vim
from .managed_object import Call, Managed, method
from .values import build, now, vary
from .world import World

_KEPT = 10_000
_ARGUMENTS: list[tuple[Any, str, Any]] = [
    (vim.VirtualMachine, "vm", "VmEventArgument"),
    (vim.HostSystem, "host", "HostEventArgument"),
    (vim.ComputeResource, "computeResource", "ComputeResourceEventArgument"),
    (vim.Datacenter, "datacenter", "DatacenterEventArgument"),
    (vim.Datastore, "ds", "DatastoreEventArgument"),
    (vim.DistributedVirtualSwitch, "dvs", "DvsEventArgument"),
    (vim.Network, "net", "NetworkEventArgument"),
]
_REFERENCE = {"computeResource": "computeResource", "ds": "datastore", "net": "network"}


class EventManager(Managed):
    """Keeps the newest events."""

    kind = vim.event.EventManager
    live_properties = frozenset({"latestEvent"})

    def __init__(self, world: World) -> None:
        super().__init__(world, "EventManager", maxCollector=32)
        self.events: deque[Any] = deque(maxlen=_KEPT)

    def live(self, name: str) -> Any:
        """``latestEvent`` is the newest."""
        return self.events[-1] if self.events else None

    def post(self, event: Any, user: str, entity: Any = None) -> Any:
        """Adds an event with key, time and the names of what it is about."""
        key = self.world.next_event_key()
        changes: dict[str, Any] = {"key": key, "chainId": event.chainId or key, "createdTime": now(), "userName": user}
        if entity is not None:
            changes.update(_arguments(entity))
        made = vary(event, **changes)
        self.events.append(made)
        self.world.touch(self, "latestEvent")
        return made

    @method
    def LogUserEvent(self, call: Call, entity: Any, msg: str) -> None:
        """A message of the user about an entity."""
        held = self.world.find(entity)
        event = build(
            vim.event.GeneralUserEvent,
            message=msg,
            fullFormattedMessage=f"User logged event: {msg}",
            entity=build(vim.event.ManagedEntityEventArgument, entity=entity, name=held.name),
        )
        self.post(event, call.user, held)

    @method
    def PostEvent(self, call: Call, eventToPost: Any, taskInfo: Any) -> None:
        """An event a client made itself."""
        event = eventToPost
        entity = None
        if isinstance(event, vim.event.EventEx):
            event = vary(event, fullFormattedMessage=event.message or event.eventTypeId)
            found = self.world.objects.get(event.objectId or "")
            entity = found if found is not None and isinstance(found.ref, vim.ManagedEntity) else None
        self.post(event, call.user, entity)

    @method
    def QueryEvents(self, call: Call, filter: Any, eventViewSpec: Any) -> Any:
        """The events that match, newest last."""
        found = [each for each in self.events if matches(self.world, each, filter)]
        return found[-filter.maxCount :] if filter.maxCount else found

    @method
    def CreateCollectorForEvents(self, call: Call, filter: Any) -> Any:
        """A collector over the events kept, and those to come."""
        return EventHistoryCollector(self.world, call, self, filter).ref


def _arguments(entity: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    at: Any = entity
    seen = set()
    while at is not None and at.moid not in seen:
        seen.add(at.moid)
        for kind, field, name in _ARGUMENTS:
            if isinstance(at.ref, kind) and field not in made:
                reference = _REFERENCE.get(field, field)
                made[field] = build(getattr(vim.event, name), name=at.name, **{reference: at.ref})
                break
        parent = at.values.get("parent")
        at = at.world.objects.get(parent._moId) if parent is not None else None
    return made


def matches(world: World, event: Any, wanted: Any) -> bool:
    """Whether an event passes a filter."""
    if wanted.type and not isinstance(event, tuple(wanted.type)):
        return False
    if wanted.eventTypeId:
        names = {getattr(event, "eventTypeId", None), f"vim.event.{event._wsdlName}", event._wsdlName}
        if not names & set(wanted.eventTypeId):
            return False
    if wanted.eventChainId and event.chainId != wanted.eventChainId:
        return False
    if wanted.userName is not None:
        users = wanted.userName.userList
        if users and event.userName not in users:
            return False
    if wanted.time is not None:
        if wanted.time.beginTime is not None and event.createdTime < wanted.time.beginTime:
            return False
        if wanted.time.endTime is not None and event.createdTime > wanted.time.endTime:
            return False
    if wanted.entity is not None:
        about = {
            getattr(value, _REFERENCE.get(field, field))._moId
            for _, field, _ in _ARGUMENTS
            if (value := getattr(event, field)) is not None
        }
        own = getattr(event, "objectId", None)
        root = world.objects["group-d1"].moid
        target = wanted.entity.entity._moId
        if target not in {*about, own} and not (target == root and wanted.entity.recursion != "self"):
            return False
    return True


class EventHistoryCollector(Managed):
    """Pages through events."""

    kind = vim.event.EventHistoryCollector
    live_properties = frozenset({"latestPage"})

    def __init__(self, world: World, call: Call, manager: EventManager, wanted: Any) -> None:
        super().__init__(world, None, filter=wanted, initialized=True)
        self._manager = manager
        self._wanted = wanted
        self._next = 0
        self._page = 10
        if call.session is not None:
            call.session.owned.append(self)

    def _found(self) -> list[Any]:
        return [each for each in self._manager.events if matches(self.world, each, self._wanted)]

    def live(self, name: str) -> Any:
        """``latestPage`` is the newest page, newest first."""
        return self._found()[-self._page :][::-1]

    @method
    def SetCollectorPageSize(self, call: Call, maxCount: int) -> None:
        """How many events ``latestPage`` holds."""
        self._page = maxCount

    @method
    def ReadNextEvents(self, call: Call, maxCount: int) -> Any:
        """The next events, oldest first."""
        found = [each for each in self._found() if each.key >= self._next][:maxCount]
        if found:
            self._next = found[-1].key + 1
        return found

    @method
    def ReadPreviousEvents(self, call: Call, maxCount: int) -> Any:
        """The events before those read, newest first."""
        found = [each for each in self._found() if each.key < self._next][-maxCount:]
        if found:
            self._next = found[0].key
        return found[::-1]

    @method
    def RewindCollector(self, call: Call) -> None:
        """Starts over at the oldest."""
        self._next = 0

    @method
    def ResetCollector(self, call: Call) -> None:
        """Goes behind the newest."""
        self._next = self._manager.events[-1].key + 1 if self._manager.events else 0

    @method
    def DestroyCollector(self, call: Call) -> None:
        """Ends the collector."""
        self.world.remove(self)
