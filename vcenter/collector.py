"""Reading many objects at once: one container view, one traversal, only the properties asked for.

Walking `host.config.x` attribute by attribute costs one round trip each; a view and a property collector cost a
constant number of calls however large the inventory is (vSphere Web Services SDK,
PropertyCollector.RetrievePropertiesEx).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyVmomi import vim, vmodl

from vcenter.session import Session

_Pc = vmodl.query.PropertyCollector


@dataclass
class Row:
    """The properties of one managed object, by path; `unreadable` are those that vCenter would not give, with the
    fault.
    """

    ref: Any
    properties: dict[str, Any] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    derived: dict[str, Any] = field(default_factory=dict)

    @property
    def moid(self) -> str:
        return str(self.ref._moId)

    @property
    def kind(self) -> str:
        """The type's short name: `HostSystem`."""
        return type(self.ref).__name__.rpartition(".")[2]

    def set(self, path: str, value: Any) -> None:
        """Sets a property, or unsets it for None."""
        self.derived.pop(path, None)
        if value is None:
            self.properties.pop(path, None)
        else:
            self.properties[path] = value

    def get(self, path: str, default: Any = None) -> Any:
        value = self.properties.get(path)
        return default if value is None else value


def property_specs(paths: Mapping[Any, Sequence[str]]) -> list[Any]:
    return [_Pc.PropertySpec(type=kind, pathSet=list(names), all=False) for kind, names in paths.items()]


def view_filter(view: Any, paths: Mapping[Any, Sequence[str]]) -> Any:
    """The filter that collects `paths` from all objects of a container view in one traversal."""
    traversal = _Pc.TraversalSpec(name="view", type=vim.view.ContainerView, path="view", skip=False)
    return _Pc.FilterSpec(
        objectSet=[_Pc.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
        propSet=property_specs(paths),
        reportMissingObjectsInResults=False,
    )


def objects_filter(refs: Iterable[Any], paths: Mapping[Any, Sequence[str]]) -> Any:
    """The filter that collects `paths` from the named objects; objects that are gone are left out."""
    return _Pc.FilterSpec(
        objectSet=[_Pc.ObjectSpec(obj=ref, skip=False) for ref in refs],
        propSet=property_specs(paths),
        reportMissingObjectsInResults=True,
    )


@contextlib.contextmanager
def container_view(session: Session, kinds: Sequence[Any], container: Any = None) -> Iterator[Any]:
    """A recursive view of all objects of these types under `container` (default: the whole vCenter); destroyed at
    the end.
    """
    view = session.content.viewManager.CreateContainerView(
        container or session.content.rootFolder, type=list(kinds), recursive=True
    )
    try:
        yield view
    finally:
        with contextlib.suppress(vmodl.MethodFault, OSError):
            view.Destroy()


def row_of(content: Any) -> Row:
    """A Row from an ObjectContent of a RetrieveResult."""
    row = Row(content.obj)
    for pair in content.propSet or []:
        row.properties[pair.name] = pair.val
    for missing in content.missingSet or []:
        row.unreadable[missing.path] = type(missing.fault).__name__
    return row


def retrieve(session: Session, filters: Sequence[Any], page: int | None = None) -> Iterator[Row]:
    """All rows of the filters. `page` limits the objects of one answer (memory); without it vCenter decides.

    Pages are fetched as the caller goes on; a caller that stops early gives the rest up.
    """
    collector = session.content.propertyCollector
    options = _Pc.RetrieveOptions(maxObjects=page) if page else _Pc.RetrieveOptions()
    result = collector.RetrievePropertiesEx(list(filters), options)
    while result is not None:
        token = result.token
        try:
            for content in result.objects or []:
                yield row_of(content)
        except GeneratorExit:
            if token:
                with contextlib.suppress(vmodl.MethodFault, OSError):
                    collector.CancelRetrievePropertiesEx(token)
            raise
        if not token:
            return
        result = collector.ContinueRetrievePropertiesEx(token)


def read(session: Session, ref: Any, *paths: str) -> dict[str, Any]:
    """The named properties of one object in one call; a property that is unset is absent. Raises NotFound's fault."""
    rows = list(retrieve(session, [objects_filter([ref], {type(ref): paths})]))
    return rows[0].properties if rows else {}
