"""A daemon's or agent's part in the renewal of its CURVE key. Python 3.9.

    appliance: RenewKey  ->  a new pair is made and lies in IDENTITY.next-key.json    ->  NextKey
    appliance: KeyTaken  ->  the pair moves to IDENTITY.renewed-key.json, and is what this machine connects with
    appliance: KeyRenewed (to the machine's other processes)  ->  they read the identity again

At every moment the pair on the disk is one that the appliance takes: it knows the new one before that is used, and it
drops the old one only when it has heard from the new one. Who was not told finds out when the old key is refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Optional

from gpuserver.protocol.control.curve import (
    Identity,
    IdentityError,
    load_identity,
    new_keys,
    renewed_key_file,
    write_private,
)


class KeyRenewal:
    """The keys of one identity on the disk. One of a link; used in the link's thread."""

    def __init__(self, identity: Identity, path: Path) -> None:
        self.enrolled_key = identity.renews or identity.public_key
        self.path = path
        # In a service's state folder its group may read, as it may read the identity.
        self._mode = 0o640 if "GPUFERRY_STATE" in os.environ else 0o600

    def prepare(self) -> str:
        """Make a pair and keep it; returns its public half. Raises OSError."""
        public, secret = new_keys()
        pair = {"renews": self.enrolled_key, "public_key": public, "secret_key": secret}
        write_private(renewed_key_file(self.path, "next"), json.dumps(pair).encode(), self._mode)
        return public

    def take(self, identity: Identity, public: str) -> Optional[Identity]:
        """The appliance knows the pair that was prepared: it is this machine's from now on. None: it is not the one
        that lies there. Raises OSError."""
        prepared = renewed_key_file(self.path, "next")
        try:
            pair = json.loads(prepared.read_text())
        except (FileNotFoundError, ValueError):
            return None
        if pair.get("public_key") != public:
            return None
        os.replace(str(prepared), str(renewed_key_file(self.path)))
        return replace(identity, public_key=public, secret_key=str(pair["secret_key"]), renews=self.enrolled_key)

    def read_again(self, identity: Identity) -> Optional[Identity]:
        """The identity as the disk says now, where that has another key; None otherwise."""
        try:
            found = load_identity(self.path)
        except IdentityError:
            return None
        if found.public_key == identity.public_key or found.appliance_key != identity.appliance_key:
            return None
        self.enrolled_key = found.renews or found.public_key
        return found
