"""The service of a role: a hardened systemd unit, or the supervisor with an init script where there is no systemd."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .accounts import find_account
from .layout import ACCOUNT, Layout, read_json
from .supervisor import STOP_S, Supervisor, become_daemon, holder

UNIT = """# Written by gpuferry's installer; a deployment replaces it.
[Unit]
Description={description}
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User={account}
Group={account}
ExecStart={command}
{environment}
Restart=always
RestartSec=2
TimeoutStopSec=20
RuntimeDirectory=gpuferry
RuntimeDirectoryPreserve=yes
StateDirectory=gpuferry/{role}
StateDirectoryMode={state_mode}
UMask=0027
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectClock=yes
ProtectHostname=yes
PrivateTmp=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
{more}
[Install]
WantedBy=multi-user.target
"""

UPGRADE_PATH = """# Written by gpuferry's installer. The service leaves orders of the appliance there.
[Unit]
Description=Orders of upgrades to {service}

[Path]
PathExists={order}
Unit={service}-upgrade.service

[Install]
WantedBy=multi-user.target
"""

UPGRADE_UNIT = """# Written by gpuferry's installer.
[Unit]
Description=Upgrade of {service}

[Service]
Type=oneshot
ExecStart={installer}
"""

MORE = {
    # The agent touches no device; the daemon's workers need the GPUs, and memory that the kernel must not move.
    "client": "CapabilityBoundingSet=\nProtectKernelLogs=yes\nPrivateDevices=yes\nMemoryDenyWriteExecute=yes\n",
    # CAP_SYSLOG: the driver tells of GPUs' errors (Xid) in the kernel's log alone.
    "server": "CapabilityBoundingSet=CAP_SYSLOG\nAmbientCapabilities=CAP_SYSLOG\nLimitMEMLOCK=infinity\n"
    "OOMPolicy=continue\n",
    "appliance": "CapabilityBoundingSet=\nProtectKernelLogs=yes\nPrivateDevices=yes\n"
    "ReadWritePaths=/var/lib/gpuferry-appliance\n",
}
DESCRIPTIONS = {
    "appliance": "gpuferry appliance",
    "client": "gpuferry client agent",
    "server": "gpuferry GPU server daemon",
}

SCRIPT = """#!/bin/sh
### BEGIN INIT INFO
# Provides:          {service}
# Required-Start:    $network $remote_fs
# Required-Stop:     $network $remote_fs
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: {description}
### END INIT INFO
# Written by gpuferry's installer, for machines without systemd.
exec {python} -I {installer} service "$1" {role} --root {root}
"""


def has_systemd(layout: Layout) -> bool:
    """Whether systemd is what runs this machine (sd_booted(3))."""
    return layout.root == Path("/") and Path("/run/systemd/system").is_dir()


def command_of(layout: Layout, config: dict[str, Any]) -> list[str]:
    """What the service runs."""
    program = str(layout.current / "bin/gpuferry")
    if layout.role == "client":
        return [program, "agent"]
    if layout.role == "appliance":
        return [program, "appliance", "serve", "--data", str(layout.site)]
    own = ["--identity", str(layout.identity), "--folder", str(layout.state)]
    return [program, "gpuserver", "serve", *own, *map(str, config.get("arguments", ()))]


def environment_of(layout: Layout, config: dict[str, Any]) -> dict[str, str]:
    """The service's own variables."""
    return {
        "GPUFERRY_IDENTITY": str(layout.identity),
        "GPUFERRY_STATE": str(layout.state),
        "GPUFERRY_STATUS": str(layout.status),
        "HOME": str(layout.state),
        **{str(name): str(value) for name, value in config.get("environment", {}).items()},
    }


def service_files(layout: Layout, config: dict[str, Any], python: str) -> dict[Path, tuple[str, int]]:
    """The files that make the machine's own service manager know the service, with their modes."""
    if has_systemd(layout):
        environment = "\n".join(
            f'Environment="{name}={value}"' for name, value in sorted(environment_of(layout, config).items())
        )
        text = UNIT.format(
            description=DESCRIPTIONS[layout.role],
            account=ACCOUNT,
            command=" ".join(command_of(layout, config)),
            environment=environment,
            role=layout.role,
            more=MORE[layout.role],
            state_mode="2770" if layout.role == "client" else "0750",
        )
        installer = f"{python} -I {layout.current / 'installer.pyz'} upgrade {layout.role}"
        return {
            layout.unit: (text, 0o644),
            layout.upgrade_path: (UPGRADE_PATH.format(service=layout.service, order=layout.order), 0o644),
            layout.upgrade_unit: (UPGRADE_UNIT.format(service=layout.service, installer=installer), 0o644),
        }
    text = SCRIPT.format(
        service=layout.service,
        description=DESCRIPTIONS[layout.role],
        python=python,
        installer=layout.current / "installer.pyz",
        role=layout.role,
        root=layout.root,
    )
    return {layout.script: (text, 0o755)}


def prepare_folders(layout: Layout) -> None:
    """The folders in which the service writes. systemd makes them itself."""
    account = find_account(layout)
    layout.logs.mkdir(parents=True, exist_ok=True)
    for folder in (layout.run, layout.all_state, layout.state):
        folder.mkdir(parents=True, exist_ok=True)
        if account is not None:
            os.chown(str(folder), *account)
    # Its group may write: `gpuferry request` of a person notes there what it holds.
    layout.state.chmod(0o2770 if layout.role == "client" else 0o750)


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False)


def start(layout: Layout) -> None:
    """Start the service, and have it started at every boot. An agent that runs is told that another follows it at
    once, so that it leaves its leases to that."""
    prepare_folders(layout)
    if layout.role == "client":
        layout.restarting.touch()
    if has_systemd(layout):
        _systemctl("daemon-reload")
        _systemctl("enable", layout.unit.name)
        _systemctl("enable", "--now", layout.upgrade_path.name)
        _systemctl("restart", layout.unit.name)
        return
    stop(layout)
    _at_boot(layout, on=True)
    installer = layout.current / "installer.pyz"
    # A process of its own: the daemon must hold nothing of this one's.
    subprocess.run(
        [sys.executable, "-I", str(installer), "service", "supervise", layout.role, "--root", str(layout.root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        cwd="/",
    )


def stop(layout: Layout) -> None:
    """Stop the service; returns when it has ended."""
    if has_systemd(layout):
        _systemctl("stop", layout.unit.name)
        return
    pid = holder(layout.pidfile)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_S + 10
    while holder(layout.pidfile) is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def forget(layout: Layout) -> None:
    """Stop the service and take it from the service manager; its files are removed by the caller."""
    stop(layout)
    if has_systemd(layout):
        _systemctl("disable", layout.unit.name)
        _systemctl("disable", "--now", layout.upgrade_path.name)
    else:
        _at_boot(layout, on=False)


def reload(layout: Layout) -> None:
    """Let systemd see that unit files were changed or removed."""
    if has_systemd(layout):
        _systemctl("daemon-reload")
        _systemctl("reset-failed", layout.unit.name)


def running(layout: Layout) -> bool:
    """Whether the service, or its supervisor, lives."""
    if has_systemd(layout):
        return _systemctl("is-active", layout.unit.name).returncode == 0
    return holder(layout.pidfile) is not None


def last_words(layout: Layout, lines: int = 12) -> str:
    """The end of what the service wrote."""
    if has_systemd(layout):
        done = subprocess.run(
            ["journalctl", "-u", layout.unit.name, "-n", str(lines), "-o", "cat", "--no-pager"],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        return done.stdout.strip()
    try:
        return "\n".join(layout.log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def supervise(layout: Layout) -> int:
    """Become the supervisor of the service; returns at once in the process that asked."""
    try:
        daemon = become_daemon(layout.pidfile)
    except OSError:
        return 0  # It runs already.
    if daemon:
        config = read_json(layout.config) or {}
        environment = {
            "PATH": os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            **environment_of(layout, config),
        }
        Supervisor(
            command_of(layout, config),
            environment,
            find_account(layout),
            layout.log,
            layout.order,
            lambda: spawn_upgrade(layout),
        ).run()
        os._exit(0)
    return 0


def spawn_upgrade(layout: Layout) -> None:
    """Carry an order out in a process of its own: it restarts the service, and so the supervisor that starts it."""
    installer = str(layout.current / "installer.pyz")
    subprocess.Popen(
        [sys.executable, "-I", installer, "upgrade", layout.role, "--root", str(layout.root)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def _at_boot(layout: Layout, *, on: bool) -> None:
    program = shutil.which("update-rc.d", path="/usr/sbin:/sbin")
    if layout.root != Path("/") or program is None:
        return
    arguments = [layout.service, "defaults"] if on else ["-f", layout.service, "remove"]
    subprocess.run([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
