"""Installing a version: verify, unpack beside what runs, switch, start, confirm; or everything back to what it was.

Nothing of the version in use is touched before the new one lies there whole. From the switch on, `pending.json` holds
what has to be put back; whoever finds it (the end of this very run, the next one, an upgrade) puts it back.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import services
from .accounts import AccountError, find_account, make_account
from .enrolment import enrol, is_enrolled, make_site
from .layout import SERVICES, Layout, read_json, write_file, write_link
from .manifest import MANIFEST, SIGNATURE, BundleError, Manifest, SignatureError, fingerprint, read_manifest
from .report import Failure, Reporter
from .uninstall import remove_role
from .unpack import build_version

Files = dict[Path, tuple[str, int]]


@dataclass(frozen=True)
class Request:
    """What is wanted. `folder`: where the bundle's manifest, signature and files (named by digest) arrived.

    `site`: the options of `gpuferry appliance init`, for an appliance that is new.
    """

    role: str
    folder: Path
    key: bytes
    config: dict[str, Any] = field(default_factory=dict)
    ticket: str = ""
    name: str = ""
    appliance_key: str = ""
    enrol_again: bool = False
    new_key: bool = False
    verify_s: float = 60.0
    parts: tuple[str, ...] = ()
    site: dict[str, Any] = field(default_factory=dict)


def interpreter() -> str:
    """The path of this Python, by its version: `/usr/bin/python3` may be another one after an upgrade of the system."""
    return str(Path(sys.executable).resolve())


def python_version() -> str:
    """The version by which wheels are chosen, e.g. `3.11`."""
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def open_manifest(folder: Path, key: bytes) -> Manifest:
    """Raises Failure: the signature is checked before anything else is read."""
    try:
        raw, signature = (folder / MANIFEST).read_bytes(), (folder / SIGNATURE).read_bytes()
        return read_manifest(raw, signature, key)
    except SignatureError as wrong:
        raise Failure("signature", str(wrong), "Build the bundle again on the appliance and deploy that.") from None
    except (BundleError, OSError) as wrong:
        raise Failure("bundle", str(wrong), "Build the bundle again on the appliance and deploy that.") from None


@contextlib.contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """One deployment of a role at a time. Raises Failure."""
    layout.home.mkdir(parents=True, exist_ok=True)
    file = os.open(str(layout.home / ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise Failure("busy", "another deployment is at work on this machine", "Wait until it has ended.") from None
    try:
        yield
    finally:
        os.close(file)


def install(layout: Layout, request: Request, report: Reporter) -> bool:
    """Bring the machine to what is wanted; whether anything had to be changed. Raises Failure, with all put back."""
    report.step("verifying the bundle's signature", 0.0)
    trusted = trusted_key(layout, request)
    manifest = open_manifest(request.folder, trusted)
    _check_machine(manifest, layout.role)
    with alone(layout):
        put_back(layout, report)
        first, had_identity = layout.version_in_use() is None, layout.identity.exists()
        try:
            return _install(layout, request, manifest, report, first=first)
        except BaseException:
            if first:
                remove_role(layout, keep_identity=had_identity)
            raise


def _install(layout: Layout, request: Request, manifest: Manifest, report: Reporter, *, first: bool) -> bool:
    version = layout.version(manifest.name)
    files = wanted_files(layout, wanted_config(manifest, request))
    changed = False
    if not version.is_dir():
        _unpack(layout, request, manifest, version, report)
        changed = True
    try:
        account = make_account(layout)
    except AccountError as wrong:
        raise Failure("account", str(wrong)) from None
    _give_settings_to(layout, account)
    if request.enrol_again or not is_enrolled(layout, request.appliance_key):
        if layout.role == "appliance":
            report.step("making the site", 0.6)
            report.made["admin_token"] = make_site(layout, version, request.site)
        else:
            report.step("enrolling", 0.6)
            enrol(layout, version, request.ticket, request.name)
        changed = True
    changed = changed or layout.version_in_use() != manifest.name or differ(files) or not services.running(layout)
    if not changed:
        # All is as it should be only when the appliance knows this machine still.
        confirm(layout, manifest.version, request.verify_s)
        return False
    _switch(layout, manifest, files)
    report.step(f"starting {layout.service}", 0.7)
    try:
        layout.status.unlink(missing_ok=True)
        services.start(layout)
        waits = "waiting until it serves" if layout.role == "appliance" else "waiting for the appliance's welcome"
        report.step(waits, 0.8)
        confirm(layout, manifest.version, request.verify_s)
    except BaseException as failure:
        words = services.last_words(layout)
        returned = put_back(layout, report)
        if isinstance(failure, Failure):
            raise Failure(failure.code, _with_end(failure.what, returned, words), failure.remedy) from None
        raise
    layout.pending.unlink()
    pin_key(layout, request.key)
    _clean(layout, manifest.name)
    report.step("done", 1.0)
    return True


def _with_end(what: str, returned: str, words: str) -> str:
    text = f"{what}; {returned}"
    return f"{text}. It wrote: {words}" if words else text


def trusted_key(layout: Layout, request: Request) -> bytes:
    """The key whose bundles this machine takes. Raises Failure when it is another one than the request's."""
    pinned = read_json(layout.trust)
    if pinned and not request.new_key:
        known = bytes.fromhex(str(pinned["key"]))
        if known != request.key:
            raise Failure(
                "key",
                f"this machine takes bundles signed by the key {fingerprint(known)} only; "
                f"the appliance's is {fingerprint(request.key)}",
                "It belongs to another appliance: disable it there first, or deploy with `--replace-appliance`.",
            )
    return request.key


def _check_machine(manifest: Manifest, role: str) -> None:
    needs = manifest.roles.get(role)
    if needs is None:
        raise Failure("bundle", f"the bundle of {manifest.version} has nothing for a {role}")
    if platform.machine() != needs.architecture:
        raise Failure("architecture", f"the bundle is for {needs.architecture}, this machine is {platform.machine()}")


def _unpack(layout: Layout, request: Request, manifest: Manifest, version: Path, report: Reporter) -> None:
    layout.versions.mkdir(parents=True, exist_ok=True)
    for left in layout.versions.glob(".*"):
        shutil.rmtree(str(left), ignore_errors=True)
    making = layout.versions / f".{manifest.name}"
    try:
        chosen = manifest.select(layout.role, python_version(), request.parts)
        extra = request.config.get("python_path", ())
        variables = {"GPUFERRY_STATE": str(layout.state)}
        if layout.role == "appliance":
            variables["GPUFERRY_DATA"] = str(layout.site)
        build_version(
            making, version, chosen, request.folder, interpreter(), extra, variables,
            lambda at, of: report.step(f"unpacking {chosen[at].name.rpartition('/')[2]}", 0.05 + 0.5 * at / of),
        )  # fmt: skip
        (making / MANIFEST).write_bytes(manifest.raw)
        os.sync()
        os.rename(str(making), str(version))
    except BundleError as wrong:
        raise Failure("bundle", str(wrong), "Build the bundle again on the appliance and deploy that.") from None
    finally:
        shutil.rmtree(str(making), ignore_errors=True)


def wanted_config(manifest: Manifest, request: Request) -> dict[str, Any]:
    """What is to be in the role's configuration file."""
    return {**request.config, "version": manifest.version, "parts": sorted(request.parts)}


def wanted_files(layout: Layout, config: dict[str, Any]) -> Files:
    """The files beside the version itself, with their modes."""
    files: Files = {layout.config: (json.dumps(config, indent=1, sort_keys=True) + "\n", 0o644)}
    if config.get("esxi_host"):
        files[layout.host] = (f"{config['esxi_host']}\n", 0o644)
    files.update(services.service_files(layout, config, interpreter()))
    return files


def differ(files: Files) -> bool:
    """Whether one of them is missing or reads otherwise."""
    for path, (text, _) in files.items():
        try:
            if path.read_text() != text:
                return True
        except OSError:
            return True
    return False


def _give_settings_to(layout: Layout, account: tuple[int, int] | None) -> None:
    for folder in {layout.settings, layout.settings if layout.role == "appliance" else layout.identity.parent}:
        folder.mkdir(parents=True, exist_ok=True)
        if account is not None:
            os.chown(str(folder), 0, account[1])
            folder.chmod(0o755)


def _switch(layout: Layout, manifest: Manifest, files: Files) -> None:
    """From here on the machine has the new version; what was goes to `pending.json` first."""
    before: dict[str, Any] = {}
    for path in files:
        content = path.read_bytes() if path.exists() else None
        before[str(path)] = (
            None if content is None else [base64.b64encode(content).decode(), path.stat().st_mode & 0o777]
        )
    pending = {"from": layout.version_in_use(), "to": manifest.name, "files": before, "ran": services.running(layout)}
    write_file(layout.pending, json.dumps(pending), 0o600)
    for path, (text, mode) in files.items():
        write_file(path, text, mode)
    write_link(layout.current, f"versions/{manifest.name}")
    _offer_command(layout)


def _offer_command(layout: Layout) -> None:
    """`gpuferry` on everybody's PATH: the client's where there is one, and never over a file that is not ours."""
    order = list(SERVICES)
    if any(order.index(other.role) < order.index(layout.role) for other in layout.others):
        return
    if layout.command.is_symlink() or not layout.command.exists():
        write_link(layout.command, str(layout.current / "bin/gpuferry"))


def put_back(layout: Layout, report: Reporter) -> str:
    """Undo a switch that was not confirmed; what came of it, in words. Nothing to undo: an empty text."""
    pending = read_json(layout.pending)
    if not pending:
        with contextlib.suppress(FileNotFoundError):
            layout.pending.unlink()
        return ""
    report.step("going back to the former version", 0.9)
    services.stop(layout)
    for name, content in pending["files"].items():
        path = Path(name)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_file(path, base64.b64decode(content[0]), int(content[1]))
    former = pending["from"]
    if former is None or not layout.version(former).is_dir():
        layout.current.unlink(missing_ok=True)
        returned = "nothing was installed before, and nothing is now"
    else:
        write_link(layout.current, f"versions/{former}")
        returned = f"{former.rpartition('-')[0]} is in use again"
        if pending["ran"]:
            layout.status.unlink(missing_ok=True)
            services.start(layout)
            with contextlib.suppress(Failure):
                confirm(layout, "", 20.0)
                returned += " and connected"
    tried = layout.version(str(pending["to"]))
    if pending["to"] != former:
        shutil.rmtree(str(tried), ignore_errors=True)
    layout.pending.unlink()
    return returned


def confirm(layout: Layout, version: str, within_s: float) -> None:
    """Wait until the service says that the appliance has welcomed it. Raises Failure."""
    deadline = time.monotonic() + within_s
    said: dict[str, Any] = {}
    while time.monotonic() < deadline:
        said = read_json(layout.status) or {}
        if said.get("state") == "connected" and _alive(said.get("pid")):
            if version and said.get("version") != version:
                raise Failure("verify", f"{layout.service} says that it is {said.get('version')}, not {version}")
            return
        if said.get("state") == "refused":
            raise Failure(
                "refused",
                f"the appliance refuses this machine: {said.get('reason')}",
                "Deploy it with a new enrolment ticket.",
            )
        time.sleep(0.05)
    state = f"it says: {said['state']} {said.get('reason', '')}".strip() if said else "it says nothing"
    if layout.role == "appliance":
        raise Failure("verify", f"{layout.service} did not serve within {within_s:g} s ({state})", "See its log.")
    raise Failure(
        "verify",
        f"{layout.service} was not welcomed by the appliance within {within_s:g} s ({state})",
        "See that the appliance runs and that this machine reaches its control port.",
    )


def _alive(pid: Any) -> bool:
    return isinstance(pid, int) and Path(f"/proc/{pid}").is_dir()


def _clean(layout: Layout, current: str) -> None:
    """Keep the version in use and the one before it: programs that run may still load from that."""
    kept = sorted(
        (each for each in layout.versions.iterdir() if each.name != current),
        key=lambda each: each.stat().st_mtime,
    )
    for old in kept[:-1]:
        shutil.rmtree(str(old), ignore_errors=True)


def pin_key(layout: Layout, key: bytes) -> None:
    """From now on this machine takes bundles of this key alone."""
    write_file(layout.trust, json.dumps({"key": key.hex()}) + "\n")


def describe(layout: Layout) -> dict[str, Any]:
    """What is installed of a role, for the appliance to see."""
    config = read_json(layout.config) or {}
    identity = read_json(layout.identity) or {}
    return {
        "version": config.get("version", ""),
        "build": layout.version_in_use() or "",
        "running": services.running(layout),
        "status": read_json(layout.status) or {},
        "enrolled": identity.get("id", ""),
        "appliance_key": identity.get("appliance_key", ""),
        **(_describe_site(layout, identity) if layout.role == "appliance" else {}),
        "pending": layout.pending.exists(),
        "account": find_account(layout) is not None,
    }


def _describe_site(layout: Layout, site: dict[str, Any]) -> dict[str, Any]:
    """Of an appliance: its site without the database's address, which may hold a password, and its authority."""
    try:
        authority = (layout.site / "ca.pem").read_text()
    except OSError:
        authority = ""
    return {"site": {key: value for key, value in site.items() if key != "database"}, "authority": authority}
