"""Bundles of other versions for tests of upgrades: with the same contents, or with one of gpuferry's files replaced."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

from appliance.deploy import wheels
from appliance.deploy.bundle import Bundle, signing_key, write_bundle
from appliance.deploy.on_target.manifest import BundleFile


def altered(
    bundle: Bundle, site: Path, version: str, role: str, files: dict[str, str], folder_name: str = "altered"
) -> Bundle:
    """A bundle for one role like `bundle`, called `version`, in which these of gpuferry's files have these texts.

    It does not lie among the site's own (`bundles`), of which deployments by others take the newest, unless
    `folder_name` says so.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sources = wheels.own_files(role)
        for name, text in files.items():
            assert name in sources
            sources[name] = folder / name.replace("/", "_")
            sources[name].write_text(text)
        tag = "py3-none-linux_x86_64"
        wheel = wheels.pack(
            folder, "gpuferry", version, tag, sources, wheels._info("gpuferry", version, tag, pure=False)
        )
        content = wheel.read_bytes()
        own = BundleFile(f"{role}/{wheel.name}", hashlib.sha256(content).hexdigest(), len(content), (role,))
        contents = [(own, wheel)]
        for file in bundle.manifest.files:
            if file.name.startswith("wheels/") and role in file.roles:
                path = folder / file.sha256
                path.write_bytes(bundle.read(file))
                contents.append((replace(file, roles=(role,)), path))
        out = site / folder_name / f"{role}-{version}.gpuferry"
        write_bundle(out, version, {role: bundle.manifest.roles[role]}, contents, signing_key(site))
    return Bundle(out, bundle.key)
