"""cloud-init data for a guest, handed over through guestinfo keys of the VM (cloud-init's DataSourceVMware).

A value may be 64 KiB long at most; what does not fit as base64 goes gzip-compressed. Every vCenter user who may read
the VM can read these keys, so only one-time tokens belong in them, and `cleared` empties them after the first boot.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from vcenter.errors import InvalidRequest, TooLarge

LIMIT_BYTES = 64 * 1024
KEYS = ("guestinfo.metadata", "guestinfo.userdata", "guestinfo.vendordata")


@dataclass(frozen=True)
class CloudInit:
    """What the guest is told. `user_data` is a #cloud-config mapping or a whole document (text with its first line).

    `network` is a cloud-init network configuration (version 2); without it the guest's image decides (usually DHCP).
    """

    host_name: str
    instance_id: str
    user_data: Mapping[str, Any] | str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    ssh_keys: tuple[str, ...] = ()
    user: str = "gpuferry"

    def metadata_text(self) -> str:
        metadata: dict[str, Any] = {"instance-id": self.instance_id, "local-hostname": self.host_name}
        if self.network:
            network = {"version": 2, **self.network}
            metadata["network"] = base64.b64encode(yaml.safe_dump(network, sort_keys=True).encode()).decode()
            metadata["network.encoding"] = "base64"
        return json.dumps(metadata, sort_keys=True)

    def user_data_text(self) -> str:
        if isinstance(self.user_data, str):
            if self.ssh_keys and self.user_data:
                raise InvalidRequest("SSH keys go into a user-data mapping, not beside a finished document.")
            if self.user_data or not self.ssh_keys:
                return self.user_data
        config: dict[str, Any] = dict(self.user_data) if not isinstance(self.user_data, str) else {}
        if self.ssh_keys:
            account = {
                "name": self.user,
                "groups": ["sudo"],
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": list(self.ssh_keys),
            }
            config["users"] = [*config.get("users", ["default"]), account]
        return f"#cloud-config\n{yaml.safe_dump(config, sort_keys=True)}"

    def options(self) -> dict[str, str]:
        """The extraConfig entries. Raises TooLarge when a value exceeds 64 KiB even when compressed."""
        options: dict[str, str] = {}
        for key, text in (("guestinfo.metadata", self.metadata_text()), ("guestinfo.userdata", self.user_data_text())):
            if text:
                options[key], options[f"{key}.encoding"] = encoded(key, text)
        return options


def encoded(key: str, text: str) -> tuple[str, str]:
    """(value, encoding) for one guestinfo key: base64, or gzip+base64 when only that fits in 64 KiB."""
    raw = text.encode()
    value = base64.b64encode(raw).decode()
    if len(value) <= LIMIT_BYTES:
        return value, "base64"
    value = base64.b64encode(gzip.compress(raw, mtime=0)).decode()
    if len(value) <= LIMIT_BYTES:
        return value, "gzip+base64"
    raise TooLarge(
        f"{key} takes {len(value)} bytes even when compressed; a guestinfo value holds at most {LIMIT_BYTES}."
    )


def decoded(value: str, encoding: str) -> str:
    """The text behind an encoded value, as cloud-init reads it."""
    raw = base64.b64decode(value) if "base64" in encoding or encoding in ("b64", "gz+b64") else value.encode()
    return (gzip.decompress(raw) if encoding.startswith("gz") else raw).decode()


def cleared() -> dict[str, str]:
    """The extraConfig entries that empty all cloud-init keys: to be set after the guest has enrolled."""
    return {key: "" for base in KEYS for key in (base, f"{base}.encoding")}
