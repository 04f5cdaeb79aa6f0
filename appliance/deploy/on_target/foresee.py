"""What an installation would find wrong and would change, with nothing changed."""

from __future__ import annotations

from typing import Any

from .enrolment import is_enrolled
from .fitness import Needs, judge, look_here
from .install import Request, differ, open_manifest, python_version, trusted_key, wanted_config, wanted_files
from .layout import Layout, read_json
from .manifest import BundleError
from .report import Failure
from .services import running


def foresee(layout: Layout, request: Request, reach: tuple[str, ...], clock: float) -> dict[str, Any]:
    """`findings`: why it would not go; `changes`: what it would do, in words; `unpack`: whether the bundle's files are
    needed, `ticket`: whether a ticket is; `again`: the identity there is refused. Raises Failure.
    """
    manifest = open_manifest(request.folder, trusted_key(layout, request))
    needs = manifest.roles.get(layout.role)
    if needs is None:
        raise Failure("bundle", f"the bundle of {manifest.version} has nothing for a {layout.role}")
    wanted = Needs.of(needs, reach)
    facts = look_here(wanted, clock)
    try:
        files = manifest.select(layout.role, python_version(), request.parts)
    except BundleError as wrong:
        raise Failure("bundle", str(wrong), "Build the bundle again on the appliance with that part.") from None
    in_use = layout.version_in_use()
    unpack = not layout.version(manifest.name).is_dir()
    enrolled = is_enrolled(layout, request.appliance_key)
    again = enrolled and (read_json(layout.status) or {}).get("state") == "refused"
    changes = []
    if unpack or in_use != manifest.name:
        former = f" instead of {in_use.rpartition('-')[0]}" if in_use else ""
        changes.append(f"install gpuferry {manifest.version}{former}")
    if not enrolled or again:
        changes.append("make the site" if layout.role == "appliance" else "enrol")
    if in_use is not None and differ(wanted_files(layout, wanted_config(manifest, request))):
        changes.append("configure")
    if changes or not running(layout):
        changes.append(f"start {layout.service}")
    return {
        "findings": [str(each) for each in judge(facts, wanted)],
        "changes": changes,
        "unpack": unpack,
        "ticket": not enrolled or again,
        "again": again,
        "files": [each.sha256 for each in files],
        "version": manifest.version,
    }
