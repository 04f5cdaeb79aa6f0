"""TaskManager: the tasks of late, and the collectors that page through them."""

from collections import deque
from typing import TYPE_CHECKING, Any

from .api import vim
from .managed_object import Call, Managed, method
from .world import World

if TYPE_CHECKING:
    from .task import Task

_KEPT = 1000
_RECENT = 20


class TaskManager(Managed):
    """Keeps finished tasks for a while, as vCenter does."""

    kind = vim.TaskManager
    live_properties = frozenset({"recentTask"})

    def __init__(self, world: World) -> None:
        super().__init__(world, "TaskManager", maxCollector=32)
        self.tasks: deque[Task] = deque()

    def started(self, task: "Task") -> None:
        """Notes a new task; the oldest finished one is forgotten when there are too many."""
        self.tasks.append(task)
        while len(self.tasks) > _KEPT and self.tasks[0].state in {"success", "error"}:
            self.world.remove(self.tasks.popleft())
        self.world.touch(self, "recentTask")
        entity = task.entity
        if "recentTask" in entity.values:
            entity.set("recentTask", [*entity.values["recentTask"][-4:], task.ref])

    def live(self, name: str) -> Any:
        """``recentTask`` is the newest few."""
        return [task.ref for task in list(self.tasks)[-_RECENT:]]

    @method
    def CreateTask(
        self,
        call: Call,
        obj: Any,
        taskTypeId: str,
        initiatedBy: str | None,
        cancelable: bool,
        parentTaskKey: str | None,
        activationId: str | None,
    ) -> Any:
        """A task that the client drives itself."""
        from .task import Task

        entity = self.world.find(obj)
        made = Task(self.world, entity, taskTypeId, initiatedBy or call.user, cancelable)
        return made.get("info")

    @method
    def CreateCollectorForTasks(self, call: Call, filter: Any) -> Any:
        """A collector over the tasks kept."""
        return TaskHistoryCollector(self.world, call, self, filter).ref


class TaskHistoryCollector(Managed):
    """Pages through tasks, newest first from the latest page."""

    kind = vim.TaskHistoryCollector
    live_properties = frozenset({"latestPage"})

    def __init__(self, world: World, call: Call, manager: TaskManager, wanted: Any) -> None:
        super().__init__(world, None, filter=wanted)
        self._manager = manager
        self._wanted = wanted
        self._at = 0
        if call.session is not None:
            call.session.owned.append(self)

    def _found(self) -> list[Any]:
        wanted = self._wanted
        found = []
        for task in self._manager.tasks:
            info = task.get("info")
            if wanted.state and info.state not in wanted.state:
                continue
            if wanted.entity is not None and not _below(self.world, task.entity, wanted.entity):
                continue
            if wanted.userName is not None and info.reason.userName not in wanted.userName.userList:
                continue
            found.append(info)
        return found

    def live(self, name: str) -> Any:
        """``latestPage`` is the newest ten, newest first."""
        return self._found()[-10:][::-1]

    @method
    def ReadNextTasks(self, call: Call, maxCount: int) -> Any:
        """The next tasks, oldest first."""
        found = self._found()[self._at : self._at + maxCount]
        self._at += len(found)
        return found

    @method
    def ReadPreviousTasks(self, call: Call, maxCount: int) -> Any:
        """The tasks before those read."""
        start = max(0, self._at - maxCount)
        found = self._found()[start : self._at]
        self._at = start
        return found[::-1]

    @method
    def RewindCollector(self, call: Call) -> None:
        """Starts over at the oldest."""
        self._at = 0

    @method
    def ResetCollector(self, call: Call) -> None:
        """Goes to the newest."""
        self._at = len(self._found())

    @method
    def SetCollectorPageSize(self, call: Call, maxCount: int) -> None:
        """The page is always ten."""

    @method
    def DestroyCollector(self, call: Call) -> None:
        """Ends the collector."""
        self.world.remove(self)


def _below(world: World, entity: Managed, wanted: Any) -> bool:
    at: Managed | None = entity
    while at is not None:
        if at.moid == wanted.entity._moId:
            return True
        if wanted.recursion == "self":
            return False
        parent = at.values.get("parent")
        at = world.objects.get(parent._moId) if parent is not None else at.owner
    return False
