"""SearchIndex: entities by path, UUID, name or address."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from .api import vim
from .managed_object import Call, Managed, method
from .view_manager import below


class SearchIndex(Managed):
    """Looks through the inventory."""

    kind = vim.SearchIndex

    @method
    def FindByInventoryPath(self, call: Call, inventoryPath: str) -> Any:
        """The entity at a path such as ``DC0/vm/client-01``; %2f stands for a slash in a name."""
        at: Managed = self.world.objects["group-d1"]
        for name in inventoryPath.strip("/").split("/"):
            if not name:
                continue
            found = _child(at, unquote(name))
            if found is None:
                return None
            at = found
        return at.ref if at.moid != "group-d1" or not inventoryPath.strip("/") else None

    @method
    def FindChild(self, call: Call, entity: Any, name: str) -> Any:
        """The entity of a name directly below another."""
        found = _child(self.world.find(entity), name)
        return found.ref if found is not None else None

    def _candidates(self, datacenter: Any, machines: bool) -> Iterator[Any]:
        kind = vim.VirtualMachine if machines else vim.HostSystem
        for managed in self.world.objects.values():
            if isinstance(managed.ref, kind):
                entity: Any = managed
                if datacenter is None or entity.datacenter.moid == datacenter._moId:
                    yield entity

    @method
    def FindAllByUuid(self, call: Call, datacenter: Any, uuid: str, vmSearch: bool, instanceUuid: bool | None) -> Any:
        """All entities with a BIOS UUID, or virtual machines with an instance UUID."""
        wanted = uuid.lower()
        found = []
        for each in self._candidates(datacenter, vmSearch):
            if vmSearch:
                config = each.values["config"]
                held = config.instanceUuid if instanceUuid else config.uuid
            else:
                held = each.uuid
            if held is not None and held.lower() == wanted:
                found.append(each.ref)
        return found

    @method
    def FindByUuid(self, call: Call, datacenter: Any, uuid: str, vmSearch: bool, instanceUuid: bool | None) -> Any:
        """The first of them."""
        return _first(self.FindAllByUuid(call, datacenter, uuid, vmSearch, instanceUuid))

    @method
    def FindAllByDnsName(self, call: Call, datacenter: Any, dnsName: str, vmSearch: bool) -> Any:
        """Virtual machines by their guest's host name, hosts by their name."""
        return [
            each.ref
            for each in self._candidates(datacenter, vmSearch)
            if (each.values["guest"].hostName if vmSearch else each.name) == dnsName
        ]

    @method
    def FindByDnsName(self, call: Call, datacenter: Any, dnsName: str, vmSearch: bool) -> Any:
        """The first of them."""
        return _first(self.FindAllByDnsName(call, datacenter, dnsName, vmSearch))

    @method
    def FindAllByIp(self, call: Call, datacenter: Any, ip: str, vmSearch: bool) -> Any:
        """Virtual machines by their guest's address, hosts by a VMkernel adapter's."""
        found = []
        for each in self._candidates(datacenter, vmSearch):
            held = (
                {each.values["guest"].ipAddress}
                if vmSearch
                else {nic.spec.ip.ipAddress for nic in each.network_system.vnics if nic.spec.ip is not None}
            )
            if ip in held:
                found.append(each.ref)
        return found

    @method
    def FindByIp(self, call: Call, datacenter: Any, ip: str, vmSearch: bool) -> Any:
        """The first of them."""
        return _first(self.FindAllByIp(call, datacenter, ip, vmSearch))

    @method
    def FindByDatastorePath(self, call: Call, datacenter: Any, path: str) -> Any:
        """The virtual machine of a .vmx file."""
        for each in self._candidates(datacenter, True):
            if each.values["config"].files.vmPathName == path:
                return each.ref
        return None


def _first(found: list[Any]) -> Any:
    return found[0] if found else None


def _child(managed: Managed, name: str) -> Managed | None:
    for each in below(managed):
        if each.values.get("name") == name:
            return each
    return None
