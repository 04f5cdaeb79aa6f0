"""OVA files: reading, checking, and importing into vCenter by an HTTP NFC lease.

An OVA is a tar archive of one .ovf descriptor, optionally a .mf manifest of digests, and the disks (DMTF DSP0243).
Nothing is unpacked: the disks are streamed from the archive to the host that vCenter names.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit
from xml.etree import ElementTree

import requests
from pyVmomi import vim, vmodl

from vcenter.certificate import fingerprint_session, requests_session
from vcenter.errors import InvalidRequest, TaskFailed, TaskTimeout, from_fault
from vcenter.session import Session
from vcenter.tasks import Progress, ProgressEvent, silent, watch

_OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
_VMW = "{http://www.vmware.com/schema/ovf}"
_CHUNK = 1024 * 1024
_DIGEST = re.compile(r"^(SHA1|SHA256|SHA512)\s*\(\s*(.+?)\s*\)\s*=\s*([0-9a-fA-F]+)\s*$")
MAX_OVF_BYTES = 16 * 1024 * 1024
LEASE_SECONDS = 300.0


@dataclass(frozen=True)
class Ova:
    """What an OVA file holds. `files` are (offset, size) by name; `disk_mib` the capacity of all disks."""

    path: Path
    descriptor: str
    files: Mapping[str, tuple[int, int]]
    networks: tuple[str, ...]
    firmware: str
    disk_mib: int

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[_Part]:
        """A file of the archive, for reading. Raises InvalidRequest when it is not there."""
        if name not in self.files:
            raise InvalidRequest(
                f"The OVA has no file {name!r}, which its descriptor names.", object_name=str(self.path)
            )
        offset, size = self.files[name]
        with self.path.open("rb") as whole:
            yield _Part(whole, offset, size)


class _Part:
    """A window of a file, readable once; it has a length, so that HTTP sends Content-Length."""

    def __init__(self, whole: IO[bytes], offset: int, size: int) -> None:
        self._whole, self._left, self.size = whole, size, size
        whole.seek(offset)

    def __len__(self) -> int:
        return self.size

    def read(self, count: int = -1) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        data = self._whole.read(count)
        self._left -= len(data)
        return data


def read_ova(path: Path, check: bool = True) -> Ova:
    """Reads an OVA's descriptor and directory; with `check` every file is compared with the manifest's digest.

    Raises InvalidRequest when it is no OVA, or a digest differs.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            members = [member for member in archive.getmembers() if member.isfile()]
            descriptors = [member for member in members if member.name.lower().endswith(".ovf")]
            if len(descriptors) != 1:
                raise InvalidRequest(
                    f"An OVA holds one .ovf; this one holds {len(descriptors)}.", object_name=str(path)
                )
            if descriptors[0].size > MAX_OVF_BYTES:
                raise InvalidRequest("The OVF descriptor is too large to be one.", object_name=str(path))
            text = _member_text(archive, descriptors[0])
            manifest = next((member for member in members if member.name.lower().endswith(".mf")), None)
            digests = _digests(_member_text(archive, manifest)) if manifest else {}
    except (tarfile.TarError, OSError, UnicodeDecodeError) as bad:
        raise InvalidRequest(f"This is no readable OVA: {bad}.", object_name=str(path)) from None
    files = {member.name: (member.offset_data, member.size) for member in members}
    ova = _parsed(path, text, files)
    if check:
        _check_digests(ova, digests)
    return ova


def _member_text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = archive.extractfile(member)
    return content.read().decode() if content else ""


def _digests(manifest: str) -> dict[str, tuple[str, str]]:
    found = (_DIGEST.match(line.strip()) for line in manifest.splitlines())
    return {match[2]: (match[1].lower(), match[3].lower()) for match in found if match}


def _check_digests(ova: Ova, digests: Mapping[str, tuple[str, str]]) -> None:
    for name, (algorithm, wanted) in digests.items():
        seen = hashlib.new(algorithm, usedforsecurity=False)
        with ova.open(name) as part:
            while chunk := part.read(_CHUNK):
                seen.update(chunk)
        if seen.hexdigest() != wanted:
            raise InvalidRequest(
                f"{name} does not match the manifest: {algorithm} {seen.hexdigest()} instead of {wanted}.",
                object_name=str(ova.path),
                remedy="Fetch the OVA again: it is damaged or was changed.",
            )


def _parsed(path: Path, text: str, files: Mapping[str, tuple[int, int]]) -> Ova:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InvalidRequest("The OVF descriptor declares a DTD, which no OVF needs.", object_name=str(path))
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - DTDs, and with them entity bombs, are refused above
    except ElementTree.ParseError as bad:
        raise InvalidRequest(f"The OVF descriptor is not well-formed: {bad}.", object_name=str(path)) from None
    networks = tuple(str(network.get(f"{_OVF}name")) for network in root.iter(f"{_OVF}Network"))
    firmware = next(
        (str(c.get(f"{_VMW}value")) for c in root.iter(f"{_VMW}Config") if c.get(f"{_VMW}key") == "firmware"), "bios"
    )
    size = sum(_capacity_mib(disk) for disk in root.iter(f"{_OVF}Disk"))
    return Ova(path, text, dict(files), networks, firmware, size)


def _capacity_mib(disk: ElementTree.Element) -> int:
    """A disk's capacity in MiB: `capacity` counted in `capacityAllocationUnits` (`byte * 2^30`, DSP0243)."""
    amount = disk.get(f"{_OVF}capacity", "0")
    unit = re.fullmatch(r"byte(?:\s*\*\s*2\^(\d+))?", disk.get(f"{_OVF}capacityAllocationUnits", "byte").strip())
    if not amount.isdigit() or unit is None:
        return 0
    return (int(amount) << int(unit[1] or 0)) // (1024 * 1024)


@dataclass(frozen=True)
class ImportTarget:
    """Where an OVA goes: managed objects, the new VM's name, its notes, and the network for all its adapters."""

    pool: Any
    host: Any
    folder: Any
    datastore: Any
    network: Any
    name: str
    annotation: str


def import_ova(session: Session, ova: Ova, target: ImportTarget, progress: Progress = silent) -> Any:
    """Imports an OVA as a powered-off VM and gives its managed object. A failed import leaves nothing behind.

    Raises InvalidRequest when vCenter does not accept the descriptor, TaskFailed when the upload breaks.
    """
    params = vim.OvfManager.CreateImportSpecParams(
        entityName=target.name,
        hostSystem=target.host,
        diskProvisioning="thin",
        networkMapping=[
            vim.OvfManager.NetworkMapping(name=network, network=target.network) for network in ova.networks
        ],
    )
    with session.doing("Reading the OVF", target.name):
        result = session.content.ovfManager.CreateImportSpec(ova.descriptor, target.pool, target.datastore, params)
    if result.error or result.importSpec is None:
        raise from_fault(result.error[0], "vCenter does not accept the OVF.", target.name)
    result.importSpec.configSpec.annotation = target.annotation
    with session.doing("Importing the OVA", target.name):
        lease = target.pool.ImportVApp(result.importSpec, target.folder, target.host)
    try:
        info = _await_lease(session, lease, target.name)
        urls = {str(url.importKey): url for url in info.deviceUrl or []}
        _upload(session, ova, lease, _Upload(tuple(result.fileItem or ()), urls, target.name), progress)
        with session.doing("Completing the import", target.name):
            lease.HttpNfcLeaseComplete()
    except BaseException:
        with contextlib.suppress(vmodl.MethodFault, OSError):
            lease.HttpNfcLeaseAbort(None)
        raise
    return info.entity


def _await_lease(session: Session, lease: Any, name: str) -> Any:
    with session.doing("Waiting for the import lease", name):
        for values in watch(session, lease, ("state", "error", "info"), LEASE_SECONDS):
            state = str(values.get("state"))
            if state == "ready" and values.get("info") is not None:
                return values["info"]
            if state == "error":
                raise from_fault(values.get("error"), "The import failed.", name)
    raise TaskTimeout(f"The import lease was not ready within {LEASE_SECONDS:g} s.", object_name=name)


@dataclass(frozen=True)
class _Upload:
    """The files that vCenter wants (OvfFileItem) and the lease's addresses to send them to."""

    items: tuple[Any, ...]
    urls: Mapping[str, Any]
    name: str


def _upload(session: Session, ova: Ova, lease: Any, upload: _Upload, progress: Progress) -> None:
    total = max(1, sum(ova.files.get(str(item.path), (0, 0))[1] for item in upload.items))
    sent = _Sent()

    def report() -> None:
        progress(ProgressEvent("upload", upload.name, sent.bytes * 100 // total))

    with _kept_alive(lease, sent, total):
        for item in upload.items:
            device = upload.urls.get(str(item.deviceId))
            if device is None:
                raise TaskFailed(f"vCenter gave no address to send {item.path} to.", object_name=upload.name)
            with ova.open(str(item.path)) as part:
                _send(session, device, _Counted(part, sent, report), create=bool(item.create), name=upload.name)


class _Sent:
    bytes = 0


class _Counted:
    """A body for `requests` that reports as it is read."""

    def __init__(self, part: Any, sent: _Sent, report: Any) -> None:
        self._part, self._sent, self._report = part, sent, report

    def __len__(self) -> int:
        return len(self._part)

    def read(self, count: int = -1) -> bytes:
        data: bytes = self._part.read(_CHUNK if count < 0 else count)
        self._sent.bytes += len(data)
        self._report()
        return data


def _send(session: Session, device: Any, body: _Counted, *, create: bool, name: str) -> None:
    """Sends one disk. The host's certificate is known by the thumbprint that vCenter, whom we trust, gives with the
    address.
    """
    parts = urlsplit(str(device.url))
    if parts.hostname in ("*", None):
        parts = parts._replace(netloc=str(device.url).split("/")[2].replace("*", session.endpoint.host))
    pinned = str(device.sslThumbprint or "").replace(":", "").lower()
    same = parts.hostname == session.endpoint.host and (parts.port or 443) == session.endpoint.port
    client = requests_session(session.endpoint.trust) if same or not pinned else fingerprint_session(pinned)
    headers = {"Content-Type": "application/x-vnd.vmware-streamVmdk", "Cookie": str(session.stub.soap.cookie)}
    try:
        with client:
            answer = client.request(
                "PUT" if create else "POST", urlunsplit(parts), data=body, headers=headers, timeout=300
            )
            answer.raise_for_status()
    except requests.RequestException as failed:
        raise TaskFailed(
            f"Sending a disk to {parts.hostname} failed: {failed}.",
            object_name=name,
            remedy="Check that this machine reaches the ESXi host on port 443, then repeat.",
        ) from None


@contextlib.contextmanager
def _kept_alive(lease: Any, sent: _Sent, total: int) -> Iterator[None]:
    """Tells the lease every few seconds how far the upload is; a silent lease ends by itself after some minutes."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(5):
            with contextlib.suppress(vmodl.MethodFault, OSError):
                lease.HttpNfcLeaseProgress(min(99, sent.bytes * 100 // total))

    thread = threading.Thread(target=tell, name="ovf-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
