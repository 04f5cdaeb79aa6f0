"""A connection to a target over SSH: whose key is pinned, with a key or a password, through a jump host, with sudo.

with connect(target) as machine:
    machine.run("uname -m").output
    machine.run_as_root(["/usr/bin/python3", "-I", "installer.pyz", "install"], lines=[request])
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import shlex
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import paramiko

from appliance.deploy.errors import (
    BrokenOffError,
    HostKeyChangedError,
    HostKeyUnknownError,
    LoginRefusedError,
    SudoRefusedError,
    UnreachableError,
)

CONNECT_S = 30.0
LOGIN_S = 60.0
"""What sshd takes for a login is up to PAM, DNS and the machine's load."""
KEY_TYPES: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


@dataclass(frozen=True)
class Target:
    """A machine to deploy to.

    `key` is a private key's text (OpenSSH or PEM), `key_password` what it is locked with. `host_key` is the public key
    by which the machine is known (`ssh-ed25519 AAAA…`) or its fingerprint (`SHA256:…`); None: not known yet. `jump` is
    a machine to go through, with all of its own.
    """

    address: str
    port: int = 22
    user: str = "root"
    key: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sudo_password: str | None = field(default=None, repr=False)
    jump: Target | None = None
    host_key: str | None = None
    key_password: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The machine, for people."""
        return self.address if self.port == 22 else f"{self.address} port {self.port}"


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    status: int
    output: str
    errors: str


def fingerprint(key: paramiko.PKey) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")


def key_line(key: paramiko.PKey) -> str:
    """As in `ssh_host_ed25519_key.pub`, without the comment."""
    return f"{key.get_name()} {key.get_base64()}"


def read_private_key(text: str, password: str | None = None) -> paramiko.PKey:
    """A private key of any common kind. Raises ValueError."""
    for kind in KEY_TYPES:
        try:
            return kind.from_private_key(io.StringIO(text), password)
        except (paramiko.SSHException, ValueError, IndexError):
            continue
    raise ValueError("this is no private key, or its passphrase is wrong (Ed25519, ECDSA and RSA keys are read)")


class Machine:
    """An open connection; one thread at a time."""

    def __init__(self, target: Target, transport: paramiko.Transport) -> None:
        self.target = target
        self.transport = transport
        self._sftp: paramiko.SFTPClient | None = None

    @property
    def files(self) -> paramiko.SFTPClient:
        """SFTP as the user who logged in. Raises BrokenOffError."""
        if self._sftp is None:
            try:
                self._sftp = paramiko.SFTPClient.from_transport(self.transport)
            except (paramiko.SSHException, EOFError, OSError) as wrong:
                raise UnreachableError(
                    self.target.shown, f"its SSH server offers no SFTP ({wrong}).", "Enable the `sftp` subsystem."
                ) from None
            if self._sftp is None:
                raise UnreachableError(self.target.shown, "its SSH server offers no SFTP.")
        return self._sftp

    def run(
        self,
        command: str,
        stdin: bytes = b"",
        on_line: Callable[[str], None] | None = None,
        timeout_s: float = 600.0,
    ) -> Answer:
        """Run a command of the user's shell; `on_line` gets lines of its output as they come.

        Raises BrokenOffError when the connection ends first or nothing is heard for `timeout_s`.
        """
        try:
            with self.transport.open_session(timeout=CONNECT_S) as channel:
                channel.settimeout(timeout_s)
                channel.exec_command(command)
                errors: list[bytes] = []
                reading = threading.Thread(target=_drain, args=(channel, errors), daemon=True)
                reading.start()
                if stdin:
                    with contextlib.suppress(OSError):
                        # A command that ends without reading closes its end; its status says more than this does.
                        channel.sendall(stdin)
                channel.shutdown_write()
                lines = []
                with channel.makefile("rb") as output:
                    for raw in output:
                        line = raw.decode(errors="replace")
                        lines.append(line)
                        if on_line is not None:
                            on_line(line)
                reading.join(CONNECT_S)
                status = channel.recv_exit_status() if channel.exit_status_ready() or channel.active else -1
        except (paramiko.SSHException, EOFError, OSError) as wrong:
            raise self._broken(wrong) from None
        if status < 0 and not self.transport.is_active():
            raise self._broken("the machine went away")
        return Answer(status, "".join(lines), b"".join(errors).decode(errors="replace"))

    def _broken(self, why: object) -> BrokenOffError:
        return BrokenOffError(
            self.target.shown, f"the connection broke ({why or type(why).__name__}).", "Deploy again."
        )

    def run_as_root(
        self,
        argv: Sequence[str],
        lines: Sequence[str] = (),
        on_line: Callable[[str], None] | None = None,
        timeout_s: float = 600.0,
    ) -> Answer:
        """Run a program as root, `lines` on its standard input. Raises SudoRefusedError, BrokenOffError."""
        command = shlex.join(argv)
        stdin = "".join(f"{line}\n" for line in lines)
        if self.target.user != "root":
            password = self.target.sudo_password
            # What sudo does not ask for (NOPASSWD) arrives at the program, which skips lines that are not its own.
            command = (
                f"LC_ALL=C sudo -S -p '' -- {command}" if password is not None else f"LC_ALL=C sudo -n -- {command}"
            )
            stdin = f"{password}\n{stdin}" if password is not None else stdin
        answer = self.run(command, stdin.encode(), on_line, timeout_s)
        if self.target.user != "root" and answer.status != 0:
            self._judge_sudo(answer)
        return answer

    def _judge_sudo(self, answer: Answer) -> None:
        said = answer.errors.strip()
        # Texts of sudo in the C locale and of shells without it.
        if "sudo" in said and any(
            word in said
            for word in ("password", "not in the sudoers", "not allowed", "not found", "may not run", "incorrect")
        ):
            raise SudoRefusedError(
                self.target.shown,
                f"{self.target.user} cannot become root there: {said.splitlines()[-1]}.",
                f"Let {self.target.user} use sudo (with NOPASSWD or with its password given here), or deploy as root.",
            )


def _drain(channel: paramiko.Channel, into: list[bytes]) -> None:
    with contextlib.suppress(OSError, EOFError):
        while piece := channel.recv_stderr(32768):
            into.append(piece)


@contextlib.contextmanager
def connect(target: Target) -> Iterator[Machine]:
    """Connect, check the host key, log in.

    Raises UnreachableError, HostKeyUnknownError, HostKeyChangedError, LoginRefusedError.
    """
    with contextlib.ExitStack() as stack:
        if target.jump is not None:
            jump = stack.enter_context(connect(target.jump))
            line: Any = _through(jump, target)
        else:
            line = _dial(target)
        transport = paramiko.Transport(line)
        stack.callback(transport.close)
        # What looks for silence on the line: a target that loses power says nothing more.
        transport.set_keepalive(15)
        transport.banner_timeout = CONNECT_S
        transport.auth_timeout = LOGIN_S
        _greet(target, transport)
        _log_in(target, transport)
        yield Machine(target, transport)


def _dial(target: Target) -> socket.socket:
    try:
        line = socket.create_connection((target.address, target.port), CONNECT_S)
    except OSError as wrong:
        raise UnreachableError(
            target.shown,
            f"no SSH server answers ({wrong}).",
            "See that it is on, and that port and firewall are right.",
        ) from None
    # A machine that vanishes must not hold a run up for the kernel's default of fifteen minutes.
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
    return line


def _through(jump: Machine, target: Target) -> paramiko.Channel:
    try:
        return jump.transport.open_channel(
            "direct-tcpip", (target.address, target.port), ("127.0.0.1", 0), timeout=CONNECT_S
        )
    except (paramiko.SSHException, OSError) as wrong:
        raise UnreachableError(
            target.shown,
            f"the jump host {jump.target.shown} does not reach it ({wrong}).",
            "See that the jump host allows TCP forwarding and reaches the machine.",
        ) from None


def _greet(target: Target, transport: paramiko.Transport) -> None:
    pinned = target.host_key
    if pinned and not pinned.startswith("SHA256:"):
        # A server has keys of several kinds: ask for the kind that is known, else a good key would look changed.
        kind = pinned.split()[0]
        offered = [each for each in transport.get_security_options().key_types if _kind_of(each) == kind]
        if offered:
            transport.get_security_options().key_types = offered
    try:
        transport.start_client(timeout=CONNECT_S)
    except (paramiko.SSHException, EOFError, OSError) as wrong:
        if pinned and "host key" in str(wrong).lower():
            raise HostKeyChangedError(target.shown, pinned[:60], "of another kind") from None
        raise UnreachableError(target.shown, f"its SSH server does not answer as one ({wrong}).") from None
    shown = transport.get_remote_server_key()
    if not pinned:
        raise HostKeyUnknownError(target.shown, key_line(shown), fingerprint(shown))
    known = pinned if pinned.startswith("SHA256:") else _fingerprint_of_line(pinned)
    if known != fingerprint(shown):
        raise HostKeyChangedError(target.shown, known, fingerprint(shown))


def _kind_of(algorithm: str) -> str:
    return "ssh-rsa" if algorithm.startswith("rsa-sha2") else algorithm


def _fingerprint_of_line(line: str) -> str:
    parts = line.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (IndexError, ValueError):
        return "an unreadable key"
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _log_in(target: Target, transport: paramiko.Transport) -> None:
    ways = []
    try:
        if target.key is not None:
            ways.append("key")
            with contextlib.suppress(paramiko.BadAuthenticationType):
                transport.auth_publickey(target.user, read_private_key(target.key, target.key_password))
        if not transport.is_authenticated() and target.password is not None:
            ways.append("password")
            transport.auth_password(target.user, target.password)
        if not ways:
            raise LoginRefusedError(target.shown, "neither a key nor a password is given.", "Give one.")
    except ValueError as wrong:
        raise LoginRefusedError(target.shown, f"the key given cannot be used: {wrong}.") from None
    except paramiko.AuthenticationException as wrong:
        if not transport.is_active() or "timeout" in str(wrong).lower():
            # paramiko gives one error to a "no", a line that broke and a server that says nothing.
            raise UnreachableError(
                target.shown,
                f"the connection broke at the login of {target.user} ({wrong}).",
                "See what its SSH server logs, then try again.",
            ) from None
        allowed = getattr(wrong, "allowed_types", None)
        takes = f" (it takes: {', '.join(allowed)})" if allowed else ""
        raise LoginRefusedError(
            target.shown,
            f"it does not take the {' or the '.join(ways)} given for {target.user}{takes}.",
            "Check user, key and password.",
        ) from None
    except (paramiko.SSHException, EOFError, OSError) as wrong:
        raise UnreachableError(target.shown, f"the connection broke at the login ({wrong}).") from None
    if not transport.is_authenticated():
        raise LoginRefusedError(target.shown, f"it does not take the {' or the '.join(ways)} given for {target.user}.")


def learn_host_key(target: Target) -> tuple[str, str]:
    """The key that a machine shows now, and its fingerprint, for an operator to confirm. Raises UnreachableError."""
    try:
        with connect(replace(target, host_key=None)):
            raise AssertionError("an unknown key was taken")
    except HostKeyUnknownError as unknown:
        if unknown.target != target.shown:
            raise
        return unknown.host_key, unknown.fingerprint
