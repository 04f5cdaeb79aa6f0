"""Deploying an OVF item of a content library, by the Automation SDK, as a powered-off VM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vcenter.errors import Ambiguous, NotFound, TaskFailed
from vcenter.session import Session


@dataclass(frozen=True)
class DeployTarget:
    """Where an item goes, by managed object ids; `network` takes the place of every network of the OVF."""

    pool: str
    host: str
    folder: str
    datastore: str
    network: str
    name: str
    annotation: str


def find_item(session: Session, library: str, item: str) -> str:
    """The id of an OVF item by the names of library and item. Raises NotFound or Ambiguous."""
    from com.vmware.content.library_client import Item
    from com.vmware.content_client import Library

    def libraries_called(client: Any) -> list[str]:
        return list(client.content.Library.find(Library.FindSpec(name=library)))

    def items_in(libraries: list[str]) -> Callable[[Any], list[str]]:
        specs = [Item.FindSpec(name=item, library_id=identifier, type="ovf") for identifier in libraries]
        return lambda client: [found for spec in specs for found in client.content.library.Item.find(spec)]

    libraries = session.rest("Finding the content library", libraries_called, library)
    if not libraries:
        raise NotFound(f"There is no content library {library!r}.", object_name=library)
    found = session.rest("Finding the library item", items_in(libraries), item)
    if not found:
        raise NotFound(f"The content library {library!r} has no OVF item {item!r}.", object_name=item)
    if len(found) > 1:
        raise Ambiguous(f"{len(found)} OVF items are called {item!r}.", object_name=item, remedy="Rename all but one.")
    return found[0]


def deploy(session: Session, item_id: str, target: DeployTarget) -> str:
    """Deploys an OVF item and gives the new VM's id. Raises TaskFailed with vCenter's words when it is refused."""
    from com.vmware.vcenter.ovf_client import LibraryItem

    place = LibraryItem.DeploymentTarget(
        resource_pool_id=target.pool, host_id=target.host, folder_id=target.folder or None
    )
    summary = session.rest(
        "Reading the library item", lambda client: client.vcenter.ovf.LibraryItem.filter(item_id, place), target.name
    )
    spec = LibraryItem.ResourcePoolDeploymentSpec(
        name=target.name,
        annotation=target.annotation,
        accept_all_eula=True,
        network_mappings=dict.fromkeys(summary.networks or [], target.network),
        default_datastore_id=target.datastore,
        storage_provisioning="thin",
    )
    result = session.rest(
        "Deploying the library item",
        lambda client: client.vcenter.ovf.LibraryItem.deploy(item_id, place, spec),
        target.name,
    )
    if not result.succeeded or result.resource_id is None:
        raise TaskFailed(
            "Deploying the library item failed.",
            object_name=target.name,
            fault_message="; ".join(_reasons(result.error)),
        )
    return str(result.resource_id.id)


def _reasons(error: Any) -> list[str]:
    """The words of a deployment's errors (OvfError: `message` for input, `issues` for validation, `error` for the
    server).
    """
    words: list[str] = []
    for problem in getattr(error, "errors", None) or []:
        for part in (problem.message, *(problem.issues or [])):
            words.append(str(getattr(part, "default_message", None) or getattr(part, "message", None) or part or ""))
        if problem.error is not None:
            words.append(str(problem.error))
    return [word for word in dict.fromkeys(words) if word]
