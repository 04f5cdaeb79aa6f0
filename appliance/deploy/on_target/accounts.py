"""The system user under which the services run, and whose group may use the machine's identity."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from .layout import ACCOUNT, Layout, write_file

MADE = "account-made"
"""A file beside the settings that says that the account is ours to remove."""


class AccountError(Exception):
    """The system user cannot be made; the text says why."""


def find_account(layout: Layout) -> tuple[int, int] | None:
    """User and group id of the services; None: they run as whoever deploys (a stand-in's root)."""
    if layout.root != Path("/") or os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(ACCOUNT).pw_uid, grp.getgrnam(ACCOUNT).gr_gid
    except KeyError:
        return None


def make_account(layout: Layout) -> tuple[int, int] | None:
    """The same, made where it is missing. Raises AccountError."""
    found = find_account(layout)
    if found is not None or layout.root != Path("/") or os.geteuid() != 0:
        return found
    program = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise AccountError("there is no useradd to make the system user with: install the package `passwd` (shadow)")
    shell = next((each for each in ("/usr/sbin/nologin", "/sbin/nologin") if os.path.exists(each)), "/bin/false")
    group = "--user-group"
    try:
        grp.getgrnam(ACCOUNT)
        group = f"--gid={ACCOUNT}"
    except KeyError:
        pass
    command = [program, "--system", "--no-create-home", "--home-dir", str(layout.all_state), "--shell", shell, group]
    done = subprocess.run([*command, ACCOUNT], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    found = find_account(layout)
    if found is None:
        raise AccountError(f"useradd failed: {done.stdout.decode(errors='replace').strip()}")
    write_file(layout.settings / MADE, f"{ACCOUNT}\n")
    return found


def remove_account(layout: Layout) -> None:
    """Take the user and its group away, if a deployment made them."""
    if not (layout.settings / MADE).exists() or find_account(layout) is None:
        return
    for name in ("userdel", "groupdel"):
        program = shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
        if program is not None:
            subprocess.run([program, ACCOUNT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
