"""What a test may do to the simulated data centre: make methods and steps of tasks fail, slow them down, lose answers,
end sessions. It is an object inside one process, and a few JSON messages from outside (``control_http``).
"""

import fnmatch
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .api import MethodFault, vim, vmodl
from .managed_object import Call, Managed

if TYPE_CHECKING:
    from .world import World


class AnswerLost(Exception):
    """The connection is to be cut instead of answering."""


@dataclass
class Failure:
    """One planned failure. Patterns are those of fnmatch; ``after`` matches are let through first, ``times`` fail."""

    method: str = "*"
    step: str | None = None
    on: str = "*"
    fault: Any = None
    lose: str | None = None
    after: int = 0
    times: int = 1
    hits: int = field(default=0, init=False)

    def matches(self, method: str, step: str | None, names: tuple[str, ...]) -> bool:
        """Counts a match and says whether this one is to fail."""
        if (self.step is None) != (step is None) or not fnmatch.fnmatchcase(method, self.method):
            return False
        if step is not None and not fnmatch.fnmatchcase(step, self.step or "*"):
            return False
        if not any(fnmatch.fnmatchcase(name, self.on) for name in names):
            return False
        self.hits += 1
        return self.after < self.hits <= self.after + self.times


@dataclass(frozen=True)
class Seen:
    """One call or one step of a task that happened, in order."""

    method: str
    target: str
    step: str | None = None


class Control:
    """The handles of the simulation. All methods may be called from any thread."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.failures: list[Failure] = []
        self.latencies: dict[str, float] = {}
        self.seen: list[Seen] = []
        self.recording = False
        self.calls: dict[str, int] = {}

    def fail(
        self,
        method: str = "*",
        *,
        step: str | None = None,
        on: str = "*",
        fault: Any = None,
        after: int = 0,
        times: int = 1,
    ) -> Failure:
        """Makes a method, or a step of a task (``step`` given), fail.

        ``method`` is a WSDL name or pattern (``PowerOnVM_Task``), ``on`` an object's id or name, ``fault`` a pyVmomi
        fault (default vmodl.fault.SystemError). The answer says how often it matched.
        """
        planned = Failure(method=method, step=step, on=on, fault=fault, after=after, times=times)
        with self._world.lock:
            self.failures.append(planned)
        return planned

    def lose_answer(self, method: str = "*", *, on: str = "*", before: bool = False, times: int = 1) -> Failure:
        """Cuts the connection: ``before`` the method has done anything, or after it has (the answer is lost)."""
        planned = Failure(method=method, on=on, lose="before" if before else "after", times=times)
        with self._world.lock:
            self.failures.append(planned)
        return planned

    def delay(self, method: str, seconds: float) -> None:
        """Makes a method answer later; 0 undoes it."""
        with self._world.lock:
            self.latencies[method] = seconds

    def clear(self) -> None:
        """Forgets all failures and delays."""
        with self._world.lock:
            self.failures.clear()
            self.latencies.clear()

    def expire_sessions(self) -> int:
        """Ends every session, as an idle timeout or a restart of vCenter does. Says how many there were."""
        with self._world.lock:
            manager: Any = self._world.objects["SessionManager"]
            sessions = list(manager.sessions.values())
            for session in sessions:
                manager.close(session)
            return len(sessions)

    def set_password(self, user: str, password: str) -> None:
        """Changes a user's password; open sessions stay."""
        with self._world.lock:
            manager: Any = self._world.objects["SessionManager"]
            manager.users[user.lower()].password = password

    def restrict(self, user: str, password: str, privileges: list[str], on: str = "group-d1") -> None:
        """Adds a user who has just these privileges on an entity and all below it."""
        from .session_manager import User

        with self._world.lock:
            manager: Any = self._world.objects["SessionManager"]
            rights: Any = self._world.objects["AuthorizationManager"]
            manager.users[user.lower()] = User(user, password)
            role = rights.define_role(f"{user}-{len(rights.roles)}", privileges)
            rights.grant(user, self._world.objects[self.find(on).moid].ref, role)

    def find(self, name: str) -> Managed:
        """An object by its id or, if unique, by its inventory name. Raises KeyError."""
        with self._world.lock:
            if name in self._world.objects:
                return self._world.objects[name]
            found = [each for each in self._world.objects.values() if each.values.get("name") == name]
            if len(found) != 1:
                raise KeyError(f"{len(found)} objects are named {name}")
            return found[0]

    def count(self, method: str) -> int:
        """How often a method has been called."""
        return self.calls.get(method, 0)

    def record(self) -> list[Seen]:
        """Starts noting every call and step of a task; the answer is the list they are added to."""
        with self._world.lock:
            self.recording = True
            self.seen = []
            return self.seen

    # What the dispatcher and the tasks ask:

    def before_method(self, call: Call, managed: Managed, method: str) -> None:
        """Runs before the handler: counts, waits, fails."""
        delay = self.latencies.get(method, self.latencies.get("*", 0.0))
        if delay > 0:
            time.sleep(delay)
        with self._world.lock:
            self.calls[method] = self.calls.get(method, 0) + 1
            if self.recording:
                self.seen.append(Seen(method, managed.moid))
            self._strike(method, None, managed, "before")

    def after_method(self, call: Call, managed: Managed, method: str) -> None:
        """Runs after the handler: may lose the answer."""
        with self._world.lock:
            self._strike(method, None, managed, "after")

    def at_step(self, method: str, step: str, managed: Managed) -> None:
        """Runs before each step of a task."""
        if self.recording:
            self.seen.append(Seen(method, managed.moid, step))
        self._strike(method, step, managed, "before")

    def _strike(self, method: str, step: str | None, managed: Managed, when: str) -> None:
        names = (managed.moid, str(managed.values.get("name", managed.moid)))
        for planned in self.failures:
            if (planned.lose or "before") != when or not planned.matches(method, step, names):
                continue
            if planned.lose is not None:
                raise AnswerLost(f"{method} on {managed.moid}")
            fault = planned.fault
            if fault is None:
                where = f" at step {step}" if step else ""
                fault = vmodl.fault.SystemError(reason="injected", msg=f"{method}{where}: failure injected by a test")
            raise fault


def fault_named(name: str, message: str, fields: dict[str, Any]) -> Any:
    """A fault by its name (``InvalidState`` or ``vim.fault.InvalidState``), for control messages from outside."""
    short = name.rpartition(".")[2]
    for space in (vim.fault, vmodl.fault):
        cls = getattr(space, short, None)
        if isinstance(cls, type) and issubclass(cls, MethodFault):
            return cls(msg=message, **fields)
    raise KeyError(f"there is no fault {name}")
