"""A deployed service's part in its own upgrade: it leaves an order where the machine's installer finds it.

The service has no right to change what is installed. It writes `upgrade.json` into its state folder; the supervisor, or
systemd's path unit, starts the installer as root, which fetches the bundle from the appliance, verifies its signature
with the key that was pinned when the machine was deployed to, installs it and restarts the service; or puts everything
back. What came of it lies in `upgrade-result.json` when the service runs again. Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from gpuserver.protocol.control.codec import printable
from gpuserver.protocol.control.messages import Upgrade, UpgradeAnswer
from gpuserver.protocol.version import own_version

ORDER, RESULT = "upgrade.json", "upgrade-result.json"
RESTARTING = "restarting"
"""Left by the installer when it restarts the service; as in appliance/deploy/on_target/layout.py."""


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


def carry_out(
    order: Upgrade,
    say: Callable[[UpgradeAnswer], None],
    stopping: threading.Event,
    held: Callable[[], int] = lambda: 0,
    elsewhere: Optional[Callable[[str], str]] = None,
) -> None:
    """Carry an order out: a deployed service is replaced by the machine's installer once `held()` is 0.

    `elsewhere` does it for a process that is no deployed service. Returns without a word when `stopping` is set.
    """
    try:
        if elsewhere is not None and (state_folder() is None or not order.url):
            detail = elsewhere(order.version)
        else:
            count = held()
            if count:
                waits = f"version {order.version} will be installed when {count} leases have ended"
                say(UpgradeAnswer(order.version, True, waits))
            while held():
                if stopping.wait(0.2):
                    return
            detail = order_upgrade(order.version, order.url)
        answer = UpgradeAnswer(order.version, True, printable(detail))
    except UpgradeRefusedError as refused:
        answer = UpgradeAnswer(order.version, False, printable(str(refused)))
    say(answer)


def is_followed() -> bool:
    """Whether the installer ends this service in order to start it again, most likely in another version."""
    folder = state_folder()
    return folder is not None and (folder / RESTARTING).exists()


def note_start() -> None:
    """This service was started: who ends it from now on ends it for good, unless the installer says otherwise."""
    folder = state_folder()
    if folder is not None:
        with contextlib.suppress(OSError):
            (folder / RESTARTING).unlink()


def say_result(say: Callable[[UpgradeAnswer], None]) -> None:
    """Tell what came of an order, once. One that failed before the switch is known to who got it, any other to whoever
    is started after it."""
    result = take_result()
    if result is not None:
        say(UpgradeAnswer(result.version, result.done, result.detail))


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
