"""A deployed service's part in its own upgrade: it leaves an order where the machine's installer finds it.

The service has no right to change what is installed. It writes `upgrade.json` into its state folder; the supervisor, or
systemd's path unit, starts the installer as root, which fetches the bundle from the appliance, verifies its signature
with the key that was pinned when the machine was deployed to, installs it and restarts the service; or puts everything
back. What came of it lies in `upgrade-result.json` when the service runs again. Python 3.9.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from gpuserver.protocol.control.codec import printable
from gpuserver.protocol.version import own_version

ORDER, RESULT = "upgrade.json", "upgrade-result.json"


class UpgradeRefusedError(RuntimeError):
    """This machine cannot upgrade itself; the text says why."""


@dataclass(frozen=True)
class UpgradeResult:
    """What came of the last order."""

    version: str
    done: bool
    detail: str


def state_folder() -> Optional[Path]:
    """Where a deployed service and the installer meet; None: this process is no deployed service."""
    if "GPUFERRY_STATUS" not in os.environ:
        return None
    state = os.environ.get("GPUFERRY_STATE")
    return Path(state) if state else None


def order_upgrade(version: str, url: str) -> str:
    """Have `version` installed from the bundle at `url`; returns what will happen. Raises UpgradeRefusedError."""
    folder = state_folder()
    if folder is None:
        raise UpgradeRefusedError("this process is no deployed service: upgrade it the way it was installed")
    if version == own_version():
        raise UpgradeRefusedError(f"version {version} is what runs here")
    if not url.startswith(("https://", "http://")):
        raise UpgradeRefusedError("the order does not say where the bundle is")
    temporary = folder / f".{ORDER}"
    try:
        temporary.write_text(json.dumps({"version": version, "url": url}))
        os.replace(str(temporary), str(folder / ORDER))
    except OSError as wrong:
        raise UpgradeRefusedError(f"the order cannot be handed to the installer: {wrong}") from None
    return f"version {version} is being installed"


def take_result() -> Optional[UpgradeResult]:
    """What came of an order that was carried out since this was last asked."""
    folder = state_folder()
    if folder is None:
        return None
    path = folder / RESULT
    try:
        told = json.loads(path.read_text())
        result = UpgradeResult(str(told["version"]), bool(told["done"]), printable(str(told["detail"])))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        result = None
    try:
        path.unlink()
    except OSError:
        return None
    return result
