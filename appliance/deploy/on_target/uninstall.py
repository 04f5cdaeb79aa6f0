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
    """Remove a role; what both roles share goes with the last one. Whether there was anything."""
    there = any(each.exists() for each in (layout.versions, layout.config, layout.unit, layout.script, layout.identity))
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
    if layout.role == "server" and layout.identity.parent.is_dir() and not keep_identity:
        shutil.rmtree(str(layout.identity.parent))
    if config.get("esxi_host") and not layout.others:
        layout.host.unlink(missing_ok=True)
    for folder in (layout.home, layout.state):
        shutil.rmtree(str(folder), ignore_errors=True)
    _hand_over_command(layout)
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
        for other in layout.others:
            layout.command.symlink_to(other.current / "bin/gpuferry")
