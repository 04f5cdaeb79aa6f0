"""com.vmware.cis.tagging: categories, tags, and what they are attached to."""

import uuid
from typing import TYPE_CHECKING, Any

from com.vmware.cis import tagging_client
from com.vmware.vapi.std_client import DynamicID, LocalizableMessage
from vmware.vapi.bindings.error import VapiError

from .api import support, vim
from .automation import Caller, Service, failed

if TYPE_CHECKING:
    from .world import World

_OTHER_TYPES = ("com.vmware.content.Library", "com.vmware.content.library.Item", "HostNetwork", "OpaqueNetwork")
_CATEGORY = "urn:vmomi:InventoryServiceCategory:{}:GLOBAL"
_TAG = "urn:vmomi:InventoryServiceTag:{}:GLOBAL"
_PRIVILEGE = "InventoryService.Tagging."


class TagStore:
    """All categories and tags of a world; attachments by tag id, then object id."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.categories: dict[str, Any] = {}
        self.tags: dict[str, Any] = {}
        self.attached: dict[str, dict[str, str]] = {}

    def category(self, category_id: str) -> Any:
        """Raises NotFound."""
        if category_id not in self.categories:
            raise failed("NotFound", f"There is no tag category {category_id}.")
        return self.categories[category_id]

    def tag(self, tag_id: str) -> Any:
        """Raises NotFound."""
        if tag_id not in self.tags:
            raise failed("NotFound", f"There is no tag {tag_id}.")
        return self.tags[tag_id]

    def objects_of(self, tag_id: str) -> list[Any]:
        """The objects a tag is attached to; what is gone from the inventory is gone from here."""
        held = self.attached.get(tag_id, {})
        for object_id in [each for each in held if each not in self.world.objects]:
            del held[object_id]
        return [DynamicID(type=kind, id=object_id) for object_id, kind in held.items()]

    def tags_of(self, object_id: str) -> list[str]:
        """The tags attached to an object."""
        return [tag_id for tag_id, held in self.attached.items() if object_id in held]

    def entity(self, given: Any) -> Any:
        """The inventory object of a DynamicID. Raises NotFound."""
        managed = self.world.objects.get(given.id)
        if managed is None or not isinstance(managed.ref, vim.ManagedEntity):
            raise failed("NotFound", f"There is no object {given.type}:{given.id}.")
        known = {cls._wsdlName for cls in type(managed.ref).__mro__ if hasattr(cls, "_wsdlName")}
        if given.type not in known:
            raise failed("InvalidArgument", f"{given.id} is no {given.type}.")
        return managed


class CategoryService(Service):
    """Tag categories."""

    stub = tagging_client._CategoryStub

    def __init__(self, world: "World", store: TagStore) -> None:
        super().__init__(world)
        self.store = store

    def _demand_free_name(self, name: str, but: str = "") -> None:
        if any(each.name == name and key != but for key, each in self.store.categories.items()):
            raise failed("AlreadyExists", f"There is a tag category {name} already.")

    def create(self, caller: Caller, create_spec: Any) -> str:
        """A new category."""
        caller.demand(f"{_PRIVILEGE}CreateCategory")
        if not create_spec.name:
            raise failed("InvalidArgument", "A category needs a name.")
        self._demand_free_name(create_spec.name)
        unknown = [each for each in create_spec.associable_types or () if each not in _OTHER_TYPES and not _kind(each)]
        if unknown:
            raise failed("InvalidArgument", f"There is no type {unknown[0]}.")
        key = create_spec.category_id or _CATEGORY.format(uuid.uuid4())
        self.store.categories[key] = tagging_client.CategoryModel(
            id=key,
            name=create_spec.name,
            description=create_spec.description or "",
            cardinality=create_spec.cardinality,
            associable_types=create_spec.associable_types or set(),
            used_by=set(),
        )
        return key

    def get(self, caller: Caller, category_id: str) -> Any:
        """A category."""
        return self.store.category(category_id)

    def update(self, caller: Caller, category_id: str, update_spec: Any) -> None:
        """Changes name, description, cardinality or types; types are only ever added."""
        caller.demand(f"{_PRIVILEGE}EditCategory")
        held = self.store.category(category_id)
        if update_spec.name is not None:
            self._demand_free_name(update_spec.name, category_id)
            held.name = update_spec.name
        if update_spec.description is not None:
            held.description = update_spec.description
        if update_spec.cardinality is not None:
            if held.cardinality == "MULTIPLE" and update_spec.cardinality == "SINGLE":
                raise failed("InvalidArgument", "A category of many tags cannot become one of a single tag.")
            held.cardinality = update_spec.cardinality
        if update_spec.associable_types is not None:
            if held.associable_types - update_spec.associable_types or not held.associable_types:
                raise failed("InvalidArgument", "Types of objects cannot be taken away.")
            held.associable_types = update_spec.associable_types

    def delete(self, caller: Caller, category_id: str) -> None:
        """Removes a category with its tags."""
        caller.demand(f"{_PRIVILEGE}DeleteCategory")
        self.store.category(category_id)
        for tag_id in [key for key, each in self.store.tags.items() if each.category_id == category_id]:
            del self.store.tags[tag_id]
            self.store.attached.pop(tag_id, None)
        del self.store.categories[category_id]

    def list(self, caller: Caller) -> Any:
        """The ids of all categories."""
        return [*self.store.categories]

    def list_used_categories(self, caller: Caller, used_by_entity: str) -> Any:
        """The ids of categories that an entity said it uses."""
        return [key for key, each in self.store.categories.items() if used_by_entity in each.used_by]

    def add_to_used_by(self, caller: Caller, category_id: str, used_by_entity: str) -> None:
        """Notes a user of a category."""
        self.store.category(category_id).used_by.add(used_by_entity)

    def remove_from_used_by(self, caller: Caller, category_id: str, used_by_entity: str) -> None:
        """Forgets a user of a category."""
        self.store.category(category_id).used_by.discard(used_by_entity)


class TagService(Service):
    """Tags."""

    stub = tagging_client._TagStub

    def __init__(self, world: "World", store: TagStore) -> None:
        super().__init__(world)
        self.store = store

    def _demand_free_name(self, category_id: str, name: str, but: str = "") -> None:
        if any(
            each.name == name and each.category_id == category_id and key != but
            for key, each in self.store.tags.items()
        ):
            raise failed("AlreadyExists", f"There is a tag {name} in this category already.")

    def create(self, caller: Caller, create_spec: Any) -> str:
        """A new tag."""
        caller.demand(f"{_PRIVILEGE}CreateTag")
        self.store.category(create_spec.category_id)
        if not create_spec.name:
            raise failed("InvalidArgument", "A tag needs a name.")
        self._demand_free_name(create_spec.category_id, create_spec.name)
        key = create_spec.tag_id or _TAG.format(uuid.uuid4())
        self.store.tags[key] = tagging_client.TagModel(
            id=key,
            category_id=create_spec.category_id,
            name=create_spec.name,
            description=create_spec.description or "",
            used_by=set(),
        )
        return key

    def get(self, caller: Caller, tag_id: str) -> Any:
        """A tag."""
        return self.store.tag(tag_id)

    def update(self, caller: Caller, tag_id: str, update_spec: Any) -> None:
        """Changes name or description."""
        caller.demand(f"{_PRIVILEGE}EditTag")
        held = self.store.tag(tag_id)
        if update_spec.name is not None:
            self._demand_free_name(held.category_id, update_spec.name, tag_id)
            held.name = update_spec.name
        if update_spec.description is not None:
            held.description = update_spec.description

    def delete(self, caller: Caller, tag_id: str) -> None:
        """Removes a tag from everything."""
        caller.demand(f"{_PRIVILEGE}DeleteTag")
        self.store.tag(tag_id)
        del self.store.tags[tag_id]
        self.store.attached.pop(tag_id, None)

    def list(self, caller: Caller) -> Any:
        """The ids of all tags."""
        return [*self.store.tags]

    def list_tags_for_category(self, caller: Caller, category_id: str) -> Any:
        """The ids of a category's tags."""
        self.store.category(category_id)
        return [key for key, each in self.store.tags.items() if each.category_id == category_id]

    def list_used_tags(self, caller: Caller, used_by_entity: str) -> Any:
        """The ids of tags that an entity said it uses."""
        return [key for key, each in self.store.tags.items() if used_by_entity in each.used_by]

    def add_to_used_by(self, caller: Caller, tag_id: str, used_by_entity: str) -> None:
        """Notes a user of a tag."""
        self.store.tag(tag_id).used_by.add(used_by_entity)

    def remove_from_used_by(self, caller: Caller, tag_id: str, used_by_entity: str) -> None:
        """Forgets a user of a tag."""
        self.store.tag(tag_id).used_by.discard(used_by_entity)


class TagAssociationService(Service):
    """What tags are attached to."""

    stub = tagging_client._TagAssociationStub

    def __init__(self, world: "World", store: TagStore) -> None:
        super().__init__(world)
        self.store = store

    def attach(self, caller: Caller, tag_id: str, object_id: Any) -> None:
        """Attaches a tag; doing it again changes nothing."""
        tag = self.store.tag(tag_id)
        managed = self.store.entity(object_id)
        caller.demand(f"{_PRIVILEGE}AttachTag", managed.ref)
        category = self.store.category(tag.category_id)
        types = category.associable_types
        if types and not any(_kind(each) and isinstance(managed.ref, _kind(each)) for each in types):
            raise failed("InvalidArgument", f"Tags of {category.name} are not for a {object_id.type}.")
        if category.cardinality == "SINGLE":
            for other in self.store.tags_of(object_id.id):
                if other != tag_id and self.store.tags[other].category_id == tag.category_id:
                    raise failed("InvalidArgument", f"{managed.name} has a tag of {category.name} already.")
        self.store.attached.setdefault(tag_id, {})[object_id.id] = object_id.type

    def detach(self, caller: Caller, tag_id: str, object_id: Any) -> None:
        """Takes a tag off; doing it again changes nothing."""
        self.store.tag(tag_id)
        managed = self.store.entity(object_id)
        caller.demand(f"{_PRIVILEGE}AttachTag", managed.ref)
        self.store.attached.get(tag_id, {}).pop(object_id.id, None)

    def attach_multiple_tags_to_object(self, caller: Caller, object_id: Any, tag_ids: Any) -> Any:
        """Attaches several tags; those that cannot be are told."""
        return self._batch([(lambda each=each: self.attach(caller, each, object_id)) for each in tag_ids])

    def detach_multiple_tags_from_object(self, caller: Caller, object_id: Any, tag_ids: Any) -> Any:
        """Takes several tags off."""
        return self._batch([(lambda each=each: self.detach(caller, each, object_id)) for each in tag_ids])

    def attach_tag_to_multiple_objects(self, caller: Caller, tag_id: str, object_ids: Any) -> Any:
        """Attaches a tag to several objects."""
        self.store.tag(tag_id)
        return self._batch([(lambda each=each: self.attach(caller, tag_id, each)) for each in object_ids])

    def detach_tag_from_multiple_objects(self, caller: Caller, tag_id: str, object_ids: Any) -> Any:
        """Takes a tag off several objects."""
        self.store.tag(tag_id)
        return self._batch([(lambda each=each: self.detach(caller, tag_id, each)) for each in object_ids])

    @staticmethod
    def _batch(actions: list[Any]) -> Any:
        messages: list[LocalizableMessage] = []
        for action in actions:
            try:
                action()
            except VapiError as error:
                messages.extend(error.messages)
        return tagging_client.TagAssociation.BatchResult(success=not messages, error_messages=messages)

    def list_attached_objects(self, caller: Caller, tag_id: str) -> Any:
        """The objects a tag is attached to."""
        self.store.tag(tag_id)
        return self.store.objects_of(tag_id)

    def list_attached_objects_on_tags(self, caller: Caller, tag_ids: Any) -> Any:
        """The same for several tags; unknown tags are left out."""
        return [
            tagging_client.TagAssociation.TagToObjects(tag_id=each, object_ids=self.store.objects_of(each))
            for each in tag_ids
            if each in self.store.tags
        ]

    def list_attached_tags(self, caller: Caller, object_id: Any) -> Any:
        """The tags of an object."""
        self.store.entity(object_id)
        return self.store.tags_of(object_id.id)

    def list_attached_tags_on_objects(self, caller: Caller, object_ids: Any) -> Any:
        """The same for several objects; those without tags are left out."""
        return [
            tagging_client.TagAssociation.ObjectToTags(object_id=each, tag_ids=self.store.tags_of(each.id))
            for each in object_ids
            if self.store.tags_of(each.id)
        ]

    def list_attachable_tags(self, caller: Caller, object_id: Any) -> Any:
        """The tags that could be attached to an object."""
        managed = self.store.entity(object_id)
        found = []
        for key, tag in self.store.tags.items():
            types = self.store.categories[tag.category_id].associable_types
            if not types or any(_kind(each) and isinstance(managed.ref, _kind(each)) for each in types):
                found.append(key)
        return found


def _kind(name: str) -> Any:
    """The managed type of a name such as ``HostSystem``, None if there is none."""
    try:
        return support.GetWsdlType(support.XMLNS_VMODL_BASE, name.removeprefix("urn:vim25:"))
    except KeyError:
        return None
