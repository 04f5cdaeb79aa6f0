"""Bundles for machines that upgrade themselves: manifest, signature, and files by their digest.

No token is asked for to read one: a bundle holds no secrets, and a machine believes nothing but its signature. What
bundles there are, and by which key, is told to those who may read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath

from appliance.api.paging import Page
from appliance.api.problems import answers, not_found
from appliance.api.schemas import BundleShown
from appliance.api.security import Reader
from appliance.deploy.bundle import SUFFIX, Bundle, open_bundle
from appliance.deploy.on_target.manifest import MANIFEST, SIGNATURE, BundleError

router = APIRouter(tags=["bundles"])
open_router = APIRouter(tags=["bundles"])
VERSION = re.compile(r"^[0-9][A-Za-z0-9.+!_-]{0,63}$")
_opened: dict[tuple[Path, float], Bundle] = {}


def bundles_of(folder: Path) -> Iterator[Bundle]:
    """The site's bundles, the newest first; what cannot be opened is left out."""
    found = sorted((folder / "bundles").glob(f"*{SUFFIX}"), key=lambda each: each.stat().st_mtime, reverse=True)
    for path in found:
        known = (path, path.stat().st_mtime)
        try:
            bundle = _opened.get(known) or open_bundle(path, folder)
        except BundleError:
            continue
        _opened[known] = bundle
        yield bundle


def bundle_of_version(folder: Path, version: str) -> Bundle | None:
    """The site's newest bundle of a version, None when there is none."""
    return (
        next((each for each in bundles_of(folder) if each.version == version), None) if VERSION.match(version) else None
    )


@router.get("/bundles", responses=answers())
def list_bundles(request: Request, caller: Reader) -> Page[BundleShown]:
    """The bundles that machines can be given, the newest first."""
    return Page(
        items=[
            BundleShown(
                version=each.version,
                name=each.manifest.name,
                key=each.key.hex(),
                roles=sorted(each.manifest.roles),
            )
            for each in bundles_of(request.app.state.site.folder)
        ]
    )


@open_router.get(
    "/v1/bundles/{version}/{name}",
    responses={200: {"content": {"application/octet-stream": {}}}, **answers(404)},
    response_class=Response,
)
def read_bundle(
    request: Request,
    version: Annotated[str, InPath(max_length=64)],
    name: Annotated[str, InPath(max_length=64, description="manifest.json, manifest.sig, or a file's SHA-256")],
) -> Response:
    """A piece of a bundle."""
    bundle = bundle_of_version(request.app.state.site.folder, version)
    if bundle is None:
        raise not_found("bundle of version", version)
    content = {MANIFEST: bundle.raw, SIGNATURE: bundle.signature}.get(name)
    if content is None:
        file = next((each for each in bundle.manifest.files if each.sha256 == name), None)
        if file is None:
            raise not_found(f"file in the bundle of {version}:", name)
        content = bundle.read(file)
    return Response(content, media_type="application/octet-stream")
