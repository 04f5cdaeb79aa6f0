"""OvfManager: reads OVF descriptors and says what importing them would create."""

from typing import Any

from .api import vim
from .managed_object import Call, Managed, method
from .ovf_descriptor import DescriptorError, OvfSystem, config_spec, read_descriptor
from .values import build


class OvfManager(Managed):
    """Reads OVF descriptors."""

    kind = vim.OvfManager

    @method
    def ParseDescriptor(self, call: Call, ovfDescriptor: str, pdp: Any) -> Any:
        """What is in a descriptor."""
        try:
            system = read_descriptor(ovfDescriptor)
        except DescriptorError as error:
            return build(
                vim.OvfManager.ParseDescriptorResult,
                annotation="",
                defaultEntityName="",
                virtualApp=False,
                defaultDeploymentOption="",
                error=[_fault(error)],
            )
        return build(
            vim.OvfManager.ParseDescriptorResult,
            annotation=system.annotation,
            defaultEntityName=system.name,
            virtualApp=False,
            defaultDeploymentOption="",
            network=[build(vim.OvfManager.NetworkInfo, name=name, description="") for name in system.networks],
            approximateDownloadSize=sum(each.size for each in system.disks),
            approximateFlatDeploymentSize=sum(each.capacity for each in system.disks),
        )

    @method
    def CreateImportSpec(self, call: Call, ovfDescriptor: str, resourcePool: Any, datastore: Any, cisp: Any) -> Any:
        """The specification to import with, and the files to upload."""
        store = self.world.find(datastore)
        self.world.find(resourcePool)
        try:
            system = read_descriptor(ovfDescriptor)
            networks = {each.name: self.world.find(each.network) for each in cisp.networkMapping}
            for each in cisp.propertyMapping:
                system.properties[each.key] = each.value
            spec = config_spec(system, cisp.entityName or system.name, self._mapped(system, networks, store), store)
        except DescriptorError as error:
            return build(vim.OvfManager.CreateImportSpecResult, error=[_fault(error)])
        return build(
            vim.OvfManager.CreateImportSpecResult,
            importSpec=build(vim.vm.VmImportSpec, configSpec=spec),
            fileItem=[
                build(
                    vim.OvfManager.FileItem,
                    deviceId=f"/{cisp.entityName or system.name}/ParaVirtualSCSIController0:{number}",
                    path=each.href,
                    size=each.size or None,
                    cimType=17,
                    create=False,
                )
                for number, each in enumerate(system.disks)
                if each.href is not None
            ],
        )

    def _mapped(self, system: OvfSystem, networks: dict[str, Any], store: Any) -> dict[str, Any]:
        """Networks that are not mapped take the first standard one, as the client's wizard proposes."""
        first = next(
            (
                self.world.objects[each._moId]
                for each in store.datacenter.values["network"]
                if not isinstance(each, vim.dvs.DistributedVirtualPortgroup)
            ),
            None,
        )
        return {name: networks.get(name, first) for name in {*system.networks, *(one for one, _ in system.adapters)}}


def _fault(error: DescriptorError) -> Any:
    return vim.fault.OvfInvalidPackage(lineNumber=1, msg=f"The OVF descriptor is not valid: {error}.")
