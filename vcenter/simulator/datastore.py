"""Datastore: where the files of virtual machines are, and how much room is left."""

import itertools
from typing import Any

from .api import vim
from .datastore_browser import HostDatastoreBrowser
from .managed_entity import ManagedEntity
from .managed_object import Call, derived, method
from .values import build, now
from .world import World

GIB = 1 << 30
_numbers = itertools.count(1)


class Datastore(ManagedEntity):
    """A VMFS or NFS volume shared by hosts. Capacity in bytes."""

    kind = vim.Datastore

    def __init__(self, world: World, name: str, parent: ManagedEntity, capacity: int, volume: str = "VMFS") -> None:
        super().__init__(world, name, parent)
        number = next(_numbers)
        self.capacity = capacity
        self.volume = volume
        self.url = (
            f"ds:///vmfs/volumes/5f{number:06x}-{number * 7919 & 0xFFFFFFFF:08x}-0a0b-0050569a{number & 0xFFFF:04x}/"
        )
        self.files: dict[str, int] = {}
        browser = HostDatastoreBrowser(world, self)
        self.values.update(
            host=[],
            vm=[],
            browser=browser.ref,
            _used=0,
            _hosts=[],
            capability=build(
                vim.Datastore.Capability,
                directoryHierarchySupported=True,
                rawDiskMappingsSupported=True,
                perFileThinProvisioningSupported=True,
                storageIORMSupported=True,
                nativeSnapshotSupported=False,
            ),
        )

    @property
    def free(self) -> int:
        """Bytes not yet given to files."""
        return self.capacity - int(self.values["_used"])

    def allocate(self, path: str, size: int) -> None:
        """Takes room for a file. Raises vim.fault.NoDiskSpace."""
        if size > self.free:
            raise vim.fault.NoDiskSpace(
                datastore=self.name, file=path, msg=f"Insufficient disk space on datastore '{self.name}'."
            )
        self.files[path] = size
        self.set("_used", self.values["_used"] + size)

    def release(self, path: str) -> None:
        """Gives a file's room back; unknown files are ignored."""
        size = self.files.pop(path, None)
        if size is not None:
            self.set("_used", self.values["_used"] - size)

    def mount_on(self, hosts: list[Any]) -> None:
        """Makes the volume reachable from hosts."""
        self.set("_hosts", [*self.values["_hosts"], *hosts])
        self.set(
            "host",
            [
                build(
                    vim.Datastore.HostMount,
                    key=host.ref,
                    mountInfo=build(
                        vim.host.MountInfo,
                        path=self.url.removeprefix("ds://"),
                        accessMode="readWrite",
                        mounted=True,
                        accessible=True,
                    ),
                )
                for host in self.values["_hosts"]
            ],
        )

    def reachable_from(self, host: Any) -> bool:
        """Whether a host has mounted it."""
        return host in self.values["_hosts"]

    @derived("name", "_used", "_hosts")
    def summary(self) -> Any:
        """What lists show."""
        return build(
            vim.Datastore.Summary,
            datastore=self.ref,
            name=self.name,
            url=self.url,
            capacity=self.capacity,
            freeSpace=self.free,
            uncommitted=0,
            accessible=True,
            multipleHostAccess=len(self.values["_hosts"]) > 1,
            type=self.volume,
            maintenanceMode="normal",
        )

    @derived("name", "_used")
    def info(self) -> Any:
        """The volume itself."""
        return build(
            vim.host.VmfsDatastoreInfo if self.volume == "VMFS" else vim.Datastore.Info,
            name=self.name,
            url=self.url,
            freeSpace=self.free,
            maxFileSize=64 << 40,
            maxMemoryFileSize=64 << 40,
            timestamp=now(),
        )

    @method
    def RefreshDatastore(self, call: Call) -> None:
        """Everything is always up to date here."""

    @method
    def RefreshDatastoreStorageInfo(self, call: Call) -> None:
        """Everything is always up to date here."""

    @method
    def RenameDatastore(self, call: Call, newName: str) -> None:
        """Gives a new name."""
        self.rename(newName)
