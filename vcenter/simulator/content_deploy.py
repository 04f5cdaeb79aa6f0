"""com.vmware.vcenter.ovf.LibraryItem: virtual machines from OVF items of a library."""

import base64
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from com.vmware.vapi.std_client import LocalizableMessage
from com.vmware.vcenter import ovf_client

from .api import MethodFault, vim
from .automation import Caller, Service, failed
from .content_library import LibraryStore
from .managed_object import Call
from .ovf_descriptor import DescriptorError, OvfSystem, config_spec, read_descriptor
from .soap_decode import Malformed, decode
from .task import Operation, Task
from .values import is_set, vary
from .virtual_machine_create import create

if TYPE_CHECKING:
    from .world import World

_client: Any = ovf_client.LibraryItem


class DeployService(Service):
    """Deploys OVF items."""

    stub = ovf_client._LibraryItemStub

    def __init__(self, world: "World", store: LibraryStore) -> None:
        super().__init__(world)
        self.store = store
        self.done: dict[str, Any] = {}

    def _system(self, item_id: str) -> OvfSystem:
        item = self.store.item(item_id)
        contents = self.store.contents[item_id]
        descriptors = [each for name, each in contents.items() if name.lower().endswith(".ovf")]
        if not descriptors:
            raise failed("InvalidArgument", f"The item {item.name} is not an OVF package.")
        try:
            return read_descriptor(descriptors[0].text())
        except DescriptorError as error:
            raise failed("InvalidArgument", str(error)) from None

    def _object(self, moid: str | None, kind: Any) -> Any:
        if moid is None:
            return None
        managed = self.world.objects.get(moid)
        if managed is None or not isinstance(managed.ref, kind):
            raise failed("NotFound", f"There is no {kind._wsdlName} {moid}.")
        return managed

    def filter(self, caller: Caller, ovf_library_item_id: str, target: Any) -> Any:
        """What a deployment would ask for."""
        system = self._system(ovf_library_item_id)
        self._object(target.resource_pool_id, vim.ResourcePool)
        return _client.OvfSummary(
            name=system.name,
            annotation=system.annotation,
            eulas=[],
            networks=system.networks,
            storage_groups=[],
            additional_params=[],
        )

    def deploy(
        self, caller: Caller, client_token: str | None, ovf_library_item_id: str, target: Any, deployment_spec: Any
    ) -> Any:
        """Makes a machine, powered off. A client token that was used gets its first result again."""
        if client_token is not None and client_token in self.done:
            return self.done[client_token]
        result = self._deploy(caller, ovf_library_item_id, target, deployment_spec)
        if client_token is not None and result.succeeded:
            self.done[client_token] = result
        return result

    def _deploy(self, caller: Caller, item_id: str, target: Any, spec: Any) -> Any:
        system = self._system(item_id)
        pool = self._object(target.resource_pool_id, vim.ResourcePool)
        host = self._object(target.host_id, vim.HostSystem)
        folder = self._object(target.folder_id, vim.Folder) or pool.datacenter.vm_folder
        store = self._object(spec.default_datastore_id, vim.Datastore)
        caller.demand("VApp.Import", pool.ref)
        if store is None:
            reachable = host or pool.compute.hosts[0]
            store = self.world.objects[reachable.values["datastore"][0]._moId]
        networks: dict[str, Any] = {
            name: self._object(moid, vim.Network) for name, moid in (spec.network_mappings or {}).items()
        }
        first = next(
            each
            for each in (host or pool.compute.hosts[0]).values["network"]
            if not isinstance(each, vim.dvs.DistributedVirtualPortgroup)
        )
        for name in {*system.networks, *(one for one, _ in system.adapters)}:
            networks.setdefault(name, self.world.objects[first._moId])
        try:
            wanted = config_spec(system, spec.name or system.name, networks, store)
            if spec.annotation:
                wanted = vary(wanted, annotation=spec.annotation)
            given = _given_spec(spec.vm_config_spec)
        except (DescriptorError, Malformed, ValueError) as error:
            raise failed("InvalidArgument", str(error)) from None
        call = Call(self.world, caller.session, self.world.version_name)
        task = Task(self.world, folder, "deployOvf", call.user)
        task.begin(_make(call, folder, wanted, given, pool, host))
        self.world.changed.wait_for(lambda: task.state in {"success", "error"})
        info = task.values["info"]
        if info.state == "error":
            return _failure(info.error)
        return _client.DeploymentResult(
            succeeded=True,
            resource_id=_client.DeployableIdentity(type="VirtualMachine", id=info.result._moId),
        )


def _make(call: Call, folder: Any, wanted: Any, given: Any, pool: Any, host: Any) -> Operation:
    reference = yield from create(call, folder, wanted, pool.ref, host.ref if host is not None else None)
    if given is not None:
        machine: Any = call.world.find(reference)
        try:
            yield from machine._reconfigure(call, given)
        except MethodFault:
            yield from machine._destroy()
            raise
    return reference


def _given_spec(config: Any) -> Any:
    """The ConfigSpec that a client sent as XML: the descriptor then only supplies the disks and adapters."""
    if config is None or config.xml is None:
        return None
    text = base64.b64decode(config.xml)
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise ValueError("document type declarations are not accepted")
    try:
        spec = decode(ElementTree.fromstring(text), vim.vm.ConfigSpec)  # noqa: S314 - entities are refused above
    except ElementTree.ParseError as error:
        raise ValueError(f"not well-formed XML: {error}") from None
    # The name is the deployment's, the files and version those of the new machine.
    return vary(spec, name=None, files=None, version=None) if is_set(spec.name) or spec.files else spec


def _failure(fault: Any) -> Any:
    message = LocalizableMessage(id=fault._wsdlName, default_message=fault.msg or fault._wsdlName, args=[])
    error = ovf_client.OvfError(category="INPUT", name=fault._wsdlName, value="", message=message)
    return _client.DeploymentResult(
        succeeded=False, error=_client.ResultInfo(errors=[error], warnings=[], information=[])
    )
