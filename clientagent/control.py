"""The client's end of the control plane: asks for leases, keeps them by its heartbeats, gives them back.

    with ClientControl(identity, instance) as control:
        granted = control.acquire(RequestLease(...), on_queued=print)
        ...                                     # use it; `control.events` brings notices and ends
        control.release(granted.lease)

When the appliance is away, nothing happens to what is held: the link finds it again and says what it keeps. Python 3.9.
"""

from __future__ import annotations

import os
import queue
import secrets
import socket
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from gpuserver.protocol.control import messages
from gpuserver.protocol.control.codec import printable
from gpuserver.protocol.control.curve import Identity, identity_path, load_identity
from gpuserver.protocol.control.link import ControlLink
from gpuserver.protocol.version import own_version

VERSION = own_version()


class LeaseDeniedError(RuntimeError):
    """The lease was not granted. `code` is for programs; `nearest` describes a request that would fit."""

    def __init__(self, code: str, reason: str, nearest: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.nearest = nearest


class WithdrawnError(RuntimeError):
    """Whoever wanted the lease does not want it any more."""


class ApplianceAwayError(RuntimeError):
    """No appliance process answered in time."""


def find_identity() -> Identity:
    """The identity of this client VM. Raises IdentityError."""
    return load_identity(identity_path(messages.CLIENT))


def esxi_host() -> str:
    """The ESXi host this VM says it runs on (`guestinfo`, written at deployment); empty when unknown."""
    path = Path("/etc/gpuferry/host")
    return path.read_text().strip() if path.exists() else ""


class ClientControl:
    """One client process's connection to the appliance. `instance` names the process; the agent's is `agent`."""

    def __init__(self, identity: Identity, instance: str = "") -> None:
        self.instance = instance or f"{os.getpid()}-{secrets.token_hex(6)}"
        self.events: queue.Queue[Any] = queue.Queue()
        """LeaseEnded and Notice of leases this process keeps, as they come."""
        self.kept: Dict[str, messages.Granted] = {}
        self._asked: Dict[str, Tuple[messages.RequestLease, queue.Queue[Any]]] = {}
        self._answers: Dict[int, Tuple[messages.Ask, queue.Queue[Any]]] = {}
        self._number = 0
        self.observe: Optional[Callable[[], Tuple[messages.Observation, ...]]] = None
        """What measures this VM's health when the appliance asks; None: this process does not."""
        self.upgrade: Optional[Callable[[messages.Upgrade], None]] = None
        """What carries out the appliance's orders to upgrade; None: this process is nobody to give them to."""
        self.link = ControlLink(identity, self.instance, self._hello, self._receive)

    def __enter__(self) -> ClientControl:
        self.link.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.link.stop("its program ended")

    def _hello(self) -> messages.Hello:
        return messages.Hello(
            role=messages.CLIENT,
            instance=self.instance,
            version=VERSION,
            hostname=printable(socket.gethostname()),
            host=printable(esxi_host()),
            kept=tuple(self.kept),
        )

    def _receive(self, content: Any, reply: Callable[[Any], bool]) -> None:
        if isinstance(content, messages.Welcome):
            if content.leader:
                # Asked again under the same name, a request is the same request, and a question the same question.
                for wanted, _ in list(self._asked.values()):
                    reply(wanted)
                for question, _ in list(self._answers.values()):
                    reply(question)
        elif isinstance(content, (messages.Queued, messages.Granted, messages.Denied)):
            asked = self._asked.get(content.request)
            if asked:
                asked[1].put(content)
        elif isinstance(content, messages.LeaseEnded):
            self.kept.pop(content.lease, None)
            asked = self._asked.get(content.request)
            (asked[1] if asked else self.events).put(content)
        elif isinstance(content, messages.Observe):
            if self.observe is not None:
                reply(messages.Observations(self.instance, self.observe()))
        elif isinstance(content, messages.Upgrade):
            if self.upgrade is not None:
                self.upgrade(content)
        elif isinstance(content, messages.Notice):
            self.events.put(content)
        elif isinstance(content, messages.Answer):
            waiting = self._answers.pop(content.number, None)
            if waiting:
                waiting[1].put(content)
        elif isinstance(content, messages.Refused):
            for _, inbox in list(self._asked.values()):
                inbox.put(content)
            for _, inbox in list(self._answers.values()):
                inbox.put(content)

    def await_appliance(self, timeout_s: float = 10.0) -> None:
        """Wait until an appliance process that decides has welcomed this one. Raises ApplianceAwayError."""
        if not self.link.connected.wait(timeout_s):
            where = ", ".join(self.link.identity.endpoints)
            refused = self.link.refused
            raise ApplianceAwayError(
                refused.reason
                if refused
                else f"no appliance answered at {where} within {timeout_s:g} s: check that it runs, that the network "
                "lets this machine reach it, and that this machine's enrolment was not revoked"
            )

    def acquire(
        self,
        wanted: messages.RequestLease,
        on_queued: Optional[Callable[[messages.Queued], None]] = None,
        on_trouble: Optional[Callable[[str], None]] = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> messages.Granted:
        """Ask for a lease and wait for it, as long as the request's own time-out allows.

        Raises LeaseDeniedError, or WithdrawnError when `cancelled` turns True. While the appliance cannot decide it is
        asked again, and `on_trouble` is told why.
        """
        inbox: queue.Queue[Any] = queue.Queue()
        self._asked[wanted.request] = wanted, inbox
        deadline = time.monotonic() + wanted.timeout_s if wanted.timeout_s else None
        self.link.send(wanted)
        again_at: Optional[float] = None
        try:
            while True:
                now = time.monotonic()
                if cancelled():
                    raise WithdrawnError(f"request {wanted.request} was withdrawn")
                if deadline is not None and now > deadline + 5.0:
                    raise LeaseDeniedError("timeout", f"no answer within {wanted.timeout_s:g} s")
                if again_at is not None and now >= again_at:
                    again_at = None
                    self.link.send(wanted)
                try:
                    answer = inbox.get(timeout=0.2)
                except queue.Empty:
                    continue
                if isinstance(answer, messages.Granted):
                    if not wanted.keeper or wanted.keeper == self.instance:
                        self.kept[answer.lease] = answer
                    return answer
                if isinstance(answer, messages.Queued):
                    if on_queued:
                        on_queued(answer)
                elif isinstance(answer, messages.Denied):
                    if answer.again_s is None:
                        raise LeaseDeniedError(answer.code, answer.reason, answer.nearest)
                    again_at = now + answer.again_s
                    if on_trouble:
                        on_trouble(answer.reason)
                else:
                    raise LeaseDeniedError(getattr(answer, "code", "ended"), answer.reason)
        except BaseException:
            self._withdraw(wanted)
            raise
        finally:
            self._asked.pop(wanted.request, None)

    def _withdraw(self, wanted: messages.RequestLease) -> None:
        """Whoever stops waiting leaves the queue."""
        self.link.send(messages.Withdraw(wanted.request))

    def release(self, lease: str, reason: str = "") -> None:
        """Give a lease back."""
        self.kept.pop(lease, None)
        self.link.send(messages.ReleaseLease(lease, reason))

    def ask(self, question: str, timeout_s: float = 10.0) -> List[Dict[str, str]]:
        """Put a question (`leases`, `stats`, `gpus`, `servers`, `health`). Raises ApplianceAwayError."""
        inbox: queue.Queue[Any] = queue.Queue()
        self._number += 1
        asked = messages.Ask(question, self._number)
        self._answers[self._number] = asked, inbox
        self.link.send(asked)
        try:
            answer = inbox.get(timeout=timeout_s)
        except queue.Empty:
            raise ApplianceAwayError(f"the appliance did not answer within {timeout_s:g} s") from None
        if isinstance(answer, messages.Refused):
            raise ApplianceAwayError(answer.reason)
        return list(answer.rows)
