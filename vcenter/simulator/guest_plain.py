"""Guests without root: a plain sshd of this user on a loopback port for each machine that runs.

There is nothing to isolate with, so nothing of cloud-init but the SSH keys is applied: files and commands would change
this machine. The port is told in the machine's advanced setting ``guestinfo.gpuferry.ssh-port``.
"""

import contextlib
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .api import vim
from .guest_cloud_init import GuestinfoError, authorized_keys
from .guest_sandbox import DIE_WITH_PARENT, SandboxError
from .values import build, vary
from .virtual_machine_spec import merge_extra

PORT_SETTING = "guestinfo.gpuferry.ssh-port"
HOST_KEY_SETTING = "guestinfo.gpuferry.host-key"
_READY_SECONDS = 30.0


class PlainGuests:
    """The guests of a simulation. One thread starts all servers: they die with it, as they do with the process."""

    def __init__(self) -> None:
        if not Path("/usr/sbin/sshd").exists() or None in map(shutil.which, ("ssh-keygen", "setpriv")):
            raise SandboxError("plain guests need sshd (Debian: openssh-server)")
        if os.geteuid() == 0:
            # sshd of root insists on this directory, which a boot of the machine would have made.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix="gpuferry-plain-"))
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="simulator-guests", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            action = self._work.get()
            if action is None:
                return
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                action()

    def start(self, machine: Any) -> None:
        """Starts a server with the keys of the machine's user data."""
        extra = {each.key: str(each.value) for each in machine.config.extraConfig}
        boot = machine.boots
        self._work.put(lambda: self._boot(machine, boot, extra))

    def stop(self, machine: Any) -> None:
        """Ends the server."""
        moid = machine.moid
        self._work.put(lambda: self._kill(moid))

    def discard(self, machine: Any) -> None:
        """Ends the server."""
        self.stop(machine)

    def close(self) -> None:
        """Ends all servers."""
        self._work.put(self._close)
        self._work.put(None)
        self._thread.join(timeout=30)

    def _boot(self, machine: Any, boot: int, extra: dict[str, str]) -> None:
        moid = machine.moid
        self._kill(moid)
        directory = self._directory / moid
        directory.mkdir(exist_ok=True)
        try:
            keys = authorized_keys(extra)
        except GuestinfoError:
            keys = []
        (directory / "keys").write_text("".join(f"{each}\n" for each in keys))
        if not (directory / "host_key").exists():
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / "host_key")], check=True
            )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        self._servers[moid] = subprocess.Popen(
            [
                *DIE_WITH_PARENT,
                "/usr/sbin/sshd",
                "-D",
                "-e",
                "-f",
                "/dev/null",
                "-p",
                str(port),
                "-o",
                "ListenAddress=127.0.0.1",
                "-o",
                f"HostKey={directory / 'host_key'}",
                "-o",
                f"AuthorizedKeysFile={directory / 'keys'}",
                "-o",
                "UsePAM=no",
                "-o",
                "PasswordAuthentication=no",
                "-o",
                "StrictModes=no",
                "-o",
                f"PidFile={directory / 'pid'}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if self._answers(self._servers[moid], port):
            public = (directory / "host_key.pub").read_text().split()
            self._tell(machine, boot, {PORT_SETTING: str(port), HOST_KEY_SETTING: f"{public[0]} {public[1]}"})

    @staticmethod
    def _answers(server: "subprocess.Popen[bytes]", port: int) -> bool:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            time.sleep(0.02)
        return False

    @staticmethod
    def _tell(machine: Any, boot: int, settings: dict[str, str]) -> None:
        with machine.world.lock:
            if machine.power_state == "poweredOn" and machine.boots == boot:
                told = [build(vim.option.OptionValue, key=key, value=value) for key, value in settings.items()]
                config = machine.config
                machine.set("config", vary(config, extraConfig=merge_extra(config.extraConfig, told)))
                machine.guest_is_up("127.0.0.1")

    def _kill(self, moid: str) -> None:
        server = self._servers.pop(moid, None)
        if server is not None:
            server.kill()
            server.wait()

    def _close(self) -> None:
        for moid in list(self._servers):
            self._kill(moid)
        shutil.rmtree(self._directory, ignore_errors=True)
