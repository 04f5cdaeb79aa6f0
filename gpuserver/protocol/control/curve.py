"""CURVE: keys, the ticket that starts an enrolment, and the identity file of an enrolled peer.

Every connection of the control plane is encrypted and authenticated by CurveZMQ (ZeroMQ RFC 26). A ticket carries the
appliance's public key, so a peer knows whom it talks to from its first byte; the appliance knows its peers by theirs.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

import zmq
from zmq.utils import z85

TICKET_PREFIX = "gpuferry1."


class TicketError(ValueError):
    """Text that is not an enrolment ticket."""


class IdentityError(RuntimeError):
    """The identity file is missing or unreadable; the text says what to do."""


@dataclass(frozen=True)
class Ticket:
    """Where to enrol (`tcp://host:port`), whose key answers there (Z85), and the one-time token."""

    endpoint: str
    appliance_key: str
    token: str

    def __str__(self) -> str:
        text = json.dumps({"e": self.endpoint, "k": self.appliance_key, "t": self.token}, separators=(",", ":"))
        return TICKET_PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def parse_ticket(text: str) -> Ticket:
    """Read a ticket. Raises TicketError."""
    text = text.strip()
    try:
        if not text.startswith(TICKET_PREFIX):
            raise ValueError("it does not start with " + TICKET_PREFIX)
        body = text[len(TICKET_PREFIX) :]
        fields = json.loads(base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True))
        ticket = Ticket(str(fields["e"]), str(fields["k"]), str(fields["t"]))
        z85.decode(ticket.appliance_key)
        if len(ticket.appliance_key) != 40:
            raise ValueError("its key is not one")
    except (ValueError, KeyError, TypeError) as wrong:
        raise TicketError(
            f"not an enrolment ticket ({wrong}): ask for one with `gpuferry appliance token --enrol server`"
        ) from None
    return ticket


@dataclass(frozen=True)
class Identity:
    """An enrolled peer: its key pair (Z85), the appliance's key, and where the appliance listens.

    `file` is where it was read from, None when it is in memory alone; `renews` is the public key it was enrolled with,
    when that was renewed since.
    """

    id: str
    name: str
    role: str
    public_key: str
    secret_key: str
    appliance_key: str
    endpoints: tuple[str, ...]
    file: Optional[Path] = field(default=None, compare=False)
    renews: str = field(default="", compare=False)

    def save(self, path: Path) -> None:
        kept = {name: value for name, value in asdict(self).items() if name not in ("file", "renews")}
        write_private(path, json.dumps(kept, indent=1).encode())


def identity_path(role: str) -> Path:
    """Where a machine's identity in this role is kept: `GPUFERRY_IDENTITY` (of a server, `GPUFERRY_SERVER_IDENTITY`),
    else the machine's own under /etc/gpuferry, else, for who may not read or write there, the user's."""
    server = role == "server"
    override = os.environ.get("GPUFERRY_SERVER_IDENTITY" if server else "GPUFERRY_IDENTITY")
    if override:
        return Path(override)
    name = "server/identity.json" if server else "identity.json"
    machine = Path("/etc/gpuferry") / name
    if machine.exists() or (server and os.geteuid() == 0):
        return machine
    return Path.home() / ".config" / "gpuferry" / name


def load_identity(path: Path) -> Identity:
    """Raises IdentityError."""
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
        fields["endpoints"] = tuple(fields["endpoints"])
        enrolled = Identity(**fields, file=path)
    except FileNotFoundError:
        raise IdentityError(f"this machine is not enrolled ({path} is missing): enrol it with a ticket first") from None
    except (ValueError, TypeError, KeyError, OSError) as wrong:
        raise IdentityError(f"{path} cannot be read ({wrong}): enrol this machine again") from None
    return with_renewed_key(enrolled, path)


def renewed_key_file(path: Path, kind: str = "renewed") -> Path:
    """Where the key lies that was made after the enrolment in `path`: in the service's state folder
    (`GPUFERRY_STATE`), since a service may not write to /etc, else beside the identity. `kind` `next`: one that the
    appliance does not know yet."""
    state = os.environ.get("GPUFERRY_STATE")
    return (Path(state) if state else path.parent) / f"{path.stem}.{kind}-key.json"


def with_renewed_key(enrolled: Identity, path: Path) -> Identity:
    """The identity with the key pair that was made since; one made for an earlier enrolment counts for nothing.

    Nothing but the pair is taken from there: whose appliance this is says the enrolment alone.
    """
    try:
        pair: dict[str, Any] = json.loads(renewed_key_file(path).read_text())
        if pair["renews"] != enrolled.public_key:
            return enrolled
        public, secret = str(pair["public_key"]), str(pair["secret_key"])
        z85.decode(public), z85.decode(secret)
    except (OSError, ValueError, KeyError, TypeError):
        return enrolled
    return replace(enrolled, public_key=public, secret_key=secret, renews=enrolled.public_key)


def new_keys() -> tuple[str, str]:
    """A fresh CURVE key pair (public, secret) in Z85."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def write_private(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that only its owner can read (or whoever `mode` says), whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def open_dealer(
    context: zmq.Context[Any], endpoint: str, public_key: str, secret_key: str, appliance_key: str
) -> zmq.Socket[Any]:
    """A peer's socket: reconnects by itself, notices a silent network, keeps nothing for an appliance that is away."""
    socket: zmq.Socket[Any] = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 500)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
    socket.setsockopt(zmq.IPV6, 1)
    # Without a connection there is no queue: heartbeats of an hour ago must not arrive.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.curve_publickey = public_key.encode()
    socket.curve_secretkey = secret_key.encode()
    socket.curve_serverkey = appliance_key.encode()
    socket.connect(endpoint)
    return socket
