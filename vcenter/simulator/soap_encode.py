"""Python values to SOAP, driven by pyVmomi's type tables and compiled once per type and API version.

pyVmomi's own serialiser asks for every field anew which version and namespace it has; an inventory of ten thousand
virtual machines is millions of fields. Here each type becomes one list of (tag, attribute, writer) at first use.
"""

import base64
import datetime
import functools
import re
from collections.abc import Callable
from typing import Any

from pyVmomi import Iso8601

from .api import MethodFault, support

Write = Callable[[str], Any]
Writer = Callable[[Write, str, Any], None]

_SPECIAL = re.compile(r"[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ENTITY = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}


def escape(text: str) -> str:
    """Text for an XML element; characters XML 1.0 cannot carry become U+FFFD."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda match: _ENTITY.get(match.group(), "\ufffd"), text)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime.datetime):
        return str(Iso8601.ISO8601Format(value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, support.ManagedMethod):
        return str(value.info.wsdlName)
    if isinstance(value, type):
        return str(support.GetWsdlName(value))
    return str(value)


def type_name(cls: Any) -> str:
    """The name for xsi:type: built-in types under ``xsd:``, all of vim25 under the default namespace."""
    if cls in (type, support.PropertyPath) or issubclass(cls, support.ManagedMethod):
        return "xsd:string"
    if issubclass(cls, support.ManagedObject):
        return "ManagedObjectReference"
    if issubclass(cls, list) and issubclass(cls.Item, support.ManagedObject):
        return "ArrayOfManagedObjectReference"
    namespace, name = support.GetQualifiedWsdlName(cls)
    return f"xsd:{name}" if namespace == support.XMLNS_XSD else str(name)


class Encoder:
    """Writes values as a client of one API version may see them: fields and types newer than that are left out."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._fields: dict[Any, list[tuple[str, Writer]]] = {}
        self._types: dict[Any, tuple[Any, str]] = {}
        self._writers: dict[Any, Writer] = {}

    def element(self, write: Write, tag: str, value: Any, declared: Any) -> None:
        """One element (or one for each item of an array); nothing for an unset value."""
        if value is not None:
            self._writer(declared)(write, tag, value)

    def knows(self, info: Any) -> bool:
        """Whether a field, parameter or type exists in this version."""
        return bool(support.IsChildVersion(self.version, info.version))

    def _writer(self, declared: Any) -> Writer:
        writer = self._writers.get(declared)
        if writer is None:
            writer = self._writers[declared] = self._make_writer(declared)
        return writer

    def _make_writer(self, declared: Any) -> Writer:
        if declared is object:
            return self._any
        if declared is type or issubclass(declared, support.ManagedMethod):
            return self._plain
        if issubclass(declared, list):
            item = self._writer(declared.Item)

            def array(write: Write, tag: str, value: Any) -> None:
                for each in value:
                    item(write, tag, each)

            return array
        if issubclass(declared, MethodFault):
            return self._fault
        if issubclass(declared, support.DataObject):
            return functools.partial(self._data, declared)
        if issubclass(declared, support.ManagedObject):
            return self._reference
        if issubclass(declared, str) and not issubclass(declared, support.Link):
            return self._string
        if declared is bool:
            return self._bool
        if issubclass(declared, int):
            return self._number
        return self._plain

    @staticmethod
    def _string(write: Write, tag: str, value: Any) -> None:
        write(f"<{tag}>{value if _SPECIAL.search(value) is None else escape(value)}</{tag}>")

    @staticmethod
    def _bool(write: Write, tag: str, value: Any) -> None:
        write(f"<{tag}>true</{tag}>" if value else f"<{tag}>false</{tag}>")

    @staticmethod
    def _number(write: Write, tag: str, value: Any) -> None:
        write(f"<{tag}>{value:d}</{tag}>")

    @staticmethod
    def _plain(write: Write, tag: str, value: Any) -> None:
        write(f"<{tag}>{_text(value)}</{tag}>")

    @staticmethod
    def _reference(write: Write, tag: str, value: Any) -> None:
        write(f'<{tag} type="{value._wsdlName}">{escape(value._moId)}</{tag}>')

    def _any(self, write: Write, tag: str, value: Any) -> None:
        cls = value.__class__
        if isinstance(value, support.ManagedObject):
            write(f'<{tag} type="{value._wsdlName}" xsi:type="ManagedObjectReference">{escape(value._moId)}</{tag}>')
        elif isinstance(value, MethodFault):
            self._fault(write, tag, value, attributes=' xsi:type="LocalizedMethodFault"')
        elif isinstance(value, support.DataObject):
            self._data(object, write, tag, value)
        elif isinstance(value, list):
            item = cls.Item
            inner = "ManagedObjectReference" if issubclass(item, support.ManagedObject) else None
            if inner is None:
                inner = type_name(item).removeprefix("xsd:")
            write(f'<{tag} xsi:type="{type_name(cls)}">')
            for each in value:  # with a type of its own each, as vCenter writes them and libvirt's client needs them
                self._any(write, inner, item(each) if each.__class__ in (int, str) else each)
            write(f"</{tag}>")
        else:
            write(f'<{tag} xsi:type="{self._scalar_name(value)}">{_text(value)}</{tag}>')

    @staticmethod
    def _scalar_name(value: Any) -> str:
        if isinstance(value, support.ManagedMethod | type):
            return "xsd:string"
        return type_name(value.__class__)

    def _compatible(self, cls: Any) -> tuple[Any, str]:
        known = self._types.get(cls)
        if known is None:
            visible = support.GetCompatibleType(cls, self.version)
            known = self._types[cls] = (visible, type_name(visible))
        return known

    def _members(self, cls: Any) -> list[tuple[str, Writer]]:
        members = self._fields.get(cls)
        if members is None:
            members = self._fields[cls] = [
                (info.name, self._writer(info.type)) for info in cls._GetPropertyList() if self.knows(info)
            ]
        return members

    def _data(self, declared: Any, write: Write, tag: str, value: Any) -> None:
        cls, name = self._compatible(value.__class__)
        write(f"<{tag}>" if cls is declared else f'<{tag} xsi:type="{name}">')
        slots = value.__dict__
        for field, writer in self._members(cls):
            held = slots[field]
            if held is not None:
                writer(write, field, held)
        write(f"</{tag}>")

    def _fault(self, write: Write, tag: str, value: Any, attributes: str = "") -> None:
        write(f"<{tag}{attributes}>")
        self.fault_detail(write, "fault", value)
        if value.msg:
            write(f"<localizedMessage>{escape(value.msg)}</localizedMessage>")
        write(f"</{tag}>")

    def fault_detail(self, write: Write, tag: str, value: Any) -> None:
        """A fault's own fields, without the LocalizedMethodFault around it that property values carry."""
        cls, name = self._compatible(value.__class__)
        write(f'<{tag} xsi:type="{name}">')
        for field, writer in self._members(cls):
            held = getattr(value, field)
            if field != "msg" and held is not None:
                writer(write, field, held)
        write(f"</{tag}>")


@functools.cache
def encoder(version: str) -> Encoder:
    """The one encoder of an API version."""
    return Encoder(version)
