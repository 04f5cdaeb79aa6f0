"""The category `gpuferry` and its tags as desired state: `gpu-server` on hosts and server VMs, `client` on client VMs.

A tag put on by a person in the vSphere client means a wish; a tag put on here shows what is. Tags are the Automation
SDK's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vcenter.errors import NameTaken
from vcenter.plan import Change, Plan
from vcenter.session import Session

CATEGORY = "gpuferry"
CATEGORY_NOTES = "The part that an object plays in gpuferry's pool of GPUs"
_KINDS = {"HostSystem", "VirtualMachine"}


class Tag(Enum):
    """Our tags; the value is the tag's name in vCenter."""

    GPU_SERVER = "gpu-server"
    CLIENT = "client"

    @property
    def notes(self) -> str:
        if self is Tag.GPU_SERVER:
            return "A host whose GPUs gpuferry may use, or a GPU server"
        return "A virtual machine whose programs may use GPUs of the pool"


@dataclass(frozen=True)
class Tagged:
    """An object that bears one of our tags. `kind` is HostSystem or VirtualMachine."""

    kind: str
    id: str
    tag: Tag


@dataclass(frozen=True)
class DefinitionPlan(Plan):
    """What is missing of category and tags in vCenter."""

    category: str = ""
    missing: tuple[Tag, ...] = ()


@dataclass(frozen=True)
class TagPlan(Plan):
    """Tags to attach to and detach from objects; `ids` are vCenter's ids of our tags."""

    attach: tuple[Tagged, ...] = ()
    detach: tuple[Tagged, ...] = ()


def _category_id(client: Any) -> str:
    for identifier in client.tagging.Category.list():
        category = client.tagging.Category.get(identifier)
        if category.name == CATEGORY:
            return str(category.id)
    return ""


def _tag_ids(client: Any, category: str) -> dict[Tag, str]:
    if not category:
        return {}
    ids = {}
    for identifier in client.tagging.Tag.list_tags_for_category(category):
        tag = client.tagging.Tag.get(identifier)
        if tag.name in {known.value for known in Tag}:
            ids[Tag(tag.name)] = str(tag.id)
    return ids


def _ids(session: Session) -> tuple[str, dict[Tag, str]]:
    category = session.rest("Reading the tag categories", _category_id)
    return category, session.rest("Reading the tags", lambda client: _tag_ids(client, category))


def plan_definitions(session: Session) -> DefinitionPlan:
    """What has to be created so that vCenter knows our category and tags."""
    category, ids = _ids(session)
    missing = tuple(tag for tag in Tag if tag not in ids)
    changes = [] if category else [Change(CATEGORY, "tag category", "", CATEGORY_NOTES)]
    changes += [Change(CATEGORY, "tag", "", tag.value) for tag in missing]
    return DefinitionPlan(CATEGORY, tuple(changes), category=category, missing=missing)


def apply_definitions(session: Session, plan: DefinitionPlan) -> None:
    """Creates category and tags that are missing. Safe to repeat, and when somebody else creates them meanwhile."""
    from com.vmware.cis.tagging_client import Category, CategoryModel
    from com.vmware.cis.tagging_client import Tag as SdkTag

    category = plan.category
    if not category:
        spec = Category.CreateSpec(
            name=CATEGORY,
            description=CATEGORY_NOTES,
            cardinality=CategoryModel.Cardinality.SINGLE,
            associable_types=set(_KINDS),
        )
        try:
            category = session.rest(
                "Creating the tag category", lambda client: client.tagging.Category.create(spec), CATEGORY
            )
        except NameTaken:
            category = session.rest("Reading the tag categories", _category_id)
    for tag in plan.missing:
        tag_spec = SdkTag.CreateSpec(name=tag.value, description=tag.notes, category_id=category)
        try:
            session.rest("Creating a tag", _create_tag(tag_spec), tag.value)
        except NameTaken:
            continue


def _create_tag(spec: Any) -> Any:
    return lambda client: client.tagging.Tag.create(spec)


def tagged(session: Session) -> list[Tagged]:
    """Every object that bears one of our tags, in a constant number of calls."""
    return wishes(session)[1]


def wishes(session: Session) -> tuple[frozenset[Tag], list[Tagged]]:
    """Which of our tags vCenter knows at all, and every object that bears one. A tag that is not defined says nothing
    about what people want.
    """
    _, ids = _ids(session)
    if not ids:
        return frozenset(), []
    by_id = {identifier: tag for tag, identifier in ids.items()}
    answers = session.rest(
        "Reading who is tagged",
        lambda client: client.tagging.TagAssociation.list_attached_objects_on_tags(list(by_id)),
    )
    found = sorted(
        (
            Tagged(str(thing.type), str(thing.id), by_id[str(answer.tag_id)])
            for answer in answers
            for thing in answer.object_ids
        ),
        key=lambda one: (one.tag.value, one.kind, one.id),
    )
    return frozenset(ids), found


def plan_tags(
    session: Session, wanted: Iterable[Tagged], *, unwanted: Iterable[Tagged] = (), exact: bool = False
) -> TagPlan:
    """The plan that makes every object in `wanted` bear its tag, and those in `unwanted` not theirs; with `exact` every
    other object loses ours.

    An object bears one of our tags at most, so another one of ours on it goes away.
    """
    want = {(one.kind, one.id): one for one in wanted}
    have = tagged(session)
    away = set(unwanted)
    attach = tuple(one for one in want.values() if one not in have)
    detach = tuple(
        one
        for one in have
        if ((one.kind, one.id) in want and want[one.kind, one.id].tag is not one.tag)
        or (exact and (one.kind, one.id) not in want)
        or (one in away and one not in want.values())
    )
    changes = [Change(one.id, "tag gpuferry", one.tag.value, "") for one in detach]
    changes += [Change(one.id, "tag gpuferry", "", one.tag.value) for one in attach]
    return TagPlan(CATEGORY, tuple(changes), attach=attach, detach=detach)


def apply_tags(session: Session, plan: TagPlan) -> None:
    """Carries a tag plan out, creating category and tags first where they are missing. Safe to repeat."""
    if plan.empty:
        return
    definitions = plan_definitions(session)
    if not definitions.empty:
        apply_definitions(session, definitions)
    _, ids = _ids(session)
    for one in plan.detach:
        session.rest("Taking a tag off", _association("detach", ids[one.tag], one), one.id)
    for one in plan.attach:
        session.rest("Putting a tag on", _association("attach", ids[one.tag], one), one.id)


def _association(verb: str, tag_id: str, one: Tagged) -> Any:
    from com.vmware.vapi.std_client import DynamicID

    target = DynamicID(type=one.kind, id=one.id)
    return lambda client: getattr(client.tagging.TagAssociation, verb)(tag_id, target)
