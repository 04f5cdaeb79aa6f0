"""From a one-time ticket to the machine's identity, or to a new site, with the version that was just unpacked."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Dict

from .accounts import find_account
from .layout import Layout, read_json
from .report import Failure


def is_enrolled(layout: Layout, appliance_key: str) -> bool:
    """Whether there is an identity, and one of this appliance (an empty key: of any)."""
    identity = read_json(layout.identity)
    if layout.role == "appliance":
        return isinstance(identity, dict)
    if not isinstance(identity, dict) or not identity.get("secret_key"):
        return False
    return not appliance_key or identity.get("appliance_key") == appliance_key


def enrol(layout: Layout, version: Path, ticket: str, name: str) -> None:
    """Use the ticket up. The former identity stays until there is the new one. Raises Failure."""
    if not ticket:
        raise Failure("ticket", "this machine is not enrolled, and no ticket was given", "Deploy it with a ticket.")
    layout.identity.parent.mkdir(parents=True, exist_ok=True)
    # The ticket goes over standard input: a command line is everybody's to read.
    command = [str(version / "bin/gpuferry"), "enrol", "-", "--as", layout.role]
    if name:
        command += ["--name", name]
    with tempfile.TemporaryDirectory(dir=str(layout.identity.parent)) as folder:
        made = Path(folder) / "identity.json"
        done = subprocess.run(
            [*command, "--identity", str(made)],
            input=f"{ticket}\n",
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
            timeout=150,
        )
        if done.returncode != 0 or not made.exists():
            reason = done.stderr.strip().replace("gpuferry: ", "", 1) or f"status {done.returncode}"
            raise Failure(
                "ticket", f"the appliance did not enrol this machine: {reason}", "Deploy it with a new ticket."
            )
        os.replace(str(made), str(layout.identity))
    account = find_account(layout)
    if account is not None:
        # Its group may read it: people in that group use GPUs in this machine's name.
        os.chown(str(layout.identity), 0, account[1])
    layout.identity.chmod(0o640)


def make_site(layout: Layout, version: Path, options: Mapping[str, Any]) -> str:
    """Make the appliance's site, owned by the service's account; the first admin token. Raises Failure."""
    account = find_account(layout)
    layout.site.mkdir(mode=0o700, parents=True, exist_ok=True)
    more: Dict[str, Any] = {}
    if account is not None:
        os.chown(str(layout.site), *account)
        more = {"user": account[0], "group": account[1], "extra_groups": []}
    command = [str(version / "bin/gpuferry"), "appliance", "init", "--data", str(layout.site)]
    for name, value in sorted(options.items()):
        if name == "database":
            continue  # It may hold a password, and a command line is everybody's to read.
        command.append(f"--{name}" if value is True else f"--no-{name}" if value is False else f"--{name}={value}")
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd="/",
        env={
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(layout.site),
            **({"GPUFERRY_DATABASE": str(options["database"])} if "database" in options else {}),
        },
        timeout=180,
        **more,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines()
        raise Failure("site", f"no site was made: {said[-1] if said else f'status {done.returncode}'}")
    return str(lines[-1])
