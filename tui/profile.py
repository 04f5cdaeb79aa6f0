"""Which appliance the console speaks to: from options, or remembered in `~/.config/gpuferry/console.json` (mode 0600).

A token is never written into the profile: the profile names the file that holds it. A token typed into the console is
kept in `~/.config/gpuferry/token` (mode 0600), if the user wants it remembered.
"""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import asdict, dataclass, replace
from pathlib import Path


class ProfileError(RuntimeError):
    """The console cannot begin with this; the text says why and what to do."""


def folder() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "gpuferry"


@dataclass(frozen=True)
class Profile:
    """`url`: the API, e.g. https://gpu.lab:4743. `ca`: a PEM file to trust; empty: the system's authorities."""

    url: str = ""
    token_file: str = ""
    ca: str = ""
    theme: str = ""

    @property
    def complete(self) -> bool:
        return bool(self.url and self.token_file)

    def token(self) -> str:
        """Raises ProfileError when the file is not there or empty."""
        try:
            token = Path(self.token_file).expanduser().read_text().strip()
        except (OSError, UnicodeDecodeError) as failure:
            raise ProfileError(f"the token file {self.token_file} cannot be read: {failure}") from None
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ProfileError(f"{self.token_file} holds no token: make one with `gpuferry appliance token`")
        return token

    def trust(self) -> ssl.SSLContext | bool:
        """What verifies the appliance's certificate. Raises ProfileError when the CA file cannot be used."""
        if not self.ca:
            return True
        try:
            return ssl.create_default_context(cafile=str(Path(self.ca).expanduser()))
        except (OSError, ssl.SSLError) as failure:
            raise ProfileError(f"the CA file {self.ca} cannot be used: {failure}") from None


def recall() -> Profile:
    """The remembered profile; an empty one when there is none. Raises ProfileError when the file is damaged."""
    path = folder() / "console.json"
    try:
        known = json.loads(path.read_text())
        return Profile(**{key: str(known[key]) for key in asdict(Profile()) if key in known})
    except FileNotFoundError:
        return Profile()
    except (OSError, ValueError, TypeError) as damaged:
        raise ProfileError(f"{path} cannot be read as a profile ({damaged}): mend or remove it") from None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def remember(profile: Profile) -> None:
    write_private(folder() / "console.json", json.dumps(asdict(profile), indent=1) + "\n")


def keep_token(profile: Profile, token: str) -> Profile:
    """Put a typed token into the profile's file, or into one of its own; returns the profile that names it."""
    path = Path(profile.token_file).expanduser() if profile.token_file else folder() / "token"
    write_private(path, token + "\n")
    return replace(profile, token_file=str(path))
