"""Where everything is on a machine that gpuferry was deployed to.

    /opt/gpuferry/ROLE/versions/NAME/     lib (Python packages, native parts), bin/gpuferry, bin/python, installer.pyz
    /opt/gpuferry/ROLE/current            a link to the version in use
    /opt/gpuferry/ROLE/pending.json       what to go back to; it is there only while a version is being tried
    /etc/gpuferry/trust.json              the key whose bundles are taken, pinned by the first deployment
    /etc/gpuferry/ROLE.json               how the service is configured
    /etc/gpuferry/identity.json           a client's key (a server's: /etc/gpuferry/server/identity.json)
    /var/lib/gpuferry-appliance           an appliance's site: keys, database, bundles; it outlives the program
    /var/lib/gpuferry/ROLE, /var/log/gpuferry, /run/gpuferry
    /usr/local/bin/gpuferry

`root` is `/`, except for the stand-ins of a benchmark.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

ACCOUNT = "gpuferry"
# In the order in which their `gpuferry` is the one on the PATH.
SERVICES = {"client": "gpuferry-agent", "appliance": "gpuferry-appliance", "server": "gpuferry-gpuserver"}


class Layout:
    """The paths of one role."""

    def __init__(self, role: str, root: Path = Path("/")) -> None:
        self.role = role
        self.root = root
        self.service = SERVICES[role]
        self.top = root / "opt/gpuferry"
        self.home = self.top / role
        self.versions = self.home / "versions"
        self.current = self.home / "current"
        self.pending = self.home / "pending.json"
        self.settings = root / "etc/gpuferry"
        # An appliance comes from elsewhere; the machine's other roles are of an appliance.
        self.trust = self.settings / ("appliance-trust.json" if role == "appliance" else "trust.json")
        self.config = self.settings / f"{role}.json"
        self.host = self.settings / "host"
        self.site = root / "var/lib/gpuferry-appliance"
        identities = {"client": self.settings / "identity.json", "appliance": self.site / "site.json"}
        self.identity = identities.get(role, self.settings / "server/identity.json")
        self.all_state = root / "var/lib/gpuferry"
        self.state = self.all_state / role
        self.order = self.state / "upgrade.json"
        self.restarting = self.state / "restarting"
        self.logs = root / "var/log/gpuferry"
        self.log = self.logs / f"{self.service}.log"
        self.run = root / "run/gpuferry"
        self.status = self.run / f"{self.service}.json"
        self.pidfile = self.run / f"{self.service}.pid"
        self.command = root / "usr/local/bin/gpuferry"
        self.unit = root / f"etc/systemd/system/{self.service}.service"
        self.upgrade_path = root / f"etc/systemd/system/{self.service}-upgrade.path"
        self.upgrade_unit = root / f"etc/systemd/system/{self.service}-upgrade.service"
        self.script = root / f"etc/init.d/{self.service}"

    @property
    def others(self) -> list[Layout]:
        """The other roles that are installed on this machine, in the order of SERVICES."""
        every = [Layout(role, self.root) for role in SERVICES if role != self.role]
        return [each for each in every if each.current.is_symlink()]

    def version_in_use(self) -> str | None:
        """The name of the version that `current` points to."""
        try:
            return Path(os.readlink(self.current)).name
        except OSError:
            return None

    def version(self, name: str) -> Path:
        return self.versions / name


def write_file(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Replace a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=str(path.parent), prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, str(path))
    except BaseException:
        os.unlink(temporary)
        raise


def write_link(path: Path, target: str) -> None:
    """Make or turn a symbolic link in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}"
    if temporary.is_symlink():
        temporary.unlink()
    temporary.symlink_to(target)
    os.replace(str(temporary), str(path))


def read_json(path: Path) -> Any:
    """A file's JSON, None when there is none or it is unreadable."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
