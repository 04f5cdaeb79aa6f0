"""Task: work that takes time, step by step.

An operation is a generator that yields a ``Step`` before each thing it does. Between steps time passes (the world's
``pace``), progress is told, a test may let the step fail, and a client may cancel. What the operation undoes in its own
``except`` or ``finally`` is what the real server undoes.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from .api import MethodFault, methods, support, vim, vmodl
from .managed_object import Call, Managed, localized, method
from .values import build, now, vary
from .world import World


@dataclass(frozen=True)
class Step:
    """A named point of an operation. ``weight`` is how many paces pass before it; None of progress: unchanged."""

    name: str
    progress: int | None = None
    weight: float = 1.0


Operation = Generator[Step, None, Any]


class Task(Managed):
    """A running or finished operation."""

    kind = vim.Task

    def __init__(self, world: World, entity: Managed, wsdl_name: str, user: str, cancelable: bool = False) -> None:
        moid = world.new_id("Task")
        info = methods(entity.kind).get(wsdl_name)
        description = f"{info.type._wsdlName if info else entity.kind._wsdlName}.{_plain_name(info, wsdl_name)}"
        super().__init__(world, moid)
        self.method_name = wsdl_name
        self.entity = entity
        self.owner = entity
        self.values["info"] = build(
            vim.TaskInfo,
            key=moid,
            task=self.ref,
            name=_managed_method(info),
            descriptionId=description,
            entity=entity.ref if isinstance(entity.ref, vim.ManagedEntity) else None,
            entityName=entity.values.get("name"),
            state="queued",
            cancelled=False,
            cancelable=cancelable,
            reason=build(vim.TaskReasonUser, userName=user),
            queueTime=now(),
            eventChainId=world.next_event_key(),
        )
        self._operation: Operation | None = None
        self._asked_to_cancel = False
        self._then: Callable[[Task], None] | None = None
        manager: Any = world.objects.get("TaskManager")
        if manager is not None:
            manager.started(self)

    @property
    def state(self) -> str:
        """queued, running, success or error."""
        return str(self.values["info"].state)

    def _note(self, **changes: Any) -> None:
        self.set("info", vary(self.values["info"], **changes))

    def begin(self, operation: Operation, then: "Callable[[Task], None] | None" = None) -> None:
        """Starts the operation; its first step comes one pace from now. ``then`` runs when it has ended."""
        self._operation = operation
        self._then = then
        self.world.clock.later(self.world.pace, self._start)

    def _start(self) -> None:
        if self.state != "queued":
            return
        self._note(state="running", startTime=now(), progress=0)
        self._advance()

    def _advance(self) -> None:
        operation = self._operation
        if operation is None or self.state != "running":
            return
        if self._asked_to_cancel:
            self._resume(lambda: operation.throw(vmodl.fault.RequestCanceled(msg="The task was canceled by a user.")))
        else:
            self._resume(lambda: next(operation))

    def _resume(self, action: Callable[[], Step]) -> None:
        """Runs the operation up to its next step, or to its end."""
        try:
            step = action()
        except StopIteration as end:
            self._finish(end.value)
        except MethodFault as fault:
            self._fail(fault)
        except Exception as error:
            self._fail(vmodl.fault.SystemError(reason=repr(error), msg=f"A general system error: {error!r}"))
            raise
        else:
            if step.progress is not None:
                self._note(progress=step.progress)
            self.world.clock.later(self.world.pace * step.weight, lambda: self._enter(step))

    def _enter(self, step: Step) -> None:
        operation = self._operation
        if operation is None:
            return
        try:
            self.world.control.at_step(self.method_name, step.name, self.entity)
        except MethodFault as fault:
            injected = fault
            self._resume(lambda: operation.throw(injected))
        else:
            self._advance()

    def _finish(self, result: Any) -> None:
        self._operation = None
        self._note(state="success", progress=100, completeTime=now(), result=result)
        if self._then is not None:
            self._then(self)

    def _fail(self, fault: Any) -> None:
        self._operation = None
        fault.__traceback__ = None
        canceled = isinstance(fault, vmodl.fault.RequestCanceled)
        self._note(state="error", completeTime=now(), error=fault, cancelled=canceled, progress=None)
        if self._then is not None:
            self._then(self)

    @method
    def CancelTask(self, call: Call) -> None:
        """Asks the operation to stop at its next step."""
        if self.state in {"success", "error"}:
            raise vim.fault.InvalidState(msg="The task has ended already")
        if not self.values["info"].cancelable:
            raise vmodl.fault.NotSupported(msg="The task cannot be canceled")
        self._asked_to_cancel = True
        if self.state == "queued":
            self._fail(vmodl.fault.RequestCanceled(msg="The task was canceled by a user."))

    @method
    def SetTaskState(self, call: Call, state: str, result: Any, fault: Any) -> None:
        """For tasks that a client made with CreateTask and drives itself."""
        if self._operation is not None:
            raise vim.fault.InvalidState(msg="The server drives this task")
        if state == "running":
            self._note(state="running", startTime=now())
        elif state == "success":
            self._note(state="success", completeTime=now(), result=result)
        elif state == "error":
            self._note(state="error", completeTime=now(), error=fault)

    @method
    def UpdateProgress(self, call: Call, percentDone: int) -> None:
        """For tasks that a client drives itself."""
        if self.state != "running":
            raise vim.fault.InvalidState(msg="The task is not running")
        self._note(progress=percentDone)

    @method
    def SetTaskDescription(self, call: Call, description: Any) -> None:
        """For tasks that a client drives itself."""
        self._note(description=description or localized(""))


def _plain_name(info: Any, wsdl_name: str) -> str:
    name = info.name if info is not None else wsdl_name
    return str(name[0].lower() + name[1:])


def _managed_method(info: Any) -> Any:
    return support.GuessWsdlMethod(info.wsdlName) if info is not None else None


def start_task(call: Call, entity: Managed, wsdl_name: str, operation: Operation, *, cancelable: bool = False) -> Any:
    """Makes a task for an operation, starts it, answers its reference."""
    task = Task(call.world, entity, wsdl_name, call.user, cancelable)
    task.begin(operation)
    return task.ref


def wait(task: Task) -> Operation:
    """Lets one operation wait for the end of another's task; raises what it failed with."""
    while task.state not in {"success", "error"}:
        yield Step("wait")
    if task.state == "error":
        raise task.values["info"].error
    return task.values["info"].result
