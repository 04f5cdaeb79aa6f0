"""The appliance's own folder: where it listens, where its database is, and the keys that make it this appliance.

    site.json                    database URL, addresses
    curve.json                   its CURVE key pair: who has it is the appliance, to daemons and agents
    master.key                   32 bytes: seals vCenter passwords, derives the secrets of sessions
    ca.pem, ca.key               the certificate authority made at `init`
    tls.pem, tls.key             the certificate of the REST API

Several appliance processes of one site share these files (copied, when they run on several machines) and one
PostgreSQL.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from gpuserver.protocol.control.curve import new_keys, write_private


class SiteError(RuntimeError):
    """The folder is not a site's, or a file of it is broken; the text says what to do."""


@dataclass(frozen=True)
class SiteConfig:
    """`name` is the address under which daemons, agents and people reach this appliance."""

    name: str
    database: str
    control_port: int = 4741
    enrol_port: int = 4742
    api_port: int = 4743
    listen: str = "0.0.0.0"  # noqa: S104 - a service for the whole site
    tls: bool = True

    @property
    def control_endpoint(self) -> str:
        return f"tcp://{_bracketed(self.name)}:{self.control_port}"

    @property
    def enrol_endpoint(self) -> str:
        return f"tcp://{_bracketed(self.name)}:{self.enrol_port}"

    @property
    def api_url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{_bracketed(self.name)}:{self.api_port}"


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


class Site:
    """An opened site folder. Raises SiteError when it is not one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.config = SiteConfig(**json.loads((folder / "site.json").read_text()))
            keys = json.loads((folder / "curve.json").read_text())
            self.curve_public, self.curve_secret = str(keys["public"]), str(keys["secret"])
            self._master = (folder / "master.key").read_bytes()
        except FileNotFoundError as missing:
            raise SiteError(
                f"{folder} is not a site ({missing.filename} is missing): make one with `gpuferry appliance init`"
            ) from None
        except (ValueError, TypeError, KeyError) as wrong:
            raise SiteError(f"{folder} is damaged ({wrong}): restore it from a backup") from None

    def session_secret(self, lease: str, server: str, fence: int) -> str:
        """The secret that proves one grant on one server, hex. It is derived: stored nowhere, the same everywhere."""
        text = f"session\0{lease}\0{server}\0{fence}".encode()
        return hmac.new(self._master, text, hashlib.sha256).hexdigest()

    def seal(self, text: str) -> str:
        """Encrypt what the database must keep but not know, e.g. a vCenter's password."""
        return self._box().encrypt(text.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Raises SiteError when it was sealed by another site."""
        try:
            return self._box().decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise SiteError("a sealed password does not belong to this site's master.key") from None

    def _box(self) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(hmac.new(self._master, b"seal", hashlib.sha256).digest()))


def make_site(folder: Path, config: SiteConfig) -> Site:
    """Make the folder, its keys and its configuration. Raises SiteError when there is a site already."""
    if (folder / "site.json").exists():
        raise SiteError(f"{folder} is a site already; remove it first if you mean to lose it")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    public, secret = new_keys()
    write_private(folder / "curve.json", json.dumps({"public": public, "secret": secret}).encode())
    write_private(folder / "master.key", secrets.token_bytes(32))
    write_private(folder / "site.json", json.dumps(asdict(config), indent=1).encode())
    return Site(folder)
