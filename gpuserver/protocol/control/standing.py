"""How a service stands with the appliance, as a small file that whoever installed the service can read.

The environment variable GPUFERRY_STATUS names it; services have it set, commands of people do not. It holds one JSON
object: `pid`, `version`, `state` (`away`, `connected` or `refused`), `reason`, `since` (seconds since 1970).
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Optional

from gpuserver.protocol.version import own_version

log = logging.getLogger(__name__)
AWAY, CONNECTED, REFUSED = "away", "connected", "refused"


class Standing:
    """Writes the file when what it says has changed."""

    def __init__(self, path: Optional[Path]) -> None:
        self.path = path
        self._said = ("", "")

    def say(self, state: str, reason: str = "") -> None:
        """Write it. A disk that is full or a folder that is gone must not end the service."""
        if self.path is None or (state, reason) == self._said:
            return
        self._said = (state, reason)
        content = {"pid": os.getpid(), "version": own_version(), "state": state, "reason": reason, "since": time.time()}
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(content))
            os.replace(str(temporary), str(self.path))
        except OSError as wrong:
            log.warning("%s cannot be written: %s", self.path, wrong)


def service_standing() -> Standing:
    """The standing of this process: written nowhere unless it is a service."""
    named = os.environ.get("GPUFERRY_STATUS")
    return Standing(Path(named) if named else None)
