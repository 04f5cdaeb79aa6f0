"""The keeper of one `gpuferry run`: a process beside the program that gets its lease, keeps it and gives it back.

The program replaces the process that started it, so its signals, job control and exit status are its own. The keeper
is no child of it and has a session of its own: neither Ctrl-C nor Ctrl-Z reach it. It watches the program and ends
when the program has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, NoReturn, Optional

from clientagent.control import ApplianceAwayError, ClientControl, LeaseDeniedError, WithdrawnError
from clientagent.program import Access, RunError, ask_inventory, lease_settings
from gpuserver.protocol.control import messages
from gpuserver.protocol.control.curve import Identity, write_private
from gpuserver.protocol.handshake import lease_key

LOOK_S = 0.2
LARGEST = 1 << 20
AWAY_S = 60.0
"""How long an appliance that does not answer is waited for, by a request without a time-out."""
TELL_S = 5.0


def say(text: str) -> None:
    try:
        sys.stderr.write(f"gpuferry: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # Nobody reads any more; the lease is kept all the same.


class Watched:
    """A process whose end is awaited, though it is no child."""

    def __init__(self, process: int) -> None:
        self.process = process
        self._handle: Optional[int] = None
        self._started = self._start_time()
        with contextlib.suppress(AttributeError, OSError):  # Linux before 5.3: looked for in /proc
            self._handle = os.pidfd_open(process)

    def _start_time(self) -> str:
        """When it started, in clock ticks since boot; empty when it is gone or a zombie (proc(5))."""
        try:
            fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] in "ZX" else fields[19]

    def await_end(self) -> None:
        """Return when it has ended."""
        if self._handle is not None:
            select.select([self._handle], [], [])
        else:
            while self._start_time() == self._started:
                time.sleep(LOOK_S)


def accesses(granted: messages.Granted) -> List[Access]:
    """The way to every server of a lease, in the order in which the program numbers its GPUs."""
    first = {grant.server: min(each.ordinal for each in grant.slices) for grant in granted.grants}
    return [
        Access(grant.address, lease_key(granted.lease, granted.fence), bytes.fromhex(grant.secret))
        for grant in sorted(granted.grants, key=lambda grant: first[grant.server])
    ]


def prepare_program(granted: messages.Granted, folder: Path) -> Dict[str, Any]:
    """Ask the servers whether they are there, and write into `folder` what the program's shim needs: one file with the
    secret of each.

    Returns what `program_environment` takes: `settings` and `gpus`. Raises RunError.
    """
    ways = accesses(granted)
    gpus = [ask_inventory(way.server, way.secret, way.lease)["gpus"] for way in ways]
    names = [f"secret-{os.getuid()}", *(f"secret-{os.getuid()}-{number}" for number in range(1, len(ways)))]
    for number, way in enumerate(ways):
        write_private(folder / names[number], way.secret.hex().encode() + b"\n")
    settings = lease_settings(
        [way.server for way in ways], ways[0].lease, [folder / name for name in names], list(map(len, gpus))
    )
    return {"settings": settings, "gpus": [gpu for each in gpus for gpu in each]}


def start_keeper(identity: Identity, wanted: messages.RequestLease) -> int:
    """Fork the keeper of this process; returns the pipe on which it says, as JSON, what it got: see `_keep`."""
    watched = Watched(os.getpid())
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _become_keeper(writing, watched)
                _keep(identity, wanted, watched, writing)
        except BaseException as failure:
            say(f"the lease is not kept: {failure}")
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(between, 0)
    return reading


def _become_keeper(writing: int, watched: Watched) -> None:
    """Let go of everything that the program has a use for, but standard error."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE):
        # It ends with its program, which may take its time over these.
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    kept = {0, 1, 2, writing, watched._handle}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))


def _tell(writing: int, **content: Any) -> None:
    # Nobody listens when the program was stopped early, which the keeper is about to see.
    with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
        pipe.write(json.dumps(content).encode())


def _keep(identity: Identity, wanted: messages.RequestLease, watched: Watched, writing: int) -> NoReturn:
    """Get the lease, say `settings` and `gpus` (or `failed`), keep it until the program has ended."""
    folder = Path(tempfile.mkdtemp(prefix="gpuferry-", dir=os.environ.get("XDG_RUNTIME_DIR") or None))
    control = ClientControl(identity)
    wanted = messages.RequestLease(**{**vars(wanted), "instance": control.instance})
    control.link.start()
    gone = threading.Event()
    threading.Thread(target=_watch, args=(watched, gone), daemon=True).start()
    try:
        try:
            _await_appliance(control, wanted.timeout_s or AWAY_S, gone)
            granted = control.acquire(wanted, on_queued=_say_place, on_trouble=say, cancelled=gone.is_set)
            found = prepare_program(granted, folder)
        except WithdrawnError:
            os.close(writing)
        except (ApplianceAwayError, LeaseDeniedError, RunError, OSError) as failure:
            _tell(writing, failed=str(failure))
        else:
            _tell(writing, **found)
            _accompany(control, granted, gone)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        control.link.stop("its program ended")
        os._exit(0)


def _await_appliance(control: ClientControl, limit_s: float, gone: threading.Event) -> None:
    """An appliance that is just being restarted is waited for. Raises ApplianceAwayError, WithdrawnError."""
    waited = 0.0
    while not control.link.connected.wait(0.0 if control.link.refused else LOOK_S):
        if control.link.refused or waited >= limit_s:
            control.await_appliance(0.0)
        if waited < TELL_S <= waited + LOOK_S:
            say(f"no appliance answers at {', '.join(control.link.identity.endpoints)} yet; waiting for it")
        waited += LOOK_S
        if gone.is_set():
            raise WithdrawnError("the program was not started")


def _watch(watched: Watched, gone: threading.Event) -> None:
    watched.await_end()
    gone.set()


def _say_place(queued: messages.Queued) -> None:
    say(f"waiting, number {queued.position} in the queue: {queued.reason}")


def _accompany(control: ClientControl, granted: messages.Granted, gone: threading.Event) -> None:
    """Until the program has ended, say what becomes of its lease."""
    over = ended = False
    while not over and not ended:
        over = gone.wait(LOOK_S)
        while not control.events.empty():
            event = control.events.get()
            if isinstance(event, messages.Notice):
                say(f"{event.lease}: {event.text}")
            elif event.lease == granted.lease:
                say(f"{event.lease} ended: {event.reason}. The program's GPU calls fail from now on")
                ended = True


def hear_keeper(reading: int) -> Dict[str, Any]:
    """What the keeper says: `settings` and `gpus`. Raises RunError with its reason."""
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read(LARGEST)
    if not told:
        raise RunError("the keeper of the lease ended before there was one")
    content = json.loads(told)
    if "failed" in content:
        raise RunError(str(content["failed"]))
    return dict(content)
