"""A peer's end of the control plane: one connection to every appliance process, in a thread of its own.

The link says Hello on every connection and heartbeats from then on; it says Hello again when asked (`Report`), which
is also how it finds out that the appliance was restarted. It never gives up: without an appliance the peer goes on with
what it has. One appliance process is the leader; `send` goes to it, and is kept until there is one.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Optional

import zmq
from zmq.utils.monitor import recv_monitor_message

from gpuserver.protocol.control.codec import MalformedMessageError, decode, encode, printable
from gpuserver.protocol.control.curve import Identity, open_dealer
from gpuserver.protocol.control.messages import (
    Beat,
    Goodbye,
    Heartbeat,
    Hello,
    KeyRenewed,
    KeyTaken,
    NextKey,
    Refused,
    RenewKey,
    Report,
    Welcome,
)
from gpuserver.protocol.control.renewal import KeyRenewal
from gpuserver.protocol.control.standing import AWAY, CONNECTED, REFUSED, service_standing

log = logging.getLogger(__name__)
HELLO_AGAIN_S = 1.0
"""How often Hello is repeated on a connection that has not been welcomed yet."""


DIAL_AGAIN_S = 5.0
"""After so long without an answer a connection is made anew: the appliance may drop what a revoked key says, and only a
new handshake tells."""
UNWELCOME_S = 0.1
"""How often a connection that is not up yet is tried."""


class Connection:
    """The socket to one appliance process."""

    def __init__(self, endpoint: str, socket: zmq.Socket[Any]) -> None:
        self.endpoint = endpoint
        self.socket = socket
        # The only sign of a key that the appliance does not know (any more): ZAP refuses the handshake.
        self.monitor: zmq.Socket[Any] = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        self.welcomed = False
        self.hello_at = 0.0
        self.heard_at = time.monotonic()
        self.leader = False
        self.epoch = 0
        self.clock_offset: Optional[float] = None
        """The appliance's clock minus ours, within half a round trip."""

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close()

    def was_refused(self) -> bool:
        """Whether the appliance has refused this peer's key since this was last asked."""
        refused = False
        while self.monitor.poll(0):
            recv_monitor_message(self.monitor)
            refused = True
        return refused

    def send(self, content: Any) -> bool:
        try:
            self.socket.send(encode(content), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True


class ControlLink:
    """`make_hello` and `make_heartbeat` are called in the link's thread, and so is `receive(message, reply)`."""

    def __init__(
        self,
        identity: Identity,
        instance: str,
        make_hello: Callable[[], Hello],
        receive: Callable[[Any, Callable[[Any], bool]], None],
        make_heartbeat: Optional[Callable[[], Heartbeat]] = None,
    ) -> None:
        self.identity = identity
        self.instance = instance
        self.make_hello = make_hello
        self.make_heartbeat = make_heartbeat or (lambda: Heartbeat(instance, time.time()))
        self.receive = receive
        self.heartbeat_s = 1.0
        self.epoch = 0
        """The highest epoch seen: orders of a lower one come from an appliance process that was replaced."""
        self.connected = threading.Event()
        """Set while an appliance process that decides has welcomed this peer."""
        self.refused: Optional[Refused] = None
        self._context: zmq.Context[Any] = zmq.Context()
        self._wake_receive, self._wake_send = self._wake_pair()
        self._outgoing: collections.deque[Any] = collections.deque()
        self._held_back: collections.deque[Any] = collections.deque(maxlen=10_000)
        self._connections: dict[str, Connection] = {}
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._mute = False
        self._renewal = KeyRenewal(identity, identity.file) if identity.file else None
        self._new_key = False
        self._standing = service_standing()
        self._thread = threading.Thread(target=self._run, name="control-link", daemon=True)

    def _wake_pair(self) -> tuple[zmq.Socket[Any], zmq.Socket[Any]]:
        receiving, sending = self._context.socket(zmq.PAIR), self._context.socket(zmq.PAIR)
        receiving.bind("inproc://wake")
        sending.connect("inproc://wake")
        return receiving, sending

    def start(self) -> None:
        self._thread.start()

    def send(self, content: Any) -> None:
        """Send to the deciding appliance process, now or when there is one. From any thread; nothing once stopped."""
        with self._lock:
            if not self._wake_send.closed:
                self._outgoing.append(content)
                self._wake()

    def _wake(self) -> None:
        """The caller holds the lock: a socket is used by one thread at a time, and not while it is closed."""
        with contextlib.suppress(zmq.Again):  # the thread is about to wake anyway, or has ended
            self._wake_send.send(b"", zmq.NOBLOCK)

    def stop(self, reason: str = "") -> None:
        """Say Goodbye and close."""
        with self._lock:
            if self._wake_send.closed:
                return
            running = self._thread.is_alive()
            if running:
                self._outgoing.append(Goodbye(self.instance, reason))
                self._stopping.set()
                self._wake()
        if running:
            self._thread.join(10)
        with self._lock:
            self._wake_send.close(linger=0)
        self._context.term()

    def die(self) -> None:
        """Close without a word, as a process that is killed does."""
        self._mute = True
        self.stop()

    def _run(self) -> None:
        try:
            poller = zmq.Poller()
            poller.register(self._wake_receive, zmq.POLLIN)
            self._connect(self.identity.endpoints, poller)
            beat_at = 0.0
            while not self._stopping.is_set():
                now = time.monotonic()
                if now >= beat_at:
                    beat_at = now + self.heartbeat_s
                    self._beat(now)
                self._dial_again(now, poller)
                waiting = self._greet(now)
                soon = min(beat_at - now, UNWELCOME_S if waiting else 0.5)
                ready = dict(poller.poll(max(1, int(soon * 1000))))
                if self._wake_receive in ready:
                    while self._wake_receive.poll(0):
                        self._wake_receive.recv()
                for connection in list(self._connections.values()):
                    if connection.socket in ready:
                        self._read(connection, poller)
                    if connection.monitor in ready and connection.was_refused():
                        self._be_refused(connection)
                self._take_new_key(poller)
                self._send_outgoing()
            self._send_outgoing()
        except Exception:
            log.exception("the control link ended")
        finally:
            self.connected.clear()
            for connection in self._connections.values():
                connection.close()
            self._wake_receive.close(linger=0)

    def _connect(self, endpoints: tuple[str, ...], poller: zmq.Poller) -> None:
        who = self.identity
        for endpoint in endpoints:
            if endpoint not in self._connections:
                socket = open_dealer(self._context, endpoint, who.public_key, who.secret_key, who.appliance_key)
                connection = Connection(endpoint, socket)
                poller.register(socket, zmq.POLLIN)
                poller.register(connection.monitor, zmq.POLLIN)
                self._connections[endpoint] = connection

    def _beat(self, now: float) -> None:
        heartbeat = None
        for connection in self._connections.values():
            if connection.welcomed:
                heartbeat = heartbeat or self.make_heartbeat()
                connection.send(heartbeat)
                if now - connection.heard_at > max(5.0, 4 * self.heartbeat_s):
                    connection.welcomed = connection.leader = False
        self._note_leader()

    def _dial_again(self, now: float, poller: zmq.Poller) -> None:
        for connection in list(self._connections.values()):
            silent_s = now - connection.heard_at
            if not connection.welcomed and connection.hello_at and silent_s > max(DIAL_AGAIN_S, 4 * self.heartbeat_s):
                self._connect_anew(connection, poller)

    def _connect_anew(self, connection: Connection, poller: zmq.Poller) -> None:
        for socket in (connection.socket, connection.monitor):
            poller.unregister(socket)
        connection.close()
        del self._connections[connection.endpoint]
        self._connect((connection.endpoint,), poller)

    def _greet(self, now: float) -> bool:
        """Say Hello where nobody has answered yet; whether a connection is not even up."""
        down = False
        for connection in self._connections.values():
            if not connection.welcomed and now - connection.hello_at >= HELLO_AGAIN_S:
                if connection.send(self.make_hello()):
                    connection.hello_at = now
                else:
                    down = True
        return down

    def _be_refused(self, connection: Connection) -> None:
        connection.welcomed = connection.leader = False
        if self._use(self._renewal.read_again(self.identity) if self._renewal else None):
            return  # Another process of this machine renewed the key meanwhile.
        if self.refused is None or self.refused.code != "key":
            self.refused = Refused(
                "key",
                f"the appliance at {connection.endpoint} does not take this machine's key: its enrolment was revoked "
                "or replaced; enrol it again with a new ticket",
            )
            self.receive(self.refused, connection.send)
        self._note_leader()

    def _note_leader(self) -> None:
        if any(each.leader for each in self._connections.values()):
            self.connected.set()
            self._standing.say(CONNECTED)
        else:
            self.connected.clear()
            refused = self.refused
            self._standing.say(*((REFUSED, refused.reason) if refused else (AWAY, "")))

    def _read(self, connection: Connection, poller: zmq.Poller) -> None:
        while True:
            try:
                frame = connection.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                content = decode(frame)
            except MalformedMessageError as wrong:
                log.warning("the appliance at %s sent no message: %s", connection.endpoint, wrong)
                continue
            connection.heard_at = time.monotonic()
            self.epoch = max(self.epoch, getattr(content, "epoch", 0))
            if isinstance(content, Beat):
                connection.epoch, connection.leader = content.epoch, content.leader
                connection.clock_offset = content.clock - time.time()
            elif isinstance(content, (RenewKey, KeyTaken, KeyRenewed)):
                self._renew_key(content, connection)
            elif isinstance(content, Report):
                connection.hello_at = time.monotonic()
                connection.send(self.make_hello())
            else:
                if isinstance(content, Welcome):
                    self.refused = None
                    connection.welcomed, connection.leader = True, content.leader
                    connection.epoch = content.epoch
                    self.heartbeat_s = content.heartbeat_s
                    self._connect(content.endpoints, poller)
                    self._send_outgoing()
                elif isinstance(content, Refused):
                    self.refused = content
                self.receive(content, connection.send)
            self._note_leader()

    # The renewal of this machine's key (renewal.py)

    def _renew_key(self, content: Any, connection: Connection) -> None:
        if self._renewal is None:
            if isinstance(content, RenewKey):
                connection.send(NextKey("", "this process keeps its identity in memory alone"))
            return
        try:
            if isinstance(content, RenewKey) and content.epoch >= self.epoch:
                connection.send(NextKey(self._renewal.prepare()))
            elif isinstance(content, KeyTaken):
                self._use(self._renewal.take(self.identity, content.key))
            elif isinstance(content, KeyRenewed):
                self._use(self._renewal.read_again(self.identity))
        except OSError as wrong:
            log.error("this machine's key cannot be renewed: %s", wrong)
            connection.send(NextKey("", printable(f"the key cannot be written: {wrong}")))

    def _use(self, identity: Optional[Identity]) -> bool:
        if identity is None:
            return False
        self.identity = identity
        self._new_key = True
        return True

    def _take_new_key(self, poller: zmq.Poller) -> None:
        """Connect everywhere with the key that this machine has now."""
        if self._new_key:
            self._new_key = False
            for connection in list(self._connections.values()):
                self._connect_anew(connection, poller)

    def _send_outgoing(self) -> None:
        with self._lock:
            self._held_back.extend(self._outgoing)
            self._outgoing.clear()
        leader = next((each for each in self._connections.values() if each.leader and each.epoch >= self.epoch), None)
        while self._held_back and leader is not None and not self._mute:
            if not leader.send(self._held_back[0]):
                return
            self._held_back.popleft()
