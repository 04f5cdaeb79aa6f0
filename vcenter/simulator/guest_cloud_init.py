"""The part of cloud-init that provisioning uses, for guests that are sandboxes: guestinfo in, a shell script out.

Understood of user data: ``#cloud-config`` with hostname, users, ssh_authorized_keys, write_files, bootcmd and runcmd;
or a script (``#!``). Applied once for each instance-id, as cloud-init does; runcmd and scripts run last, in the
background, their output in /var/log/cloud-init-output.log. The VMware data source's encodings base64 and gzip+base64
are understood, values above 64 KiB are refused as vSphere refuses them.
"""

import base64
import binascii
import gzip
import hashlib
import shlex
from dataclasses import dataclass
from typing import Any

import yaml

LIMIT = 64 * 1024


class GuestinfoError(Exception):
    """guestinfo is not what the VMware data source takes; the text says why."""


@dataclass(frozen=True)
class FirstBoot:
    """What a guest does when it boots with this guestinfo."""

    instance_id: str
    hostname: str
    setup: str
    final: str


def read_guestinfo(extra: dict[str, str], name: str) -> bytes | None:
    """The decoded value of ``guestinfo.<name>``, None if it is unset. Raises GuestinfoError."""
    value = extra.get(f"guestinfo.{name}")
    if not value:
        return None
    if len(value) > LIMIT:
        raise GuestinfoError(f"guestinfo.{name} has more than 64 KiB")
    encoding = extra.get(f"guestinfo.{name}.encoding", "").lower()
    try:
        if encoding in {"gzip+base64", "gz+b64"}:
            return gzip.decompress(base64.b64decode(value))
        if encoding in {"base64", "b64"}:
            return base64.b64decode(value)
    except (OSError, EOFError, binascii.Error) as error:
        raise GuestinfoError(f"guestinfo.{name} is not {encoding}: {error}") from None
    return value.encode()


def first_boot(extra: dict[str, str], default_name: str) -> FirstBoot:
    """What the guestinfo of a machine asks for. Raises GuestinfoError."""
    metadata = _mapping(read_guestinfo(extra, "metadata"), "metadata")
    raw = read_guestinfo(extra, "userdata") or b""
    hostname = str(metadata.get("local-hostname") or metadata.get("hostname") or default_name)
    digest = hashlib.sha256(raw).hexdigest()
    instance_id = str(metadata.get("instance-id") or digest)
    text = raw.decode(errors="replace")
    if text.startswith("#!"):
        return FirstBoot(
            instance_id, hostname, "", _file("/var/lib/cloud/script", raw, "0755") + "/var/lib/cloud/script\n"
        )
    config = _mapping(raw, "userdata") if text.startswith("#cloud-config") else {}
    hostname = str(config.get("hostname") or hostname)
    lines = [_command(each) for each in config.get("bootcmd") or ()]
    lines += [_keys("root", config.get("ssh_authorized_keys") or ())]
    lines += [_user(each) for each in config.get("users") or ()]
    lines += [_written(each) for each in config.get("write_files") or ()]
    final = [_command(each) for each in config.get("runcmd") or ()]
    return FirstBoot(instance_id, hostname, "".join(lines), "".join(final))


def authorized_keys(extra: dict[str, str]) -> list[str]:
    """All SSH keys of the user data, whoever they are for. Raises GuestinfoError."""
    raw = read_guestinfo(extra, "userdata") or b""
    config = _mapping(raw, "userdata") if raw.startswith(b"#cloud-config") else {}
    keys = [str(each) for each in config.get("ssh_authorized_keys") or ()]
    for user in config.get("users") or ():
        if isinstance(user, dict):
            keys += [str(each) for each in user.get("ssh_authorized_keys") or ()]
    return keys


def _mapping(raw: bytes | None, what: str) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        content = yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise GuestinfoError(f"guestinfo.{what} is not YAML: {error}") from None
    if content is not None and not isinstance(content, dict):
        raise GuestinfoError(f"guestinfo.{what} is not a mapping")
    return content or {}


def _command(entry: Any) -> str:
    if isinstance(entry, list):
        return shlex.join(str(each) for each in entry) + "\n"
    return f"{entry}\n"


def _user(entry: Any) -> str:
    if not isinstance(entry, dict):
        return ""
    name = str(entry.get("name", ""))
    if not name:
        return ""
    shell = shlex.quote(str(entry.get("shell", "/bin/bash")))
    quoted = shlex.quote(name)
    text = f"id {quoted} >/dev/null 2>&1 || useradd -m -s {shell} {quoted}\n"
    text += f"passwd -d {quoted} >/dev/null\n"
    for rule in _listed(entry.get("sudo")):
        text += (
            f"mkdir -p /etc/sudoers.d && echo {shlex.quote(f'{name} {rule}')} >> /etc/sudoers.d/90-cloud-init-users\n"
        )
    groups = _listed(entry.get("groups"))
    for group in (one.strip() for each in groups for one in str(each).split(",")):
        text += f"getent group {shlex.quote(group)} >/dev/null || groupadd {shlex.quote(group)}\n"
        text += f"usermod -aG {shlex.quote(group)} {quoted}\n"
    return text + _keys(name, entry.get("ssh_authorized_keys") or entry.get("ssh-authorized-keys") or ())


def _listed(value: Any) -> list[Any]:
    if value in (None, False):
        return []
    return list(value) if isinstance(value, list) else [value]


def _keys(user: str, keys: Any) -> str:
    if not keys:
        return ""
    home = f"$(getent passwd {shlex.quote(user)} | cut -d: -f6)"
    text = f'install -d -m 700 -o {shlex.quote(user)} "{home}/.ssh"\n'
    for key in keys:
        text += f'echo {shlex.quote(str(key).strip())} >> "{home}/.ssh/authorized_keys"\n'
    return (
        text + f'chown {shlex.quote(user)} "{home}/.ssh/authorized_keys" && chmod 600 "{home}/.ssh/authorized_keys"\n'
    )


def _written(entry: Any) -> str:
    content = str(entry.get("content", ""))
    encoding = str(entry.get("encoding", "text/plain")).lower()
    try:
        if encoding in {"b64", "base64"}:
            raw = base64.b64decode(content)
        elif encoding in {"gz+b64", "gzip+base64", "gz+base64", "gzip+b64"}:
            raw = gzip.decompress(base64.b64decode(content))
        else:
            raw = content.encode()
    except (OSError, binascii.Error) as error:
        raise GuestinfoError(f"write_files {entry.get('path')}: {error}") from None
    text = _file(str(entry["path"]), raw, str(entry.get("permissions", "0644")), append=bool(entry.get("append")))
    owner = entry.get("owner")
    return text + (f"chown {shlex.quote(str(owner))} {shlex.quote(str(entry['path']))}\n" if owner else "")


def _file(path: str, raw: bytes, mode: str, *, append: bool = False) -> str:
    quoted = shlex.quote(path)
    encoded = base64.b64encode(raw).decode()
    # In pieces: one argument of the kernel's is at most 128 KiB.
    text = f'mkdir -p "$(dirname {quoted})"\n'
    if not append:
        text += f": > {quoted}\n"
    for at in range(0, len(encoded), 60_000):
        text += f"printf %s {encoded[at : at + 60_000]} | base64 -d >> {quoted}\n"
    return text + f"chmod {shlex.quote(mode)} {quoted}\n"
