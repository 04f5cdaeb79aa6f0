"""ViewManager and its views: named sets of objects that a PropertyCollector walks to by their ``view`` property."""

import itertools
from collections.abc import Iterable
from typing import Any, ClassVar

from .api import support, vim
from .managed_object import Call, Managed, as_array, invalid_argument, method
from .world import World

# Properties that say what hangs below what; a change of any of them may change what a container view holds.
STRUCTURE = frozenset(
    {"childEntity", "host", "vm", "resourcePool", "vmFolder", "hostFolder", "datastoreFolder", "networkFolder", "view"}
)
_BELOW: list[tuple[Any, tuple[str, ...]]] = [
    (vim.Folder, ("childEntity",)),
    (vim.Datacenter, ("vmFolder", "hostFolder", "datastoreFolder", "networkFolder")),
    (vim.ComputeResource, ("resourcePool", "host")),
    (vim.ResourcePool, ("resourcePool", "vm")),
    (vim.HostSystem, ("vm",)),
]
_numbers = itertools.count(1)


def below(managed: Managed) -> Iterable[Managed]:
    """The objects directly below an entity."""
    world = managed.world
    for kind, names in _BELOW:
        if issubclass(managed.kind, kind):
            for name in names:
                value = managed.get(name)
                for reference in value if isinstance(value, list) else (value,):
                    if reference is not None and reference._moId in world.objects:
                        yield world.objects[reference._moId]


class _View(Managed):
    def __init__(self, world: World, call: Call, **values: Any) -> None:
        assert call.session is not None  # noqa: S101 - views belong to sessions
        super().__init__(world, f"session[{call.session.key}]{next(_numbers):08x}", **values)
        call.session.owned.append(self)

    @method
    def DestroyView(self, call: Call) -> None:
        """Ends the view."""
        self.world.remove(self)


class ContainerView(_View):
    """All objects of some types below a container."""

    kind = vim.view.ContainerView
    live_properties = frozenset({"view"})
    _cache: tuple[int, Any] = (-1, None)

    def live(self, name: str) -> Any:
        """``view`` is worked out when asked for, and again only after the inventory's structure changed."""
        structure = max(self.world.path_versions[each] for each in STRUCTURE)
        structure = max(structure, self.world.path_versions[""])
        if self._cache[0] != structure:
            self._cache = (structure, self._collect())
        return self._cache[1]

    def _collect(self) -> Any:
        wanted = tuple(self.values["type"])
        seen: set[str] = set()
        found = []
        container = self.world.find(self.values["container"])
        stack = [iter(below(container))]
        while stack:
            managed = next(stack[-1], None)
            if managed is None:
                stack.pop()
                continue
            if managed.moid in seen:
                continue
            seen.add(managed.moid)
            if not wanted or issubclass(managed.kind, wanted):
                found.append(managed.ref)
            if self.values["recursive"]:
                stack.append(iter(below(managed)))
        return as_array(found, support.ManagedObject.Array)


class ListView(_View):
    """A list of objects that its client keeps."""

    kind = vim.view.ListView

    @method
    def ModifyListView(self, call: Call, add: Any, remove: Any) -> Any:
        """Adds and removes; answers the references that are not valid."""
        unresolved = [each for each in add if each._moId not in self.world.objects]
        gone = {each._moId for each in remove}
        held = [each for each in self.values["view"] if each._moId not in gone]
        known = {each._moId for each in held}
        held += [each for each in add if each._moId not in known and each not in unresolved]
        self.set("view", as_array(held, support.ManagedObject.Array))
        return unresolved

    @method
    def ResetListView(self, call: Call, obj: Any) -> Any:
        """Replaces the whole list; answers the references that are not valid."""
        self.set(
            "view", as_array([each for each in obj if each._moId in self.world.objects], support.ManagedObject.Array)
        )
        return [each for each in obj if each._moId not in self.world.objects]

    @method
    def ResetListViewFromView(self, call: Call, view: Any) -> None:
        """Takes over what another view holds now."""
        self.set("view", as_array(self.world.find(view).get("view"), support.ManagedObject.Array))


class ViewManager(Managed):
    """Makes views."""

    kind = vim.view.ViewManager
    allowed: ClassVar[tuple[Any, ...]] = (
        vim.Folder,
        vim.Datacenter,
        vim.ComputeResource,
        vim.ResourcePool,
        vim.HostSystem,
    )

    @method
    def CreateContainerView(self, call: Call, container: Any, type: Any, recursive: bool) -> Any:
        """A view of what is below ``container``."""
        if not isinstance(container, self.allowed):
            raise invalid_argument("container", f"A {container._wsdlName} contains nothing.")
        self.world.find(container)
        return ContainerView(self.world, call, container=container, type=list(type), recursive=recursive).ref

    @method
    def CreateListView(self, call: Call, obj: Any) -> Any:
        """A view of exactly the given objects."""
        held = as_array([each for each in obj if each._moId in self.world.objects], support.ManagedObject.Array)
        return ListView(self.world, call, view=held).ref

    @method
    def CreateListViewFromView(self, call: Call, view: Any) -> Any:
        """A view of what another view holds now."""
        held = as_array(self.world.find(view).get("view"), support.ManagedObject.Array)
        return ListView(self.world, call, view=held).ref
