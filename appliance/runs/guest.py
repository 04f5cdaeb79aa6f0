"""The machine that a run deploys to: where it is, who logs in, and by which host key it is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyVmomi import vim
from sqlalchemy import select

from appliance.deploy.bundle import Bundle, latest_bundle
from appliance.deploy.deployment import DeploySettings, Progress
from appliance.deploy.errors import HostKeyUnknownError
from appliance.deploy.on_target.manifest import BundleError
from appliance.deploy.ssh import Target, fingerprint
from appliance.ids import new_id
from appliance.runs.step import RunError
from appliance.runs.work import Ground, Work
from appliance.settings import read_secrets, read_settings
from appliance.state.database import reading, writing
from appliance.state.models import Event, HostKey, Run, Setting, now
from vcenter.collector import read
from vcenter.vm_power import addresses_of

HOST_KEY = "guestinfo.gpuferry.host-key"
"""Where a guest of ours writes its SSH host key: only the guest and vCenter's administrators can write there."""
SSH_PORT = "guestinfo.gpuferry.ssh-port"
"""Of guests behind a port of their host (simulated ones): the port to log in at."""
RECORD = "the VM's own record in vCenter"
TELL_HOST_KEY = f'vmware-rpctool "info-set {HOST_KEY} $(cut -d" " -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)"'
"""What a guest of ours runs at its first boot (cloud-init's runcmd)."""


def ensure_key(ground: Ground) -> str:
    """The public half of the site's SSH key; the key is made when there is none yet."""
    with writing(ground.engine) as session:
        sealed = read_secrets(session).get("ssh_key")
        private = ground.site.unseal(sealed) if sealed else _new_key()
        if not sealed:
            value = {"value": "sealed", "sealed": ground.site.seal(private)}
            row = session.get(Setting, "ssh_key")
            if row is None:
                session.add(Setting(key="ssh_key", value=value))
            else:
                row.value, row.revision = value, row.revision + 1
    return public_half(private)


def _new_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return text.decode()


def public_half(private: str) -> str:
    """As in `authorized_keys`. Raises RunError."""
    from cryptography.hazmat.primitives import serialization

    try:
        key: Any = serialization.load_ssh_private_key(private.encode(), password=None)
    except ValueError as wrong:
        raise RunError(f"the site's SSH key cannot be read: {wrong}", "Set ssh_key anew: PATCH /v1/settings.") from None
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{line.decode()} gpuferry"


def login(work: Work) -> dict[str, Any]:
    """User and secrets of the run, what it does not say taken from the site's settings."""
    ssh, secrets = work.parameters.ssh, work.secrets()
    with reading(work.ground.engine) as session:
        settings, sealed = read_settings(session), read_secrets(session)
    unseal = work.ground.site.unseal
    told: dict[str, Any] = {"user": ssh.user or settings.ssh_user}
    if "key" in secrets or "password" in secrets:
        told["key"], told["password"] = secrets.get("key"), secrets.get("password")
    else:
        if "ssh_key" not in sealed:
            ensure_key(work.ground)
            with reading(work.ground.engine) as session:
                sealed = read_secrets(session)
        told["key"] = unseal(sealed["ssh_key"])
        told["password"] = unseal(sealed["ssh_password"]) if "ssh_password" in sealed else None
    sudo = secrets.get("sudo_password")
    told["sudo_password"] = sudo or (unseal(sealed["sudo_password"]) if "sudo_password" in sealed else None)
    return told


def target_of(work: Work, address: str, port: int) -> Target:
    """The machine, its host key pinned where somebody or something vouches for it."""
    who = login(work)
    jump = None
    if work.parameters.ssh.jump:
        user, _, place = work.parameters.ssh.jump.rpartition("@")
        host, _, jump_port = place.partition(":")
        number = int(jump_port or 22)
        jump = Target(
            host,
            number,
            user or who["user"],
            who["key"],
            who["password"],
            host_key=known_key(work.ground, host, number),
        )
    vouched = work.facts.get("vouched", {}).get(f"{address}:{port}")
    return Target(address, port, **who, jump=jump, host_key=vouched or known_key(work.ground, address, port))


def known_key(ground: Ground, address: str, port: int) -> str | None:
    """The confirmed host key of a machine."""
    with reading(ground.engine) as session:
        row = session.scalars(select(HostKey).where(HostKey.target == f"{address}:{port}")).one_or_none()
        return row.public_key if row is not None and row.confirmed_at is not None else None


def vouch(work: Work, address: str, port: int, public_key: str) -> None:
    """A machine's key as its VM's own record in vCenter says, if it says one; it replaces what was known of that
    address. A dry run takes the VM's word for itself, and notes nothing.
    """
    import base64

    import paramiko

    if not public_key:
        return
    name, encoded = public_key.split()[:2]
    place, pinned = f"{address}:{port}", f"{name} {encoded}"
    if work.dry:
        work.keep(vouched={**work.facts.get("vouched", {}), place: pinned})
        return
    key = paramiko.PKey.from_type_string(name, base64.b64decode(encoded))
    _note_key(work.ground, place, pinned, fingerprint(key), source=RECORD)


def _note_key(ground: Ground, target: str, public_key: str, shown: str, source: str) -> str:
    with writing(ground.engine) as session:
        row = session.scalars(select(HostKey).where(HostKey.target == target)).one_or_none()
        if row is None:
            row = HostKey(id=new_id("hostkey"), target=target, public_key=public_key, fingerprint=shown, source=source)
            session.add(row)
        if row.public_key != public_key:
            row.public_key, row.fingerprint, row.source = public_key, shown, source
            row.confirmed_at, row.confirmed_by = None, ""
        row.seen_at = now()
        if source == RECORD and row.confirmed_at is None:
            row.confirmed_at, row.confirmed_by, row.source = now(), RECORD, source
        if row.confirmed_at is None:
            session.add(Event(kind="host-key.unknown", subject=row.id, text=f"{target} shows {shown}"))
        return row.id


def forget_key(ground: Ground, address: str, port: int) -> None:
    """A machine is gone; whoever gets its address next is somebody else."""
    with writing(ground.engine) as session:
        row = session.scalars(select(HostKey).where(HostKey.target == f"{address}:{port}")).one_or_none()
        if row is not None and row.source == RECORD:
            session.delete(row)


def waits_for_key(ground: Ground, unknown: HostKeyUnknownError, address: str, port: int) -> RunError:
    """What to tell an operator who has to confirm a key; the run goes on by itself when it is confirmed."""
    id_ = _note_key(ground, f"{address}:{port}", unknown.host_key, unknown.fingerprint, source="first use")
    wrong = RunError(
        f"nobody has confirmed the SSH host key of {address}:{port} yet; it shows {unknown.fingerprint}",
        "Compare it with the machine's own (there: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`) and confirm it: "
        f"POST /v1/host-keys/{id_}/confirm, or `gpuferry runs confirm-key {id_}`. The run then goes on by itself.",
    )
    wrong.waits_for = id_
    return wrong


def guest_facts(work: Work, vm: str) -> dict[str, Any]:
    """What vCenter knows of a VM: name, whether it runs, its address, the port to log in at, its host key."""
    session = work.session()
    ref = session.object(vim.VirtualMachine, vm)
    paths = ("name", "runtime.powerState", "guest.ipAddress", "guest.net", "config.extraConfig")
    with session.doing("Reading the virtual machine", vm):
        values = read(session, ref, *paths)
    extra = {str(each.key): str(each.value) for each in values.get("config.extraConfig") or []}
    addresses = addresses_of(values)
    # Guests behind a port of their host tell where; all others have an address of their own.
    address = addresses[0] if addresses else str(values.get("guest.ipAddress") or "") if SSH_PORT in extra else ""
    return {
        "name": str(values.get("name", vm)),
        "running": str(values.get("runtime.powerState", "poweredOff")) == "poweredOn",
        "address": address,
        "port": int(extra.get(SSH_PORT) or 22),
        "host_key": extra.get(HOST_KEY, ""),
    }


def last_settings(ground: Ground, role: str, name: str) -> str:
    """The digest of the settings with which a run last deployed this machine; "" when none has."""
    kind = "provision-server" if role == "server" else "enable-client"
    with reading(ground.engine) as session:
        query = select(Run).where(Run.kind == kind, Run.subject == name).order_by(Run.id.desc()).limit(20)
        return next((str(row.facts["settings"]) for row in session.scalars(query) if row.facts.get("settings")), "")


def bundle_of(ground: Ground) -> Bundle:
    """The site's newest bundle. Raises RunError."""
    try:
        return latest_bundle(ground.site.folder)
    except BundleError as missing:
        raise RunError(str(missing), "Build one: `gpuferry appliance bundle build`, then retry the run.") from None


def settings_for(ground: Ground, **more: Any) -> DeploySettings:
    """What is the same for every machine of the site."""
    config = ground.site.config
    reach = tuple(f"{config.name}:{port}" for port in (config.control_port, config.enrol_port))
    return DeploySettings(appliance_key=ground.site.curve_public, reach=reach, **more)


def told_to(work: Work) -> Callable[[Progress], None]:
    """Progress of a deployment as progress of the step."""
    last = ""

    def note(progress: Progress) -> None:
        nonlocal last
        if progress.text != last:
            last = progress.text
            work.say(progress.text, progress.done)
        else:
            work.progress(progress.done, progress.text)

    return note
