"""Deploying to one target: look, copy what is missing, have its own installer do the rest; and taking it off again.

Every function blocks, may be called from many threads, and may be repeated at any point: what is done already is found
done. All that must hold together happens on the target, in one process that survives the connection (on_target).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paramiko

from appliance.deploy.bundle import INSTALLER, Bundle
from appliance.deploy.check import check_machine
from appliance.deploy.errors import (
    BY_CODE,
    BrokenOffError,
    BusyError,
    DeployError,
    NoSpaceError,
    NotConfirmedError,
    TargetUnfitError,
)
from appliance.deploy.on_target.fitness import Facts, Needs, choose_python
from appliance.deploy.on_target.layout import SERVICES, Layout
from appliance.deploy.on_target.manifest import MANIFEST, SIGNATURE, BundleFile
from appliance.deploy.ssh import Answer, Machine, Target, connect

STAGING = ".gpuferry-deploy"
"""Where files arrive: a folder of the SSH user's, which nobody else can write to. It goes when the work is done."""
PIECE = 256 << 10
UNPACKED = 4
"""The room that a part takes, as a multiple of its wheels: what is in them, and the wheels themselves meanwhile."""
MARK = "gpuferry-request "
BUSY_S = 120.0
"""How long another deployment of the same machine is waited for."""


@dataclass(frozen=True)
class Progress:
    """How far a deployment is: what it does now, and the fraction that is done."""

    text: str
    done: float


OnProgress = Callable[[Progress], None]
Ticket = str | Callable[[], str]


@dataclass(frozen=True)
class DeploySettings:
    """How the machine is set up.

    `name` is what the appliance calls it (empty: its host name); `appliance_key` the appliance's CURVE key: an identity
    of another appliance is replaced. Of a server: `listen` and `address` are where its data plane listens and is
    reached (`host:port`), `driver` is the CUDA driver's library or `softgpu`, `arguments` are more of `gpuferry
    gpuserver serve`. `environment` is the service's. `reach` are `host:port` that the machine must reach. `python_path`
    are folders in which Python finds packages besides gpuferry's own (CuPy on a GPU server); `parts` are optional parts
    of the bundle. `root` is not `/` for the stand-ins of a benchmark.
    """

    name: str = ""
    appliance_key: str = ""
    esxi_host: str = ""
    listen: str = "0.0.0.0:9797"
    address: str = ""
    driver: str = "libcuda.so.1"
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    reach: tuple[str, ...] = ()
    python_path: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    verify_s: float = 60.0
    replace_appliance: bool = False
    root: str = "/"

    def config(self, role: str) -> dict[str, Any]:
        """What the target keeps of it."""
        kept: dict[str, Any] = {"esxi_host": self.esxi_host, "environment": self.environment}
        if role == "server":
            address = ["--address", self.address] if self.address else []
            kept["arguments"] = ["--listen", self.listen, *address, "--driver", self.driver, *self.arguments]
            kept["python_path"] = list(self.python_path)
        return kept


@dataclass(frozen=True)
class Deployed:
    """What a deployment came to. `peer` is the machine's id at the appliance."""

    version: str
    changed: bool
    services: tuple[str, ...]
    build: str = ""
    peer: str = ""


@dataclass(frozen=True)
class Installed:
    """What a target says is installed. `state`: how its service stands with the appliance."""

    version: str
    build: str
    running: bool
    state: str
    peer: str
    appliance_key: str


def _silent(progress: Progress) -> None:
    del progress


def needs_of(bundle: Bundle, role: str, settings: DeploySettings | None = None) -> Needs:
    """What a machine needs for a role of this bundle, with the optional parts that it is to get."""
    needs = Needs.of(bundle.manifest.roles[role], settings.reach if settings else ())
    parts = settings.parts if settings else ()
    chosen = [each for each in bundle.manifest.files if each.part in parts and role in each.roles]
    largest = max((sum(each.size for each in chosen if python in each.python) for python in needs.python), default=0)
    return replace(needs, disk_mib=needs.disk_mib + (largest * UNPACKED >> 20))


def deploy(
    target: Target,
    bundle: Bundle,
    role: str,
    settings: DeploySettings,
    ticket: Ticket = "",
    on_progress: OnProgress = _silent,
) -> Deployed:
    """Bring a target to this bundle's version and these settings; what is there already is left alone.

    `ticket` may be a function: it is called only when the machine has to enrol. Raises a DeployError; then the former
    version runs as before, and on a machine that had none, nothing is left.
    """
    on_progress(Progress("connecting", 0.0))
    with connect(target) as machine:
        facts, findings = check_machine(machine, needs_of(bundle, role, settings))
        if findings:
            raise TargetUnfitError(target.shown, findings)
        work = _Deployment(machine, bundle, role, settings, facts, on_progress)
        try:
            return work.carry_out(ticket)
        finally:
            work.clear()


def uninstall(target: Target, role: str, on_progress: OnProgress = _silent, root: str = "/") -> bool:
    """Take a role off a target; whether there was anything. Raises DeployError."""
    on_progress(Progress("removing", 0.1))
    with connect(target) as machine:
        installer = _installed_installer(machine, role, root)
        told = _told(machine, _command(installer, "uninstall", role, root)) if installer else {}
        machine.run(f"rm -rf {STAGING}")
    on_progress(Progress("done", 1.0))
    return bool(told.get("changed"))


def inspect(target: Target, role: str, root: str = "/") -> Installed | None:
    """What is installed of a role, None when nothing is. Raises DeployError."""
    with connect(target) as machine:
        installer = _installed_installer(machine, role, root)
        if installer is None:
            return None
        return _installed(_told(machine, _command(installer, "describe", role, root)))


def installed(target: Target, role: str = "client") -> str | None:
    """The version of a role that is installed, None when none is. Raises DeployError."""
    found = inspect(target, role)
    return found.version if found else None


def run_installed(target: Target, role: str, argv: Sequence[str], timeout_s: float = 600.0, root: str = "/") -> Answer:
    """Run a program with the installed version, as root: `gpuferry …` and `python …` are the version's own.

    Raises DeployError.
    """
    program = argv[0]
    if program in ("gpuferry", "python"):
        program = f"{Layout(role, Path(root)).current}/bin/{program}"
    with connect(target) as machine:
        return machine.run_as_root([program, *argv[1:]], timeout_s=timeout_s)


def _installed(told: dict[str, Any]) -> Installed | None:
    if not told.get("build"):
        return None
    status = told.get("status") or {}
    return Installed(
        version=str(told["version"]),
        build=str(told["build"]),
        running=bool(told["running"]),
        state=str(status.get("state", "")),
        peer=str(told["enrolled"]),
        appliance_key=str(told["appliance_key"]),
    )


def _command(installer: tuple[str, str], verb: str, role: str, root: str) -> list[str]:
    python, path = installer
    return [python, "-I", path, verb, role, "--root", root]


def _installed_installer(machine: Machine, role: str, root: str) -> tuple[str, str] | None:
    """The installer that lies on a machine and the Python it runs with; None when nothing is installed."""
    layout = Layout(role, Path(root))
    # Of a broken installation any version's will do.
    script = (
        f"for v in {layout.current} $(ls -dt {layout.versions}/* 2>/dev/null); do "
        '[ -e "$v/installer.pyz" ] || continue; '
        'readlink -f "$v/installer.pyz"; head -n 1 "$v/bin/gpuferry"; break; done'
    )
    lines = machine.run(script).output.splitlines()
    if len(lines) < 2 or not lines[1].startswith("#!"):
        return None
    return lines[1][2:].split()[0], lines[0]


def _told(
    machine: Machine,
    argv: list[str],
    lines: Sequence[str] = (),
    on_line: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The installer's result. Raises the DeployError that its failure means."""
    last: list[dict[str, Any]] = []

    def hear(line: str) -> None:
        with contextlib.suppress(ValueError):
            content = json.loads(line)
            if isinstance(content, dict):
                if "result" in content or "failure" in content:
                    last.append(content)
                elif on_line is not None:
                    on_line(content)

    answer = machine.run_as_root(argv, lines, hear)
    shown = machine.target.shown
    if not last:
        said = (answer.errors or answer.output).strip().splitlines()
        raise BrokenOffError(
            shown,
            f"its installer ended with status {answer.status} and said: {said[-1] if said else 'nothing'}.",
            "Deploy again.",
        )
    if "failure" in last[-1]:
        failure = last[-1]["failure"]
        kind = BY_CODE.get(str(failure["code"]), DeployError)
        wrong = kind(shown, str(failure["what"]), str(failure["remedy"]))
        wrong.code = str(failure["code"])
        raise wrong
    return dict(last[-1]["result"])


class _Deployment:
    """One deployment over one connection."""

    def __init__(
        self,
        machine: Machine,
        bundle: Bundle,
        role: str,
        settings: DeploySettings,
        facts: Facts,
        on_progress: OnProgress,
    ) -> None:
        self.machine = machine
        self.bundle = bundle
        self.role = role
        self.settings = settings
        self.on_progress = on_progress
        python = choose_python(facts, needs_of(bundle, role))
        assert python is not None  # noqa: S101 - a machine without one is not fit
        self.python = python
        self.python_version = next(version for version, path in facts.pythons.items() if path == python)
        self.layout = Layout(role, Path(settings.root))

    def carry_out(self, ticket: Ticket) -> Deployed:
        there = self._look()
        enrolled = there is not None and there.peer != "" and self._same_appliance(there)
        if there is None or there.build != self.bundle.manifest.name:
            self._copy(self._files())
        else:
            self._copy([])
        try:
            told = self._install("" if enrolled else _text(ticket), again=False)
        except NotConfirmedError as wrong:
            if wrong.code != "refused" or not enrolled or not ticket:
                raise
            # Its key was revoked or replaced: a new ticket makes it known again.
            if there is None or there.build != self.bundle.manifest.name:
                self._copy(self._files())
            told = self._install(_text(ticket), again=True)
        self.on_progress(Progress("done", 1.0))
        return Deployed(
            version=str(told["version"]),
            changed=bool(told["changed"]),
            services=(SERVICES[self.role],),
            build=str(told["build"]),
            peer=str(told["enrolled"]),
        )

    def _same_appliance(self, there: Installed) -> bool:
        return not self.settings.appliance_key or there.appliance_key == self.settings.appliance_key

    def _look(self) -> Installed | None:
        installer = _installed_installer(self.machine, self.role, self.settings.root)
        if installer is None:
            return None
        return _installed(_told(self.machine, _command(installer, "describe", self.role, self.settings.root)))

    def _files(self) -> list[BundleFile]:
        return list(self.bundle.manifest.select(self.role, self.python_version, self.settings.parts))

    def _copy(self, files: list[BundleFile]) -> None:
        """Bring manifest, signature, installer and these files; what arrived before, whole or in part, is used."""
        sftp = self.machine.files
        self.machine.run(f"mkdir -p -m 700 {STAGING}")
        installer = next(each for each in self.bundle.manifest.files if each.name == INSTALLER)
        wanted = {each.sha256: each for each in [installer, *files]}
        total = sum(each.size for each in wanted.values()) or 1
        sent = 0
        try:
            for name, content in ((MANIFEST, self.bundle.raw), (SIGNATURE, self.bundle.signature)):
                with sftp.open(f"{STAGING}/{name}", "wb") as remote:
                    remote.write(content)
            for digest, file in wanted.items():
                short = file.name.rpartition("/")[2]

                def note(count: int, short: str = short, before: int = sent) -> None:
                    self.on_progress(Progress(f"copying {short}", 0.05 + 0.45 * (before + count) / total))

                note(0)
                _send(self.machine, f"{STAGING}/{digest}", self.bundle.read(file), note)
                sent += file.size
        except OSError as wrong:
            if "space" in str(wrong).lower() or "failure" in str(wrong).lower():
                raise NoSpaceError(
                    self.machine.target.shown,
                    f"its disk is full: {wrong}.",
                    f"Make {total >> 20} MiB free in the home of {self.machine.target.user}.",
                ) from None
            raise BrokenOffError(self.machine.target.shown, f"copying failed: {wrong}.", "Deploy again.") from None
        except (paramiko.SSHException, EOFError):
            raise BrokenOffError(
                self.machine.target.shown, "it went away while files were copied.", "Deploy again."
            ) from None

    def _install(self, ticket: str, *, again: bool) -> dict[str, Any]:
        try:
            folder = self.machine.files.normalize(STAGING)
        except (paramiko.SSHException, EOFError, OSError) as wrong:
            raise BrokenOffError(self.machine.target.shown, f"it went away: {wrong}.", "Deploy again.") from None
        installer = next(each for each in self.bundle.manifest.files if each.name == INSTALLER)
        request = {
            "role": self.role,
            "folder": folder,
            "key": self.bundle.key.hex(),
            "config": self.settings.config(self.role),
            "ticket": ticket,
            "name": self.settings.name,
            "appliance_key": self.settings.appliance_key,
            "enrol_again": again,
            "new_key": self.settings.replace_appliance,
            "verify_s": self.settings.verify_s,
            "parts": list(self.settings.parts),
        }

        def hear(content: dict[str, Any]) -> None:
            if "step" in content:
                self.on_progress(Progress(str(content["step"]), 0.5 + 0.5 * float(content["done"])))

        argv = [self.python, "-I", f"{folder}/{installer.sha256}", "install", "--root", self.settings.root]
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                return _told(self.machine, argv, [MARK + json.dumps(request)], hear)
            except BusyError:
                # Most likely an installer whose appliance died or lost the line: it ends by itself.
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def clear(self) -> None:
        """Remove what was copied, unless the machine is gone: then it is found and used the next time."""
        if self.machine.transport.is_active():
            with contextlib.suppress(DeployError):
                self.machine.run(f"rm -rf {STAGING}")


def _text(ticket: Ticket) -> str:
    return ticket if isinstance(ticket, str) else ticket()


def _send(machine: Machine, path: str, content: bytes, on_bytes: Callable[[int], None]) -> None:
    """Send a file, going on where an earlier attempt broke off; what arrived is compared by its digest."""
    sftp = machine.files
    there = 0
    with contextlib.suppress(FileNotFoundError):
        found = sftp.stat(path)
        there = (found.st_size or 0) if stat.S_ISREG(found.st_mode or 0) else 0
    if there and _digest(machine, path) != hashlib.sha256(content[:there]).hexdigest():
        there = 0
    if there >= len(content):
        on_bytes(len(content))
        return
    with sftp.open(path, "ab" if there else "wb") as remote:
        remote.set_pipelined(True)
        for at in range(there, len(content), PIECE):
            remote.write(content[at : at + PIECE])
            on_bytes(min(at + PIECE, len(content)))
    # Pipelined writes are not answered one by one: a full disk shows in what is there afterwards.
    if sftp.stat(path).st_size != len(content):
        raise OSError(errno.ENOSPC, "no space: what was sent did not all arrive")


def _digest(machine: Machine, path: str) -> str:
    return machine.run(f"sha256sum {path}").output.partition(" ")[0]
