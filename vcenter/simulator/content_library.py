"""com.vmware.content: local libraries and their items. Contents are kept in files of the simulation's own directory."""

import hashlib
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from com.vmware import content_client
from com.vmware.content import library_client
from com.vmware.content.library import item_client

from .automation import Caller, Service, failed
from .values import now

if TYPE_CHECKING:
    from .world import World


class Content:
    """One file of an item."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.sha256 = _digest(path)

    def text(self) -> str:
        """The whole file as text."""
        return self.path.read_text(encoding="utf-8")


class LibraryStore:
    """All libraries, items and open uploads of a world."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.libraries: dict[str, Any] = {}
        self.items: dict[str, Any] = {}
        self.contents: dict[str, dict[str, Content]] = {}
        self.tokens: dict[str, str] = {}
        self._directory = tempfile.TemporaryDirectory(prefix="gpuferry-library-")

    def new_file(self) -> Path:
        """A path for a new file."""
        return Path(self._directory.name) / uuid.uuid4().hex

    def library(self, library_id: str) -> Any:
        """Raises NotFound."""
        if library_id not in self.libraries:
            raise failed("NotFound", f"There is no library {library_id}.")
        return self.libraries[library_id]

    def item(self, item_id: str) -> Any:
        """Raises NotFound."""
        if item_id not in self.items:
            raise failed("NotFound", f"There is no library item {item_id}.")
        return self.items[item_id]

    def once(self, token: str | None, make: Any) -> str:
        """Runs ``make`` once for each client token: a repeated request gets the first one's answer."""
        if token is None:
            return str(make())
        if token not in self.tokens:
            self.tokens[token] = str(make())
        return self.tokens[token]

    def drop_item(self, item_id: str) -> None:
        """Forgets an item with its files."""
        for content in self.contents.pop(item_id, {}).values():
            content.path.unlink(missing_ok=True)
        del self.items[item_id]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_services(world: "World") -> list[Service]:
    """All services of the content library."""
    from .content_deploy import DeployService
    from .content_update import UpdateFileService, UpdateSessionService

    store = world.library = LibraryStore(world)
    sessions = UpdateSessionService(world, store)
    return [
        LibraryService(world, store),
        LocalLibraryService(world, store),
        SubscribedLibraryService(world, store),
        ItemService(world, store),
        FileService(world, store),
        StorageService(world, store),
        sessions,
        UpdateFileService(world, store, sessions),
        DeployService(world, store),
    ]


class _WithStore(Service):
    def __init__(self, world: "World", store: LibraryStore) -> None:
        super().__init__(world)
        self.store = store


class LibraryService(_WithStore):
    """Libraries of any kind; here all are local."""

    stub = content_client._LibraryStub

    def list(self, caller: Caller) -> Any:
        """Ids of all libraries."""
        return [*self.store.libraries]

    def get(self, caller: Caller, library_id: str) -> Any:
        """A library."""
        return self.store.library(library_id)

    def find(self, caller: Caller, spec: Any) -> Any:
        """Ids of the libraries that match."""
        if spec.name is None and spec.type is None and spec.storage_backing is None:
            raise failed("InvalidArgument", "The specification is empty.")
        return [
            key
            for key, each in self.store.libraries.items()
            if (spec.name is None or each.name.lower() == spec.name.lower())
            and (spec.type is None or each.type == spec.type)
        ]


class SubscribedLibraryService(_WithStore):
    """Libraries that follow another vCenter's: there are none here."""

    stub = content_client._SubscribedLibraryStub

    def list(self, caller: Caller) -> Any:
        """Ids of all subscribed libraries."""
        kind = content_client.LibraryModel.LibraryType.SUBSCRIBED
        return [key for key, each in self.store.libraries.items() if each.type == kind]


class LocalLibraryService(_WithStore):
    """Local libraries."""

    stub = content_client._LocalLibraryStub

    def create(self, caller: Caller, client_token: str | None, create_spec: Any) -> str:
        """A new library on a datastore."""
        caller.demand("ContentLibrary.CreateLocalLibrary")
        return self.store.once(client_token, lambda: self._create(create_spec))

    def _create(self, spec: Any) -> str:
        if not spec.name:
            raise failed("InvalidArgument", "A library needs a name.")
        for backing in spec.storage_backings or ():
            if backing.datastore_id is not None and backing.datastore_id not in self.world.objects:
                raise failed("NotFound", f"There is no datastore {backing.datastore_id}.")
        if not spec.storage_backings:
            raise failed("InvalidArgument", "A library needs a storage backing.")
        key = str(uuid.uuid4())
        self.store.libraries[key] = content_client.LibraryModel(
            id=key,
            name=spec.name,
            description=spec.description or "",
            type=content_client.LibraryModel.LibraryType.LOCAL,
            storage_backings=spec.storage_backings,
            creation_time=now(),
            last_modified_time=now(),
            version="1",
            server_guid=self.world.instance_uuid,
        )
        return key

    def list(self, caller: Caller) -> Any:
        """Ids of all local libraries."""
        return [*self.store.libraries]

    def get(self, caller: Caller, library_id: str) -> Any:
        """A library."""
        return self.store.library(library_id)

    def update(self, caller: Caller, library_id: str, update_spec: Any) -> None:
        """Changes name or description."""
        caller.demand("ContentLibrary.UpdateLocalLibrary")
        held = self.store.library(library_id)
        held.name = update_spec.name or held.name
        if update_spec.description is not None:
            held.description = update_spec.description
        held.last_modified_time = now()

    def delete(self, caller: Caller, library_id: str) -> None:
        """Removes a library with its items."""
        caller.demand("ContentLibrary.DeleteLocalLibrary")
        self.store.library(library_id)
        for item_id in [key for key, each in self.store.items.items() if each.library_id == library_id]:
            self.store.drop_item(item_id)
        del self.store.libraries[library_id]


class ItemService(_WithStore):
    """Items: OVF packages, ISO images, anything."""

    stub = library_client._ItemStub

    def create(self, caller: Caller, client_token: str | None, create_spec: Any) -> str:
        """An empty item; an update session fills it."""
        caller.demand("ContentLibrary.AddLibraryItem")
        return self.store.once(client_token, lambda: self._create(create_spec))

    def _create(self, spec: Any) -> str:
        self.store.library(spec.library_id)
        if not spec.name:
            raise failed("InvalidArgument", "An item needs a name.")
        if any(each.library_id == spec.library_id and each.name == spec.name for each in self.store.items.values()):
            raise failed("AlreadyExists", f"There is an item {spec.name} in this library already.")
        key = str(uuid.uuid4())
        self.store.items[key] = library_client.ItemModel(
            id=key,
            library_id=spec.library_id,
            name=spec.name,
            description=spec.description or "",
            type=spec.type,
            creation_time=now(),
            last_modified_time=now(),
            metadata_version="1",
            content_version="1",
            version="1",
            cached=False,
            size=0,
        )
        self.store.contents[key] = {}
        return key

    def get(self, caller: Caller, library_item_id: str) -> Any:
        """An item."""
        return self.store.item(library_item_id)

    def list(self, caller: Caller, library_id: str) -> Any:
        """Ids of a library's items."""
        self.store.library(library_id)
        return [key for key, each in self.store.items.items() if each.library_id == library_id]

    def find(self, caller: Caller, spec: Any) -> Any:
        """Ids of the items that match."""
        if all(getattr(spec, name) is None for name in ("name", "library_id", "type", "cached", "source_id")):
            raise failed("InvalidArgument", "The specification is empty.")
        return [
            key
            for key, each in self.store.items.items()
            if (spec.name is None or each.name.lower() == spec.name.lower())
            and (spec.library_id is None or each.library_id == spec.library_id)
            and (spec.type is None or (each.type or "").lower() == spec.type.lower())
            and (spec.cached is None or each.cached == spec.cached)
            and spec.source_id is None
        ]

    def update(self, caller: Caller, library_item_id: str, update_spec: Any) -> None:
        """Changes name, description or type."""
        caller.demand("ContentLibrary.UpdateLibraryItem")
        held = self.store.item(library_item_id)
        for name in ("name", "description", "type"):
            value = getattr(update_spec, name)
            if value is not None:
                setattr(held, name, value)
        held.metadata_version = str(int(held.metadata_version) + 1)

    def delete(self, caller: Caller, library_item_id: str) -> None:
        """Removes an item with its files."""
        caller.demand("ContentLibrary.DeleteLibraryItem")
        self.store.item(library_item_id)
        self.store.drop_item(library_item_id)


class FileService(_WithStore):
    """The files of an item."""

    stub = item_client._FileStub

    def _info(self, name: str, content: Content) -> Any:
        return item_client.File.Info(
            name=name,
            size=content.size,
            cached=True,
            version="1",
            checksum_info=item_client.File.ChecksumInfo(algorithm="SHA256", checksum=content.sha256),
        )

    def list(self, caller: Caller, library_item_id: str) -> Any:
        """All files."""
        self.store.item(library_item_id)
        return [self._info(name, each) for name, each in self.store.contents[library_item_id].items()]

    def get(self, caller: Caller, library_item_id: str, name: str) -> Any:
        """One file."""
        self.store.item(library_item_id)
        found = self.store.contents[library_item_id].get(name)
        if found is None:
            raise failed("NotFound", f"There is no file {name}.")
        return self._info(name, found)


class StorageService(_WithStore):
    """Where the files of an item are."""

    stub = item_client._StorageStub

    def list(self, caller: Caller, library_item_id: str) -> Any:
        """All files."""
        item = self.store.item(library_item_id)
        backing = self.store.library(item.library_id).storage_backings[0]
        return [
            item_client.Storage.Info(
                storage_backing=backing,
                storage_uris=[
                    f"ds:///vmfs/volumes/{backing.datastore_id}/contentlib-{item.library_id}/{item.id}/{name}"
                ],
                name=name,
                size=each.size,
                cached=True,
                version="1",
            )
            for name, each in self.store.contents[library_item_id].items()
        ]

    def get(self, caller: Caller, library_item_id: str, file_name: str) -> Any:
        """One file."""
        found = [each for each in self.list(caller, library_item_id) if each.name == file_name]
        if not found:
            raise failed("NotFound", f"There is no file {file_name}.")
        return found
