"""Keeps one service running where there is no systemd: starts it, starts it again when it ends, keeps its output.

One process per service. It holds a lock on its pid file as long as it lives: nobody is fooled by the pid of a process
that is long gone, and there are never two supervisors of one service.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
STEADY_S = 60.0
"""A service that ran so long starts again after the first pause."""
STOP_S = 20.0
"""A service's time to end after SIGTERM."""
LOOK_S = 0.5
"""How often it is looked whether the service has left an order."""
LOG_BYTES = 8 << 20


def holder(pidfile: Path) -> int | None:
    """The pid of the live supervisor of this pid file."""
    try:
        with pidfile.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(file.read().strip() or 0) or None
    except (OSError, ValueError):
        return None
    return None


class Supervisor:
    """`account`: user and group id of the service, None: this process's own.

    `on_order` is called when the service has left an upgrade's order at `order`.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        account: tuple[int, int] | None,
        log: Path,
        order: Path,
        on_order: Callable[[], None],
    ) -> None:
        self.command = command
        self.environment = environment
        self.account = account
        self.log = log
        self.order = order
        self.on_order = on_order
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Until SIGTERM."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        threading.Thread(target=self._watch, name="orders", daemon=True).start()
        pause = FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                self._run_once()
            except OSError as wrong:
                self._note(f"{self.command[0]} cannot be started: {wrong}\n".encode())
            pause = FIRST_PAUSE_S if time.monotonic() - started > STEADY_S else min(pause * 2, LONGEST_PAUSE_S)
            self._stopping.wait(pause)

    def _watch(self) -> None:
        """Hand over an order that the service leaves; whoever carries it out takes it away."""
        while not self._stopping.wait(LOOK_S):
            if self.order.exists():
                self.on_order()
                deadline = time.monotonic() + STOP_S
                while self.order.exists() and time.monotonic() < deadline:
                    self._stopping.wait(LOOK_S)

    def _stop(self, *_: Any) -> None:
        self._stopping.set()
        child = self._child
        if child is not None and child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            threading.Thread(target=_kill_late, args=(child,), daemon=True).start()

    def _run_once(self) -> None:
        more: dict[str, Any] = {}
        if self.account is not None and os.geteuid() == 0:
            more = {"user": self.account[0], "group": self.account[1], "extra_groups": []}
        child = subprocess.Popen(
            self.command,
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **more,
        )
        self._child = child
        if self._stopping.is_set():
            self._stop()
        assert child.stdout is not None  # noqa: S101
        for line in child.stdout:
            self._note(line)
        status = child.wait()
        self._child = None
        if not self._stopping.is_set():
            self._note(f"{self.command[0]} ended with status {status}; it is started again\n".encode())

    def _note(self, line: bytes) -> None:
        try:
            if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
                os.replace(str(self.log), f"{self.log}.1")
            with self.log.open("ab") as file:
                file.write(line)
        except OSError:
            pass  # A full disk must not end the service.


def _kill_late(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()


def become_daemon(pidfile: Path) -> bool:
    """Detach from whoever started this; False in the one who asked, True in the daemon that holds the pid file's lock.

    Raises OSError when another supervisor holds it.
    """
    pidfile.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(str(pidfile), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if os.fork():
        os.close(file)
        return False
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the life of this process
    return True
