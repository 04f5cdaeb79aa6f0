"""The ZeroMQ sockets of an appliance process, and who may speak on them.

Both sockets are CURVE servers with the site's key. On the control socket only enrolled keys get through the handshake
(ZAP, ZeroMQ RFC 27), and every message is checked again against the keys revoked since. On the enrolment socket any key
may knock; what it says must carry a one-time token. One thread owns a Bus; only `wake` may be called from others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils import z85

CONTROL_DOMAIN, ENROL_DOMAIN = b"control", b"enrol"
AT_ONCE = 512
"""How many messages are taken in one go, so that a flood cannot keep decisions from being written."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An enrolled daemon or agent; `key` is its CURVE key (Z85). `is_next`: a renewed one that was not used before."""

    id: str
    role: str
    key: str
    is_next: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """A frame from an enrolled peer, and the route back."""

    peer: Peer
    route: bytes
    frame: bytes


@dataclass(frozen=True, slots=True)
class Knock:
    """A frame from a stranger on the enrolment socket."""

    key: str
    route: bytes
    frame: bytes


class Bus:
    """`find_peer(key)` gives the enrolled peer of a key, or None."""

    def __init__(
        self,
        secret_key: str,
        control: str,
        enrol: str,
        find_peer: Callable[[str], Peer | None],
    ) -> None:
        self.find_peer = find_peer
        self.refused = 0
        """Handshakes and messages of unknown or revoked keys."""
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._context.set(zmq.MAX_SOCKETS, 4096)
        # The authenticator must stand before the first CURVE socket is bound.
        self._zap: zmq.Socket[Any] = self._context.socket(zmq.REP)
        self._zap.bind("inproc://zeromq.zap.01")
        self._control = self._server(secret_key, CONTROL_DOMAIN, control, 4 << 20)
        self._enrol = self._server(secret_key, ENROL_DOMAIN, enrol, 16 << 10)
        self._woken, self._waker = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        self._woken.bind("inproc://wake")
        self._waker.connect("inproc://wake")
        self._wake_lock = threading.Lock()
        self._poller = zmq.Poller()
        for socket in (self._zap, self._control, self._enrol, self._woken):
            self._poller.register(socket, zmq.POLLIN)

    def _server(self, secret_key: str, domain: bytes, address: str, largest: int) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, 500)
        socket.setsockopt(zmq.BACKLOG, 1024)
        socket.setsockopt(zmq.MAXMSGSIZE, largest)
        socket.setsockopt(zmq.RCVHWM, 100_000)
        socket.setsockopt(zmq.HANDSHAKE_IVL, 10_000)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 10_000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 30_000)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain)
        socket.curve_secretkey = secret_key.encode()
        socket.curve_server = True
        socket.bind(address)
        return socket

    def wait(self, timeout_s: float) -> tuple[list[Incoming], list[Knock], bool]:
        """Wait for messages: those of peers, those of strangers, and whether somebody called `wake`."""
        ready = dict(self._poller.poll(max(0, int(timeout_s * 1000))))
        if self._zap in ready:
            self._authenticate()
        woken = self._woken in ready
        while woken and self._woken.poll(0):
            self._woken.recv()
        incoming = list(self._peers()) if self._control in ready else []
        knocks = list(self._strangers()) if self._enrol in ready else []
        return incoming, knocks, woken

    def _peers(self) -> Iterator[Incoming]:
        for _ in range(AT_ONCE):
            try:
                parts = self._control.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer = self.find_peer(_user(parts[-1])) if len(parts) == 2 else None
            if peer is None:
                self.refused += 1
            else:
                yield Incoming(peer, parts[0].bytes, parts[1].bytes)

    def _strangers(self) -> Iterator[Knock]:
        for _ in range(AT_ONCE):
            try:
                parts = self._enrol.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            if len(parts) == 2:
                yield Knock(_user(parts[-1]), parts[0].bytes, parts[1].bytes)

    def _authenticate(self) -> None:
        """Answer the handshakes that wait: version, request, domain, address, identity, mechanism, key."""
        while self._zap.poll(0):
            parts = self._zap.recv_multipart()
            status, text, user = b"400", b"not CURVE", b""
            if len(parts) >= 7 and parts[0] == b"1.0" and parts[5] == b"CURVE":
                key = z85.encode(parts[6])
                if parts[2] == ENROL_DOMAIN or self.find_peer(key.decode()) is not None:
                    status, text, user = b"200", b"OK", key
                else:
                    self.refused += 1
                    text = b"this key is not enrolled"
            self._zap.send_multipart([b"1.0", parts[1] if len(parts) > 1 else b"", status, text, user, b""])

    def send(self, route: bytes, frame: bytes) -> bool:
        """Send to a peer; False when its connection is gone or chokes."""
        return _send(self._control, route, frame)

    def answer(self, route: bytes, frame: bytes) -> bool:
        """Send to a stranger."""
        return _send(self._enrol, route, frame)

    def wake(self) -> None:
        """Make `wait` return; from any thread."""
        with self._wake_lock:
            if not self._waker.closed:
                self._waker.send(b"")

    def close(self) -> None:
        with self._wake_lock:
            for socket in (self._zap, self._control, self._enrol, self._woken, self._waker):
                socket.close()
        self._context.term()


def _user(frame: Any) -> str:
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return ""


def _send(socket: zmq.Socket[Any], route: bytes, frame: bytes) -> bool:
    try:
        socket.send_multipart([route, frame], zmq.NOBLOCK)
    except zmq.ZMQError:
        return False
    return True
