"""The vCenters that this user has added: one JSON file, readable by its owner only.

It lies at $XDG_CONFIG_HOME/gpuferry/vcenters.json (usually ~/.config). A password is written there only when the user
asks for it, and then it is in clear: the file's mode (0600) is all that protects it. Without it, the password is
asked for each time, or taken from a file or the environment.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vcenter.certificate import Trust
from vcenter.errors import Ambiguous, InvalidRequest, NotFound
from vcenter.session import Endpoint

PASSWORD_VARIABLE = "GPUFERRY_VCENTER_PASSWORD"  # noqa: S105 - the variable's name


@dataclass(frozen=True)
class StoredVcenter:
    """One entry. `password` is "" unless the user asked to store it; `password_file` names a file to read it from."""

    name: str
    host: str
    user: str
    port: int = 443
    thumbprint: str = ""
    ca_file: str = ""
    password: str = ""
    password_file: str = ""

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host, self.user, self.port, Trust(thumbprint=self.thumbprint, ca_file=self.ca_file))


def default_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "gpuferry" / "vcenters.json"


def load(path: Path | None = None) -> dict[str, StoredVcenter]:
    """All entries by name. Raises InvalidRequest when the file is damaged or others may read it."""
    path = path or default_path()
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    if stat.S_IMODE(mode) & 0o077:
        raise InvalidRequest(
            f"Others may read this file, which may hold passwords (mode {stat.S_IMODE(mode):o}).",
            object_name=str(path),
            remedy=f"chmod 600 {path}",
        )
    try:
        entries: list[dict[str, Any]] = json.loads(text)["vcenters"]
        return {entry["name"]: StoredVcenter(**entry) for entry in entries}
    except (ValueError, KeyError, TypeError) as bad:
        raise InvalidRequest(
            f"The file cannot be read: {bad}.", object_name=str(path), remedy="Repair it, or remove it and add again."
        ) from None


def save(entries: dict[str, StoredVcenter], path: Path | None = None) -> None:
    """Writes all entries, at once or not at all, for the owner only."""
    path = path or default_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {"vcenters": [asdict(entry) for _, entry in sorted(entries.items())]}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".vcenters-")  # created with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def choose(name: str = "", path: Path | None = None) -> StoredVcenter:
    """The entry of this name, or the only one there is. Raises NotFound or Ambiguous."""
    entries = load(path)
    if name:
        if name not in entries:
            raise NotFound(
                f"No vCenter {name!r} has been added.", object_name=name, remedy="Add it: `gpuferry vcenter add`."
            )
        return entries[name]
    if not entries:
        raise NotFound("No vCenter has been added yet.", remedy="Add one: `gpuferry vcenter add ADDRESS --user USER`.")
    if len(entries) > 1:
        raise Ambiguous(
            f"Several vCenters have been added: {', '.join(sorted(entries))}.", remedy="Name one with --vcenter."
        )
    return next(iter(entries.values()))


def password_of(entry: StoredVcenter) -> str | None:
    """The password, from the environment, the entry's file or the entry itself; None when it must be asked for."""
    given = os.environ.get(PASSWORD_VARIABLE)
    if given:
        return given
    if entry.password_file:
        return read_password_file(Path(entry.password_file))
    return entry.password or None


def read_password_file(path: Path) -> str:
    """The first line of a file. Raises InvalidRequest when it cannot be read or is empty."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as bad:
        raise InvalidRequest(f"The password file cannot be read: {bad}.", object_name=str(path)) from None
    if not lines or not lines[0]:
        raise InvalidRequest("The password file is empty.", object_name=str(path))
    return lines[0]
