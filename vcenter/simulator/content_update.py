"""Update sessions of library items: files are announced, uploaded by PUT, checked, and become the item's content."""

import secrets
import shutil
import tarfile
import uuid
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from com.vmware.content.library import item_client
from com.vmware.content.library.item import updatesession_client
from com.vmware.vapi.std_client import LocalizableMessage

from .automation import Caller, Service, failed
from .content_library import Content, LibraryStore
from .ovf_descriptor import DescriptorError, read_descriptor
from .values import now

if TYPE_CHECKING:
    from .world import World


@dataclass
class Announced:
    """A file that is to come."""

    spec: Any
    key: str
    content: Content | None = None


class UpdateSessionService(Service):
    """Update sessions."""

    stub = item_client._UpdateSessionStub

    def __init__(self, world: "World", store: LibraryStore) -> None:
        super().__init__(world)
        self.store = store
        self.sessions: dict[str, Any] = {}
        self.files: dict[str, dict[str, Announced]] = {}
        world.library_uploads = self

    def session(self, session_id: str) -> Any:
        """Raises NotFound."""
        if session_id not in self.sessions:
            raise failed("NotFound", f"There is no update session {session_id}.")
        return self.sessions[session_id]

    def active(self, session_id: str) -> Any:
        """Raises NotFound, NotAllowedInCurrentState."""
        session = self.session(session_id)
        if session.state != "ACTIVE":
            raise failed("NotAllowedInCurrentState", f"The update session is {session.state}.")
        return session

    def create(self, caller: Caller, client_token: str | None, create_spec: Any) -> str:
        """Opens a session on an item."""
        caller.demand("ContentLibrary.UpdateSession")
        item = self.store.item(create_spec.library_item_id)
        for each in self.sessions.values():
            if each.library_item_id == item.id and each.state == "ACTIVE":
                raise failed("ResourceBusy", f"The item {item.name} is being updated already.")

        def make() -> str:
            key = str(uuid.uuid4())
            self.sessions[key] = item_client.UpdateSessionModel(
                id=key,
                library_item_id=item.id,
                library_item_content_version=item.content_version,
                state=item_client.UpdateSessionModel.State.ACTIVE,
                client_progress=0,
                expiration_time=now() + timedelta(hours=1),
            )
            self.files[key] = {}
            return key

        return self.store.once(client_token, make)

    def get(self, caller: Caller, update_session_id: str) -> Any:
        """A session."""
        return self.session(update_session_id)

    def list(self, caller: Caller, library_item_id: str | None) -> Any:
        """Ids of sessions, of one item or of all."""
        return [
            key
            for key, each in self.sessions.items()
            if library_item_id is None or each.library_item_id == library_item_id
        ]

    def keep_alive(self, caller: Caller, update_session_id: str, client_progress: int | None) -> None:
        """A sign of life."""
        session = self.active(update_session_id)
        session.expiration_time = now() + timedelta(hours=1)
        if client_progress is not None:
            session.client_progress = client_progress

    def cancel(self, caller: Caller, update_session_id: str) -> None:
        """Gives the update up."""
        self.active(update_session_id).state = "CANCELED"
        self._drop_files(update_session_id)

    def fail(self, caller: Caller, update_session_id: str, client_error_message: str) -> None:
        """The client says that it failed."""
        session = self.active(update_session_id)
        session.state = "ERROR"
        session.error_message = _message(client_error_message)
        self._drop_files(update_session_id)

    def delete(self, caller: Caller, update_session_id: str) -> None:
        """Forgets a session that has ended."""
        if self.session(update_session_id).state == "ACTIVE":
            raise failed("NotAllowedInCurrentState", "The update session is active.")
        del self.sessions[update_session_id]
        self._drop_files(update_session_id)

    def _drop_files(self, session_id: str) -> None:
        for each in self.files.pop(session_id, {}).values():
            if each.content is not None:
                each.content.path.unlink(missing_ok=True)

    def complete(self, caller: Caller, update_session_id: str) -> None:
        """Nothing more comes: the files are checked and become the item's, a little later."""
        session = self.active(update_session_id)
        session.client_progress = 100
        self.world.clock.later(self.world.pace, lambda: self._finish(update_session_id))

    def _finish(self, session_id: str) -> None:
        session = self.sessions.get(session_id)
        if session is None or session.state != "ACTIVE":
            return
        problem = self.problem(session_id)
        if problem is None:
            try:
                self._take_over(session)
            except (DescriptorError, OSError, tarfile.TarError, ValueError) as error:
                problem = str(error)
        if problem is not None:
            session.state = "ERROR"
            session.error_message = _message(problem)
            return
        session.state = "DONE"

    def problem(self, session_id: str) -> str | None:
        """What is wrong with the files, None if all are there and right."""
        for name, each in self.files[session_id].items():
            if each.content is None:
                return f"The file {name} has not been uploaded."
            if each.spec.size is not None and each.spec.size != each.content.size:
                return f"The file {name} has {each.content.size} bytes instead of {each.spec.size}."
            wanted = each.spec.checksum_info
            if wanted is not None and wanted.algorithm == "SHA256" and wanted.checksum.lower() != each.content.sha256:
                return f"The SHA-256 of {name} is {each.content.sha256}."
        return None

    def _take_over(self, session: Any) -> None:
        item = self.store.item(session.library_item_id)
        contents = dict(self.store.contents[item.id])
        for name, each in self.files.pop(session.id).items():
            assert each.content is not None  # noqa: S101 - problem() has looked
            if name.lower().endswith(".ova"):
                contents.update(self._unpack(each.content))
            else:
                contents[name] = each.content
        descriptors = [name for name in contents if name.lower().endswith(".ovf")]
        if (item.type or "").lower() == "ovf" or descriptors:
            if len(descriptors) != 1:
                raise DescriptorError("an OVF item has exactly one descriptor")
            system = read_descriptor(contents[descriptors[0]].text())
            missing = [each.href for each in system.disks if each.href is not None and each.href not in contents]
            if missing:
                raise DescriptorError(f"the file {missing[0]} of the descriptor is missing")
            item.type = "ovf"
        self.store.contents[item.id] = contents
        item.size = sum(each.size for each in contents.values())
        item.cached = True
        item.content_version = str(int(item.content_version) + 1)
        item.last_modified_time = now()

    def _unpack(self, content: Content) -> dict[str, Content]:
        found = {}
        with tarfile.open(content.path) as archive:
            for member in archive:
                stream = archive.extractfile(member)
                if stream is None or "/" in member.name:
                    raise ValueError(f"{member.name} does not belong in an OVA")
                path = self.store.new_file()
                with path.open("wb") as target:
                    shutil.copyfileobj(stream, target)
                found[member.name] = Content(path)
        content.path.unlink(missing_ok=True)
        return found

    # The upload itself.

    def expecting(self, key: str, name: str) -> Announced | None:
        """The announced file of an upload address."""
        for session_id, files in self.files.items():
            found = files.get(name)
            if found is not None and secrets.compare_digest(found.key, key):
                return found if self.sessions[session_id].state == "ACTIVE" else None
        return None

    def received(self, announced: Announced, path: Path) -> None:
        """A file has come."""
        announced.content = Content(path)


class UpdateFileService(Service):
    """The files of an update session."""

    stub = updatesession_client._FileStub

    def __init__(self, world: "World", store: LibraryStore, sessions: UpdateSessionService) -> None:
        super().__init__(world)
        self.store = store
        self.sessions = sessions

    def add(self, caller: Caller, update_session_id: str, file_spec: Any) -> Any:
        """Announces a file; the answer says where to PUT it."""
        self.sessions.active(update_session_id)
        if file_spec.source_type != "PUSH":
            raise failed("Unsupported", "Only files that the client uploads (PUSH) are taken here.")
        if not file_spec.name or "/" in file_spec.name:
            raise failed("InvalidArgument", f"There is no file name {file_spec.name!r}.")
        announced = Announced(file_spec, secrets.token_hex(16))
        self.sessions.files[update_session_id][file_spec.name] = announced
        return self._info(file_spec.name, announced)

    def _info(self, name: str, announced: Announced) -> Any:
        endpoint = item_client.TransferEndpoint(
            uri=f"{self.world.public_url}/cls/data/{announced.key}/{name}",
            ssl_certificate_thumbprint=self.world.thumbprint_sha1,
        )
        content = announced.content
        return updatesession_client.File.Info(
            name=name,
            source_type=announced.spec.source_type,
            size=announced.spec.size,
            checksum_info=announced.spec.checksum_info,
            upload_endpoint=endpoint,
            bytes_transferred=content.size if content is not None else 0,
            status="READY" if content is not None else "WAITING_FOR_TRANSFER",
            keep_in_storage=True,
        )

    def list(self, caller: Caller, update_session_id: str) -> Any:
        """All files."""
        self.sessions.session(update_session_id)
        return [self._info(name, each) for name, each in self.sessions.files.get(update_session_id, {}).items()]

    def get(self, caller: Caller, update_session_id: str, file_name: str) -> Any:
        """One file."""
        for each in self.list(caller, update_session_id):
            if each.name == file_name:
                return each
        raise failed("NotFound", f"There is no file {file_name} in this update session.")

    def remove(self, caller: Caller, update_session_id: str, file_name: str) -> None:
        """Takes a file back."""
        self.sessions.active(update_session_id)
        if self.sessions.files[update_session_id].pop(file_name, None) is None:
            raise failed("NotFound", f"There is no file {file_name} in this update session.")

    def validate(self, caller: Caller, update_session_id: str) -> Any:
        """Which files a descriptor names that have not been announced."""
        self.sessions.active(update_session_id)
        files = self.sessions.files[update_session_id]
        missing: set[str] = set()
        for name, each in files.items():
            if name.lower().endswith(".ovf") and each.content is not None:
                system = read_descriptor(each.content.text())
                missing |= {disk.href for disk in system.disks if disk.href is not None} - set(files)
        return updatesession_client.File.ValidationResult(has_errors=False, missing_files=missing, invalid_files=[])


def _message(text: str) -> Any:
    return LocalizableMessage(id="gpuferry.simulator", default_message=text, args=[])
