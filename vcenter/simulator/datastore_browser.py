"""HostDatastoreBrowser: lists the files of virtual machines on a datastore; and the text of a ``.vmx`` file.

The simulator keeps no file contents: a listing is made from the machines and disks there are, a ``.vmx`` from a
machine's configuration.
"""

import fnmatch
import re
from typing import Any

from .api import vim
from .managed_object import Call, Managed, invalid_argument, method
from .task import Operation, Step, start_task
from .values import build, now
from .world import World

_PATH = re.compile(r"^\[([^\]]+)\]\s*(.*?)/*$")
_VMX_BYTES = 4096
_browser: Any = vim.host.DatastoreBrowser


class HostDatastoreBrowser(Managed):
    """Searches one datastore."""

    kind = vim.host.DatastoreBrowser

    def __init__(self, world: World, datastore: Any) -> None:
        super().__init__(world, f"datastoreBrowser-{datastore.moid}", datastore=[datastore.ref])
        self.owner: Any = datastore

    @method
    def SearchDatastore_Task(self, call: Call, datastorePath: str, searchSpec: Any) -> Any:
        """The files of one folder."""
        return start_task(call, self, "SearchDatastore_Task", self._search(datastorePath, searchSpec, below=False))

    @method
    def SearchDatastoreSubFolders_Task(self, call: Call, datastorePath: str, searchSpec: Any) -> Any:
        """The files of a folder and of every folder below it."""
        return start_task(call, self, "SearchDatastoreSubFolders_Task", self._search(datastorePath, searchSpec, True))

    def _search(self, path: str, spec: Any, below: bool) -> Operation:
        yield Step("search", 50)
        wanted = self._folder(path)
        folders = _folders(self.owner)
        if wanted not in folders:
            raise vim.fault.FileNotFound(file=path, msg=f"File {path} was not found")
        chosen = [each for each in sorted(folders) if each == wanted or (below and _is_below(each, wanted))]
        results = [self._result(each, folders[each], spec) for each in chosen]
        return _browser.SearchResults.Array(results) if below else results[0]

    def _folder(self, path: str) -> str:
        match = _PATH.match(path)
        if match is None or match.group(1) != self.owner.name:
            raise invalid_argument("datastorePath", f"{path!r} is not on the datastore {self.owner.name}.")
        return match.group(2)

    def _result(self, folder: str, files: dict[str, int | None], spec: Any) -> Any:
        patterns = (spec and spec.matchPattern) or ["*"]
        kinds = tuple({type(each) for each in (spec and spec.query) or ()})
        found = []
        for name, size in sorted(files.items()):
            kind = _kind(name, size)
            more = {"capacityKb": (size or 0) // 1024} if kind == "vmdk" else {}
            made = build(_info(kind), path=name, fileSize=size or 0, modification=now(), **more)
            wanted = not kinds or any(_answers(kind, query) for query in kinds)
            if wanted and any(fnmatch.fnmatch(name, each) for each in patterns):
                found.append(made)
        text = f"[{self.owner.name}] {folder}/" if folder else f"[{self.owner.name}]"
        return build(_browser.SearchResults, datastore=self.owner.ref, folderPath=text, file=found)


def _folders(store: Any) -> dict[str, dict[str, int | None]]:
    """Folder → its files with their sizes in bytes; a folder in a folder has no size."""
    paths = dict(store.files)
    for path in _machines(store):
        paths[path] = _VMX_BYTES
    folders: dict[str, dict[str, int | None]] = {"": {}}
    for path, size in paths.items():
        match = _PATH.match(path)
        parent, _, name = (match.group(2) if match else path).rpartition("/")
        folders.setdefault(parent, {})[name] = size
        while parent:
            above, _, name = parent.rpartition("/")
            folders.setdefault(above, {})[name] = None
            parent = above
    return folders


def _machines(store: Any) -> dict[str, Any]:
    """Path of the ``.vmx`` → the machine whose it is."""
    prefix = f"[{store.name}] "
    return {
        path: each
        for each in store.world.objects.values()
        if each.kind is vim.VirtualMachine and (path := each.values["config"].files.vmPathName).startswith(prefix)
    }


def _is_below(folder: str, top: str) -> bool:
    return not top or folder.startswith(f"{top}/")


def _kind(name: str, size: int | None) -> str:
    return "folder" if size is None else name.rpartition(".")[2]


def _info(kind: str) -> Any:
    known = {"folder": _browser.FolderInfo, "vmdk": _browser.VmDiskInfo, "vmx": _browser.VmConfigInfo}
    return known.get(kind, _browser.FileInfo)


def _answers(kind: str, query: Any) -> bool:
    asked = {_browser.FolderQuery: "folder", _browser.VmDiskQuery: "vmdk", _browser.VmConfigQuery: "vmx"}
    return query is _browser.Query or asked.get(query) == kind


def read_file(world: World, store_name: str, path: str) -> str | None:
    """The text of ``[store] path``; None where there is no such ``.vmx``."""
    for each in world.objects.values():
        store: Any = each
        if store.kind is vim.Datastore and store.name == store_name:
            machine = _machines(store).get(f"[{store_name}] {path}")
            return None if machine is None else vmx_text(machine)
    return None


def vmx_text(machine: Any) -> str:
    """A machine's configuration file: what tools that read ``.vmx`` files look for."""
    config = machine.values["config"]
    values: dict[str, Any] = {
        ".encoding": "UTF-8",
        "config.version": 8,
        "virtualHW.version": config.version.removeprefix("vmx-").lstrip("0"),
        "displayName": config.name,
        "annotation": config.annotation or "",
        "guestOS": (config.guestId or "otherGuest64").removesuffix("Guest").replace("64", "-64"),
        "firmware": config.firmware or "bios",
        "uuid.bios": _uuid(config.uuid),
        "vc.uuid": _uuid(config.instanceUuid),
        "memSize": config.hardware.memoryMB,
        "numvcpus": config.hardware.numCPU,
        "cpuid.coresPerSocket": config.hardware.numCoresPerSocket or 1,
    }
    controllers: dict[int, int] = {}
    network = 0
    for each in config.hardware.device:
        if isinstance(each, vim.vm.device.VirtualSCSIController):
            controllers[each.key] = each.busNumber
            values[f"scsi{each.busNumber}.present"] = "TRUE"
            values[f"scsi{each.busNumber}.virtualDev"] = _scsi(each)
        elif isinstance(each, vim.vm.device.VirtualDisk) and each.controllerKey in controllers:
            name = f"scsi{controllers[each.controllerKey]}:{each.unitNumber}"
            values[f"{name}.present"] = "TRUE"
            values[f"{name}.deviceType"] = "scsi-hardDisk"
            values[f"{name}.fileName"] = each.backing.fileName.rpartition("/")[2]
        elif isinstance(each, vim.vm.device.VirtualEthernetCard):
            values.update(_ethernet(machine.world, network, each))
            network += 1
    values.update((each.key, each.value) for each in config.extraConfig or ())
    return "".join(f'{key} = "{_escaped(str(value))}"\n' for key, value in values.items())


def _ethernet(world: World, number: int, card: Any) -> dict[str, Any]:
    backing = card.backing
    port = getattr(backing, "port", None)
    network: Any = world.objects.get(port.portgroupKey) if port is not None else None
    return {
        f"ethernet{number}.present": "TRUE",
        f"ethernet{number}.virtualDev": type(card).__name__.rpartition(".")[2].removeprefix("Virtual").lower(),
        f"ethernet{number}.networkName": network.name if network else getattr(backing, "deviceName", ""),
        f"ethernet{number}.addressType": "vpx" if card.addressType == "assigned" else card.addressType or "generated",
        f"ethernet{number}.generatedAddress": card.macAddress,
    }


def _scsi(controller: Any) -> str:
    names = {"ParaVirtualSCSIController": "pvscsi", "VirtualLsiLogicSASController": "lsisas1068"}
    return names.get(type(controller).__name__.rpartition(".")[2], "lsilogic")


def _uuid(text: str) -> str:
    """``564d1234-…`` as a ``.vmx`` has it: bytes with blanks, a hyphen in the middle."""
    digits = text.replace("-", "")
    halves = (digits[:16], digits[16:])
    return "-".join(" ".join(half[at : at + 2] for at in range(0, 16, 2)) for half in halves)


def _escaped(text: str) -> str:
    return "".join(f"|{ord(each):02X}" if each in '"|' or not each.isprintable() else each for each in text)
