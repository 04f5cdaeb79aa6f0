"""Taking a role off a machine: nothing stays, neither of a finished installation nor of half a one."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from . import services
from .accounts import MADE, remove_account
from .layout import Layout, read_json


def remove_role(layout: Layout, *, keep_identity: bool = False) -> bool:
    """Remove a role; what roles share goes with the last one. Whether there was anything.

    `keep_identity` of an appliance keeps its site.
    """
    traces = [layout.versions, layout.config, layout.unit, layout.script]
    if not (keep_identity and layout.role == "appliance"):
        traces.append(layout.identity)
    there = any(each.exists() for each in traces)
    config = read_json(layout.config) or {}
    services.forget(layout)
    for path in (
        layout.unit,
        layout.upgrade_path,
        layout.upgrade_unit,
        layout.script,
        layout.config,
        layout.status,
        layout.pidfile,
    ):
        path.unlink(missing_ok=True)
    if not keep_identity:
        layout.identity.unlink(missing_ok=True)
    for log in layout.logs.glob(f"{layout.log.name}*"):
        log.unlink()
    if layout.role != "client" and layout.identity.parent.is_dir() and not keep_identity:
        shutil.rmtree(str(layout.identity.parent))
    if config.get("esxi_host") and not layout.others:
        layout.host.unlink(missing_ok=True)
    for folder in (layout.home, layout.state):
        shutil.rmtree(str(folder), ignore_errors=True)
    _hand_over_command(layout)
    if layout.role == "appliance":
        layout.trust.unlink(missing_ok=True)
    if not layout.others:
        remove_account(layout)
        (layout.settings / MADE).unlink(missing_ok=True)
        layout.trust.unlink(missing_ok=True)
        for folder in (layout.top, layout.all_state, layout.logs, layout.run):
            shutil.rmtree(str(folder), ignore_errors=True)
        with contextlib.suppress(OSError):
            layout.settings.rmdir()  # What somebody else put there stays.
    services.reload(layout)
    return there


def _hand_over_command(layout: Layout) -> None:
    """The other role's `gpuferry` takes the place of ours on the PATH."""
    try:
        ours = Path(os.readlink(layout.command)).is_relative_to(layout.home)
    except OSError:
        return
    if ours:
        layout.command.unlink()
        for other in layout.others[:1]:
            layout.command.symlink_to(other.current / "bin/gpuferry")
