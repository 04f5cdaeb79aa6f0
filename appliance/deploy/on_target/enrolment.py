"""From a one-time ticket to the machine's identity, with the version that was just unpacked."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .accounts import find_account
from .layout import Layout, read_json
from .report import Failure


def is_enrolled(layout: Layout, appliance_key: str) -> bool:
    """Whether there is an identity, and one of this appliance (an empty key: of any)."""
    identity = read_json(layout.identity)
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
            timeout=90,
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
